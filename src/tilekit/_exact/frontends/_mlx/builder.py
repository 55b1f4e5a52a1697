"""Nodes as they are added, with what is known of them while a tape is read."""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from tilekit._exact.boxes import Shape, full
from tilekit._exact.frontends._mlx.calls import PoolWindow
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels import kernels_of
from tilekit._exact.ops import Constant, Expand, Input, Op, Permute, Pointwise, Reshape, Slice, Take

__all__ = ["Builder", "Cells", "Origin", "Windows"]


@dataclass(frozen=True, slots=True)
class Windows:
    """A view whose `inner` axes run over windows of a source, so that a reduction over them is a pooling."""

    source: int
    axes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    inner: tuple[int, ...]
    shape: Shape
    """Of the pooled array, in the axes of the source."""

    def call(self, name: str) -> PoolWindow:
        """Give the call that reduces the windows by a function of MLX."""
        return PoolWindow(name, self.axes, self.kernel, self.stride, self.dilation)


Cells = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the cells of each axis of an array come from; None where they are a number that was there before."""

    source: int
    axes: tuple[Cells, ...]

    @property
    def complete(self) -> bool:
        """Whether every cell comes from the source."""
        return all(cell is not None for cells in self.axes for cell in cells)


class Builder:
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
    known : dict of int to mlx.core.array
        The constants whose numbers belong to the function itself, not to its weights: a trace that finds others is
        another graph.
    windows : dict of int to Windows
        The views that run over windows.
    origins : dict of int to Origin
        What borders were written into, with where each cell comes from.
    """

    def __init__(self, *, merging: bool = False) -> None:
        self.merging = merging
        self.nodes: list[Node] = []
        self.known: dict[int, mx.array] = {}
        self.windows: dict[int, Windows] = {}
        self.origins: dict[int, Origin] = {}
        self._numbers: dict[int, mx.array] = {}

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
        if mx.broadcast_shapes(*(self.shape(index) for index in narrow)) != tuple(shape):
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

    def numbers(self, index: int) -> mx.array:
        """Compute a static node."""
        if index in self.known:
            return self.known[index]
        if index not in self._numbers:
            node = self.nodes[index]
            arrays = [self.numbers(i) for i in node.inputs]
            shapes = tuple(self.shape(i) for i in node.inputs)
            box = full(node.shape)
            kernels = kernels_of(mx.array(0.0))
            needs = node.op.need(box, node.shape, shapes)
            read = [array if need is not None else None for array, need in zip(arrays, needs, strict=True)]
            self._numbers[index] = kernels.run(node, shapes, box, needs, read)
        return self._numbers[index]

    def number(self, index: int) -> float | None:
        """Give the one number that a node holds in every cell, if it is known."""
        index = self.unexpanded(index)
        while isinstance(self.op(index), Reshape):
            index = self.unexpanded(self.nodes[index].inputs[0])
        array = self.known.get(index)
        return None if array is None or array.size != 1 or array.dtype == mx.complex64 else array.item()  # type: ignore[return-value]

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

    def graph(self, output: int) -> tuple[Graph, dict[Hashable, mx.array]]:
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
