"""Standard output and error of a command that works for hours: what becomes of them never ends the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class PatientStream:
    """
    A text stream that goes on where nobody listens any more.

    Parameters
    ----------
    stream : text file or None
        Where to write; None where the process was started without it.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        """Write, or remember why that cannot be done."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        self._try("flush")

    def isatty(self) -> bool:
        """Say whether a person looks on."""
        return self.stream is not None and bool(self.stream.isatty())

    def __getattr__(self, name: str) -> Any:
        """Be as the stream in everything else."""
        return getattr(self.stream, name)

    def _try(self, method: str, *values: str) -> None:
        if self.stream is None or self.error is not None:
            return
        try:
            getattr(self.stream, method)(*values)
        except (OSError, ValueError) as error:  # of the system, or closed in Python
            self.error = error


@contextmanager
def patient_streams() -> Iterator[tuple[PatientStream, PatientStream]]:
    """
    Let standard output and error fail without ending the work.

    Yields
    ------
    pair of PatientStream
        Output and error, which know at the end what became of them.
    """
    before = sys.stdout, sys.stderr
    patient = PatientStream(before[0]), PatientStream(before[1])
    sys.stdout, sys.stderr = patient  # which have what print and tqdm use
    try:
        yield patient
    finally:
        sys.stdout, sys.stderr = before
        for stream in patient:
            stream.flush()
            if stream.error is not None:
                _let_go(stream.stream)


def _let_go(stream: Any) -> None:
    """Point a stream to nowhere, so that the interpreter does not fail on it once more when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
