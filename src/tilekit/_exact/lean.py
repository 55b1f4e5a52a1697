"""Plans of functions that hand arrays on from one part of the output to the next, in which they hand on less."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tilekit._exact.frontiers import Path
from tilekit._exact.goals import plain_work
from tilekit._exact.trials import Choice, Trials
from tilekit._exact.ways import Slide

__all__ = ["lean", "leanest"]

COUNTS = (16, 64, 256)
"""Strips of the largest array."""
FEWER = 0.2
"""The share of what strips take that is hoped for with strips of a quarter of the size."""
ROOM = 4
"""Strips of the largest array beside what is kept, at first."""
TRIES = 4
"""Dry runs of different paths, at most."""


@dataclass(frozen=True)
class _Lean:
    """One way, with what it keeps between stages."""

    trials: Trials
    way: Slide
    path: Path

    @cached_property
    def work(self) -> float:
        """Multiply-adds over those of a plain call, nearly."""
        return self.path.work / max(1, plain_work(self.trials.graph))

    def counted(self, count: int) -> Choice:
        """Give the plan with so many strips of the largest array."""
        stages = self.way.stages(self.path, self.trials.largest // count)
        return self.trials.planned(stages, self.way)


def lean(trials: Trials, budget: int) -> Choice | None:
    """
    Give a plan of little work in which parts hand less on.

    Parameters
    ----------
    trials : Trials
        Of the function.
    budget : int
        Bytes of live arrays at the peak.

    Returns
    -------
    Choice or None
        None where there is none within the budget.
    """
    ways = tuple(_ways(trials))
    allowance = budget - _result(trials) - ROOM * trials.largest // COUNTS[1]
    for _ in range(TRIES):
        paths = ((each, way, way.frontiers.tight(allowance)) for each, way in ways)
        rows = [_Lean(each, way, path) for each, way, path in paths if path is not None]
        if not rows:
            return None
        row = min(rows, key=lambda row: (row.work, row.path.held))
        choice = _fitting(row, budget)
        if choice.peak_bytes <= budget:
            return choice
        allowance = row.path.held - (choice.peak_bytes - budget)
    return None


def _fitting(row: _Lean, budget: int) -> Choice:
    """Count with smaller and smaller strips, as long as these may come to fit."""
    kept = row.path.held + _result(row.trials)
    for count in COUNTS:
        choice = row.counted(count)
        if choice.peak_bytes <= budget or kept + FEWER * (choice.peak_bytes - kept) > budget:
            break
    return choice


def leanest(trials: Trials) -> Choice | None:
    """Give the plan that keeps least of all; None where parts hand nothing on."""
    rows = [_Lean(each, way, way.frontiers.least) for each, way in _ways(trials)]
    best = min(rows, key=lambda row: (row.path.held, row.work), default=None)
    return None if best is None else best.counted(COUNTS[1])


def _result(trials: Trials) -> int:
    return 0 if trials.stream else trials.graph.nodes[trials.graph.output].nbytes


def _ways(trials: Trials) -> Iterator[tuple[Trials, Slide]]:
    """Give the ways that go from part to part, in which another axis slides."""
    for each in trials.leaner():
        for way in each.slides:
            yield each, way
