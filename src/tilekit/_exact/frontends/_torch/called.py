"""What a rule sees of one recorded operation, and what it may add to the graph."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tilekit._exact.boxes import Shape
from tilekit._exact.frontends._torch.calls import Aten, Slot, freeze
from tilekit._exact.frontends._torch.known import DependsOnInput, Known
from tilekit._exact.frontends._torch.record import Entry
from tilekit._exact.graph import Node
from tilekit._exact.ops import Concat, Expand, Op, Permute, Pointwise, Reshape, Slice, Whole

__all__ = ["Called", "Rule", "dtype_name"]


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """Name a dtype without the library."""
    return str(dtype).removeprefix("torch.")


@cache
def _arguments(op: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((a.name, a.default_value if a.has_default_value() else None) for a in op._schema.arguments)


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
    nodes : list of Node
        The graph so far; `add` puts nodes at its end.
    known : Known
        Works out numbers that do not depend on the input.
    """

    def __init__(self, entry: Entry, part: int, node: Callable[[Tensor], int], nodes: list[Node], known: Known) -> None:
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
        """See the same cells under another shape."""
        if self.shape_of(index) == tuple(shape):
            return index
        return self.add(Reshape(), (index,), shape, self.dtype_of(index))

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
        starts = tuple(start if d == axis else 0 for d in range(len(shape)))
        steps = tuple(step if d == axis else 1 for d in range(len(shape)))
        made = [count if d == axis else n for d, n in enumerate(shape)]
        return self.add(Slice(starts, steps), (index,), made, self.dtype_of(index))

    def concat(self, parts: Sequence[int], axis: int) -> int:
        """Put nodes one after the other."""
        if len(parts) == 1:
            return parts[0]
        shape = list(self.shape_of(parts[0]))
        shape[axis] = sum(self.shape_of(part)[axis] for part in parts)
        return self.add(Concat(axis), parts, shape, self.dtype_of(parts[0]))


Rule = Callable[[Called], int]
"""Gives the place of the node that stands for an operation; it adds what it needs before."""
