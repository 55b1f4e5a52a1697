"""
Goals: what must be complete before anything after it can be made.

Along an axis that slides, a statistic over it (`Moments`, a sum) or an array that is read whole (keys and values, an
operation that is not understood) ends a stage: a goal.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilekit._exact.boxes import Box, Interval, full
from tilekit._exact.graph import Graph, Node
from tilekit._exact.labels import Labels, carried
from tilekit._exact.ops import Concat, Conv, Local, Moments, Permute, Pointwise, Pool, Reduce, Slice

__all__ = ["Frontier", "Goal", "free", "goals", "levels", "parts", "plain_work", "sooner", "until", "work"]

Frontier = frozenset[int]
"""Nodes that are kept between two stages."""


def work(graph: Graph, node: Node) -> int:
    """Count the multiply-adds of a whole node."""
    known = graph.works[node.index]
    if known is None:
        known = node.op.work(node.shape, graph.input_shapes[node.index]) * math.prod(node.shape)
        graph.works[node.index] = known
    return known


def plain_work(graph: Graph) -> int:
    """Count the multiply-adds of a plain call."""
    if graph.spent is not None:
        return graph.spent
    return sum(work(graph, node) for node in graph.nodes if graph.live[node.index])


@dataclass(frozen=True, slots=True)
class Goal:
    """What one stage completes: nodes, and the statistics that are taken of them, or a box of the output."""

    nodes: tuple[int, ...]
    statistics: tuple[int, ...] = ()
    part: Box | None = None
    """The box of the output that this stage writes."""
    readers: tuple[int, ...] = ()
    """What reads the nodes whole, where no statistic does."""


def parts(graph: Graph, axis: int) -> tuple[tuple[tuple[int, Interval], ...], Frontier]:
    """
    Take the output apart where it is a concatenation along an axis.

    Gives the nodes that are joined, each with its interval of the output, and what stands between them and the output.
    """
    held: list[tuple[int, Interval]] = []
    tail: set[int] = set()
    stack = [(graph.output, axis, 0)]
    while stack:
        index, along, at = stack.pop()
        node = graph.nodes[index]
        inner = list(_joined(graph, node, along, at))
        if not inner:
            held.append((index, (at, at + node.shape[along])))
            continue
        tail.add(index)
        stack += reversed(inner)
    if len(held) == 1:
        return ((graph.output, held[0][1]),), frozenset()
    return tuple(held), frozenset(tail)


def _joined(graph: Graph, node: Node, axis: int, at: int) -> Iterator[tuple[int, int, int]]:
    """Give what a node is put together from along an axis: node, its axis, its place."""
    if isinstance(node.op, Concat) and node.op.axis == axis:
        for index in node.inputs:
            yield index, axis, at
            at += graph.nodes[index].shape[axis]
    elif (passed := _passed(graph, node, axis)) is not None and _leads(graph, *passed):
        yield *passed, at


def _leads(graph: Graph, index: int, axis: int) -> bool:
    """Whether a concatenation is reached from here."""
    passed: tuple[int, int] | None = (index, axis)
    while passed is not None:
        index, axis = passed
        passed = _passed(graph, graph.nodes[index], axis)
    return isinstance(graph.nodes[index].op, Concat)


def _passed(graph: Graph, node: Node, axis: int) -> tuple[int, int] | None:
    """Give the one array, and its axis, of which each cell along an axis is made of the one in its place."""
    live = [index for index in node.inputs if graph.live[index]]
    if len(live) != 1 or not (isinstance(node.op, Pointwise | Permute) or _single(node, axis)):
        return None
    along = next(a for i, a in zip(node.inputs, carried(graph, node, axis), strict=True) if i == live[0])
    return None if along is None else (live[0], along)


def _single(node: Node, axis: int) -> bool:
    """Whether a convolution has windows of one cell along an axis."""
    if not isinstance(node.op, Conv) or axis not in node.op.axes:
        return False
    op, d = node.op, node.op.axes.index(axis)
    return (op.kernel[d], op.stride[d], op.before[d], op.after[d], op.input_dilation[d]) == (1, 1, 0, 0, 1)


def goals(graph: Graph, labels: Labels, along: int | None = None) -> tuple[tuple[Goal, ...], Frontier]:
    """
    List what must be complete, one after the other, where nodes slide along their labels.

    `along` is the axis of the output that is written part by part, where the output is a concatenation. The second
    value holds the nodes that only put such parts together.
    """
    known: tuple[tuple[Goal, ...], Frontier] | None = graph.goals.get((labels, along))
    if known is None:
        known = graph.goals[labels, along] = _goals(graph, labels, along)
    return known


def _goals(graph: Graph, labels: Labels, along: int | None) -> tuple[tuple[Goal, ...], Frontier]:
    held = [*_taken(graph, labels), *_gathered(graph, labels)]
    held.sort(key=lambda goal: max(goal.nodes))
    shape = graph.nodes[graph.output].shape
    if along is None:
        return (*held, Goal((graph.output,), part=full(shape))), frozenset()
    pieces, tail = parts(graph, along)
    ends = [
        Goal((index,), part=tuple(interval if k == along else (0, n) for k, n in enumerate(shape)))
        for index, interval in pieces
    ]
    return tuple(sorted((*held, *ends), key=lambda goal: max(goal.nodes))), tail


def _taken(graph: Graph, labels: Labels) -> list[Goal]:
    """List the statistics over an axis that slides, by what they are taken of."""
    held: dict[int, list[int]] = {}
    for node in graph.nodes:
        if graph.live[node.index] and node.inputs and _over(node, graph, labels):
            held.setdefault(node.inputs[0], []).append(node.index)
    return [Goal((index,), tuple(taken)) for index, taken in held.items()]


def _over(node: Node, graph: Graph, labels: Labels) -> bool:
    """Whether a node is a statistic over the label of its input, that can be put together from parts."""
    axis = labels[node.inputs[0]]
    if axis is None or graph.nodes[node.inputs[0]].shape[axis] < 2:
        return False
    if isinstance(node.op, Moments):
        return axis not in (*node.op.batch_axes, node.op.channel_axis)
    return isinstance(node.op, Reduce) and node.op.how is not None and axis in node.op.axes


def _gathered(graph: Graph, labels: Labels) -> list[Goal]:
    """List what slides and is read whole by something that is no statistic, by what reads it."""
    held: dict[tuple[int, ...], list[int]] = {}
    for node in graph.nodes:
        if graph.live[node.index] and node.inputs and not _over(node, graph, labels):
            read = tuple(dict.fromkeys(_read_whole(graph, node, labels)))
            if read:
                held.setdefault(read, []).append(node.index)
    return [Goal(nodes, readers=tuple(readers)) for nodes, readers in held.items()]


def _read_whole(graph: Graph, node: Node, labels: Labels) -> Iterator[int]:
    axis = labels[node.index]
    shapes = graph.input_shapes[node.index]
    sliding = [index for index in node.inputs if graph.live[index] and labels[index] is not None]
    if not sliding:
        return
    moved = carried(graph, node, axis) if axis is not None else (None,) * len(node.inputs)
    needs = node.op.need(full(node.shape), node.shape, shapes)
    for index, along, box in zip(node.inputs, moved, needs, strict=True):
        label = labels[index]
        if label is None or label == along or box is None or not graph.live[index]:
            continue
        n = graph.nodes[index].shape[label]
        if n > 1 and box[label] == (0, n):
            yield index
    if isinstance(node.op, Concat) and node.op.axis == axis:
        yield from _wrapped(graph, node, axis)


def _wrapped(graph: Graph, node: Node, axis: int) -> Iterator[int]:
    """Give what is put together from its own end and then its beginning, as by a roll: first rows need the last."""
    before: tuple[int, Interval] | None = None
    for index in node.inputs:
        part = graph.nodes[index]
        source, (start, stop) = index, (0, part.shape[axis])
        if isinstance(part.op, Slice):
            needs = part.op.need(full(part.shape), part.shape, graph.input_shapes[index])
            source, (start, stop) = part.inputs[0], (needs[0] or full(part.shape))[axis]
        n = graph.nodes[source].shape[axis]
        if before is not None and before[0] == source and 2 * (before[1][1] - start) > n > 1:
            yield source
        before = source, (start, stop)


def free(graph: Graph, labels: Labels, made: Frontier) -> bool:
    """Whether nothing among some nodes must be complete before others of them are made."""
    for index in made:
        node = graph.nodes[index]
        if node.inputs and graph.live[index]:
            over = node.inputs[:1] if _over(node, graph, labels) else tuple(_read_whole(graph, node, labels))
            if made.intersection(over):
                return False
    return True


def until(graph: Graph, held: tuple[Goal, ...], ends: Frontier) -> tuple[Goal, ...]:
    """Give the goals that some nodes need, and these as the last."""
    wanted = set(ends)
    for node in reversed(graph.nodes):
        if node.index in wanted:
            wanted.update(node.inputs)
    before = (goal for goal in held if goal.part is None and wanted.issuperset(goal.nodes))
    return (*before, Goal(tuple(sorted(ends))))


def sooner(graph: Graph, held: Sequence[Goal], early: Sequence[int]) -> tuple[Goal, ...]:
    """Put what some nodes need before all else, and these as goals of their own."""
    wanted = set(early)
    for node in reversed(graph.nodes):
        if node.index in wanted:
            wanted.update(node.inputs)
    ends = [Goal((index,), readers=graph.users[index]) for index in early]
    before = [goal for goal in held[:-1] if goal.part is None and wanted.issuperset(goal.nodes)]
    first = sorted((*before, *ends), key=lambda goal: max(goal.nodes))
    return (*first, *(goal for goal in held if goal not in before))


def levels(graph: Graph, held: Sequence[Goal]) -> tuple[Goal, ...]:
    """
    Join goals that do not need each other, in as few as there are one after the other.

    Chunks of a clip that a function goes through one by one have each an attention of its own. What attention gives is
    a goal too: what it reads goes before the next strips come.
    """
    behind: dict[int, list[Goal]] = {}
    for goal in held:
        for index in (*goal.statistics, *goal.readers):
            behind.setdefault(index, []).append(goal)
    depth = [0] * len(graph.nodes)  # levels that must be complete before a node is made
    for node in graph.nodes:
        read = (1 + depth[index] for goal in behind.get(node.index, ()) for index in goal.nodes)
        depth[node.index] = max((*(depth[index] for index in node.inputs), *read), default=0)
    rows: dict[int, list[Goal]] = {}
    for goal in held:
        rows.setdefault(max(depth[index] for index in goal.nodes), []).append(goal)
    joined: list[Goal] = []
    for _, row in sorted(rows.items()):
        nodes = dict.fromkeys(index for goal in row for index in goal.nodes)
        readers = dict.fromkeys(index for goal in row for index in goal.readers)
        joined.append(Goal(tuple(nodes), tuple(i for goal in row for i in goal.statistics), readers=tuple(readers)))
        ends = tuple(dict.fromkeys(_last(graph, index, depth) for index in readers))
        if ends:
            joined.append(Goal(ends, readers=tuple(dict.fromkeys(u for i in ends for u in graph.users[i]))))
    return tuple(joined)


def _last(graph: Graph, index: int, depth: Sequence[int]) -> int:
    """Follow what alone reads a node, up to the next windows: a residual is added to attention there."""
    level = depth[index]
    while len(users := graph.users[index]) == 1 and depth[users[0]] == level:
        op = graph.nodes[users[0]].op
        if isinstance(op, Concat | Local | Pool) or (isinstance(op, Conv) and max(op.kernel) > 1):
            break
        index = users[0]
    return index
