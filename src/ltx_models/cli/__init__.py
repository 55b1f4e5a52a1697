"""
The command line: ``ltx-models generate | reconstruct | encode | decode | plan | info | convert | download``.

Each verb is a module with ``add(verbs)``, which declares its arguments, and a function that runs it.
Users see errors as one line and exit code 2, or 1 where the disk is full; ``--debug`` shows the traceback.
"""

import argparse
import errno
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from ltx_models.cli import convert, decode, download, encode, generate, info, plan, reconstruct, sound
from ltx_models.media import DiskError, MediaError

__all__ = ["main"]

# What users can cause: wrong values and files (ValueError covers this project's errors), missing packages, full disks.
USER_ERRORS = (ValueError, OSError, ImportError, MediaError)
FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # of the machine, not of what the user wrote
TOLD_TO_STOP = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal by which a system ends a process; unwound like an interrupt, so that nothing unfinished is left."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


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
        0 when all went well, 2 for what the user can mend, 1 for a full or failing disk, 130 when interrupted, 128 and
        the number of another signal that ended it.

    Examples
    --------
    >>> main(["plan", "--size", "1280x704", "--frames", "9", "--tiling", "none", "--json"])  # doctest: +ELLIPSIS
    {"tiles": 1, "calls": 1, "redundant_work": 1.0, ...}
    0
    """
    parser = _Parser(
        prog="ltx-models",
        description="LTX-2: videos with sound from prompts, and video to latents and back, in little memory.",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=_Parser)
    for verb in (generate, reconstruct, encode, decode, plan, info, sound, convert, download):
        verb.add(verbs)
    args = parser.parse_args(arguments)
    try:
        with stoppable(), warnings.catch_warnings():
            warnings.showwarning = _warned
            args.run(args)
    except KeyboardInterrupt as stop:
        print("ltx-models: interrupted; nothing unfinished is left", file=sys.stderr)
        return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)
    except USER_ERRORS as error:
        if args.debug:
            raise
        told = [str(error), *getattr(error, "__notes__", ())]
        print(f"ltx-models: {' '.join('; '.join(told).split())}", file=sys.stderr)
        return 1 if isinstance(error, DiskError) or getattr(error, "errno", None) in FAULTS else 2
    return 0


def _warned(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Tell a warning as a line for users, without the place in the code."""
    print(f"ltx-models: {' '.join(str(message).split())}", file=sys.stderr)


@contextmanager
def stoppable() -> Iterator[None]:
    """
    Let signals that end a process raise `Stopped`, so that what was begun is cleared away.

    Yields
    ------
    None
        Handlers that others have put in place stay.
    """
    here = threading.current_thread() is threading.main_thread()
    mine = [number for number in TOLD_TO_STOP if here and signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
