"""Carry a program out with arrays: the only file of the engine, beside the kernels, that touches any."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Never

from tilekit._errors import InputError, TileShapeError
from tilekit._exact.boxes import Box, extent, within
from tilekit._exact.chain import Chain
from tilekit._exact.graph import Node
from tilekit._exact.kernels import Kernels
from tilekit._exact.ops import Moments, Pointwise, Reduce
from tilekit._exact.program import Program
from tilekit._exact.replay import Replay
from tilekit._exact.results import Blocks, Collect
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
    axis: int = 0
    """Along which blocks of the output come."""


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
        """Give the statistic in its dtype."""
        op = node.op
        assert isinstance(op, Moments | Reduce)  # a stage names no other statistics
        return self._kernels.cast(self._kernels.finish(op, part), node.dtype)

    def away(self, value: Array, place: Place) -> Array:
        """Bring an array to where it is stored."""
        if place == "device":
            return value
        if self._places is None:
            from tilekit.norms._places import Places  # needs NumPy, which the engine does not

            self._places = self._stack.enter_context(Places())
        return self._places.away(value, place)

    def back(self, value: Array, place: Place) -> Array:
        """Bring it back."""
        return value if self._places is None or place == "device" else self._places.back(value)

    def emit(self, box: Box, value: Array) -> None:
        """Take a box of the output."""
        if self._kernels.backend.is_floating(value) and self._kernels.has_nan(value):
            raise NotFiniteError
        self._emit(box, value)

    def _finite(self, value: Array) -> bool:
        return not self._kernels.backend.is_floating(value) or self._kernels.is_finite(value)


class Watch(Arrays):
    """The hands of a run that looks for the operation to blame."""

    def __init__(self, call: Call, stack: ExitStack) -> None:
        super().__init__(call, lambda box, value: None, stack)
        self._causes: dict[int, str] = {}

    @property
    def text(self) -> str:
        """What to tell the user."""
        cause = self._causes.get(self._graph.output, "the function")
        return f"{cause} gave NaN or infinity, and NaN reached the output; the input had none"

    def make(self, node: Node, box: Box, boxes: tuple[Box | None, ...], values: list[Array | None]) -> Array:
        """Make a box, and remember why it is bad, if it is."""
        made = super().make(node, box, boxes, values)
        if not self._finite(made):
            bad = (i for i, v in zip(node.inputs, values, strict=True) if v is not None and not self._finite(v))
            first = next(bad, None)
            if first is None:
                self._causes[node.index] = f"{self._name(node, values)} ({type(node.op).__name__})"
            else:
                name = self._graph.nodes[first].name or "a weight"
                self._causes[node.index] = self._causes.get(first, f"{name} (of the weights)")
        return made

    def _name(self, node: Node, values: list[Array | None]) -> str:
        """Name an operation, or the one of a chain that is to blame."""
        name = node.name
        if isinstance(node.op, Pointwise) and isinstance(node.op.call, Chain):
            name = next(name for name, made in node.op.call.each(values) if not self._finite(made))
        return name or f"operation {node.index}"


class NotFiniteError(Exception):
    """A box of the output has NaN in it; `blame` finds out why."""


def run(call: Call, told: Told) -> Array:
    """Make the whole output; `told` hears the number of finished steps."""
    collect = Collect(call.program.output, call.kernels)
    for done in _steps(call, collect):
        told(done)
    return collect.result


def stream(call: Call, axis: int, told: Told) -> Iterator[tuple[int, Array]]:
    """Give the output block by block along an axis, in order."""
    blocks = Blocks(call.program.output, axis, call.kernels)
    for done in _steps(call, blocks):
        yield from blocks.ready()
        told(done)


def _steps(call: Call, emit: Callable[[Box, Array], object]) -> Iterator[int]:
    """Go through the steps; where NaN comes out, say where it came up."""
    with ExitStack() as stack:
        steps = iter(Replay(call.program, Arrays(call, emit, stack)))
        for done in range(1, call.program.n_steps + 1):
            try:
                with call.kernels.computing():
                    next(steps)
            except NotFiniteError:
                blame(call)
            yield done
        with call.kernels.computing():
            next(steps, None)


def blame(call: Call) -> Never:
    """
    Run once more, look at every array, and name the first operation that gave NaN or infinity.

    Raises
    ------
    InputError
        Always.
    """
    with ExitStack() as stack, call.kernels.computing():
        watch = Watch(call, stack)
        try:
            for _ in Replay(call.program, watch):
                pass
        except NotFiniteError:
            pass
        raise InputError(watch.text)
