"""What a rule sees of one recorded operation, and what it may add to the graph."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tilekit._exact.boxes import Shape
from tilekit._exact.frontends._torch.calls import Aten, Half, Slot, freeze
from tilekit._exact.frontends._torch.known import DependsOnInput, Known
from tilekit._exact.frontends._torch.record import Entry
from tilekit._exact.graph import Node
from tilekit._exact.ops import Concat, Expand, MatMul, Op, Permute, Pointwise, Reshape, Scatter, Slice, Whole

__all__ = ["Called", "Nodes", "Rule", "dtype_name"]


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """Name a dtype without the library."""
    return str(dtype).removeprefix("torch.")


@cache
def _arguments(op: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((a.name, a.default_value if a.has_default_value() else None) for a in op._schema.arguments)


class Nodes(list[Node]):
    """The graph so far."""

    def __init__(self) -> None:
        super().__init__()
        self.written: set[int] = set()
        """Concatenations that stand for writes to some rows of an array."""


class Called:
    """
    One operation as recorded, with its arguments by name.

    Parameters
    ----------
    entry : Entry
        The operation.
    part : int
        Which of its outputs is asked for.
    node : callable
        Gives the place of a tensor's node.
    nodes : Nodes
        The graph so far; `add` puts nodes at its end.
    known : Known
        Works out numbers that do not depend on the input.
    """

    def __init__(self, entry: Entry, part: int, node: Callable[[Tensor], int], nodes: Nodes, known: Known) -> None:
        self.entry, self.part = entry, part
        self.output: Tensor = entry.outputs[part]
        self.shape: Shape = entry.shapes[part]
        self.dtype = dtype_name(self.output.dtype)
        self._node, self._nodes, self._known = node, nodes, known

    @property
    def name(self) -> str:
        """The name of the operation without namespace and overload."""
        return str(self.entry.op._opname)

    def __getitem__(self, name: str) -> Any:
        """Give an argument, or its default."""
        for i, (known, default) in enumerate(_arguments(self.entry.op)):
            if known == name:
                return self.entry.args[i] if i < len(self.entry.args) else self.entry.kwargs.get(name, default)
        raise KeyError(name)

    def node(self, x: Tensor) -> int:
        """Give the place of a tensor's node."""
        return self._node(x)

    def numbers(self, x: Tensor) -> Tensor | None:
        """Give the numbers of a tensor that does not depend on the input, as they are now; None where they do."""
        try:
            return self._known.value(x)
        except DependsOnInput:
            return None

    # adding nodes -----------------------------------------------------------------------------------------------

    def add(self, op: Op, inputs: Sequence[int], shape: Sequence[int] | None = None, dtype: str | None = None) -> int:
        """Add a node; by default it has the shape and dtype of what the operation gives."""
        made = self.shape if shape is None else tuple(int(n) for n in shape)
        index = len(self._nodes)
        self._nodes.append(Node(index, op, tuple(inputs), made, dtype or self.dtype, self.entry.where))
        return index

    def shape_of(self, index: int) -> Shape:
        """Give the shape of a node."""
        return self._nodes[index].shape

    def dtype_of(self, index: int) -> str:
        """Give the dtype of a node."""
        return self._nodes[index].dtype

    def call(self) -> tuple[Aten, tuple[int, ...]]:
        """Give the operation itself as a call, and the nodes that it reads, each once."""
        inputs: dict[int, int] = {}

        def slot(value: Any) -> Any:
            if isinstance(value, Tensor):
                return Slot(inputs.setdefault(self.node(value), len(inputs)))
            return tuple(slot(item) for item in value) if isinstance(value, (list, tuple)) else freeze(value)

        op = self.entry.op
        args = tuple(slot(value) for value in self.entry.args)
        kwargs = tuple((key, slot(value)) for key, value in self.entry.kwargs.items())
        part = self.part if self.entry.several else None
        return Aten(f"{op.namespace}::{op._opname}.{op._overloadname}", args, kwargs, part), tuple(inputs)

    def pointwise(self) -> int:
        """Add the operation as one that goes cell by cell."""
        call, inputs = self.call()
        return self.add(Pointwise(call), inputs)

    def whole(self) -> int:
        """Add the operation as one that is not understood."""
        call, inputs = self.call()
        return self.add(Whole(self.name, call), inputs)

    def cell(self, operation: str, inputs: Sequence[int], *others: Any, dtype: str | None = None) -> int:
        """Add another operation of torch that goes cell by cell: the inputs first, then other arguments."""
        slots = tuple(Slot(i) for i in range(len(inputs)))
        shape = torch.broadcast_shapes(*(self.shape_of(i) for i in inputs))
        return self.add(Pointwise(Aten(f"aten::{operation}", (*slots, *others))), inputs, shape, dtype)

    def cast(self, index: int, dtype: str) -> int:
        """Convert to a dtype; nothing is added where the node has it."""
        if self.dtype_of(index) == dtype:
            return index
        call = Aten("aten::_to_copy.", (Slot(0),), (("dtype", getattr(torch, dtype)),))
        return self.add(Pointwise(call), (index,), self.shape_of(index), dtype)

    def reshape(self, index: int, shape: Sequence[int]) -> int:
        """See the same cells under another shape; those of a product not under two, one after the other."""
        product = self.merged(index)
        index = product if isinstance(self._nodes[product].op, MatMul) else index
        if self.shape_of(index) == tuple(shape):
            return index
        return self.add(Reshape(), (index,), shape, self.dtype_of(index))

    def merged(self, index: int) -> int:
        """Give the node that a node shows under another shape, or the node itself."""
        node = self._nodes[index]
        while isinstance(node.op, Reshape):
            node = self._nodes[node.inputs[0]]
        return node.index

    def permute(self, index: int, axes: Sequence[int]) -> int:
        """Put the axes into another order."""
        if list(axes) == list(range(len(axes))):
            return index
        shape = self.shape_of(index)
        return self.add(Permute(tuple(axes)), (index,), [shape[axis] for axis in axes], self.dtype_of(index))

    def expand(self, index: int, shape: Sequence[int]) -> int:
        """Repeat axes of one cell."""
        if self.shape_of(index) == tuple(shape):
            return index
        return self.add(Expand(), (index,), shape, self.dtype_of(index))

    def slice(self, index: int, axis: int, start: int, count: int, step: int = 1) -> int:
        """Take every so many cells of one axis."""
        shape = self.shape_of(index)
        if (start, count, step) == (0, shape[axis], 1):
            return index
        if step == 1 and self._rows_known(index, axis):
            return self._joined(self._rows(index, axis, start, start + count), axis)
        found = self._under(index, axis, start, count, step)
        if found != index:
            return found if self.shape_of(found) != shape else self.slice(found, axis, start, count, step)
        starts = tuple(start if d == axis else 0 for d in range(len(shape)))
        steps = tuple(step if d == axis else 1 for d in range(len(shape)))
        made = [count if d == axis else n for d, n in enumerate(shape)]
        return self.add(Slice(starts, steps), (index,), made, self.dtype_of(index))

    def half(self, index: int, axis: int, part: int) -> int | None:
        """Give the real or imaginary part that a row of a node is; None where it is none."""
        node = self._nodes[index]
        if not isinstance(node.op, Concat) or node.op.axis != axis or len(node.inputs) != 2:
            return None
        row = self._nodes[node.inputs[part]]
        op = self._nodes[row.inputs[0]].op if isinstance(row.op, Reshape) else None
        return row.inputs[0] if isinstance(op, Pointwise) and isinstance(op.call, Half) else None

    def apart(self, index: int) -> int:
        """Take a part of an array into memory of its own; nothing is added where it is more than half of that."""
        node = self._nodes[index]
        if not isinstance(node.op, Slice) or 2 * math.prod(node.shape) > math.prod(self.shape_of(node.inputs[0])):
            return index
        return self.add(replace(node.op, copied=True), node.inputs, node.shape, node.dtype)

    # writing ----------------------------------------------------------------------------------------------------

    def write(self, index: int, part: int, axis: int, start: int, step: int = 1) -> int:
        """Write a node over every so many rows of another."""
        shape, count = self.shape_of(index), self.shape_of(part)[axis]
        if self.shape_of(part) == shape:
            return part
        if step == 1:
            before = self._rows(index, axis, 0, start) if start else []
            stop = start + count
            after = self._rows(index, axis, stop, shape[axis]) if stop < shape[axis] else []
            return self._joined([*before, part, *after], axis)
        woven = self._woven(index, part, axis, start, step)
        if woven is not None:
            return woven
        if self._scattered(index) == (axis, start, step) and self.shape_of(self._nodes[index].inputs[1])[axis] == count:
            index = self._nodes[index].inputs[0]  # it is overwritten
        rows = range(len(shape))
        op = Scatter(tuple(start if d == axis else 0 for d in rows), tuple(step if d == axis else 1 for d in rows))
        return self.add(op, (index, part), shape, self.dtype_of(index))

    def _rows_known(self, index: int, axis: int) -> bool:
        return index in self._nodes.written and self._nodes[index].op == Concat(axis)

    def _rows(self, index: int, axis: int, start: int, stop: int) -> list[int]:
        """Give nodes that hold some rows one after the other; those of a written array by themselves."""
        if not self._rows_known(index, axis):
            return [self.slice(index, axis, start, stop - start)]
        found: list[int] = []
        at = 0
        for part in self._nodes[index].inputs:
            n = self.shape_of(part)[axis]
            first, last = max(start - at, 0), min(stop - at, n)
            if first < last:
                found.append(self.slice(part, axis, first, last - first))
            at += n
        return found

    def _joined(self, parts: Sequence[int], axis: int) -> int:
        made = self.concat(parts, axis)
        if len(parts) > 1:
            self._nodes.written.add(made)
        return made

    def _scattered(self, index: int) -> tuple[int, int, int] | None:
        """Give axis, start and step where a node is one that is written over every so many rows."""
        op = self._nodes[index].op
        if not isinstance(op, Scatter) or not op.steps:
            return None
        axis = max(range(len(op.steps)), key=op.steps.__getitem__)
        return axis, op.starts[axis], op.steps[axis]

    def _under(self, index: int, axis: int, start: int, count: int, step: int) -> int:
        """Give what was written to just these rows, or the array before rows beside them were."""
        scattered = self._scattered(index) if step > 1 else None
        if scattered is None or (axis, step) != (scattered[0], scattered[2]):
            return index
        base, part = self._nodes[index].inputs
        if scattered[1] == start and self.shape_of(part)[axis] == count:
            return part
        return base if (scattered[1] - start) % step else index

    def _woven(self, index: int, part: int, axis: int, start: int, step: int) -> int | None:
        """Give arrays that take every so many rows in turn, laid beside each other, once all rows are written."""
        shape, count = self.shape_of(index), self.shape_of(part)[axis]
        if count * step != shape[axis]:
            return None
        turns = {start: part}
        while len(turns) < step:
            scattered = self._scattered(index)
            if scattered is None or (axis, step) != (scattered[0], scattered[2]):
                return None
            index, earlier = self._nodes[index].inputs
            if self.shape_of(earlier)[axis] != count:
                return None
            turns.setdefault(scattered[1], earlier)
        one = (*shape[:axis], count, 1, *shape[axis + 1 :])
        beside = self.concat([self.reshape(turns[turn], one) for turn in range(step)], axis + 1)
        return self.reshape(beside, shape)

    def concat(self, parts: Sequence[int], axis: int) -> int:
        """Put nodes one after the other."""
        if len(parts) == 1:
            return parts[0]
        shape = list(self.shape_of(parts[0]))
        shape[axis] = sum(self.shape_of(part)[axis] for part in parts)
        return self.add(Concat(axis), parts, shape, self.dtype_of(parts[0]))


Rule = Callable[[Called], int]
"""Gives the place of the node that stands for an operation; it adds what it needs before."""
