"""What a kernel is told: one operation, the box that it makes, and the boxes that it is given."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from tilekit._exact.boxes import Box, Shape, extent
from tilekit._exact.chain import Told
from tilekit._exact.ops import Op

__all__ = ["Job", "Laid"]

Kind_co = TypeVar("Kind_co", bound=Op, covariant=True)


class Laid(int):
    """Bytes that a kernel takes for itself, where what it makes does not lie in order."""

    strides: Shape

    @classmethod
    def of(cls, nbytes: int, strides: Shape | None) -> int:
        """Give the bytes, with the strides in cells if there are any."""
        if strides is None:
            return nbytes
        made = cls(nbytes)
        made.strides = strides
        return made


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

    @property
    def told(self) -> int:
        """The bytes that the user says a call takes."""
        call = getattr(self.op, "call", None)
        return int(call.taken(*(extent(box) for box in self.boxes if box is not None))) if type(call) is Told else 0

    @property
    def extent(self) -> Shape:
        """The shape of what is made."""
        return extent(self.box)
