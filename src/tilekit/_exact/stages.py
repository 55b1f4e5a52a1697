"""
From a choice (which axis slides, what is kept at each barrier, how large a strip is) to the list of stages.

A stage makes one goal, strip by strip along the label of each node, and writes the next frontier as it goes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise, product, zip_longest

from tilekit._exact.barriers import Barriers
from tilekit._exact.boxes import Box, Interval, cells, full, hull
from tilekit._exact.goals import Frontier, Goal, free
from tilekit._exact.graph import Graph, Node
from tilekit._exact.heads import warming
from tilekit._exact.labels import Labels, carried
from tilekit._exact.ops import Attention, Constant, Conv, Moments
from tilekit._exact.pull import pull
from tilekit._exact.steps import Kept, Place, Stage, Step

__all__ = ["grids", "plain", "points", "slide", "tiles"]


def plain(graph: Graph) -> tuple[Stage, ...]:
    """Make the output in one step, as a plain call does."""
    step = Step(((graph.output, full(graph.nodes[graph.output].shape)),))
    return (Stage((step,), name="whole"),)


def points(n: int, coarse: int, steps: int) -> tuple[int, ...]:
    """
    Cut an axis of `n` cells in `steps` parts, between the cells of the coarsest array of `coarse` cells.

    Where an axis begins with a single cell (``1 + 8 (f - 1)`` frames of a causal decoder), so does the cut.
    """
    steps = min(steps, n)
    if steps > coarse or not 1 < coarse <= n:
        return tuple(k * n // steps for k in range(steps + 1))
    ends = (k * coarse // steps for k in range(steps + 1))
    if n % coarse and (n - 1) % (coarse - 1) == 0:
        apart = (n - 1) // (coarse - 1)
        return tuple(0 if end == 0 else 1 + (end - 1) * apart for end in ends)
    return tuple(end * n // coarse for end in ends)


class _Strips:
    """How the nodes of one stage are cut: as many strips as the largest array asks, alike for all."""

    def __init__(self, graph: Graph, labels: Labels, busy: Iterable[int], strip_bytes: int) -> None:
        self.graph, self.labels = graph, labels
        nodes = [graph.nodes[index] for index in busy if labels[index] is not None]
        lengths = [node.shape[labels[node.index] or 0] for node in nodes]
        lengths = [n for n, node in zip(lengths, nodes, strict=True) if isinstance(node.op, Conv)] or lengths or [1]
        self.coarse = min((n for n in lengths if n > 1), default=1)
        # a mask is made row by row with the attention that it is for
        masks = [graph.nodes[i] for node in nodes for i in node.inputs if not graph.live[i]]
        held = [*nodes, *(mask for mask in masks if not isinstance(mask.op, Constant))]
        largest = max((node.nbytes for node in held), default=0)
        self.steps = max(1, min(max(lengths), -(-largest // max(1, strip_bytes))))

    def cut(self, index: int, box: Box) -> tuple[Box | None, ...]:
        """Give the box of each step; a node that does not slide is made in the first."""
        axis = self.labels[index]
        if axis is None:
            return (box, *(None,) * (self.steps - 1))
        start, stop = box[axis]
        ends = points(stop - start, self.coarse, self.steps)
        rows = [(start + a, start + b) for a, b in pairwise(ends)]
        boxes = [(*box[:axis], row, *box[axis + 1 :]) for row in rows]
        # shorter arrays have fewer strips: spread over the steps
        held: list[Box | None] = [None] * self.steps
        for k, made in enumerate(boxes):
            held[k * self.steps // len(boxes)] = made
        return tuple(held)


def slide(
    barriers: Barriers, fronts: Sequence[Frontier], strip_bytes: int, place: Place = "device"
) -> tuple[Stage, ...]:
    """
    Give one stage for each goal; `fronts` has what is kept after each.

    `strip_bytes` bounds the strip of the largest array of a stage, down to one row; `place` is where frontiers lie.
    """
    held: list[Stage] = []
    front: Frontier = frozenset()
    known: set[int] = set()
    for j, goal in enumerate(barriers.goals):
        stage = _stage(barriers, j, front, fronts[j], known, strip_bytes, place)
        if stage is not None:
            held.append(stage)
        known |= set(goal.statistics)
        front = fronts[j]
    return tuple(held)


def _stage(  # noqa: PLR0913, PLR0917
    barriers: Barriers, j: int, front: Frontier, after: Frontier, known: set[int], strip_bytes: int, place: Place
) -> Stage | None:
    graph, goal = barriers.graph, barriers.goals[j]
    fresh = after - front
    wanted: dict[int, Box] = {index: full(graph.nodes[index].shape) for index in sorted(fresh)}
    if goal.part is not None:
        wanted[graph.output] = goal.part
    elif goal.statistics:
        wanted.update({index: full(graph.nodes[index].shape) for index in goal.nodes})
    if not wanted:
        return None
    made = barriers.made(j, front, after)
    found = _sliding(graph, barriers, made, wanted)
    strips = _Strips(graph, found, made | set(wanted), strip_bytes)
    statistics = {s for index in made | set(wanted) for s in graph.nodes[index].inputs if s in known}
    keep = tuple(Kept(index, barriers.labels[index] or 0, place) for index in sorted(fresh))
    steps = _steps(strips, wanted)
    if goal.part == full(graph.nodes[graph.output].shape):
        steps = (*warming(graph, found, made, front, steps), *steps)
    return Stage(steps, front | statistics, goal.statistics, keep, _title(barriers, goal), again=True)


def _sliding(graph: Graph, barriers: Barriers, made: Frontier, wanted: Mapping[int, Box]) -> Labels:
    """
    Give the labels along which a stage goes: those of the axis that slides, unless attention is whole along it.

    Cells of a clip are joined with frames outermost, so its queries are cut along frames alone; attention over time
    knows nothing of other places. What such a stage reads is complete, so it may go along any axis. Attention within a
    part of the output is small.
    """
    attention = [graph.nodes[index] for index in made if isinstance(graph.nodes[index].op, Attention)]
    if barriers.apart or not any(_reads_all(graph, node, barriers.labels) for node in attention):
        return barriers.labels
    held = [
        other
        for other in barriers.others
        if all(other[index] is not None for index in (*(node.index for node in attention), *wanted))
    ]
    for other in held:
        if not any(_reads_all(graph, node, other) for node in attention) and free(graph, other, made):
            return other
    uncut = any(barriers.labels[node.index] is None for node in attention)
    return next((other for other in held if uncut), barriers.labels)


def _reads_all(graph: Graph, node: Node, labels: Labels) -> bool:
    """Whether each strip of attention reads all keys."""
    axis = labels[node.index]
    return axis is None or carried(graph, node, axis)[1] is None


def _steps(strips: _Strips, wanted: Mapping[int, Box], track: int = 0) -> tuple[Step, ...]:
    rows = {index: strips.cut(index, box) for index, box in wanted.items()}
    for index in sorted(rows):
        rows[index] = _with_sources(strips.graph, index, rows)
    steps = []
    for k in range(strips.steps):
        targets = tuple((index, box) for index, row in rows.items() if (box := row[k]) is not None)
        if targets:
            steps.append(Step(targets, track))
    return tuple(steps)


def _with_sources(graph: Graph, index: int, rows: Mapping[int, tuple[Box | None, ...]]) -> tuple[Box | None, ...]:
    """Give the boxes of a statistic of each frame in the steps that complete the frames, where these are made too."""
    node = graph.nodes[index]
    boxes = [box for box in rows[index] if box is not None]
    if not isinstance(node.op, Moments) or len(boxes) < 2:
        return rows[index]
    held: list[Box | None] = [None] * len(rows[index])
    for box in boxes:
        source, need = _source(graph, index, box, rows)
        if source is None:
            return rows[index]
        ready = next((k for k, made in enumerate(rows[source]) if made and _ends(made, need)), None)
        if ready is None:
            return rows[index]
        held[ready] = hull(held[ready], box)
    return tuple(held)


def _source(graph: Graph, index: int, box: Box, rows: Mapping[int, object]) -> tuple[int | None, Box]:
    """Follow a box back through views and operations cell by cell to a node that is made in steps itself."""
    while True:
        node = graph.nodes[index]
        live = [i for i in node.inputs if graph.live[i]]
        if len(live) != 1 or isinstance(node.op, Conv | Attention):
            return None, box
        needs = dict(zip(node.inputs, node.op.need(box, node.shape, graph.input_shapes[index]), strict=True))
        read = needs[live[0]]
        if read is None:
            return None, box
        index, box = live[0], read
        if index in rows:
            return index, box


def _ends(made: Box, need: Box) -> bool:
    """Whether a strip is the last of what is needed."""
    return all(stop >= last for (_, stop), (_, last) in zip(made, need, strict=True))


def _title(barriers: Barriers, goal: Goal) -> str:
    node = barriers.graph.nodes[goal.nodes[-1]]
    if goal.part is not None:
        return "output"
    kind = "statistics" if goal.statistics else "whole"
    return f"{kind} of {node.name or type(node.op).__name__.lower()}"


def grids(graph: Graph, axis: int, count: int) -> tuple[Interval, ...]:
    """Cut an axis of the output in `count` parts that fall between cells of the input, where these divide it."""
    n = graph.nodes[graph.output].shape[axis]
    coarse = next((m for m in sorted(graph.nodes[graph.input].shape) if 1 < m <= n and n % m == 0), n)
    return tuple(pairwise(points(n, max(coarse, count), count)))


def tiles(  # noqa: PLR0913
    graph: Graph, labels: Labels, grid: Mapping[int, int], *, stored: Frontier, strip_bytes: int, in_turn: bool = False
) -> Stage:
    """
    Give the stage that makes the output from what is stored, tile after tile, and each along the axis that slides.

    `in_turn` makes the same strip of all tiles before the next, so that the output comes in order.
    """
    shape = graph.nodes[graph.output].shape
    cuts = [grids(graph, axis, count) for axis, count in grid.items()]
    boxes: list[Box] = []
    for tile in product(*cuts):
        box = full(shape)
        for axis, interval in zip(grid, tile, strict=True):
            box = (*box[:axis], interval, *box[axis + 1 :])
        boxes.append(box)
    largest = max(boxes, key=cells)
    made = pull(graph, {graph.output: largest}, stored)
    # the same strips in all tiles, so that blocks of whole rows come out
    strips = _Strips(graph, labels, made, int(strip_bytes * math.prod(shape) / cells(largest)))
    tracks = [_steps(strips, {graph.output: box}, track) for track, box in enumerate(boxes)]
    steps = (step for row in zip_longest(*tracks) for step in row if step) if in_turn else chain(*tracks)
    return Stage(tuple(steps), stored, name="tiles", again=True)
