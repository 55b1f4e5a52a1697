"""A graph with operations of its own on a few cells of an axis, where arrays would be cut out of larger ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tilekit._exact.boxes import Box, Interval, Shape, extent, full
from tilekit._exact.goals import plain_work
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Concat, Conv, Normalize, Op, Permute, Pointwise, Resample, Reshape, Slice

__all__ = ["Shorter", "of_input", "rewritten"]

WHOLE = Conv | Normalize | Permute | Pointwise | Reshape
"""Operations that may do the same with fewer cells."""


@dataclass(frozen=True, slots=True)
class Shorter:
    """Boxes of nodes that are kept, the boxes that are made of them again, and the nodes that these are made for."""

    kept: Mapping[int, Box]
    again: Mapping[int, Box]
    ends: tuple[int, ...]

    def moved(self, apart: int) -> "Shorter":
        """Give the same for nodes so many places later."""
        kept = {index + apart: box for index, box in self.kept.items()}
        again = {index + apart: box for index, box in self.again.items()}
        return Shorter(kept, again, tuple(index + apart for index in self.ends))

    @staticmethod
    def can(graph: Graph, index: int, box: Box) -> bool:
        """Whether a box of a node can be made as an array of its own."""
        node, shapes = graph.nodes[index], graph.input_shapes[index]
        if node.op.grow(box, node.shape, shapes) != box:
            return False
        needs = node.op.need(box, node.shape, shapes)
        rows = zip(node.inputs, needs, shapes, strict=True)
        if any(need not in {None, full(shape)} and not graph.live[source] for source, need, shape in rows):
            return False  # a weight would have to be cut
        return isinstance(node.op, Concat | Slice) or _of_fewer(node, box, shapes, needs) is not None


def of_input(graph: Graph, index: int) -> bool:
    """Whether a node is a piece of the input, which is there in any case."""
    node = graph.nodes[index]
    while isinstance(node.op, Slice) and not node.op.copied:
        node = graph.nodes[node.inputs[0]]
    return node.index == graph.input


def rewritten(graph: Graph, found: Sequence[Shorter]) -> Graph:
    """Give the graph in which some nodes are made of what is kept for them."""
    nodes: list[Node] = []
    place: dict[int, int] = {}
    makers = {index: _Maker(graph, shorter, nodes, place) for shorter in found for index in shorter.ends}
    for shorter in found:  # one for all that is made of the same
        makers.update(dict.fromkeys(shorter.ends, makers[shorter.ends[0]]))
    for node in graph.nodes:
        maker = makers.get(node.index)
        if maker is not None:
            place[node.index] = maker.box(node.index, full(node.shape))
        else:
            place[node.index] = len(nodes)
            nodes.append(replace(node, index=len(nodes), inputs=tuple(place[index] for index in node.inputs)))
    ends = place[graph.input], place[graph.output]
    return Graph(tuple(nodes), *ends, counted=graph.counted, spent=plain_work(graph))


class _Maker:
    """Adds the operations for one set of boxes."""

    def __init__(self, graph: Graph, shorter: Shorter, nodes: list[Node], place: Mapping[int, int]) -> None:
        self._graph, self._shorter, self._nodes, self._place = graph, shorter, nodes, place
        self._there: dict[int, tuple[int, Box]] = {}

    def box(self, index: int, box: Box) -> int:
        """Give the new node that holds a box of an old one."""
        old = self._graph.nodes[index]
        if index not in self._there:
            number, whole = self._place.get(index, -1), full(old.shape)
            if index in self._shorter.kept:
                whole = self._shorter.kept[index]
                number = self._cut(old, number, whole, full(old.shape), copied=not of_input(self._graph, index))
            elif index in self._shorter.again:
                whole = self._shorter.again[index]
                number = self._made(old, whole)
            self._there[index] = number, whole
        number, whole = self._there[index]
        return self._cut(old, number, box, whole)

    def _add(self, node: Node) -> int:
        self._nodes.append(replace(node, index=len(self._nodes)))
        return len(self._nodes) - 1

    def _cut(self, old: Node, number: int, box: Box, whole: Box, *, copied: bool = False) -> int:
        """Cut a box out of a node that holds another."""
        if box == whole:
            return number
        starts = tuple(a - c for (a, _), (c, _) in zip(box, whole, strict=True))
        op = Slice(starts, (1,) * len(box), copied=copied)
        return self._add(replace(old, op=op, inputs=(number,), shape=extent(box)))

    def _made(self, old: Node, box: Box) -> int:
        shapes = self._graph.input_shapes[old.index]
        needs = old.op.need(box, old.shape, shapes)
        rows = [(index, need) for index, need in zip(old.inputs, needs, strict=True) if need is not None]
        inputs = tuple(self.box(index, need) for index, need in rows)
        op: Op | None = old.op
        if isinstance(op, Concat | Slice) and len(inputs) == 1 and self._nodes[inputs[0]].shape == extent(box):
            return inputs[0]
        if isinstance(op, Slice):
            op = Slice((0,) * len(box), op.steps)
        elif not isinstance(op, Concat):
            op = _of_fewer(old, box, shapes, needs)
        assert op is not None  # `Shorter.can` was asked
        return self._add(replace(old, op=op, inputs=inputs, shape=extent(box)))


def _of_fewer(node: Node, box: Box, shapes: Sequence[Shape], needs: Sequence[Box | None]) -> Op | None:
    """Give the operation that makes a box of what it needs alone; None where that is not known."""
    op = node.op
    if isinstance(op, Resample) and needs[0] is not None:
        taps = []
        for rows, (start, stop), (first, _) in zip(op.taps, box, needs[0], strict=True):
            if rows is not None and (stop - start < len(rows) or first):
                rows = tuple(tuple((i - first, w) for i, w in row) for row in rows[start:stop])
            taps.append(rows)
        return Resample(tuple(taps))
    if not isinstance(op, WHOLE) or any(need is None for need in needs):
        return None
    made, sources = extent(box), [extent(need) for need in needs if need is not None]
    for axis, (start, stop) in enumerate(box):
        for cell in range(start, stop) if (start, stop) != (0, node.shape[axis]) else ():
            there = op.need(_at(box, axis, (cell, cell + 1)), node.shape, shapes)
            here = op.need(_at(full(made), axis, (cell - start, cell - start + 1)), made, sources)
            if not all(_moved(a, b, need) for a, b, need in zip(there, here, needs, strict=True)):
                return None
    return op


def _at(box: Box, axis: int, interval: Interval) -> Box:
    return (*box[:axis], interval, *box[axis + 1 :])


def _moved(there: Box | None, here: Box | None, need: Box | None) -> bool:
    """Whether two boxes are the same, counted from the beginning of a third."""
    if there is None or here is None or need is None:
        return False
    rows = zip(there, here, need, strict=True)
    return all((a - first, b - first) == other for (a, b), other, (first, _) in rows)
