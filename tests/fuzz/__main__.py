"""
Throw random input at what takes any, until the time is over: ``python -m tests.fuzz --seconds 60 [--only NAME]``.

Each case has a number, of which its random input is drawn; a failure prints it, and ``--case NAME NUMBER`` repeats it.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from itertools import cycle
from random import Random

from tests.fuzz.files import fuzz_clip, fuzz_latents, fuzz_sound
from tests.fuzz.plans import fuzz_configuration, fuzz_json, fuzz_plan

# A fuzzer raises AssertionError for a wrong result; errors of the packages are its own to expect.
FUZZERS: dict[str, Callable[[Random], object]] = {
    "plan": fuzz_plan,
    "json": fuzz_json,
    "configuration": fuzz_configuration,
    "clip": fuzz_clip,
    "sound": fuzz_sound,
    "latents": fuzz_latents,
}


def run(name: str, number: int) -> bool:
    """Run one case; print what went wrong."""
    try:
        FUZZERS[name](Random(f"{name} {number}"))
    except Exception:  # any that a fuzzer did not expect is a find
        traceback.print_exc()
        print(f"failed: python -m tests.fuzz --case {name} {number}", flush=True)
        return False
    return True


def main() -> int:
    """Run cases of every fuzzer in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", choices=sorted(FUZZERS))
    parser.add_argument("--case", nargs=2, metavar=("NAME", "NUMBER"))
    given = parser.parse_args()
    if given.case:
        return 0 if run(given.case[0], int(given.case[1])) else 1
    names = [given.only] if given.only else list(FUZZERS)
    done, end = dict.fromkeys(names, given.first), time.monotonic() + given.seconds
    for name in cycle(names):
        if time.monotonic() >= end:
            break
        if not run(name, done[name]):
            return 1
        done[name] += 1
    print("; ".join(f"{name}: {count - given.first} cases" for name, count in done.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
