"""Carry a program out with arrays: the only file of the engine, beside the kernels, that touches any."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from tilekit._errors import TileShapeError
from tilekit._exact.boxes import Box, Interval, cells, extent, full, within
from tilekit._exact.graph import Node
from tilekit._exact.kernels import Kernels
from tilekit._exact.ops import Moments, Reduce
from tilekit._exact.program import Program
from tilekit._exact.replay import Replay
from tilekit._exact.steps import Place
from tilekit.backends import Array

__all__ = ["Call", "run", "stream"]

Told = Callable[[int], object]


@dataclass(frozen=True)
class Call:
    """One call of a traced function: all that a run reads."""

    program: Program
    kernels: Kernels
    source: Array
    """The input."""
    constants: Callable[[Hashable], Array]
    """Gives captured arrays as they are now."""


class Arrays:
    """
    The hands of a run.

    Parameters
    ----------
    call : Call
        What is run.
    emit : callable
        Takes a box of the output, and the array.
    """

    def __init__(self, call: Call, emit: Callable[[Box, Array], object]) -> None:
        self._graph = call.program.graph
        self._kernels = call.kernels
        self._source = call.source
        self._constants = call.constants
        self._emit = emit

    def source(self) -> Array:
        """Give the input of the function."""
        return self._source

    def constant(self, node: Node) -> Array:
        """Give a captured array as it is now."""
        value = self._constants(node.op.key)  # type: ignore[attr-defined]  # only constants come here
        if tuple(value.shape) != node.shape:
            name, shape = node.name or "weight", tuple(value.shape)
            msg = f"{name}: shape {shape}, but it was {node.shape} when the function was traced; call `exact` anew"
            raise TileShapeError(msg)
        return value

    def make(self, node: Node, box: Box, boxes: tuple[Box | None, ...], values: list[Array | None]) -> Array:
        """Make a box of a node, and see that it is what it should be."""
        made = self._kernels.run(node, self._graph.input_shapes[node.index], box, boxes, values)
        if tuple(made.shape) != extent(box) or self._kernels.dtype_name(made) != node.dtype:
            kind = type(node.op).__name__
            got = f"{tuple(made.shape)} of {self._kernels.dtype_name(made)}"
            msg = f"{node.name or kind} ({kind}) gave {got} for a box of {extent(box)} of {node.dtype}"
            raise TileShapeError(msg)
        return made

    def cut(self, value: Array, region: tuple[slice, ...]) -> Array:
        """Cut a region out, without copying."""
        return self._kernels.cut(value, region)

    def own(self, value: Array) -> Array:
        """Copy what keeps more memory alive than its cells take."""
        return value if self._kernels.owns(value) else self._kernels.copy(value)

    def join(self, values: list[Array], axis: int) -> Array:
        """Put arrays one after the other."""
        return self._kernels.concat(values, axis)

    def assemble(self, node: Node, box: Box, pieces: list[tuple[Box, Array]]) -> Array:
        """Put pieces together that fill a box."""
        whole = self._kernels.empty(extent(box), node.dtype)
        for held, piece in pieces:
            whole = self._kernels.put(whole, within(box, held), piece)
        return whole

    def part(self, op: Moments | Reduce, value: Array) -> Any:
        """Take what one box gives to a statistic."""
        return self._kernels.part(op, value)

    def merge(self, op: Moments | Reduce, a: Any, b: Any) -> Any:
        """Put what two boxes gave together."""
        return self._kernels.merge(op, a, b)

    def finish(self, node: Node, part: Any) -> Array:
        """Give the statistic in its dtype."""
        op = node.op
        assert isinstance(op, Moments | Reduce)  # a stage names no other statistics
        return self._kernels.cast(self._kernels.finish(op, part), node.dtype)

    def away(self, value: Array, place: Place) -> Array:
        """Bring an array to where it is stored."""
        return value

    def back(self, value: Array, place: Place) -> Array:
        """Bring it back."""
        return value

    def emit(self, box: Box, value: Array) -> None:
        """Take a box of the output."""
        self._emit(box, value)


class Collect:
    """
    Put the output together; it is allocated when its first box is there.

    Parameters
    ----------
    node : Node
        The output.
    kernels : Kernels
        For its arrays.
    """

    def __init__(self, node: Node, kernels: Kernels) -> None:
        self._node = node
        self._kernels = kernels
        self._whole: Array | None = None

    def __call__(self, box: Box, value: Array) -> None:
        """Take a box."""
        whole = full(self._node.shape)
        if box == whole:
            self._whole = value
            return
        if self._whole is None:
            self._whole = self._kernels.empty(self._node.shape, self._node.dtype)
        self._whole = self._kernels.put(self._whole, within(whole, box), value)

    @property
    def result(self) -> Array:
        """The output."""
        assert self._whole is not None  # a plan fills the output
        return self._whole


class Blocks:
    """
    Put boxes of the output together to blocks of rows, in order.

    Parameters
    ----------
    node : Node
        The output.
    axis : int
        Whose rows.
    kernels : Kernels
        For its arrays.
    """

    def __init__(self, node: Node, axis: int, kernels: Kernels) -> None:
        self._node = node
        self._axis = axis
        self._kernels = kernels
        self._open: dict[Interval, tuple[Array, int]] = {}
        self._at = 0

    def __call__(self, box: Box, value: Array) -> None:
        """Take a box."""
        rows = box[self._axis]
        held = (*full(self._node.shape)[: self._axis], rows, *full(self._node.shape)[self._axis + 1 :])
        if box == held:
            # the caller may write to what is handed out
            self._open[rows] = (value if self._kernels.owns(value) else self._kernels.copy(value), 0)
            return
        block, missing = self._open.get(rows) or (self._kernels.empty(extent(held), self._node.dtype), cells(held))
        self._open[rows] = (self._kernels.put(block, within(held, box), value), missing - cells(box))

    def ready(self) -> Iterator[tuple[int, Array]]:
        """Give the blocks that are complete and whose turn it is."""
        while True:
            rows = next(
                (rows for rows, (_, missing) in self._open.items() if rows[0] == self._at and not missing), None
            )
            if rows is None:
                return
            block, _ = self._open.pop(rows)
            self._at = rows[1]
            yield rows[0], block


def run(call: Call, told: Told) -> Array:
    """Make the whole output; `told` hears the number of finished steps."""
    collect = Collect(call.program.output, call.kernels)
    for done, _ in enumerate(Replay(call.program, Arrays(call, collect)), 1):
        told(done)
    return collect.result


def stream(call: Call, axis: int, told: Told) -> Iterator[tuple[int, Array]]:
    """Give the output block by block along an axis, in order."""
    blocks = Blocks(call.program.output, axis, call.kernels)
    for done, _ in enumerate(Replay(call.program, Arrays(call, blocks)), 1):
        yield from blocks.ready()
        told(done)
