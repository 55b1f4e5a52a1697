"""What a kernel is told: one operation, the box that it makes, and the boxes that it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tilekit._exact.boxes import Box, Shape, extent
from tilekit._exact.chain import Told
from tilekit._exact.ops import Op

__all__ = ["FREE", "OWN", "SHARED", "Job", "Laid", "writes"]

SHARED, OWN, FREE = 0, 1, 2
"""Memory that holds more than an array; nothing else; and that besides nobody else reads: it may be written to."""
F = TypeVar("F", bound=Callable[..., int])
Kind_co = TypeVar("Kind_co", bound=Op, covariant=True)


class Laid(int):
    """Bytes that a kernel takes for itself, where what it makes does not lie in order, or in memory of its own."""

    strides: Shape | None
    """In cells; None where the cells lie in order."""
    over: int | None
    """The input in whose memory the result lies; None where it lies in memory of its own."""

    @classmethod
    def of(cls, nbytes: int, strides: Shape | None, over: int | None = None) -> int:
        """Give the bytes, with the strides in cells and the input that is written to if there are any."""
        if strides is None and over is None:
            return nbytes
        made = cls(nbytes)
        made.strides, made.over = strides, over
        return made


def writes(spare: int) -> Callable[[F], F]:
    """Say of what counts a kernel's bytes that it asks what inputs hold, a few bytes beside their cells not counted."""

    def said(count: F) -> F:
        count.__dict__["writes"] = spare
        return count

    return said


@dataclass(frozen=True, slots=True)
class Job(Generic[Kind_co]):
    """One box of one operation."""

    op: Kind_co
    shape: Shape
    """Of the whole output."""
    shapes: tuple[Shape, ...]
    """Of the whole inputs."""
    box: Box
    """What is made; it has grown."""
    boxes: tuple[Box | None, ...]
    """What is given of each input; None where it is not read."""
    dtype: str
    """Of the output: float32, bfloat16, int64, bool."""

    given: tuple[tuple[str, Shape] | None, ...] = ()
    """Where it is known, how each input lies: its dtype, and its strides in cells."""

    holds: tuple[int, ...] = ()
    """Where it is asked for, whether the memory of each input is `SHARED`, its own, or `FREE`."""

    @property
    def told(self) -> int:
        """The bytes that the user says a call takes."""
        call = getattr(self.op, "call", None)
        return int(call.taken(*(extent(box) for box in self.boxes if box is not None))) if type(call) is Told else 0

    @property
    def extent(self) -> Shape:
        """The shape of what is made."""
        return extent(self.box)
