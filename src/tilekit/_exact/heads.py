"""Steps before the first, where that one alone would make more than any other."""

from collections.abc import Iterator, Mapping, Sequence

from tilekit._exact.boxes import Box, full
from tilekit._exact.goals import Frontier
from tilekit._exact.graph import Graph
from tilekit._exact.labels import Labels, cut_at
from tilekit._exact.ops import Permute, Pointwise, Reshape, Slice
from tilekit._exact.pull import pull
from tilekit._exact.steps import Step
from tilekit._exact.windows import narrow

__all__ = ["warming"]

LEAST = 3
"""Steps from which on the first is one of many."""
AHEAD = 1.25
"""How much larger than the largest of later steps an array may be."""


def warming(graph: Graph, labels: Labels, made: Frontier, front: Frontier, steps: Sequence[Step]) -> tuple[Step, ...]:
    """
    Give steps that come before the first.

    Parameters
    ----------
    graph : Graph
        The function.
    labels : tuple
        Along which axis each node slides.
    made : frozenset of int
        What the stage makes.
    front : frozenset of int
        What is there before it.
    steps : sequence of Step
        Those that make the output.

    Returns
    -------
    tuple of Step
        They make what a function cuts off from the beginning of its output (a decoder of clips may drop its first
        frames), or, where it looks ahead, what the first rows need beyond them.
    """
    return tuple(_cut(graph, labels, made, steps)) or tuple(_ahead(graph, labels, made, front, steps))


def _cut(graph: Graph, labels: Labels, made: Frontier, steps: Sequence[Step]) -> Iterator[Step]:
    axis = labels[graph.output]
    cut = _cut_off(graph, labels, made)
    if cut is None or axis is None:
        return
    index, along, n = cut
    rows = [box[axis] for step in steps for target, box in step.targets if target == graph.output]
    longest = max(stop - start for start, stop in rows)
    count = -(-(n + rows[0][1] - rows[0][0]) // longest) - 1
    for k in range(count):
        box = cut_at(graph.nodes[index].shape, along, (k * n // count, (k + 1) * n // count))
        yield Step((), ahead=((index, box),))


def _cut_off(graph: Graph, labels: Labels, made: Frontier) -> tuple[int, int, int] | None:
    """Give the node of which the output is all but the first cells, its axis that slides, and how many cells."""
    index, box = graph.output, full(graph.nodes[graph.output].shape)
    while index in made:
        node, axis = graph.nodes[index], labels[index]
        if axis is not None and box[axis][0] > 0:
            return index, axis, box[axis][0]
        sources = [i for i in node.inputs if graph.live[i]]
        if len(sources) != 1 or not isinstance(node.op, Permute | Pointwise | Reshape | Slice):
            return None
        needs = node.op.need(box, node.shape, graph.shapes(node))
        index, read = next((i, need) for i, need in zip(node.inputs, needs, strict=True) if i == sources[0])
        if read is None:
            return None
        box = read
    return None


def _ahead(graph: Graph, labels: Labels, made: Frontier, front: Frontier, steps: Sequence[Step]) -> Iterator[Step]:
    """Go towards the first step as later steps go on: by as many rows of each node, where that makes a difference."""
    if len(steps) < LEAST:
        return
    head = _Head(graph, labels, made, pull(graph, dict(steps[0].targets), front), len(steps))
    for back in range(head.longest, 0, -1):
        if not head.reaches(back - 1):
            target = head.make(back)
            if target is not None:
                index, stop = target
                box = cut_at(graph.nodes[index].shape, labels[index] or 0, (0, stop))
                yield Step((), ahead=((index, box),))


class _Head:
    """
    What the first step reads of each node, and how much of that would be made some steps before.

    Parameters
    ----------
    graph : Graph
        The function.
    labels : tuple
        Along which axis each node slides.
    made : frozenset of int
        What the stage makes.
    wanted : mapping of int to Box
        What the first step makes.
    count : int
        How many steps there are.
    """

    def __init__(self, graph: Graph, labels: Labels, made: Frontier, wanted: Mapping[int, Box], count: int) -> None:
        self._count = count
        rows: dict[int, tuple[int, int]] = {}  # what the first step makes, of how many
        for index in sorted((made & wanted.keys()) - {graph.input}):
            axis = labels[index]
            if axis is not None and wanted[index][axis][0] == 0:
                rows[index] = wanted[index][axis][1], graph.nodes[index].shape[axis]
        each = {index: graph.sizes[index] // n for index, (_, n) in rows.items()}
        self._most = AHEAD * max((each[index] * -(-n // count) for index, (_, n) in rows.items()), default=0)
        self._each = {index: size for index, size in each.items() if size * rows[index][0] > self._most}
        self._rows = rows
        self._through = [index for index in narrow(graph, sorted(made)) if index in rows] if self._each else []
        self._done: dict[int, int] = {}

    @property
    def longest(self) -> int:
        """How many steps before the first something large is made."""
        return max((-(-self._rows[index][0] * self._count // self._rows[index][1]) for index in self._each), default=0)

    def reaches(self, back: int) -> bool:
        """Whether what is made up to so many steps before the first may be made at once."""
        ends = ((size, self._end(index, back) - self._done.get(index, 0)) for index, size in self._each.items())
        return all(size * rows <= self._most for size, rows in ends)

    def make(self, back: int) -> tuple[int, int] | None:
        """Choose a node that is made from its first row on to another, so many steps before the first."""
        target = next((index for index in reversed(self._through) if self._end(index, back) > 0), None)
        if target is None:
            return None
        self._done.update((index, self._end(index, back)) for index in self._each if index <= target)
        return target, self._end(target, back)

    def _end(self, index: int, back: int) -> int:
        rows, n = self._rows[index]
        return rows - back * n // self._count
