"""
Which frontiers to keep, over all stages at once: the least work within an allowance of bytes.

A stage by stage choice cannot know that a frontier which is cheap now makes a later stage dear. Here a layer of states
(frontiers) goes from goal to goal; each is followed by the cheapest cuts at several rates.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tilekit._exact.barriers import Barriers
from tilekit._exact.goals import Frontier

__all__ = ["Frontiers", "Path"]

INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class Path:
    """The frontiers after each goal, the multiply-adds of all stages, and the most bytes kept between two."""

    fronts: tuple[Frontier, ...]
    work: int
    held: int


class Frontiers:
    """Paths of frontiers through the goals of a graph."""

    WIDTH = 4
    """States that are followed from one goal to the next."""
    FACTORS = (INFINITE, 10.0, 3.0, 1.0, 0.3, 0.1)
    """Rates, in bytes to a multiply-add, over the average of the graph."""
    LEAST = (INFINITE, 6.0, 1.5, 0.3, 0.0)
    """Those where these keep too much."""
    NEAR, FAR = 0.03, INFINITE
    """What a stage may make again, over the work of all, where as little as can be is kept before it."""

    FINE = (INFINITE, 10.0, 5.0, 3.0, 2.0, 1.0, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03)
    """Rates of which each stage takes the largest that keeps little enough."""

    MOST = 6
    """How often operations may be carried out."""

    def __init__(self, barriers: Barriers) -> None:
        self.barriers = barriers
        self._next: dict[tuple[int, Frontier, tuple[float, ...]], tuple[tuple[Frontier, int], ...]] = {}
        self._paths: dict[int, Path | None] = {}
        self._tight: dict[int, Path | None] = {}
        graph = barriers.graph
        made = frozenset(node.index for node in graph.nodes if graph.live[node.index])
        self._rate = barriers.held(made) / max(1, barriers.spent(made))

    @property
    def effort(self) -> int:
        """What looking for frontiers took until now."""
        return self.barriers.effort

    @cached_property
    def lasting(self) -> Path:
        """The path that makes nothing again."""
        front: Frontier = frozenset()
        fronts, spent, held = [], 0, 0
        for j in range(len(self.barriers.goals)):
            (front, more) = self._step(j, front, (INFINITE,))[0]
            fronts.append(front)
            spent, held = spent + more, max(held, self.barriers.held(front))
        return Path(tuple(fronts), spent, held)

    def within(self, allowance: int, effort: float = INFINITE) -> Path | None:
        """
        Give the path of least work that keeps at most so many bytes between two stages.

        None where none does, or where looking for it takes more than the effort.
        """
        if self.lasting.held <= allowance:
            return self.lasting
        if allowance not in self._paths:
            most = self.effort + effort
            near = self.NEAR * self.lasting.work
            tries = ((self.FACTORS, near), (self.LEAST, near), (self.LEAST, self.FAR))
            paths = (self._path(allowance, factors, reach, most) for factors, reach in tries)
            self._paths[allowance] = next((path for path in paths if path is not None), None)
        return self._paths[allowance]

    def tight(self, allowance: int) -> Path | None:
        """Give the path on which each stage makes as little again as keeps it within an allowance, if there is one."""
        if allowance not in self._tight:
            self._tight[allowance] = self._through(allowance, self.FINE)
        return self._tight[allowance]

    @property
    def least(self) -> Path:
        """The path that keeps little, however much is made again."""
        paths = (self._through(INFINITE, (factor,)) for factor in self.FINE[-3:])
        return min((path for path in paths if path is not None), key=lambda path: (path.held, path.work))

    def _through(self, allowance: float, factors: tuple[float, ...]) -> Path | None:
        front: Frontier = frozenset()
        fronts, spent, held = [], 0, 0
        for j in range(len(self.barriers.goals)):
            rows = (row for factor in factors for row in self._step(j, front, (factor,)))
            found = next(((after, more) for after, more in rows if self.barriers.held(after) <= allowance), None)
            if found is None:
                return None
            front = found[0]
            fronts.append(front)
            spent, held = spent + found[1], max(held, self.barriers.held(front))
        return Path(tuple(fronts), spent, held)

    def _path(self, allowance: int, factors: tuple[float, ...], reach: float, effort: float) -> Path | None:
        layer: dict[Frontier, Path] = {frozenset(): Path((), 0, 0)}
        for j in range(len(self.barriers.goals)):
            after: dict[Frontier, Path] = {}
            for front, path in layer.items():
                for following, more in self._step(j, front, factors):
                    held = self.barriers.held(following)
                    if held > allowance or path.work + more > self.MOST * self.lasting.work:
                        continue
                    longer = Path((*path.fronts, following), path.work + more, max(path.held, held))
                    if following not in after or longer.work < after[following].work:
                        after[following] = longer
            layer = self._best(j, after, reach)
            if not layer or self.effort > effort:
                return None
        return min(layer.values(), key=lambda path: path.work)

    def again(self, path: Path) -> float:
        """Give how often operations are carried out."""
        return path.work / max(1, self.lasting.work)

    def _best(self, j: int, layer: dict[Frontier, Path], reach: float) -> dict[Frontier, Path]:
        """Keep those of least work, that of the next stage included, and the smallest within reach."""
        if len(layer) <= self.WIDTH:
            return layer
        debts = {front: self._debt(j + 1, front) for front in layer}
        rows = sorted(layer.items(), key=lambda row: (row[1].work + debts[row[0]], row[1].held))
        near = [row for row in rows if debts[row[0]] <= reach] or rows
        smallest = min(near, key=lambda row: (self.barriers.held(row[0]), row[1].work))
        return dict([*rows[: self.WIDTH - 1], smallest])

    def _debt(self, j: int, front: Frontier) -> int:
        """Count what stage `j` makes at least."""
        return self.barriers.spent(self.barriers.made(j, front)) if j < len(self.barriers.goals) else 0

    def _step(self, j: int, front: Frontier, factors: tuple[float, ...]) -> tuple[tuple[Frontier, int], ...]:
        """Give the frontiers that may be kept after stage `j`, each with the multiply-adds of the stage."""
        key = (j, front, factors)
        if key not in self._next:
            barriers = self.barriers
            last = j + 1 == len(barriers.goals)
            fronts = {frozenset[int](): None} if last else dict.fromkeys(self._cuts(j, front, factors))
            self._next[key] = tuple((after, barriers.spent(barriers.made(j, front, after))) for after in fronts)
        return self._next[key]

    def _cuts(self, j: int, front: Frontier, factors: tuple[float, ...]) -> Iterator[Frontier]:
        made = self.barriers.made(j, front)
        rates = [factor * self._rate for factor in factors]
        for factor, kept in zip(factors, self.barriers.cuts(j, front, made, rates), strict=True):
            if kept is not None:
                yield kept
            elif factor == INFINITE:
                yield self.barriers.ends(j)
