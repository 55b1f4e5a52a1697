"""Dry run of a program: the bytes that live arrays take at the peak, counted step by step. Integers alone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tilekit._exact.alike import Alike, note
from tilekit._exact.boxes import Box, Shape, cells, extent, full
from tilekit._exact.ghosts import Ghost, Ledger, contiguous, holds, overlaps
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels._jobs import Job, Laid
from tilekit._exact.lent import lent
from tilekit._exact.ops import (
    Concat,
    Constant,
    Expand,
    Fill,
    Input,
    Local,
    Moments,
    Op,
    Pad,
    Permute,
    Reduce,
    Reshape,
    Scatter,
    Slice,
    Windows,
)
from tilekit._exact.program import Program
from tilekit._exact.replay import Replay, statistic_box
from tilekit._exact.steps import Place
from tilekit._exact.tally import Tally
from tilekit.backends.canary import Sizes
from tilekit.backends.limits import Limits

__all__ = ["Forecast", "Ghosts", "Scratch", "forecast", "no_scratch"]

Scratch = Callable[[Job[Op]], int]
"""Bytes that a kernel takes for itself while it makes a box, beside the box and what it is given."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a program will take."""

    peak_bytes: int
    """Of live arrays, the result included; without the input and the weights."""
    step_peaks: tuple[int, ...]
    """The same for each step of all stages; constants that are folded count with the first."""
    over: float = 0.0
    """How large the worst array or operation is over what the device gets right; see `Tally`."""
    worst: str = ""
    """Which one that is."""
    largest: tuple[tuple[str, int], ...] = ()
    """The most elements, or multiply-adds, of what each limit of the device is about; empty where it has none."""
    waits: int = 0
    """The most bytes of live arrays between two steps, without the input and the weights."""

    def sizes(self, work: int) -> Sizes:
        """Give what the canary asks for, of a run of so many multiply-adds; nothing where nothing is limited."""
        arrays = {name: size for name, size in self.largest if name != "work"}
        return Sizes(**arrays, work=work) if arrays else Sizes()


def no_scratch(job: Job[Op]) -> int:
    """Take nothing."""
    del job
    return 0


def forecast(  # noqa: PLR0913  what is run, and how
    program: Program,
    scratch: Scratch = no_scratch,
    *,
    axis: int | None = None,
    limits: Limits | None = None,
    replay: Callable[[Program, "Ghosts"], Iterable[object]] = Replay,
    result: Box | None = None,
    alike: Alike | None = None,
) -> Forecast:
    """
    Count the bytes of a run without running.

    Parameters
    ----------
    program : Program
        What would be run.
    scratch : callable
        What the kernels take for themselves.
    axis : int, optional
        The axis along which the output is handed out block by block; one block is counted, which whoever takes it has
        until the next. Default: it is handed out whole.
    limits : Limits, optional
        What the device gets right.
    replay : callable
        What carries the program out.
    result : Box, optional
        What of the output the program makes; all of it where absent.
    alike : Alike, optional
        What is known of nodes that are alike, for one `scratch`.

    Returns
    -------
    Forecast
        Counted bytes.
    """
    tally = Tally(limits) if limits is not None and limits.any else None
    ledger = _Watched(tally) if tally is not None else Ledger()
    steps = replay(program, Ghosts(program.graph, ledger, scratch, axis, tally, result, alike))
    peaks, waiting = [], [0]
    for _ in steps:
        peaks.append(ledger.peak)
        waiting.append(ledger.live)
        ledger.peak = ledger.live
    peak, waits = max([*peaks, ledger.peak]), max(waiting[:-1])
    if tally is None:
        return Forecast(peak, tuple(peaks), waits=waits)
    return Forecast(peak, tuple(peaks), tally.over, tally.what, tuple(tally.largest.items()), waits)


class _Watched(Ledger):
    """A ledger that shows every array to a tally."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def ghost(self, shape: Shape, itemsize: int) -> Ghost:
        """Give an array in memory of its own."""
        self._tally.array(shape)
        return super().ghost(shape, itemsize)


class Ghosts:
    """
    The hands of a dry run.

    Parameters
    ----------
    graph : Graph
        The function.
    ledger : Ledger
        What counts.
    scratch : callable
        What the kernels take for themselves.
    axis : int or None
        The axis along which the output is handed out block by block.
    tally : Tally, optional
        Sees every array.
    result : Box, optional
        What of the output is made here; all of it where absent.
    alike : Alike, optional
        What is known of nodes that are alike.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        graph: Graph,
        ledger: Ledger,
        scratch: Scratch,
        axis: int | None,
        tally: Tally | None = None,
        result: Box | None = None,
        alike: Alike | None = None,
    ) -> None:
        self._alike = alike if tally is None and scratch is not no_scratch else None
        self._whole = full(graph.nodes[graph.output].shape) if result is None else result
        self._graph = graph
        self._tally = tally
        self._ledger = ledger
        self._scratch = scratch
        self._spare: int | None = getattr(scratch, "writes", None)
        self._axis = axis
        self._lent = axis is not None and lent(graph)
        self._blocks: dict[Box, tuple[Ghost, int]] = {}
        self._result: Ghost | None = None
        self._constants: dict[int, Ghost] = {}
        source = graph.nodes[graph.input]
        self._source = _given(ledger, source)

    def source(self) -> Ghost:
        return self._source

    def arrived(self, shape: Shape) -> Ghost:
        """Give a part of an input that is read as it comes, which counts while it is kept."""
        return self._ledger.ghost(shape, self._source.itemsize)

    def constant(self, node: Node) -> Ghost:
        found = self._constants.get(node.index)
        if found is None:
            found = self._constants[node.index] = _given(self._ledger, node)
        return found

    def make(self, node: Node, box: Box, boxes: tuple[Box | None, ...], values: list[Ghost | None]) -> Ghost:
        if self._tally is None and type(node.op) is Fill and getattr(node.op.call, "one", False):
            return self._ledger.ghost((1,), node.itemsize).view(extent(box), (0,) * len(box))
        if self._alike is None:
            return self._made(node, box, boxes, values)[0]
        lies = tuple([None if value is None else value.strides for value in values])
        held = () if self._spare is None else holds(values, self._spare)
        key = (self._alike.kinds[node.index], box, boxes, lies, _behind(node.op, values), held)
        known = self._alike.made.get(key)
        if known is None:
            made, taken = self._made(node, box, boxes, values)
            note(self._alike.made, key, (Ledger().like(made), taken))  # a ghost of its own, so that the memory may go
            return made
        seen, taken = known
        if taken is None:
            return next(value for value in values if value is not None).view(seen.shape, seen.strides)
        if isinstance(taken, Laid) and taken.over is not None:
            return self._laid(node, box, boxes, values, taken)
        made = self._ledger.like(seen)
        self._ledger.touch(taken)
        return made

    def _made(
        self, node: Node, box: Box, boxes: tuple[Box | None, ...], values: list[Ghost | None]
    ) -> tuple[Ghost, int | None]:
        """Give what is made, and what the kernel takes for itself; None for that of a view."""
        view = _view(node.op, box, values)
        if view is not None:
            return view, None
        if self._scratch is no_scratch and self._tally is None:
            return self._ledger.ghost(extent(box), node.itemsize), 0
        given = tuple(
            None if value is None else (self._graph.nodes[i].dtype, value.strides)
            for i, value in zip(node.inputs, values, strict=True)
        )
        held = () if self._spare is None else holds(values, self._spare)
        job = Job(node.op, node.shape, self._graph.input_shapes[node.index], box, boxes, node.dtype, given, held)
        if self._tally is not None:
            self._tally.made(node, job)
        taken = self._scratch(job)
        if job.told:
            taken = Laid.of(taken + job.told, taken.strides if isinstance(taken, Laid) else None)
        return self._laid(node, box, boxes, values, taken), taken

    def _laid(
        self, node: Node, box: Box, boxes: tuple[Box | None, ...], values: list[Ghost | None], taken: int
    ) -> Ghost:
        """Give what a kernel makes, as it lies: in memory of its own, or in that of an input."""
        over = values[taken.over] if isinstance(taken, Laid) and taken.over is not None else None
        made = self._filled(node, box, boxes) if over is None else over.view(extent(box), contiguous(extent(box)))
        self._ledger.touch(taken)
        return made.view(made.shape, taken.strides) if isinstance(taken, Laid) and taken.strides else made

    def _filled(self, node: Node, box: Box, boxes: tuple[Box | None, ...]) -> Ghost:
        """Give the memory that an operation fills: more than the box, where a layer makes cells that it spoils."""
        op, given = node.op, boxes[0] if boxes else None
        if not isinstance(op, Local) or given is None:
            return self._ledger.ghost(extent(box), node.itemsize)
        shape, region = list(extent(box)), [slice(None)] * len(box)
        for axis, reach in zip(op.axes, op.reaches, strict=True):
            first = box[axis][0] - reach.first(given[axis][0])
            region[axis] = slice(first, first + shape[axis])
            shape[axis] = max(first + shape[axis], reach.length(given[axis][1] - given[axis][0]))
        return self._ledger.ghost(tuple(shape), node.itemsize).cut(tuple(region))

    def cut(self, value: Ghost, region: tuple[slice, ...]) -> Ghost:
        return value.cut(region)

    def own(self, value: Ghost) -> Ghost:
        return value if value.owns else self._ledger.ghost(value.shape, value.itemsize)

    def join(self, values: list[Ghost], axis: int) -> Ghost:
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self._ledger.ghost(tuple(shape), values[0].itemsize)

    def assemble(self, node: Node, box: Box, pieces: list[tuple[Box, Ghost]]) -> Ghost:
        return self._ledger.ghost(extent(box), node.itemsize)

    def part(self, op: Moments | Reduce, value: Ghost) -> Ghost:
        dtype = "float32" if value.itemsize > 2 else "bfloat16"
        node = Node(-1, op, (), (0,) * 8, dtype)
        given = ((dtype, value.strides),) if isinstance(op, Moments) else ()
        self._ledger.touch(self._scratch(Job(op, (), (value.shape,), (), (full(value.shape),), dtype, given)))
        box = statistic_box(op, node, full(value.shape))
        shape = (*extent(box)[: len(op.batch_axes)], op.groups, 2) if isinstance(op, Moments) else extent(box)
        return self._ledger.ghost(shape, 4)

    def merge(self, op: Moments | Reduce, a: Ghost, b: Ghost) -> Ghost:
        return self._ledger.ghost(a.shape, a.itemsize)

    def finish(self, node: Node, part: Ghost) -> Ghost:
        return self._ledger.ghost(part.shape, node.itemsize)

    def away(self, value: Ghost, place: Place) -> Ghost:
        return value if place == "device" else self._ledger.uncounted(value.shape, value.itemsize)

    def back(self, value: Ghost, place: Place) -> Ghost:
        return value if place == "device" else self._ledger.ghost(value.shape, value.itemsize)

    def emit(self, box: Box, value: Ghost) -> None:
        if overlaps(value.shape, value.strides):  # one cell that is seen in many places is handed out as many
            value = self._ledger.ghost(value.shape, value.itemsize)
        if self._axis is not None:
            self._open_block(box, value, self._axis)
        elif self._result is None:
            node = self._graph.nodes[self._graph.output]
            self._result = value if box == self._whole else self._ledger.ghost(extent(self._whole), node.itemsize)

    def _open_block(self, box: Box, value: Ghost, axis: int) -> None:
        """Count blocks that wait for other tiles, and the last one, which whoever takes it still has."""
        node = self._graph.nodes[self._graph.output]
        rows = (*self._whole[:axis], box[axis], *self._whole[axis + 1 :])
        if box == rows:
            self._result = self._ledger.ghost(value.shape, value.itemsize) if self._lent else self.own(value)
            return
        block, missing = self._blocks.get(rows) or (self._ledger.ghost(extent(rows), node.itemsize), cells(rows))
        self._blocks[rows] = block, missing - cells(box)
        if missing == cells(box):
            self._result = self._blocks.pop(rows)[0]


def _given(ledger: Ledger, node: Node) -> Ghost:
    """Give the input or a constant, as it lies."""
    value, op = ledger.uncounted(node.shape, node.itemsize), node.op
    strides = op.strides if isinstance(op, Input | Constant) else None
    return value if strides is None else value.view(node.shape, strides)


def _view(op: Op, box: Box, values: list[Ghost | None]) -> Ghost | None:
    """Give the view that an operation makes of an input; None where it fills memory of its own."""
    given = [value for value in values if value is not None]
    if isinstance(op, Concat | Scatter):
        return given[0] if len(given) == 1 else None
    if isinstance(op, Pad):
        return given[0] if len(given) == 1 and op.mode == "constant" and given[0].shape == extent(box) else None
    look = _LOOKS.get(type(op))
    return look(op, given[0], extent(box)) if look and given else None


def _repeated(op: Expand, value: Ghost, shape: Shape) -> Ghost:
    del op
    lead = len(shape) - len(value.shape)
    strides = tuple(0 if m != n else s for m, n, s in zip(value.shape, shape[lead:], value.strides, strict=True))
    return value.view(shape, (*(0,) * lead, *strides))


def _behind(op: Op, values: Sequence[Ghost | None]) -> int:
    """Give the memory on which depends whether a copy is made."""
    return values[0].buffer.nbytes if isinstance(op, Slice) and op.copied and values[0] is not None else 0


def _stepped(op: Slice, value: Ghost, shape: Shape) -> Ghost | None:
    del shape
    made = value.cut(tuple(slice(None, None, abs(step)) for step in op.steps))
    if op.copied and (min(op.steps) < 0 or not made.owns):
        return None
    lies = tuple(-stride if step < 0 else stride for stride, step in zip(made.strides, op.steps, strict=True))
    return made if lies == made.strides else made.view(made.shape, lies)


def _windowed(op: Windows, value: Ghost, shape: Shape) -> Ghost:
    stride = value.strides[op.axis]
    return value.view(shape, (*value.strides[: op.axis], op.hop * stride, stride, *value.strides[op.axis + 1 :]))


_LOOKS: dict[type[Op], Callable[[Any, Ghost, Shape], Ghost | None]] = {
    Reshape: lambda op, value, shape: value.reshape(shape),
    Permute: lambda op, value, shape: value.view(shape, tuple(value.strides[axis] for axis in op.axes)),
    Slice: _stepped,
    Expand: _repeated,
    Windows: _windowed,
}
