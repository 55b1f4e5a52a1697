"""Dry runs of the ways of one graph, as far as they are worth their time."""

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import count
from typing import ClassVar

from tilekit._exact.alike import alike_of
from tilekit._exact.forecast import Forecast, Scratch, forecast, no_scratch
from tilekit._exact.frontiers import Frontiers, Path
from tilekit._exact.goals import Frontier
from tilekit._exact.graph import Graph
from tilekit._exact.handed import FACTORS, between, handed
from tilekit._exact.labels import labels
from tilekit._exact.necks import necks
from tilekit._exact.program import Program, program_of
from tilekit._exact.stages import plain
from tilekit._exact.steps import Stage
from tilekit._exact.ways import LARGE, Slide, Tiles, tilings
from tilekit.backends.limits import Limits

__all__ = ["MOST", "WRONG", "Choice", "Trials"]

MOST = 1024
"""Strips of the largest array, at most."""
EFFORT, REPEATED = 20_000, 20
"""Operations in all steps up to which a dry run is worth its time, in all and over the nodes of a large graph."""
TILING = 8
"""What choosing a tiling takes at most, in dry runs of as many operations as the graph has nodes."""
CUTTING = 900_000
"""Nodes in all rounds of cuts between what is kept and what is made again, in one search for what to keep."""
MIB = 1 << 20
WRONG = 1 << 62
"""Bytes that are added to the peak of a plan that the device gets wrong, so that it is never chosen."""
WORTH = 0.95
"""The share of its memory that a plan must come down to for each step to make weights from others for itself."""
STALLED = 0.97
"""The share of its memory that a plan must come down to for strips of half the size to be tried on."""

FLOOR = 1.2
"""How far above a budget two dry runs must point, over the budget, for smaller strips not to be tried."""
NEAR = 1.08
"""How far above a budget two dry runs may point for so many strips to be tried."""
SOON = 4
"""How many times as many strips are tried second, at most: two dry runs tell how far down strips may come."""

_Kind = tuple[int, int, tuple[int, ...], bool, tuple[int, ...]]
"""What tells one way with an axis that slides from others of a graph."""

_Plan = tuple[int, tuple[Stage, ...]]
"""The axis along which blocks come, and the stages."""

Cut = Callable[[int], tuple[Stage, ...]]
"""Gives the stages of a way for so many bytes of the largest array in a strip."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a graph."""

    stages: tuple[Stage, ...]
    axis: int
    """The axis of the output along which blocks come."""
    peak_bytes: int
    """Live arrays at the peak."""
    work: float
    """Multiply-adds over those of a plain call."""
    operations: int
    """In all steps."""
    program: Program = field(compare=False, repr=False)
    """The stages, scheduled."""
    counted: Forecast = field(compare=False, repr=False)
    """The dry run."""
    plain_bytes: int
    """Live arrays at the peak of a plain call."""
    scattered: bool = False
    """Whether strips lie in memory in pieces of a few cells, which takes longer to read."""

    worst: str = ""
    """The array or operation that the device would get wrong, if there is one."""
    level: int = 0
    """How much of what parts of the output hand on is made again; see `handed`."""
    itself: bool = False
    """Whether the function is called as it is."""

    @property
    def cost(self) -> int:
        """What the calls cost."""
        return self.operations * _weight(scattered=self.scattered)


class Trials:
    """
    Dry runs of one graph.

    Parameters
    ----------
    graph : Graph
        The function.
    scratch : callable
        What kernels take for themselves.
    ways : sequence of Slide
        Which axis may slide.
    stream : bool
        The output is handed out in blocks, in order.
    limits : Limits, optional
        What the device gets right.
    plain_scratch : callable
        What the library takes for itself in a plain call.
    itself : Graph, optional
        One operation that calls the function as it is.
    """

    usual: ClassVar[tuple[int, ...]] = (4, 8, 16, 32, 64, 128, 256, 512, MOST)
    """Strips of the largest array that are tried where no budget is given."""

    def __init__(  # noqa: PLR0913
        self,
        graph: Graph,
        scratch: Scratch,
        ways: Sequence[Slide],
        *,
        stream: bool,
        limits: Limits | None,
        plain_scratch: Scratch = no_scratch,
        itself: Graph | None = None,
    ) -> None:
        self.graph, self.slides, self.stream = graph, tuple(ways), stream
        self.largest = max(node.nbytes for node in graph.nodes if graph.live[node.index])
        self._scratch, self._limits = scratch, limits
        self._effort = max(EFFORT, REPEATED * len(graph.nodes))
        self._left = 2 * self._effort
        self._cuts = CUTTING * 4 // 3
        self._tried: dict[_Plan, Choice] = {}
        self._counted: dict[_Plan, Choice] = {}  # whoever tried it
        self._alike = alike_of(graph)
        self._untiled = tilings(graph, stream=stream, alike=self._alike)
        self._tiled: list[Tiles | None] = []  # those that were asked for; None is the end
        self._shares: dict[tuple[int, int] | None, float] = {}  # what steps make of all that their targets are made of
        self._depths: dict[tuple[tuple[int, ...], Frontier], int] = {}
        self._strips: dict[_Kind, float] = {}
        self._leaner: list[Trials] = []
        self._level = 0
        program = program_of(graph, plain(graph), alike=self._alike)
        self.plain_bytes = graph.counted or forecast(program, plain_scratch).peak_bytes
        self.whole = self.counted(program, min((way.axis for way in self.slides), default=0))
        self.most_bytes = min(self.plain_bytes, self.whole.peak_bytes)
        """What no plan should take more than."""
        self.best = self.whole
        """What takes least of all that was tried."""
        self.itself = None if itself is None else self._itself(itself)
        """The plain call."""

    def _itself(self, graph: Graph) -> Choice:
        """Give the plain call, which takes what it takes."""
        program, taken = program_of(graph, plain(graph)), self.plain_bytes
        counted = Forecast(taken, (taken,))
        stages = tuple(stage.stage for stage in program.stages)
        cost = sum(self.graph.live)
        return Choice(stages, self.whole.axis, taken, 1.0, cost, program, counted, taken, itself=True)

    def anew(self, share: int = 1) -> "Trials":
        """
        Give trials of half as many dry runs, or `share` times that, which go as if nothing had been tried.

        So what they find does not depend on a budget that was asked for before. What was counted is not counted again.
        """
        other = copy(self)
        other.slides = tuple(way.anew() for way in self.slides)
        other._left, other._cuts = share * self._effort, CUTTING // 4
        other._tried, other._shares, other._strips = {}, {}, {}
        other.best = self.whole
        return other

    def leaner(self) -> Iterator["Trials"]:
        """Give the same for graphs in which parts of the output hand less and less on; none where they hand nothing."""
        ways = [way for way in self.slides if way.axis != way.along and not way.rests and not way.joined]
        way = min(ways, key=lambda way: way.scattered, default=None)
        if way is None or len(self.graph.nodes) > LARGE or not any(between(self.graph, way.axis)):
            return
        for level in range(len(FACTORS) + 1):
            if level == len(self._leaner):
                self._leaner.append(self._on(handed(self.graph, level), way, level))
            if not level or self._leaner[level].graph is not self.graph:
                yield self._leaner[level]

    def _on(self, graph: Graph, way: Slide, level: int) -> "Trials":
        """Give trials of one way of a graph that gives the same, and of that in which parts wait for one another."""
        other = copy(self)
        found = {axis: labels(graph, axis) for axis in way.labels}
        ends, across = necks(graph), Slide(graph, way.along, way.axis, found)
        other.graph, other.slides = graph, (across, *((replace(across, early=ends),) if ends else ()))
        other.largest = max(node.nbytes for node in graph.nodes if graph.live[node.index])
        other._alike, other._level = alike_of(graph, self._alike), level
        other._tried, other._counted, other._shares, other._leaner, other._depths = {}, {}, {}, [], {}
        other._strips = {}
        return other

    def planned(self, stages: tuple[Stage, ...], way: Slide | Tiles) -> Choice:
        """Give the plan of some stages, counted once."""
        key = (way.axis, stages)
        if key not in self._counted:
            program = program_of(self.graph, stages, alike=self._alike)
            self._counted[key] = self.counted(program, way.axis, scattered=way.scattered)
        return self._counted[key]

    def again(self, stages: tuple[Stage, ...], like: Choice) -> Choice:
        """Count other stages of a way that was chosen; the choice itself where they are the same."""
        if stages == like.stages:
            return like
        program = program_of(self.graph, stages, anew=like.program.anew, alike=self._alike)
        return self.counted(program, like.axis, scattered=like.scattered)

    def tilings(self, each: int = TILING) -> Iterator[Tiles]:
        """Give the ways with tiles, as long as it does not take too long: `each` is what one takes."""
        for number in count():
            if not self._spend(each * len(self.graph.nodes)):
                return
            if number == len(self._tiled):
                self._tiled.append(next(self._untiled, None))
            way = self._tiled[number]
            if way is None:
                return
            yield way

    def within(self, way: Slide, allowance: int, most: float = Frontiers.MOST) -> Path | None:
        """
        Give what may be kept between stages in so many bytes; None where nothing may, or it takes too long.

        `most` is how often operations may be carried out.
        """
        before = way.frontiers.effort
        path = way.frontiers.within(allowance, min(CUTTING, self._cuts), most)
        self._cuts -= way.frontiers.effort - before
        return path

    def _depth(self, stage: Stage) -> int:
        """Count the operations behind the targets of a stage, once for all strips."""
        key = tuple(node for node, _ in stage.steps[len(stage.steps) // 2].targets), stage.stored
        if key not in self._depths:
            self._depths[key] = _depth(self.graph, *key)
        return self._depths[key]

    def _spend(self, effort: float) -> bool:
        """Take effort from what is left; tell whether there was enough."""
        if effort > min(self._effort, self._left):
            return False
        self._left -= int(effort)
        return True

    def attempt(
        self, way: Slide | Tiles, stages: tuple[Stage, ...], work: float = 1.0, most: float = math.inf
    ) -> Choice | None:
        """
        Count what does not take long to count.

        `work` is how often operations are carried out, `most` the cost from which on the choice would not be taken.
        """
        most_made = work * sum(len(stage.steps) * self._depth(stage) for stage in stages) / way.pieces
        known = (way.along, way.axis) if isinstance(way, Slide) else None
        key = (way.axis, stages)
        if key in self._tried:
            tried = self._tried[key]
            return None if tried.cost >= most else tried
        effort = most_made * self._shares.get(known, 1.0)
        if effort * _weight(scattered=way.scattered) >= most or not self._spend(effort):
            return None
        choice = self.planned(stages, way)
        self._left += max(0, int(effort) - choice.operations)
        self._tried[key] = choice
        if known is not None:
            self._shares[known] = min(1.0, choice.operations / max(1, most_made))
        if choice.peak_bytes < self.best.peak_bytes:
            self.best = choice
        return choice

    def largest_strips(  # noqa: PLR0913
        self, way: Slide | Tiles, cut: Cut, budget: int, *, held: int = 0, first: int = 2, most: float = math.inf
    ) -> Choice | None:
        """
        Give the largest strips that stay within a budget; None where none do, or counting takes too long.

        `held` is what is kept whatever the strips, `first` the fewest strips of the largest array, `most` the cost
        from which on the choice would not be taken.
        """
        if held > budget or self.hopeless(way, held, budget):
            return None
        count, before, last, stalled = first, None, 0, False
        while count <= MOST:
            choice = self.attempt(way, cut(self.largest // count), most=most)
            if choice is None or choice.peak_bytes <= budget:
                return choice
            self._learn(way, choice, held)
            if self.hopeless(way, held, budget):
                return None
            if before is not None and STALLED * before.peak_bytes < choice.peak_bytes < WRONG:
                if stalled:
                    return None
                stalled = True  # once may be a cut between frames that do not divide
            elif before is not None:
                self.compare(way, held, (last, before.peak_bytes), (count, choice.peak_bytes))
                if self.hopeless(way, held, budget):
                    return None
            ahead = _ahead(choice.peak_bytes - held, budget - held)
            if before is not None and not stalled:
                ahead = max(ahead, _further((last, before.peak_bytes), (count, choice.peak_bytes), budget))
            before, last = choice, count
            count *= ahead if stalled or last > first else min(ahead, SOON)
        return None

    def _learn(self, way: Slide | Tiles, choice: Choice, held: int) -> None:
        """Learn from what waits between two steps what strips of a way take beside what is kept, however small."""
        if isinstance(way, Slide) and not self.stream:
            kind, waits = _kind(way), choice.counted.waits - held
            self._strips[kind] = max(waits, self._strips.get(kind, waits))

    def compare(self, way: Slide | Tiles, held: int, few: tuple[int, int], many: tuple[int, int]) -> None:
        """Learn from two counts of strips and their peaks what strips of a way take beside what is kept, at least."""
        if isinstance(way, Slide) and many[1] < WRONG:
            least = _least(few, many)
            self._strips[_kind(way)] = least - held

    def hopeless(self, way: Slide | Tiles, held: int, budget: int) -> bool:
        """Whether strips of a way surely take more than a budget, beside what is kept, however small they are."""
        return isinstance(way, Slide) and held + self._strips.get(_kind(way), -math.inf) > FLOOR * budget

    def counted(self, program: Program, axis: int, *, scattered: bool = False) -> Choice:
        """Count what a program takes, however long that is."""
        counted = self.count(program, axis)
        if program.folding.heavy and program.n_steps > 1:
            anew = program.renewed()
            again = self.count(anew, axis)
            if again.peak_bytes < WORTH * counted.peak_bytes:
                program, counted = anew, again
        peak = counted.peak_bytes if counted.over <= 1 else WRONG + int(counted.over * MIB)
        operations = program.operations
        stages = tuple(plan.stage for plan in program.stages)
        work, worst = program.work, counted.worst
        found = Choice(stages, axis, peak, work, operations, program, counted, self.plain_bytes, scattered, worst)
        return replace(found, level=self._level) if self._level else found

    def count(self, program: Program, axis: int) -> Forecast:
        """Count what a program takes; a stream hands its output out along an axis."""
        blocks = axis if self.stream else None
        return forecast(program, self._scratch, axis=blocks, limits=self._limits, alike=self._alike)


def _weight(*, scattered: bool) -> int:
    return 2 if scattered else 1


def _ahead(strips: int, allowed: int) -> int:
    """Give by how much more strips there must be at least, as a power of two, if memory goes down with their size."""
    factor = 2
    while factor < MOST and factor * allowed < strips:
        factor *= 2
    return factor


def _further(few: tuple[int, int], many: tuple[int, int], budget: int) -> int:
    """Give by how much more strips there must be, as a power of two, so that two counts point near to a budget."""
    least = _least(few, many)
    strips = many[1] - least
    factor = 1
    while factor * many[0] < MOST and least + strips / factor > NEAR * budget:
        factor *= 2
    return factor if factor * many[0] < MOST else 1


def _least(few: tuple[int, int], many: tuple[int, int]) -> float:
    """Give to what two counts of strips and their peaks point, if memory but for that goes down with their size."""
    return (many[0] * many[1] - few[0] * few[1]) / (many[0] - few[0])


def _kind(way: Slide) -> _Kind:
    return way.along, way.axis, way.rests, way.joined, way.early


def _depth(graph: Graph, ends: Sequence[int], stored: Frontier) -> int:
    """Count the operations behind some nodes."""
    stack = list(ends)
    seen = {*stack, *stored}
    count = 0
    while stack:
        count += 1
        fresh = [i for i in graph.nodes[stack.pop()].inputs if graph.live[i] and i not in seen]
        seen.update(fresh)
        stack += fresh
    return count
