"""How far a piece of work is: a bar on standard error, or a callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from tilekit._progress import DELAY, watched

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
        Whether to show it; None where a person looks on, at a terminal or a notebook.
    keep : bool
        Whether the full bar stays on the terminal.
    delay : float
        Seconds of work before it is shown.
    """

    def __init__(
        self, label: str, *, unit: str = "it", shown: bool | None = None, keep: bool = False, delay: float = 0
    ) -> None:
        from tqdm.auto import tqdm

        shown = watched() if shown is None else shown
        self._line: Any = tqdm(
            desc=label,
            unit=unit,
            unit_scale=unit == "B",
            disable=not shown,
            leave=keep,
            ncols=None if keep else 78,
            delay=delay,
        )

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
        True for a bar, a callable for (done, total), False for nothing; None for a bar where a person looks on.
    label, unit : str
        As `ProgressBar` takes them.

    Yields
    ------
    callable
        Takes (done, total).
    """
    if callable(progress):
        yield progress
    elif progress or (progress is None and watched()):
        with ProgressBar(label, unit=unit, shown=True, keep=True, delay=0 if progress else DELAY) as bar:
            yield bar
    else:
        yield lambda done, total: None
