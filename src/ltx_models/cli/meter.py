"""What a piece of work took, and how far it is."""

import time
from typing import Self

from ltx_models.peak_memory import forget_peaks, peak_bytes


class Meter:
    """Seconds and peak memory of a ``with`` block."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak_bytes: int | None = None  # where the system tells it

    def __enter__(self) -> Self:
        """Start the clock; where the system allows, forget earlier peaks."""
        forget_peaks()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the clock."""
        self.seconds = time.perf_counter() - self._start
        self.peak_bytes = peak_bytes()
