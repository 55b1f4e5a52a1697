"""What is called while a pipeline runs: progress by phase, the end of a step, previews."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

from ltx_models.nn import Array
from ltx_models.progress import PhaseBar
from tilekit._progress import watched

StepEnd = Callable[[str, int, float, dict[str, Array]], Any]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """
    What is called while a pipeline runs.

    Attributes
    ----------
    progress : callable or bool, optional
        Takes (phase, done, total): steps of a denoising stage, frames of the decode, 0 and 1 of anything else. True
        for a bar, False for nothing; by default a bar where a person looks on, at a terminal or in a notebook.
    callback_on_step_end : callable, optional
        Takes (phase, step, sigma, latents) after every step; the run stops if it returns False.
    preview : callable, optional
        Takes (phase, step, picture): the middle frame as the model predicts it so far, of shape (3, H, W), in [-1, 1].
    preview_every : int
        Steps from one preview to the next.
    """

    progress: Callable[[str, int, int], object] | bool | None = None
    callback_on_step_end: StepEnd | None = None
    preview: Callable[[str, int, Array], object] | None = None
    preview_every: int = 1

    def report(self, phase: str, done: int, total: int = 1) -> None:
        """Report progress."""
        if callable(self.progress):
            self.progress(phase, done, total)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Report the beginning and the end of a phase."""
        self.report(name, 0)
        yield
        self.report(name, 1)

    @contextmanager
    def with_bar(self) -> Iterator[Self]:
        """Give the same callbacks, with a bar where that is wanted."""
        if callable(self.progress) or self.progress is False or (self.progress is None and not watched()):
            yield self
            return
        with PhaseBar(shown=True) as bar:
            yield replace(self, progress=bar)
