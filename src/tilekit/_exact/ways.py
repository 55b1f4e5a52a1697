"""The ways in which a graph can be cut: which axis slides, whether tiles cut the others, and how much is made again."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property

from tilekit._exact.barriers import Barriers, Frontier, parts, work
from tilekit._exact.frontiers import Frontiers, Path
from tilekit._exact.graph import Graph
from tilekit._exact.labels import candidates, labels
from tilekit._exact.stages import coarse, often, slide, tiles
from tilekit._exact.steps import Place, Stage

__all__ = ["Slide", "Tiles", "Way", "ways"]


class Way(ABC):
    """One way to cut a graph, at one level of what is kept; smaller strips take less memory."""

    axis: int
    """The axis of the output along which blocks come."""
    name: str
    work: float
    """Multiply-adds over those of a plain call, as far as known before the steps are."""
    held: int
    """Bytes that are kept between stages at least."""

    @abstractmethod
    def stages(self, strip_bytes: int) -> tuple[Stage, ...]:
        """Give the stages, with strips of so many bytes of the largest array."""


class Slide(Way):
    """One axis slides; at barriers a frontier is kept, and what lies behind it is made again."""

    def __init__(self, barriers: Barriers, path: Path, axis: int, plain: int, place: Place = "device") -> None:
        self._barriers, self._path, self._place = barriers, path, place
        self.axis = axis
        self.name = "slide" if place == "device" else f"slide, {place}"
        self.work = path.work / plain
        self.held = path.held if place == "device" else 0

    def stages(self, strip_bytes: int) -> tuple[Stage, ...]:
        return slide(self._barriers, self._path.fronts, strip_bytes, self._place)


class Tiles(Way):
    """One axis slides and a grid cuts others; what tiles would repeat too often is made before them, and kept."""

    name = "tiles"

    def __init__(self, graph: Graph, axis: int, grid: Mapping[int, int], rate: float, *, in_turn: bool = False) -> None:
        self._graph, self._grid, self._in_turn = graph, grid, in_turn
        self.axis = axis
        self._labels = labels(graph, axis)
        self._often = often(graph, grid)
        self._front = coarse(graph, self._often, rate)
        self.held = sum(graph.nodes[index].nbytes for index in self._front)
        self.work = self._spent()

    def _spent(self) -> float:
        """Count what tiles make again, over the whole."""
        graph = self._graph
        before: Frontier = frozenset()
        if self._front:
            before = self._before.made(len(self._before.goals) - 1, frozenset(), self._front)
        spent = {index: work(graph, graph.nodes[index]) for index in self._often}
        again = sum(spent[index] * max(1.0, self._often[index]) for index in spent if index not in before)
        return (again + sum(spent[index] for index in before)) / max(1, sum(spent.values()))

    @cached_property
    def _before(self) -> Barriers:
        return Barriers(self._graph, self._labels, ends=self._front)

    @property
    def possible(self) -> bool:
        """Whether all barriers along the axis that slides come before the tiles."""
        every = Barriers(self._graph, self._labels).goals
        return len(every) == 1 or (bool(self._front) and len(self._before.goals) == len(every))

    def stages(self, strip_bytes: int) -> tuple[Stage, ...]:
        first: tuple[Stage, ...] = ()
        known: Frontier = frozenset()
        if self._front:
            path = Frontiers(self._before).lasting
            first = slide(self._before, (*path.fronts[:-1], self._front), strip_bytes)
            known = frozenset(index for goal in self._before.goals for index in goal.statistics)
        rest = tiles(
            self._graph,
            self._labels,
            self._grid,
            stored=self._front | known,
            strip_bytes=strip_bytes,
            in_turn=self._in_turn,
        )
        return (*first, rest)


SHARES = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2, 0.12, 0.06, 0.03)
"""Allowances for what barriers keep, over that of making nothing again."""
GRIDS = ((1, 2), (2, 2), (2, 3), (3, 3), (4, 4), (5, 6), (8, 8))
RATES = (2.0, 0.25)
"""Bytes to a multiply-add that tiles repeat, over the average of the graph."""


def ways(graph: Graph, *, stream: bool = False, spill: Place | None = None) -> Iterator[Way]:
    """
    Give the ways in which a graph can be cut, each family from the least work on.

    `stream` gives those alone whose output comes in order along its first axis that slides; `spill` is where frontiers
    may lie when the device is too small.
    """
    axes = candidates(graph)
    if not axes:
        return
    plain = max(1, sum(work(graph, node) for node in graph.nodes if graph.live[node.index]))
    first = min(axes)
    for axis in (first,) if stream else axes:
        yield from _slides(graph, axis, None, axis, plain, spill)
    others = [axis for axis in axes if axis != first]
    if len(parts(graph, first)[0]) > 1:
        for axis in others:
            yield from _slides(graph, axis, first, first if stream else axis, plain, spill)
    if others:
        yield from _tiled(graph, first, others, stream=stream)


def _slides(  # noqa: PLR0913, PLR0917
    graph: Graph, axis: int, along: int | None, order: int, plain: int, spill: Place | None
) -> Iterator[Way]:
    barriers = Barriers(graph, labels(graph, axis), along)
    search = Frontiers(barriers)
    lasting = search.lasting
    yield Slide(barriers, lasting, order, plain)
    if spill is not None and lasting.held:
        yield Slide(barriers, lasting, order, plain, spill)
    held: set[Path] = {lasting}
    for share in SHARES if lasting.held else ():
        path = search.within(int(share * lasting.held))
        if path is not None and path not in held:
            held.add(path)
            yield Slide(barriers, path, order, plain)


def _tiled(graph: Graph, axis: int, others: list[int], *, stream: bool) -> Iterator[Way]:
    live = [node for node in graph.nodes if graph.live[node.index]]
    rate = sum(node.nbytes for node in live) / max(1, sum(work(graph, node) for node in live))
    shape = graph.nodes[graph.output].shape
    for counts in GRIDS:
        few, many = (others[0], others[1]) if len(others) > 1 else (others[0], others[0])
        longest = max((few, many), key=shape.__getitem__)
        shortest = few if longest == many else many
        grid = {longest: counts[1]} | ({shortest: counts[0]} if shortest != longest else {})
        grid = {a: n for a, n in grid.items() if n > 1}
        if not grid or any(n > shape[a] for a, n in grid.items()):
            continue
        for factor in RATES:
            way = Tiles(graph, axis, grid, factor * rate, in_turn=stream)
            if way.possible:
                yield way
