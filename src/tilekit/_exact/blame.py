"""Which operation gave NaN, or one number everywhere: a run once more that looks at every array."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Never

from tilekit._errors import DeviceError, InputError
from tilekit._exact.arrays import Arrays, Call, NotFiniteError
from tilekit._exact.boxes import Box
from tilekit._exact.chain import Chain
from tilekit._exact.graph import Node
from tilekit._exact.ops import Conv, Expand, MatMul, Moments, Normalize, Permute, Pointwise, Reshape, Slice
from tilekit._exact.replay import Replay
from tilekit.backends import Array, flat
from tilekit.backends.flat import is_flat, varies

__all__ = ["accuse", "blame", "said_flat"]


class Watch(Arrays):
    """The hands of a run that looks for the operation to blame."""

    def __init__(self, call: Call, stack: ExitStack) -> None:
        super().__init__(call, lambda box, value: None, stack)
        self._causes: dict[int, str] = {}
        self._where: dict[str, str] = {}
        self._wide = ""

    @property
    def text(self) -> str:
        """What to tell the user."""
        if self._wide:
            return self._wide
        cause = self._causes.get(self._graph.output, "the function")
        where = self._where.get(cause, "")
        return f"{cause} gave NaN or infinity, and NaN reached the output; the input had none{where}"

    def finish(self, node: Node, part: Any) -> Array:
        """Give the statistic; where it is not finite, remember why."""
        try:
            return super().finish(node, part)
        except NotFiniteError:
            source = node.inputs[0]
            if source in self._causes:
                self._causes[self._graph.output] = self._causes[source]
            else:
                self._too_wide(node)
            raise

    def _too_wide(self, node: Node) -> None:
        self._wide = f"{node.name or 'a norm'}: the values are too large for statistics in float32"

    def make(self, node: Node, box: Box, boxes: tuple[Box | None, ...], values: list[Array | None]) -> Array:
        """Make a box, and remember why it is bad, if it is."""
        made = super().make(node, box, boxes, [*values])
        if not self._finite(made):
            bad = (i for i, v in zip(node.inputs, values, strict=True) if v is not None and not self._finite(v))
            first = next(bad, None)
            if first is None:
                cause = self._causes[node.index] = f"{self._name(node, values)} ({type(node.op).__name__})"
                if isinstance(node.op, Moments) and not self._wide:
                    self._too_wide(node)
                self._where.setdefault(cause, _where(node, box))
            else:
                name = self._graph.nodes[first].name or f"a weight of {node.name or 'an operation'}"
                self._causes[node.index] = self._causes.get(first, f"{name} (of the weights)")
        return made

    def _name(self, node: Node, values: list[Array | None]) -> str:
        """Name an operation, or the one of a chain that is to blame."""
        name = node.name
        if isinstance(node.op, Pointwise) and isinstance(node.op.call, Chain):
            name = next(name for name, made in node.op.call.each(values) if not self._finite(made))
        return name or f"operation {node.index}"


def _where(node: Node, box: Box) -> str:
    """Say which part of an array was being made."""
    parts = [
        f"{start} to {stop - 1} of axis {axis}"
        for axis, ((start, stop), n) in enumerate(zip(box, node.shape, strict=True))
        if stop - start < n
    ]
    return f"; it came up among cells {' and '.join(parts)}" if parts else ""


def blame(call: Call) -> Never:
    """
    Run once more, look at every array, and name the first operation that gave NaN or infinity.

    Raises
    ------
    InputError
        Always.
    """
    if call.taken_apart is not None:
        call = replace(call, program=call.taken_apart(), taken_apart=None)
    with ExitStack() as stack, call.kernels.computing():
        watch = Watch(call, stack)
        try:
            for _ in Replay(call.program, watch):
                pass
        except NotFiniteError:
            pass
        raise InputError(watch.text)


def accuse(call: Call, box: Box) -> None:
    """
    Run once more up to a box of the output, and name the first operation that gave one number of numbers that vary.

    Where nothing is found but operations cell by cell, which may clamp, the function means it.

    Raises
    ------
    DeviceError
        If an operation is found.
    """
    with ExitStack() as stack, call.kernels.computing():
        search = _Search(call, box, stack)
        try:
            for _ in Replay(call.program, search):
                pass
        except _Found:
            pass
    if search.cause:
        msg = f"{said_flat(call.source, box)}; {search.cause} gave one number of numbers that vary"
        raise DeviceError(msg)


def said_flat(like: Array, box: Box) -> str:
    """Say what is wrong with a box of the output."""
    cells = ", ".join(f"{start}:{stop}" for start, stop in box)
    cure = "give a smaller memory_bytes, so that arrays are smaller, or use another device"
    return flat.said_flat(like, f"block [{cells}] of the output is", cure)


class _Found(Exception):
    pass


class _Search(Arrays):
    """The hands of a run that looks for the operation that gave one number."""

    def __init__(self, call: Call, box: Box, stack: ExitStack) -> None:
        super().__init__(call, lambda box, value: None, stack)
        self._box = box
        self.cause = ""

    def make(self, node: Node, box: Box, boxes: tuple[Box | None, ...], values: list[Array | None]) -> Array:
        """Make a box, and end where it is one number that nothing explains."""
        made = super().make(node, box, boxes, [*values])
        if self._graph.live[node.index] and is_flat(made) and self._varied(node, values):
            self.cause = f"{node.name or f'operation {node.index}'} ({type(node.op).__name__})"
            raise _Found
        return made

    def emit(self, box: Box, value: Array) -> None:
        """End at the box that was looked into."""
        if box == self._box:
            raise _Found

    def _varied(self, node: Node, values: list[Array | None]) -> bool:
        """Whether one number is none that the operation would give of these."""
        if isinstance(node.op, Pointwise | Normalize | Expand | Reshape | Permute | Slice):
            return False  # they may clamp or scale by nothing, or compute nothing
        given: list[Any] = [
            v for i, v in zip(node.inputs, values, strict=True) if v is not None and self._graph.live[i]
        ]
        if isinstance(node.op, Conv | MatMul):  # a weight of zeros makes zeros
            given = [v for v in values[:2] if v is not None]
        return bool(given) and all(varies(value) for value in given)
