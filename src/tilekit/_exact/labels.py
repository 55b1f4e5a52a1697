"""
The sliding axis: which axis of each node goes along with an axis of the output.

An axis has another place in each node: frames may come last, views split and merge axes, frames become a batch. So it
is a label on each node, followed one operation at a time with the operation's own box rule.
"""

from collections.abc import Iterator, Sequence

from tilekit._exact.boxes import Box, Interval, Shape
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Along, Concat, Conv, Local, Pointwise, Pool, Scatter

__all__ = ["Labels", "across", "apart", "candidates", "carried", "cut_at", "labels", "scattered"]

Labels = tuple[int | None, ...]
"""For each node the axis that slides; None where no axis does."""


def cut_at(shape: Shape, axis: int, interval: Interval) -> Box:
    """Give the box that is whole but for one axis."""
    return tuple(interval if k == axis else (0, n) for k, n in enumerate(shape))


def across(graph: Graph, node: Node, axis: int, interval: Interval) -> tuple[Box | None, ...]:
    """Give what a strip of a node needs of its inputs."""
    shapes = graph.input_shapes[node.index]
    return node.op.need(node.op.grow(cut_at(node.shape, axis, interval), node.shape, shapes), node.shape, shapes)


def carried(graph: Graph, node: Node, axis: int) -> tuple[int | None, ...]:
    """
    Give for each input of a node the axis that goes along with an axis of the node.

    None where the input is needed whole, or has but one cell there.
    """
    known = graph.carried.get((node.index, axis))
    if known is None:
        known = graph.carried[node.index, axis] = _carried(graph, node, axis)
    return known


def _carried(graph: Graph, node: Node, axis: int) -> tuple[int | None, ...]:
    if isinstance(node.op, Concat | Scatter):
        return tuple(axis for _ in node.inputs)
    if isinstance(node.op, Pointwise):
        shapes = graph.input_shapes[node.index]
        places = (axis - len(node.shape) + len(shape) for shape in shapes)
        return tuple(at if at >= 0 and s[at] > 1 else None for at, s in zip(places, shapes, strict=True))
    if isinstance(node.op, Conv | Local | Pool) and axis in node.op.axes:
        # the windows of a short axis hold all of it, from every place
        return (axis, *(None for _ in node.inputs[1:]))
    n = node.shape[axis]
    if n < 2:
        return tuple(None for _ in node.inputs)
    first, second = across(graph, node, axis, (0, n // 2)), across(graph, node, axis, (n // 2, n))
    return tuple(_moved(p, q) for p, q in zip(first, second, strict=True))


def _moved(first: Box | None, second: Box | None) -> int | None:
    """Give the axis along which two boxes differ most."""
    if first is None or second is None:
        return None
    far = [abs(p[0] - q[0]) + abs(p[1] - q[1]) for p, q in zip(first, second, strict=True)]
    return max(range(len(far)), key=far.__getitem__) if any(far) else None


SEEDS = 4
"""Networks that no path of axes joins to the output, for which a label is chosen."""


def labels(graph: Graph, axis: int) -> Labels:
    """
    Follow an axis of the output through the graph.

    From the output back, by the votes of what reads a node, each as heavy as its array; then forward, for what only a
    statistic reads; and so on, until nothing new is found. What no path of axes joins to the output (a network before
    an operation that is not understood) slides along the same one of its convolutions' axes.
    """
    known = graph.labels.get(axis)
    if known is None:
        axis_of = _joined(graph, axis)
        for _ in range(SEEDS):
            if not _seed(graph, axis_of):
                break
            _spread(graph, axis_of)
        known = graph.labels[axis] = tuple(axis_of)
    return known


def _joined(graph: Graph, axis: int) -> list[int | None]:
    """Label what a path of axes joins to the output's."""
    axis_of: list[int | None] = [None] * len(graph.nodes)
    axis_of[graph.output] = axis
    _spread(graph, axis_of)
    return axis_of


def _above(graph: Graph, axis: int) -> list[int | None]:
    """Label what is reached going back from the output alone."""
    axis_of: list[int | None] = [None] * len(graph.nodes)
    axis_of[graph.output] = axis
    _backward(graph, axis_of, graph.nodes[::-1])
    return axis_of


def _spread(graph: Graph, axis_of: list[int | None]) -> None:
    """Carry labels back and forth, through the nodes that have none and those that read them alone."""
    missing = [node for node in graph.nodes if axis_of[node.index] is None and graph.live[node.index]]
    readers = {user for node in missing for user in graph.users[node.index]}
    near = [graph.nodes[index] for index in sorted(readers | {node.index for node in missing}, reverse=True)]
    _backward(graph, axis_of, near)
    while _forward(graph, axis_of, missing):
        _backward(graph, axis_of, near)


def _backward(graph: Graph, axis_of: list[int | None], near: Sequence[Node]) -> None:
    votes: dict[int, dict[int, int]] = {}
    for node in near:
        axis = axis_of[node.index]
        if axis is None:
            best = votes.get(node.index)
            if best is None:
                continue
            axis = axis_of[node.index] = max(best, key=best.__getitem__)
        if not graph.live[node.index]:
            continue
        for index, along in zip(node.inputs, carried(graph, node, axis), strict=True):
            if along is not None and axis_of[index] is None and graph.live[index]:
                row = votes.setdefault(index, {})
                row[along] = row.get(along, 0) + graph.sizes[node.index]


def _forward(graph: Graph, axis_of: list[int | None], missing: Sequence[Node]) -> bool:
    """Carry labels to nodes that have none; tell whether there were such."""
    changed = False
    for node in missing:
        if axis_of[node.index] is None:
            axis_of[node.index] = next(_onward(graph, node, axis_of), None)
            changed |= axis_of[node.index] is not None
    return changed


def _onward(graph: Graph, node: Node, axis_of: Sequence[int | None]) -> Iterator[int]:
    """Give the axes of a node that go along with a label of an input."""
    wanted = [axis_of[index] for index in node.inputs]
    if all(axis is None for axis in wanted):
        return
    for axis, n in enumerate(node.shape):
        if n < 2 or (isinstance(node.op, Along) and axis in node.op.axes):
            continue
        moved = carried(graph, node, axis)
        if any(a is not None and a == b for a, b in zip(wanted, moved, strict=True)):
            yield axis


def _seed(graph: Graph, axis_of: list[int | None]) -> bool:
    """Label the last convolution that has none; tell whether there was one."""
    convs = [node for node in graph.nodes if isinstance(node.op, Conv | Local) and graph.live[node.index]]
    places = [
        (len(node.op.axes), node.op.axes.index(axis))
        for node in convs
        if isinstance(node.op, Conv | Local) and (axis := axis_of[node.index]) in node.op.axes
    ]
    for node in reversed(convs):
        if axis_of[node.index] is None and isinstance(node.op, Conv | Local):
            of, place = places[0] if places else (1, 0)
            # the same one counted from the last axis, which is the width everywhere
            axis_of[node.index] = node.op.axes[max(0, len(node.op.axes) - of + place)]
            return True
    return False


def candidates(graph: Graph) -> tuple[int, ...]:
    """
    Give the axes of the output that may slide: those that some convolution slides along, longest first.

    Where a network has no convolution, the longest that goes along with an axis of the input.
    """
    shape = graph.nodes[graph.output].shape
    axis_of = {axis: _above(graph, axis) for axis, n in enumerate(shape) if n > 1}
    held = [axis for axis, row in axis_of.items() if _slides(graph, row)]
    if held:
        return tuple(sorted(held, key=lambda axis: -shape[axis]))
    held = [axis for axis, row in axis_of.items() if row[graph.input] is not None]
    return (max(held, key=shape.__getitem__),) if held else ()


def apart(graph: Graph) -> tuple[int, ...]:
    """Give the axes of the output whose cells know nothing of each other, as those of a batch."""
    shape = graph.nodes[graph.output].shape
    windowed = [node for node in graph.nodes if isinstance(node.op, Conv | Local | Pool) and graph.live[node.index]]
    held = []
    for axis, n in enumerate(shape):
        row = _above(graph, axis) if n > 1 else []
        if windowed and row and row[graph.input] is not None:
            axes = [(node, row[node.index]) for node in windowed if isinstance(node.op, Conv | Local | Pool)]
            if all(at is not None and at not in node.op.axes for node, at in axes):  # type: ignore[attr-defined]
                held.append(axis)
    return tuple(held)


def scattered(graph: Graph, axis_of: Labels) -> bool:
    """Whether strips lie in memory in pieces of a few cells: the last axis of most arrays slides."""
    held = [node for node in graph.nodes if graph.live[node.index] and axis_of[node.index] is not None]
    last = sum(node.nbytes for node in held if axis_of[node.index] == len(node.shape) - 1)
    return 2 * last > sum(node.nbytes for node in held)


def _slides(graph: Graph, axis_of: Sequence[int | None]) -> bool:
    return any(isinstance(node.op, Conv | Local | Pool) and axis_of[node.index] in node.op.axes for node in graph.nodes)
