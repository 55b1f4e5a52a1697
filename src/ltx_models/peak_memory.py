"""The most memory that this process and the accelerators took."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any


def peak_bytes() -> int | None:
    """
    Give the most memory so far: of the process or of an accelerator, whichever is larger.

    Returns
    -------
    int or None
        Bytes; None where the system does not tell.
    """
    peaks = [_device_peak("torch"), _device_peak("mlx"), resident_peak()]
    return max((peak for peak in peaks if peak), default=None)


def forget_peaks() -> None:
    """Begin to measure anew, where the system and the frameworks allow it; else the peak is that of the run so far."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    torch, mlx = sys.modules.get("torch"), sys.modules.get("mlx.core")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if mlx is not None:
        mlx.reset_peak_memory()


def _device_peak(name: str) -> int:
    """Give the most memory that a framework counted; 0 where there is no accelerator or it does not count."""
    module: Any = sys.modules.get("mlx.core" if name == "mlx" else "torch")
    if module is None:
        return 0
    if name == "mlx":
        return int(module.get_peak_memory())
    return int(module.cuda.max_memory_allocated()) if module.cuda.is_available() else 0


def resident_peak() -> int | None:
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
