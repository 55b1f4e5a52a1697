"""
The command line: ``ltx-models VERB``, with the verbs generate, serve, reconstruct, encode,
decode, plan, seams, bench, doctor, info, vocode, audio-roundtrip, upscale-latents, convert and download.

Each verb is a module with ``add(verbs)``, which declares its arguments, and a function that runs it.
Users see errors as one line and exit code 2, or 1 where the disk is full; ``--debug`` shows the traceback.
"""

import argparse
import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ltx_models
from ltx_models.cli import (
    bench,
    convert,
    decode,
    doctor,
    download,
    encode,
    generate,
    info,
    plan,
    reconstruct,
    seams,
    serve,
    sound,
)
from ltx_models.cli.missing import also_missing
from ltx_models.cli.parsing import Parser
from ltx_models.cli.standard_streams import patient_streams
from ltx_models.cli.stopping import Stopped, stoppable, told_to_stop
from ltx_models.media import MediaError
from ltx_models.media._files import remove_unfinished
from tilekit import DiskError

__all__ = ["main"]

# What users can cause: wrong values and files (ValueError covers this project's errors), missing packages, full disks.
USER_ERRORS = (ValueError, OSError, ImportError, MediaError)
FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # of the machine, not of what the user wrote


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
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # before a verb began, or when it was over
        return _interrupted(signal.SIGINT)


def _main(arguments: Sequence[str] | None) -> int:
    """Read the command line and run its verb; give the exit code."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        complete(parser)
    with patient_streams() as (out, _):
        args = parser.parse_args(arguments)
        code = _run(args)
        out.flush()
        if out.error is not None and not isinstance(out.error, BrokenPipeError):
            reason = getattr(out.error, "strerror", None) or out.error
            print(f"ltx-models: standard output cannot be written: {reason}; files are complete", file=sys.stderr)
            return code or 1
    return code


def _parser() -> Parser:
    """Declare all verbs."""
    parser = Parser(
        prog="ltx-models",
        description="LTX-2: videos with sound from prompts, and video to latents and back, in little memory.",
    )
    parser.add_argument("--version", action="version", version=f"ltx-models {ltx_models.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=Parser)
    for verb in (
        generate,
        serve,
        reconstruct,
        encode,
        decode,
        plan,
        seams,
        bench,
        doctor,
        info,
        sound,
        convert,
        download,
    ):
        verb.add(verbs)
    return parser


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how a line goes on, where the extra 'completion' is installed; ends the process."""
    with suppress(ModuleNotFoundError):
        import argcomplete

        argcomplete.autocomplete(parser)


def _run(args: argparse.Namespace) -> int:
    """Run a verb; give the exit code."""
    try:
        with stoppable(), warnings.catch_warnings():
            warnings.showwarning = _warned
            try:
                args.run(args)
            except USER_ERRORS as error:
                if args.debug:
                    raise
                return _refused(error)
    except BaseException as error:  # a signal, or what the interrupted code made of it, panics of Rust among it
        number = error.number if isinstance(error, Stopped) else told_to_stop()
        if number is None and isinstance(error, KeyboardInterrupt):
            number = signal.SIGINT
        if number is None or (args.debug and isinstance(error, Exception)):
            raise
        return _interrupted(number)
    return 0


def _refused(error: Exception) -> int:
    """Tell an error as a line."""
    number = told_to_stop()
    if number is not None:  # what the interrupted code made of it
        return _interrupted(number)
    messages = [str(error), *getattr(error, "__notes__", ()), *also_missing(str(error))]
    print(f"ltx-models: {' '.join('; '.join(messages).split())}", file=sys.stderr)
    return 1 if isinstance(error, DiskError) or getattr(error, "errno", None) in FAULTS else 2


def _interrupted(number: int) -> int:
    """Clear away what was begun, where a signal came between two steps of clearing it away, and tell so."""
    remove_unfinished()
    print("ltx-models: interrupted; nothing unfinished is left", file=sys.stderr)
    return 128 + number


def _warned(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Tell a warning as a line for users, without the place in the code."""
    print(f"ltx-models: {' '.join(str(message).split())}", file=sys.stderr)
