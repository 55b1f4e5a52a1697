"""How far a run is, told in lines of JSON or by a bar."""

import json
import sys
import time
from typing import Any

from ltx_models.cli import report
from ltx_models.cli.stopping import look
from ltx_models.peak_memory import peak_bytes
from ltx_models.progress import PhaseBar


class Progress:
    """
    Tells how far a run is: lines of JSON, or a bar with the time left and the peak of memory.

    Parameters
    ----------
    as_json : bool
        Whether to print lines of JSON on standard output.
    """

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._bar = PhaseBar()
        self._phase = ""
        self._begun = time.monotonic()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take (phase, done, total)."""
        look()
        if phase != self._phase:
            self._phase, self._begun = phase, time.monotonic()
        if self._json:
            spent = time.monotonic() - self._begun
            left = spent / done * (total - done) if done else None
            self.event("progress", phase=phase, done=done, total=total, seconds_left=left, peak_bytes=peak_bytes())
            return
        self._bar(phase, done, total, report.size_of(peak_bytes()))

    def note(self, text: str) -> None:
        """Say something in words."""
        if self._json:
            self.event("note", text=text)
        else:
            print(text, file=sys.stderr)

    def event(self, name: str, **facts: Any) -> None:
        """Print a line of JSON, where that is wanted."""
        if self._json:
            print(json.dumps({"event": name} | facts), flush=True)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
