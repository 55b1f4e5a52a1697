"""The input, captured arrays, numbers that depend on their place alone, and operations cell by cell."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from tilekit._exact.boxes import Box, Shape
from tilekit._exact.ops._base import Call, Needs, Op, broadcast

__all__ = ["Constant", "Fill", "Input", "Pointwise"]


@dataclass(frozen=True, slots=True)
class Input(Op):
    """The array that the function is called with."""

    strides: Shape | None = None
    """How it lies, in cells; None where it lies in order."""

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return ()


@dataclass(frozen=True, slots=True)
class Constant(Op):
    """A captured array, by the key under which the front end finds it when it is used."""

    key: Hashable
    strides: Shape | None = None
    """How it lies, in cells; None where it lies in order."""

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return ()


@dataclass(frozen=True, slots=True)
class Fill(Op):
    """
    Numbers that depend on their place alone: a constant, a range, a mask of zeros.

    ``call(box)`` makes a box of them.
    """

    call: Call

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return ()


@dataclass(frozen=True, slots=True)
class Pointwise(Op):
    """Cell by cell, with the inputs broadcast to the output as NumPy does."""

    call: Call

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return tuple(broadcast(box, source) for source in inputs)
