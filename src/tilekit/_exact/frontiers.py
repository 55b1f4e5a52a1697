"""
Which frontiers to keep, over all stages at once: the least work within an allowance of bytes.

A stage by stage choice cannot know that a frontier which is cheap now makes a later stage dear. Here a layer of states
(frontiers) goes from goal to goal; each is followed by the cheapest cuts at several rates.
"""

from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from tilekit._exact.barriers import Barriers, Cheapest
from tilekit._exact.cuts import Solved
from tilekit._exact.goals import Frontier

__all__ = ["Frontiers", "Path"]

INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class Path:
    """The frontiers after each goal, the multiply-adds of all stages, and the most bytes kept between two."""

    fronts: tuple[Frontier, ...]
    work: int
    held: int


@dataclass(frozen=True, slots=True)
class _Steps:
    """The frontiers that may be kept after a stage, each with the multiply-adds of the stage."""

    rows: tuple[tuple[Frontier, int], ...]
    cheapest: Cheapest | None
    """Where they come from; None after the last stage."""


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
        self._known: dict[tuple[int, Frontier, tuple[float, ...]], _Steps] = {}
        self._next: dict[tuple[int, Frontier, tuple[float, ...]], tuple[tuple[Frontier, int], ...]] = {}
        self._charged: set[Solved] = set()
        self._paths: dict[tuple[int, float], Path | None] = {}
        self.effort = 0
        """What looking for frontiers took until now, in nodes looked at."""
        self._tight: dict[int, Path | None] = {}
        graph = barriers.graph
        made = frozenset(node.index for node in graph.nodes if graph.live[node.index])
        self._rate = barriers.held(made) / max(1, barriers.spent(made))

    def anew(self) -> "Frontiers":
        """
        Give the same as if nothing had been looked for.

        What was found is not computed again, and counts as effort as if it were: so what is found within an effort does
        not depend on what was looked for before.
        """
        other = copy(self)
        vars(other).pop("lasting", None)
        other._next, other._charged, other._paths, other.effort = {}, set(), {}, 0
        return other

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

    def within(self, allowance: int, effort: float = INFINITE, most: float = MOST) -> Path | None:
        """
        Give the path of least work that keeps at most so many bytes between two stages.

        None where none does, or where looking for it takes more than the effort; `most` is how often operations may
        be carried out.
        """
        if self.lasting.held <= allowance:
            return self.lasting
        if (allowance, most) not in self._paths:
            limit = self.effort + effort
            near = self.NEAR * self.lasting.work
            tries = ((self.FACTORS, near), (self.LEAST, near), (self.LEAST, self.FAR))
            paths = (self._path(allowance, factors, reach, limit, most) for factors, reach in tries)
            self._paths[allowance, most] = next((path for path in paths if path is not None), None)
        return self._paths[allowance, most]

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

    @cached_property
    def _once(self) -> tuple[int, ...]:
        """For each goal, the multiply-adds of all that may be made by then, the next stage's included, made once."""
        barriers = self.barriers
        spent = [0] * (len(barriers.goals) + 2)  # the last but one is what no goal needs
        for index, j in enumerate(barriers.first):
            spent[j] += barriers.spent((index,))
        return tuple(min(done, self.lasting.work) for done in accumulate(spent))[1:-1]

    def _path(
        self, allowance: int, factors: tuple[float, ...], reach: float, effort: float, most: float
    ) -> Path | None:
        more_than_once = (most - 1) * self.lasting.work
        layer: dict[Frontier, Path] = {frozenset(): Path((), 0, 0)}
        for j in range(len(self.barriers.goals)):
            after: dict[Frontier, Path] = {}
            for front, path in layer.items():
                for following, more in self._step(j, front, factors):
                    held = self.barriers.held(following)
                    if held > allowance or path.work + more - self._once[j] > more_than_once:
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
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = self._cheapest(j, front, factors)
            if found.cheapest is not None:
                self.effort += found.cheapest.looked
                if found.cheapest.solved not in self._charged:
                    self._charged.add(found.cheapest.solved)
                    self.effort += found.cheapest.solved.effort
            self._next[key] = found.rows
        return self._next[key]

    def _cheapest(self, j: int, front: Frontier, factors: tuple[float, ...]) -> "_Steps":
        barriers, found = self.barriers, None
        fronts: dict[Frontier, None] = {}
        if j + 1 == len(barriers.goals):
            fronts[frozenset()] = None
        else:
            found = barriers.cuts(j, front, barriers.made(j, front), [factor * self._rate for factor in factors])
            for factor, kept in zip(factors, found.fronts, strict=True):
                if kept is not None:
                    fronts[kept] = None
                elif factor == INFINITE:
                    fronts[barriers.ends(j)] = None
        return _Steps(tuple((after, barriers.spent(barriers.made(j, front, after))) for after in fronts), found)
