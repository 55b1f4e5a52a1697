"""
What guards against wrong devices cost on a processor, where nothing has to be guarded against.

Processor time with them over that without, each decode once with and once without in turn: the least of the rounds, as
other work on a machine only adds to it.

    python benchmarks/guards.py --rounds 9
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

import tilekit
from ltx_models import decode_exact, default_checkpoint, load_video_decoder
from ltx_models.nn import border, stream
from tilekit.backends import canary
from tilekit.backends.limits import Limits

NOTHING = Limits()


@contextmanager
def unguarded() -> Iterator[None]:
    """Let nobody ask a device, look up its limits, or look whether a result is one number."""
    names = ("tilekit._exact.planner", "tilekit._exact.arrays", "tilekit._run.sizes", "tilekit.backends.flat")
    with ExitStack() as stack:
        stack.enter_context(patch.object(canary, "check", lambda *_: None))
        stack.enter_context(patch.object(border, "within_limits", lambda *_: ExitStack()))
        stack.enter_context(patch.object(border, "refuse_flat", lambda *_: None))
        stack.enter_context(patch.object(stream.Stage, "_guard", lambda *_: ExitStack()))
        stack.enter_context(patch.object(stream._Watch, "given", lambda *_: None))
        for name in names:
            stack.enter_context(patch(f"{name}.limits_of", lambda _: NOTHING))
        yield


def took(call: Callable[[], Any]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    decoder = load_video_decoder(default_checkpoint(), dtype="float32")
    z = torch.randn(1, 128, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[], Any]] = {
        "plain call": lambda: decoder(z),
        "exact decode": lambda: list(decoder.stream(z, frames_per_chunk=1)),
        "exact decode within memory": lambda: decode_exact(decoder, z, memory_bytes=64 << 20),
        "blended decode": lambda: tilekit.decode_tiled(decoder, z, tilekit.TilingConfig.default()),
    }
    with torch.no_grad():
        for name, call in ways.items():
            call()
            pairs = []
            for _ in range(rounds):
                guarded = took(call)
                with unguarded():
                    pairs.append((guarded, took(call)))
            guarded, bare = (min(column) for column in zip(*pairs, strict=True))
            print(f"{name:28}{guarded:.3f} s with guards, {bare:.3f} s without: {guarded / bare:.3f}", flush=True)


if __name__ == "__main__":
    main()
