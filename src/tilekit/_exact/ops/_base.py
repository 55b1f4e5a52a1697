"""What all kinds of operation have: two rules of integers."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tilekit._exact.boxes import Box, Interval, Shape

__all__ = ["Call", "Needs", "Op", "broadcast", "with_interval"]

Call = Callable[..., Any]
Needs = tuple[Box | None, ...]


@dataclass(frozen=True, slots=True)
class Op:
    """
    One kind of operation; this one is the base of all.

    No `ABC`: asking for an instance of such a class takes as long as a box rule, and planning asks a million times.
    """

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        """Give the box that is made where `box` is wanted."""
        del shape, inputs
        return box

    @abstractmethod
    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        """Give the box of each input that makes `box`, which has grown."""

    def work(self, shape: Shape, inputs: Sequence[Shape]) -> int:
        """Count the multiply-adds for one cell of the output; 0 where the cost is that of touching it."""
        del shape, inputs
        return 0


def with_interval(box: Box, axis: int, interval: Interval) -> Box:
    """Give a box with another interval along one axis."""
    return (*box[:axis], interval, *box[axis + 1 :])


def broadcast(box: Box, source: Shape) -> Box:
    """Give the box of a smaller array that is broadcast to where `box` stands."""
    lead = len(box) - len(source)
    return tuple([(0, 1) if n == 1 else interval for n, interval in zip(source, box[lead:], strict=True)])
