"""The ways in which a graph can be cut: which axis slides, and whether tiles cut the others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from tilekit._exact.alike import Alike
from tilekit._exact.barriers import Barriers
from tilekit._exact.boxes import full
from tilekit._exact.coarse import Coarse, often
from tilekit._exact.frontiers import Frontiers, Path
from tilekit._exact.goals import Frontier, parts, work
from tilekit._exact.graph import Graph
from tilekit._exact.labels import Labels, apart, candidates, cut_at, labels, scattered
from tilekit._exact.pull import pull
from tilekit._exact.stages import slide, tiles
from tilekit._exact.steps import Place, Stage
from tilekit._exact.windows import exits, rest

__all__ = ["LARGE", "Slide", "Tiles", "slides", "tilings"]


@dataclass(frozen=True)
class Slide:
    """One axis slides; at barriers a frontier is kept, and what lies behind it is made again."""

    graph: Graph
    along: int
    """The axis of the output that slides."""
    axis: int
    """The axis of the output along which blocks come: that of its parts, where it is written part by part."""
    labels: Mapping[int, Labels]
    """For each axis that may slide."""
    rests: tuple[int, ...] = ()
    """Nodes that are completed before what reads them, so that what waits before and after is not held at once."""
    joined: bool = False
    """Whether what does not need each other is completed at the same time."""
    early: tuple[int, ...] = ()
    """Nodes that are all completed before anything that they do not need."""

    @cached_property
    def pieces(self) -> int:
        """How many graphs one after the other the steps go through, where the output is their concatenation."""
        return len(parts(self.graph, self.along)[0])

    @cached_property
    def barriers(self) -> Barriers:
        """What must be complete before what."""
        part = self.axis if self.axis != self.along else None
        return Barriers(
            self.graph,
            self.labels[self.along],
            part,
            others=self.others,
            apart=self._apart,
            rests=self.rests,
            joined=self.joined,
            early=self.early,
        )

    @property
    def others(self) -> tuple[Labels, ...]:
        """The labels of axes that do not slide."""
        return tuple(row for axis, row in self.labels.items() if axis != self.along)

    @cached_property
    def scattered(self) -> bool:
        """Whether strips lie in memory in pieces of a few cells: the last axis of most arrays slides."""
        return scattered(self.graph, self.labels[self.along])

    @property
    def _apart(self) -> bool:
        """Whether the first part of the output is made of a part of the input: then barriers lie within parts."""
        return self.axis == self.along and _parted(self.graph, self.along)

    @cached_property
    def frontiers(self) -> Frontiers:
        """What may be kept between."""
        return Frontiers(self.barriers)

    def anew(self) -> "Slide":
        """Give the same as if nothing had been looked for; what is known of the graph is not computed again."""
        other = replace(self)
        vars(other).update(barriers=self.barriers, frontiers=self.frontiers.anew())
        return other

    def stages(self, path: Path, strip_bytes: int, place: Place = "device") -> tuple[Stage, ...]:
        """Give the stages, with strips of so many bytes of the largest array."""
        return slide(self.barriers, path.fronts, strip_bytes, place)


@dataclass(frozen=True)
class Tiles:
    """One axis slides and a grid cuts others; what tiles would repeat too often is made before them, and kept."""

    graph: Graph
    axis: int
    grid: Mapping[int, int]
    front: Frontier
    shares: Mapping[int, float]
    """How often tiles make each node."""
    in_turn: bool = False
    """Whether all tiles make a strip before the next."""

    @cached_property
    def pieces(self) -> int:
        """How many graphs one after the other the steps go through, where the output is their concatenation."""
        return len(parts(self.graph, self.axis)[0])

    @property
    def scattered(self) -> bool:
        """Whether strips lie in memory in pieces of a few cells; tiles do so whichever axis slides."""
        return True

    @property
    def held(self) -> int:
        """Bytes of what is made before the tiles."""
        return sum(self.graph.nodes[index].nbytes for index in self.front)

    @cached_property
    def before(self) -> Barriers:
        """What must be complete before the tiles."""
        return Barriers(self.graph, labels(self.graph, self.axis), ends=self.front, apart=self._apart)

    @cached_property
    def _apart(self) -> bool:
        return _parted(self.graph, self.axis)

    @cached_property
    def possible(self) -> bool:
        """Whether all barriers along the axis that slides come before the tiles."""
        every = len(Barriers(self.graph, labels(self.graph, self.axis), apart=self._apart).goals)
        return every == 1 or (bool(self.front) and len(self.before.goals) == every)

    @cached_property
    def work(self) -> float:
        """Multiply-adds over those of a plain call, nearly."""
        early: Frontier = frozenset()
        if self.front:
            early = self.before.made(len(self.before.goals) - 1, frozenset(), self.front)
        spent = {index: work(self.graph, self.graph.nodes[index]) for index in self.shares}
        done = sum(n * (1.0 if index in early else max(1.0, self.shares[index])) for index, n in spent.items())
        return done / max(1, sum(spent.values()))

    @cached_property
    def _kept(self) -> Path:
        """What is kept between the stages before the tiles."""
        return Frontiers(self.before).lasting

    def stages(self, strip_bytes: int) -> tuple[Stage, ...]:
        """Give the stages, with strips of so many bytes of the largest array."""
        first: tuple[Stage, ...] = ()
        stored = self.front
        if self.front:
            first = slide(self.before, (*self._kept.fronts[:-1], self.front), strip_bytes)
            stored |= {index for goal in self.before.goals for index in goal.statistics}
        found = labels(self.graph, self.axis)
        rest = tiles(self.graph, found, self.grid, stored=stored, strip_bytes=strip_bytes, in_turn=self.in_turn)
        return (*first, rest)


def _parted(graph: Graph, axis: int) -> bool:
    """Whether the output is made part by part along an axis, the first of a part of the input."""
    pieces, _ = parts(graph, axis)
    if len(pieces) < 2:
        return False
    first = cut_at(graph.nodes[graph.output].shape, axis, pieces[0][1])
    read = pull(graph, {graph.output: first}).get(graph.input)
    return read is not None and read != full(graph.nodes[graph.input].shape)


def slides(graph: Graph, *, stream: bool = False) -> tuple[Slide, ...]:
    """
    Give the ways with one axis that slides.

    `stream` gives those alone whose output comes in order along its first axis that slides.
    """
    axes = candidates(graph)
    if not axes:
        return ()
    first = min(axes)
    if len(graph.nodes) > LARGE and len(parts(graph, first)[0]) > 2:
        last = len(graph.nodes[graph.output].shape) - 1
        across = min((axis for axis in axes if axis != first), key=lambda axis: axis == last, default=first)
        found = {axis: labels(graph, axis) for axis in {first, across}}
        rows = dict.fromkeys(((first, first), (across, across), (across, first)))
        return tuple(Slide(graph, along, axis, found, joined=along == axis == across) for along, axis in rows)
    found = {axis: labels(graph, axis) for axis in sorted(axes)}
    held = [Slide(graph, axis, axis, found) for axis in axes if not stream or axis == first]
    if len(parts(graph, first)[0]) > 1:
        held += [Slide(graph, axis, first, found) for axis in axes if axis != first]
    if not stream:
        held += [Slide(graph, axis, axis, {axis: labels(graph, axis)}) for axis in apart(graph) if axis not in axes]
    return (*held, *_rested(held), *_joined(held))


def _joined(ways: Sequence[Slide]) -> Iterator[Slide]:
    """Give the ways in which what does not need each other is completed at once, where that leaves few stages."""
    for way in ways:
        if way.pieces == 1:
            joined = replace(way, joined=True)
            if len(joined.barriers.goals) <= min(STAGES, len(way.barriers.goals) // 2):
                yield joined


def _rested(ways: Sequence[Slide]) -> Iterator[Slide]:
    """Give the ways in which more arrays are completed on the way, where much waits between strips."""
    for way in ways:
        if way.pieces == 1 and way.others:
            halted = replace(way, rests=exits(way.barriers))
            fronts = halted.frontiers.lasting.fronts
            halt = rest(halted.barriers, fronts[-2] if len(fronts) > 1 else frozenset())
            if halt is not None:
                halted = replace(way, rests=(*halted.rests, halt))
            if halted.rests:
                yield halted


LARGE = 3000
"""Nodes above which a concatenation is made part by part only: other strips would go through all nodes each."""
STAGES = 6
"""Stages above which joining what does not need each other would hold much of a clip at once."""
GRIDS = ((1, 2), (2, 2), (2, 3), (3, 3), (4, 4), (5, 6), (8, 8))
FACTORS = (2.0, 0.25, 0.0)
"""Bytes to a multiply-add that tiles repeat, over the average of the graph; with none the least is kept."""
SQUARES = ((2, 2), (3, 3), (4, 4), (5, 6))
"""Grids for large graphs, where what tiles keep takes long to choose."""


def tilings(graph: Graph, *, stream: bool = False, alike: Alike | None = None) -> Iterator[Tiles]:
    """Give the ways with tiles, from the fewest on: the first axis slides, the longest others are cut."""
    axes = candidates(graph)
    first, others = min(axes, default=0), [axis for axis in axes if axis != min(axes)][:2]
    if not others or _late(graph, first):
        return
    live = [node for node in graph.nodes if graph.live[node.index]]
    rate = sum(node.nbytes for node in live) / max(1, sum(work(graph, node) for node in live))
    shape = graph.nodes[graph.output].shape
    largest = max(node.nbytes for node in live)
    chosen, seen = Coarse(graph), set()
    for counts, factor in product(SQUARES, FACTORS[-1:]) if len(graph.nodes) > LARGE else product(GRIDS, FACTORS):
        grid = {axis: n for axis, n in zip(others, reversed(counts), strict=False) if n > 1}
        if not grid or any(n > shape[axis] for axis, n in grid.items()):
            continue
        shares = often(graph, grid, alike)
        front = chosen.front(shares, factor * rate, largest // math.prod(grid.values()))
        if (key := (tuple(grid.items()), front)) not in seen:
            seen.add(key)
            way = Tiles(graph, first, grid, front, shares, stream)
            if way.possible:
                yield way


def _late(graph: Graph, axis: int) -> bool:
    """Whether a barrier stands among the large arrays, so that tiles could only follow when all is done."""
    largest = max(node.nbytes for node in graph.nodes if graph.live[node.index])
    every = Barriers(graph, labels(graph, axis), apart=_parted(graph, axis)).goals[:-1]
    return any(graph.nodes[index].nbytes * 8 > largest for goal in every for index in goal.nodes)
