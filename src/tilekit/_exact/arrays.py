"""The hands of a run: the only file of the engine, beside the kernels, that touches arrays."""

from collections.abc import Callable, Hashable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tilekit._errors import TileShapeError
from tilekit._exact.boxes import Box, extent, within
from tilekit._exact.graph import Node
from tilekit._exact.kernels import Kernels
from tilekit._exact.ops import Moments, Reduce
from tilekit._exact.program import Program
from tilekit._exact.pull import pull
from tilekit._exact.steps import Place
from tilekit.backends import Array
from tilekit.backends.flat import flat_without_reason
from tilekit.backends.limits import limits_of

__all__ = ["Arrays", "Call", "NotFiniteError"]


class NotFiniteError(Exception):
    """A statistic or a box of the output has NaN in it; `blame` finds out why."""


@dataclass(frozen=True)
class Call:
    """One call of a traced function: all that a run reads."""

    program: Program
    kernels: Kernels
    source: Array
    """The input."""
    constants: Callable[[Hashable], Array]
    """Gives captured arrays as they are now."""
    axis: int = 0
    """Along which blocks of the output come."""
    taken_apart: Callable[[], Program] | None = None
    """Gives the operations of a function that is called as it is, to find the one that gave NaN."""
    watch: Callable[[Any], Callable[[], str]] = lambda x: str
    """See `Traced`."""


class Arrays:
    """
    The hands of a run.

    Parameters
    ----------
    call : Call
        What is run.
    emit : callable
        Takes a box of the output, and the array.
    stack : ExitStack
        Closes what the run opened.
    """

    def __init__(self, call: Call, emit: Callable[[Box, Array], object], stack: ExitStack) -> None:
        self._stack = stack
        self._places: Any = None
        self._graph = call.program.graph
        self._kernels = call.kernels
        self._source = call.source
        self._constants = call.constants
        self._emit = emit
        self._trusted = not limits_of(call.source).any
        self.flat: Box | None = None
        """A box of the output that is one number everywhere without a reason that is known."""

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
            whole = self._kernels.write(whole, within(box, held), piece)
        return whole

    def part(self, op: Moments | Reduce, value: Array) -> Any:
        """Take what one box gives to a statistic."""
        return self._kernels.part(op, value)

    def merge(self, op: Moments | Reduce, a: Any, b: Any) -> Any:
        """Put what two boxes gave together."""
        return self._kernels.merge(op, a, b)

    def finish(self, node: Node, part: Any) -> Array:
        """Give the statistic in its dtype; moments that are not finite would reach every cell, so they end the run."""
        op = node.op
        assert isinstance(op, Moments | Reduce)  # a stage names no other statistics
        made = self._kernels.cast(self._kernels.finish(op, part), node.dtype)
        if isinstance(op, Moments) and not self._finite(made):
            raise NotFiniteError
        return made

    def away(self, value: Array, place: Place) -> Array:
        """Bring an array to where it is stored."""
        if place == "device":
            return value
        if self._places is None:
            from tilekit._run.places import Places  # needs NumPy, which the engine does not

            self._places = self._stack.enter_context(Places())
        return self._places.away(self._kernels.handed(value), place)

    def back(self, value: Array, place: Place) -> Array:
        """Bring it back."""
        return value if self._places is None or place == "device" else self._places.back(value)

    def emit(self, box: Box, value: Array) -> None:
        """Take a box of the output."""
        if self._kernels.backend.is_floating(value) and self._kernels.has_nan(value):
            raise NotFiniteError
        if not self._trusted and self.flat is None and self._is_flat(value, box):
            self.flat = box
        self._emit(box, value)

    def _is_flat(self, value: Array, box: Box) -> bool:
        return flat_without_reason(value, lambda: self._read_by(box), patches=True)

    def trust(self) -> None:
        """Let a box that is one number be one: it was looked into, and the function means it."""
        self._trusted, self.flat = True, None

    def _read_by(self, box: Box) -> Array:
        """Give what a box of the output depends on."""
        read = pull(self._graph, {self._graph.output: box}).get(self._graph.input)
        everything = tuple((0, n) for n in self._source.shape)
        return self._source if read is None else self._kernels.cut(self._source, within(everything, read))

    def _finite(self, value: Array) -> bool:
        return not self._kernels.backend.is_floating(value) or self._kernels.is_finite(value)
