"""Whether two lengths of the input give the same function, and two steps the same but for their place: integers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import FunctionType
from typing import Any

from tilekit._exact.boxes import Box, Shape
from tilekit._exact.chain import Link
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import (
    Attention,
    Constant,
    Conv,
    Fill,
    Input,
    Local,
    Op,
    Pad,
    Pool,
    Resample,
    Scatter,
    Slice,
    Take,
)
from tilekit._exact.schedule import Make, StepSchedule
from tilekit._exact.sources.period import Period, Shift

__all__ = ["Placed", "differences", "same"]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where operations of a graph are looked at."""

    graph: Graph
    period: Period
    units: int = 0
    """By how many units boxes are moved before they are compared."""

    def box(self, node: int, box: Box | None) -> Box | None:
        """Give a box where it is compared."""
        return None if box is None else self.period.moved(node, box, self.units)

    def step(self, step: StepSchedule) -> tuple[Any, ...]:
        """Say what a step does."""
        emits = tuple((node, self.box(node, box)) for node, box in step.emits)
        reads = frozenset((node, self.box(node, box)) for node, box in step.reads)
        return emits, reads, self._settled(step.settled), tuple(self._make(make) for make in step.makes)

    def _settled(self, settled: Sequence[tuple[int, Box | None]]) -> tuple[tuple[int, Box | None], ...]:
        return tuple((node, self.box(node, box)) for node, box in settled)

    def _make(self, make: Make) -> tuple[Any, ...]:
        node = self.graph.nodes[make.node]
        needs = tuple(self.box(index, box) for index, box in zip(node.inputs, make.needs, strict=True))
        boxes = (self.box(make.node, make.box), self.box(make.node, make.window), self.box(make.node, make.emit))
        told = told_of(self.graph, node, make.box, make.needs)
        return make.node, boxes, needs, make.axis, self._settled(make.settled), told


def told_of(graph: Graph, node: Node, box: Box, needs: Sequence[Box | None]) -> Any:
    """Say what a kernel does for a box beside what the boxes say, whatever the length of the axis."""
    tell = _TOLD.get(type(node.op))
    return None if tell is None else tell(node.op, node.shape, graph.input_shapes[node.index], box, needs)


def _conv(op: Conv, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    return None if needs[0] is None else [op.window(d, box[a], shapes[0][a])[1:] for d, a in enumerate(op.axes)]


def _pool(op: Pool, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    return op.pads(box, shapes[0])


def _resampled(op: Resample, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    assert needs[0] is not None  # it always reads something
    rows = zip(op.taps, box, needs[0], strict=True)
    return [
        taps and [[(cell - first, weight) for cell, weight in row] for row in taps[start:stop]]
        for taps, (start, stop), (first, _) in rows
    ]


def _taken(op: Take, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    assert needs[0] is not None
    first = needs[0][op.axis][0]
    return [index - first for index in op.indices[slice(*box[op.axis])]]


def _padded(op: Pad, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    if needs[0] is None:
        return None
    rows = zip(box, op.before, shapes[0], needs[0], strict=True)
    if op.mode == "constant":
        return [(start - before - first, stop - before - last) for (start, stop), before, _, (first, last) in rows]
    return [
        [op.source(i - before, n) - first for i in range(start, stop)] for (start, stop), before, n, (first, _) in rows
    ]


def _sliced(op: Slice, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    assert needs[0] is not None
    rows = zip(box, op.starts, op.steps, needs[0], strict=True)
    return [at + start * step - first for (start, _), at, step, (first, _) in rows]


def _scattered(op: Scatter, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    if needs[1] is None:
        return None
    rows = zip(box, op.starts, op.steps or (1,) * len(box), needs[1], strict=True)
    return [at + first * step - start for (start, _), at, step, (first, _) in rows]


def _local(op: Local, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    assert needs[0] is not None
    rows = zip(op.axes, op.reaches, strict=True)
    return [box[axis][0] - reach.first(needs[0][axis][0]) for axis, reach in rows]


def _attended(op: Attention, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    return box[2] if op.causal else None


def _filled(op: Fill, shape: Shape, shapes: Sequence[Shape], box: Box, needs: Sequence[Box | None]) -> Any:
    return None if getattr(op.call, "even", False) else box


_TOLD: Mapping[type[Op], Callable[..., Any]] = {
    Attention: _attended,
    Conv: _conv,
    Fill: _filled,
    Local: _local,
    Pad: _padded,
    Pool: _pool,
    Resample: _resampled,
    Scatter: _scattered,
    Slice: _sliced,
    Take: _taken,
}
_PLACES = {
    Constant: ("key",),
    Input: ("strides",),
    Resample: ("taps",),
    Slice: ("starts",),
    Scatter: ("starts",),
    Take: ("indices",),
}
"""What of an operation says where cells lie: compared box by box, or by its numbers."""


def differences(short: Graph, long: Graph) -> tuple[dict[int, Shift], str]:
    """
    Compare a function at two lengths of its input.

    Parameters
    ----------
    short, long : Graph
        The function, followed at each length.

    Returns
    -------
    shifts : dict of int to (int, int)
        For each node that is longer: the axis, and the rows that there are more.
    why : str
        What else differs; empty where nothing does.
    """
    if len(short.nodes) != len(long.nodes) or short.output != long.output:
        return {}, f"it has {len(short.nodes)} operations there and {len(long.nodes)} here"
    shifts: dict[int, Shift] = {}
    for a, b in zip(short.nodes, long.nodes, strict=True):
        name = b.name or f"operation {b.index}"
        if a.inputs != b.inputs or a.dtype != b.dtype or not _same_op(a.op, b.op):
            return {}, f"{name} ({type(b.op).__name__}) does something else there"
        axes = [d for d, (m, n) in enumerate(zip(a.shape, b.shape, strict=False)) if m != n]
        if len(a.shape) != len(b.shape) or len(axes) > 1:
            return {}, f"{name} ({type(b.op).__name__}) makes {a.shape} there and {b.shape} here"
        if axes and isinstance(b.op, Constant):
            return {}, f"{name} is an array of {a.shape} there and of {b.shape} here (a table of positions?)"
        if axes:
            shifts[b.index] = axes[0], b.shape[axes[0]] - a.shape[axes[0]]
    return shifts, ""


def _same_op(a: Op, b: Op) -> bool:
    if a == b:
        return True
    if type(a) is not type(b):
        return False
    skipped = _PLACES.get(type(a), ())
    return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name not in skipped)


def same(a: Any, b: Any) -> bool:
    """Whether two calls do the same, be they made anew each time the function is followed."""
    if a is b:
        return True
    if type(a) is not type(b) or (hasattr(a, "shape") and not is_dataclass(a)):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, FunctionType):
        return _same_function(a, b)
    if is_dataclass(a):
        skipped = ("shape",) if isinstance(a, Link) else ()  # that is said for the whole array
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name not in skipped)
    return bool(a == b)


def _same_function(a: FunctionType, b: FunctionType) -> bool:
    """Whether two functions have the same code and close over the same."""
    held = [[cell.cell_contents for cell in function.__closure__ or ()] for function in (a, b)]
    if a.__code__ != b.__code__ or a.__globals__ is not b.__globals__ or len(held[0]) != len(held[1]):
        return False
    told = ((*held[0], a.__defaults__, a.__kwdefaults__), (*held[1], b.__defaults__, b.__kwdefaults__))
    return same(*told)
