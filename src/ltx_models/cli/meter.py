"""What a piece of work took, and how far it is."""

import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Self


class Meter:
    """Seconds and peak memory of a ``with`` block."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak_bytes: int | None = None  # where the system tells it

    def __enter__(self) -> Self:
        """Start the clock; where the system allows, forget earlier peaks."""
        with suppress(OSError):  # where there is no such file, the peak is that of the process so far
            Path("/proc/self/clear_refs").write_text("5")
        self._start = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the clock."""
        self.seconds = time.perf_counter() - self._start
        self.peak_bytes = peak_resident()


def peak_resident() -> int | None:
    """Give the peak of this process's resident bytes; None on systems that do not tell, such as Windows."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(row.split()[1]) * 1024 for row in status.splitlines() if row.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        resource = import_module("resource")  # POSIX alone has it
    except ModuleNotFoundError:
        return None
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
