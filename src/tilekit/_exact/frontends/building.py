"""Nodes as they are added, with what is known of them while the operations of a library are read."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from tilekit._exact.boxes import Shape, full, within
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels import Kernels
from tilekit._exact.ops import Constant, Expand, Input, Op, Permute, Pointwise, Reshape, Slice, Take

__all__ = ["Building", "Cells", "Origin"]

Cells = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the cells of each axis of an array come from; None where they are a number that was there before."""

    source: int
    axes: tuple[Cells, ...]

    @property
    def complete(self) -> bool:
        """Whether every cell comes from the source."""
        return not any(None in cells for cells in self.axes)


class Building(ABC):
    """
    A graph that grows.

    Parameters
    ----------
    merging : bool
        Whether views of views become one view. Patterns are found where they do not: in the steps that were taken.

    Attributes
    ----------
    nodes : list of Node
        In order.
    known : dict of int to array
        The constants whose numbers belong to the function itself, not to its weights: a trace that finds others is
        another graph.
    origins : dict of int to Origin
        What borders were written into, with where each cell comes from.
    """

    def __init__(self, *, merging: bool = False) -> None:
        self.merging = merging
        self.nodes: list[Node] = []
        self.known: dict[int, Any] = {}
        self.origins: dict[int, Origin] = {}
        self._numbers: dict[int, Any] = {}

    @abstractmethod
    def kernels(self) -> Kernels:
        """Give what computes the nodes whose numbers are known."""

    def add(self, op: Op, inputs: Sequence[int], shape: Sequence[int], dtype: str, name: str = "") -> int:
        """Add a node, and give its place."""
        self.nodes.append(Node(len(self.nodes), op, tuple(inputs), tuple(shape), dtype, name))
        return len(self.nodes) - 1

    def shape(self, index: int) -> Shape:
        """Give the shape of a node."""
        return self.nodes[index].shape

    def op(self, index: int) -> Op:
        """Give the kind of a node."""
        return self.nodes[index].op

    def reshape(self, index: int, shape: Sequence[int]) -> int:
        """Add another shape of a node; the node itself where it has it."""
        if self.shape(index) == tuple(shape):
            return index
        node = self.nodes[index]
        if self.merging and isinstance(node.op, Reshape):  # one after the other is one
            return self.reshape(node.inputs[0], shape)
        return self.add(Reshape(), (index,), shape, node.dtype)

    def permute(self, index: int, axes: Sequence[int]) -> int:
        """Add a node's axes in another order; the node itself where it is theirs."""
        if tuple(axes) == tuple(range(len(axes))):
            return index
        node = self.nodes[index]
        if self.merging and isinstance(node.op, Permute):
            inner = node.op.axes
            return self.permute(node.inputs[0], [inner[axis] for axis in axes])
        shape = [node.shape[axis] for axis in axes]
        return self.add(Permute(tuple(axes)), (index,), shape, node.dtype)

    def expand(self, index: int, shape: Sequence[int]) -> int:
        """Add a node that repeats another; the node itself where nothing is repeated."""
        if self.shape(index) == tuple(shape):
            return index
        return self.add(Expand(), (index,), shape, self.nodes[index].dtype)

    def pointwise(self, call: Any, inputs: Sequence[int], shape: Sequence[int], dtype: str) -> int:
        """Add cell-by-cell arithmetic; what is repeated is read as it is, since the arithmetic repeats it itself."""
        narrow = [self.unexpanded(index) for index in inputs]
        if _broadcast([self.shape(index) for index in narrow]) != tuple(shape):
            narrow[0] = inputs[0]
        return self.add(Pointwise(call), narrow, shape, dtype)

    def unexpanded(self, index: int) -> int:
        """Give what a node repeats, or the node."""
        while isinstance(self.op(index), Expand):
            index = self.nodes[index].inputs[0]
        return index

    def static(self, index: int) -> bool:
        """Whether the numbers of a node are those of the function itself: places and known constants alone."""
        stack, seen = [index], set()
        while stack:
            at = stack.pop()
            op = self.op(at)
            if isinstance(op, Input) or (isinstance(op, Constant) and at not in self.known):
                return False
            if at not in seen:
                seen.add(at)
                stack += self.nodes[at].inputs
        return True

    def numbers(self, index: int) -> Any:
        """Compute a static node."""
        if index in self.known:
            return self.known[index]
        if index not in self._numbers:
            node, kernels = self.nodes[index], self.kernels()
            arrays = [self.numbers(i) for i in node.inputs]
            shapes = tuple(self.shape(i) for i in node.inputs)
            box = full(node.shape)
            needs = node.op.need(box, node.shape, shapes)
            rows = zip(arrays, needs, shapes, strict=True)
            read = [
                None if need is None else kernels.cut(array, within(full(given), need)) for array, need, given in rows
            ]
            self._numbers[index] = kernels.handed(kernels.run(node, shapes, box, needs, read))
        return self._numbers[index]

    def number(self, index: int) -> float | None:
        """Give the one number that a node holds in every cell, if it is known."""
        index = self.unexpanded(index)
        while isinstance(self.op(index), Reshape):
            index = self.unexpanded(self.nodes[index].inputs[0])
        array = self.known.get(index)
        if array is None or array.size != 1 or "complex" in self.nodes[index].dtype:
            return None
        number: float = array.item()
        return number

    def take(self, source: int, axis: int, indices: Sequence[int]) -> int:
        """Add cells of one axis by number, as a slice where they lie at equal distances."""
        n = self.shape(source)[axis]
        cells = [i + n if i < 0 else i for i in indices]
        if cells == list(range(n)):
            return source
        shape = tuple(len(cells) if d == axis else m for d, m in enumerate(self.shape(source)))
        dtype = self.nodes[source].dtype
        step = cells[1] - cells[0] if len(cells) > 1 else 1
        if step and all(late - early == step for early, late in itertools.pairwise(cells)):
            starts = tuple(cells[0] if d == axis else 0 for d in range(len(shape)))
            steps = tuple(step if d == axis else 1 for d in range(len(shape)))
            return self.add(Slice(starts, steps), (source,), shape, dtype)
        return self.add(Take(axis, tuple(cells)), (source,), shape, dtype)

    def graph(self, output: int) -> tuple[Graph, dict[Hashable, Any]]:
        """Give the nodes that the output needs, with the input, and the known constants among them by their keys."""
        wanted, stack = {0}, [output]
        while stack:
            index = stack.pop()
            if index not in wanted:
                wanted.add(index)
                stack += self.nodes[index].inputs
        place = {old: new for new, old in enumerate(sorted(wanted))}
        nodes, constants = [], {}
        for old, new in place.items():
            node = self.nodes[old]
            op = node.op
            if old in self.known:
                op = Constant(("constant", new))
                constants[op.key] = self.known[old]
            nodes.append(Node(new, op, tuple(place[index] for index in node.inputs), node.shape, node.dtype, node.name))
        return Graph(tuple(nodes), 0, place[output]), constants


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    """Give what shapes that fit make together."""
    rank = max((len(shape) for shape in shapes), default=0)
    columns = zip(*((*(1,) * (rank - len(shape)), *shape) for shape in shapes), strict=True)
    return tuple(next((n for n in column if n != 1), 1) for column in columns)
