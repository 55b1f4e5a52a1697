"""How far a piece of work is: a bar on standard error, or a callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

Progress = bool | Callable[[int, int], object] | None


class ProgressBar:
    """
    A bar whose total may change while it is shown.

    Parameters
    ----------
    label : str
        What is done.
    unit : str
        Of what is counted; ``"B"`` is written in powers of 1000.
    shown : bool or None
        Whether to show it; None where standard error is a terminal.
    keep : bool
        Whether the full bar stays on the terminal.
    """

    def __init__(self, label: str, *, unit: str = "it", shown: bool | None = None, keep: bool = False) -> None:
        from tqdm import tqdm

        hidden = None if shown is None else not shown
        width = None if keep else 78
        self._line: Any = tqdm(desc=label, unit=unit, unit_scale=unit == "B", disable=hidden, leave=keep, ncols=width)

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are done, and a note behind the bar."""
        self._line.total = total
        if note:
            self._line.set_postfix_str(note, refresh=False)
        self._line.update(done - self._line.n)

    def close(self) -> None:
        """Take the bar away, or let it stand."""
        self._line.close()

    def __enter__(self) -> Self:
        """Give the bar itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()


class PhaseBar:
    """
    A bar for each phase of a run, one after another.

    Parameters
    ----------
    shown : bool or None
        See `ProgressBar`.
    """

    def __init__(self, *, shown: bool | None = None) -> None:
        self._shown = shown
        self._bar: ProgressBar | None = None
        self._phase = ""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Show how far a phase is; another one takes the bar of the last away."""
        if phase != self._phase:
            self.close()
            self._phase = phase
        if self._bar is None:
            self._bar = ProgressBar(phase, shown=self._shown)
        self._bar(done, total, note)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        """Give the bar itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        self.close()


@contextmanager
def reported(progress: Progress, label: str, unit: str) -> Iterator[Callable[[int, int], object]]:
    """
    Give a function that shows or reports progress.

    Parameters
    ----------
    progress : bool, callable or None
        True for a bar, a callable for (done, total), else nothing.
    label, unit : str
        As `ProgressBar` takes them.

    Yields
    ------
    callable
        Takes (done, total).
    """
    if callable(progress):
        yield progress
    elif progress:
        with ProgressBar(label, unit=unit, shown=True, keep=True) as bar:
            yield bar
    else:
        yield lambda done, total: None
