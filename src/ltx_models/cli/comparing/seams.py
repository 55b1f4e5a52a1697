"""Seams: how far a blended decode is from the whole one, and how much of that lies where tiles meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tilekit import Plan

Map = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seam:
    """
    Where tiles of one axis meet.

    Attributes
    ----------
    axis : str
        ``"frames"``, ``"height"`` or ``"width"``.
    start, stop : int
        The overlap, in frames or pixels.
    rms, largest : float
        Difference in the overlap, of values from -1 to 1.
    score : float
        Its mean square over that outside all overlaps: 1 is no seam. Infinite where only overlaps differ.
    """

    axis: str
    start: int
    stop: int
    rms: float
    largest: float
    score: float


class SeamMap:
    """
    Difference of two videos, gathered frame by frame.

    Parameters
    ----------
    frames, height, width : int
        Of the videos.

    Examples
    --------
    >>> found = SeamMap(1, 2, 2)
    >>> found.add(0, np.zeros((3, 2, 2)), np.full((3, 2, 2), 0.5))
    >>> found.largest, found.rms
    (0.5, 0.5)
    """

    def __init__(self, frames: int, height: int, width: int) -> None:
        self.peaks: Map = np.zeros((height, width))  # largest of all frames and channels
        self._squares: Map = np.zeros((height, width))
        self._seen = 0
        self.frame_squares: Map = np.zeros(frames)
        self.frame_peaks: Map = np.zeros(frames)

    def add(self, frame: int, one: Any, other: Any) -> None:
        """Take a pair of frames, (3, H, W), into account."""
        distance = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))
        squares = (distance**2).mean(axis=0)
        peaks = distance.max(axis=0)
        np.maximum(self.peaks, peaks, out=self.peaks)
        self._squares += squares
        self._seen += 1
        self.frame_squares[frame] = squares.mean()
        self.frame_peaks[frame] = peaks.max()

    @property
    def largest(self) -> float:
        """Largest difference."""
        return float(self.peaks.max())

    @property
    def rms(self) -> float:
        """Root of the mean square."""
        return float(np.sqrt(self._squares.mean() / self._seen))

    def seams(self, plan: Plan) -> list[Seam]:
        """
        Score each overlap of a plan.

        Parameters
        ----------
        plan : Plan
            Of the blended decode: axes frames, height and width.

        Returns
        -------
        list of Seam
            In the order of the axes.
        """
        found = []
        for axis, segments in zip(plan.geometry.axes, plan.segments, strict=True):
            squares, peaks = self._profile(axis.name)
            bands = [(s.start, s.stop) for s in segments if len(s.tiles) > 1]
            outside = np.ones(len(squares), bool)
            for start, stop in bands:
                outside[start:stop] = False
            elsewhere = squares[outside].mean() if outside.any() else 0.0
            for start, stop in bands:
                here = float(squares[start:stop].mean())
                score = here / float(elsewhere) if elsewhere else (np.inf if here else 1.0)
                found.append(Seam(axis.name, start, stop, here**0.5, float(peaks[start:stop].max()), float(score)))
        return found

    def _profile(self, axis: str) -> tuple[Map, Map]:
        """Give mean squares and largest differences along an axis."""
        if axis == "frames":
            return self.frame_squares, self.frame_peaks
        across = 1 if axis == "height" else 0
        return self._squares.mean(axis=across) / self._seen, self.peaks.max(axis=across)
