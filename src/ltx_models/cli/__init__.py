"""
The command line: ``ltx-models generate | reconstruct | encode | decode | plan | info | convert | download``.

Each verb is a module with ``add(verbs)``, which declares its arguments, and a function that runs it.
Users see errors as one line and exit code 2; ``--debug`` shows the traceback.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ltx_models.cli import convert, decode, download, encode, generate, info, plan, reconstruct, sound
from ltx_models.media import MediaError

__all__ = ["main"]

# What users can cause: wrong values and files (ValueError covers this project's errors), missing packages, full disks.
USER_ERRORS = (ValueError, OSError, ImportError, MediaError)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Parameters
    ----------
    arguments : sequence of str or None
        What follows the command's name; None for those of the process.

    Returns
    -------
    int
        0 when all went well, 2 for an error of the user or the machine, 130 when interrupted.

    Examples
    --------
    >>> main(["plan", "--size", "1280x704", "--frames", "9", "--tiling", "none", "--json"])  # doctest: +ELLIPSIS
    {"tiles": 1, "calls": 1, "redundant_work": 1.0, ...}
    0
    """
    parser = _Parser(prog="ltx-models", description="Video to LTX-2 latents and back, in little memory.")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=_Parser)
    for verb in (generate, reconstruct, encode, decode, plan, info, sound, convert, download):
        verb.add(verbs)
    args = parser.parse_args(arguments)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("ltx-models: interrupted; no unfinished file bears its name", file=sys.stderr)
        return 130
    except USER_ERRORS as error:
        if args.debug:
            raise
        print(f"ltx-models: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
