"""How a run tells how far it is: phases, steps and previews."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ltx_models.nn import Array

StepEnd = Callable[[str, int, float, dict[str, Array]], Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """
    What is called while a pipeline runs.

    Attributes
    ----------
    progress : callable, optional
        Takes (phase, done, total): steps of a denoising stage, frames of the decode, 0 and 1 of anything else.
    step_end : callable, optional
        Takes (phase, step, sigma, latents) after every step; what it returns stops the run if it is False.
    preview : callable, optional
        Takes (phase, step, picture), the middle frame as the model now takes it to be, of shape (3, H, W) in [-1, 1].
    preview_every : int
        Steps from one preview to the next.
    """

    progress: Callable[[str, int, int], object] | None = None
    step_end: StepEnd | None = None
    preview: Callable[[str, int, Array], object] | None = None
    preview_every: int = 1

    def tell(self, phase: str, done: int, total: int = 1) -> None:
        """Report progress to whoever listens."""
        if self.progress is not None:
            self.progress(phase, done, total)
