"""The axes of an autoencoder, by name, position and law."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tilekit._errors import PlanError
from tilekit._plan.laws import Law, law_from_json, law_to_json
from tilekit._plan.spans import Interval

__all__ = ["Axis", "Direction", "Geometry"]

Direction = Literal["decode", "encode"]


@dataclass(frozen=True, slots=True)
class Axis:
    """
    One axis that may be tiled.

    Parameters
    ----------
    name : str
        The name that tilings use, such as ``"height"``.
    position : int
        Position in the arrays, counted from 0.
    law : Law
        `Linear` or `Causal`, or an object of your own with the same methods.
    """

    name: str
    position: int
    law: Law

    def cells(self, size: int, direction: Direction) -> int:
        """Give the latents of an axis whose input has `size` cells; refuse a size off the grid."""
        if direction == "decode":
            return size
        try:
            return self.law.cells(size)
        except PlanError as error:
            msg = f"{self.name}: {error}; crop or pad the input first"
            raise PlanError(msg) from None


@dataclass(frozen=True, slots=True)
class Geometry:
    """
    The axes of one autoencoder, for its latents and for its images, clips or waveforms alike.

    The first axis is the one that is streamed: frames of a clip, rows of an image, time of a sound.

    Parameters
    ----------
    name : str
        Used in tables and error messages.
    axes : tuple of Axis
        The axes that may be tiled, the slowest first.
    batch : int or None
        Position of the batch axis; None if there is none, and then tiles cannot be batched.
    channel : int or None
        Position of the channel axis, whose size may differ between the two sides.

    Raises
    ------
    PlanError
        If the positions are not 0, 1, 2, … once each, or a name occurs twice.

    Examples
    --------
    >>> from tilekit import Axis, Causal, Linear
    >>> axes = Axis("frames", 1, Causal(4)), Axis("height", 2, Linear(8)), Axis("width", 3, Linear(8))
    >>> mine = Geometry("mine", axes, batch=0, channel=4)
    >>> mine.ndim
    5
    """

    name: str
    axes: tuple[Axis, ...]
    batch: int | None = 0
    channel: int | None = 1

    def __post_init__(self) -> None:
        positions = [axis.position for axis in self.axes]
        positions += [p for p in (self.batch, self.channel) if p is not None]
        if sorted(positions) != list(range(len(positions))) or not self.axes:
            msg = f"geometry {self.name}: positions must be 0 to {len(positions) - 1}, once each, got {positions}"
            raise PlanError(msg)
        names = [axis.name for axis in self.axes]
        if len(set(names)) < len(names):
            msg = f"geometry {self.name}: axis names must differ, got {names}"
            raise PlanError(msg)

    @property
    def ndim(self) -> int:
        """Number of axes of the arrays."""
        return len(self.axes) + (self.batch is not None) + (self.channel is not None)

    def axis(self, name: str) -> Axis:
        """Give the axis of this name; refuse an unknown one."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        msg = f"geometry {self.name} has no axis {name!r}; it has {', '.join(a.name for a in self.axes)}"
        raise PlanError(msg)

    def region(self, intervals: Sequence[Interval]) -> tuple[slice, ...]:
        """Give the slices of an array that hold an interval of each axis, and all of its batch and channels."""
        slices = [slice(None)] * self.ndim
        for axis, (start, stop) in zip(self.axes, intervals, strict=True):
            slices[axis.position] = slice(start, stop)
        return tuple(slices)

    def to_json(self) -> dict[str, object]:
        """Give plain lists and numbers; only the laws `Linear` and `Causal` can be written."""
        axes = [[a.name, a.position, law_to_json(a.law)] for a in self.axes]
        return {"name": self.name, "axes": axes, "batch": self.batch, "channel": self.channel}

    @classmethod
    def from_json(cls, value: object) -> "Geometry":
        """Inverse of `to_json`."""
        match value:
            case {
                "name": str(name),
                "axes": list(rows),
                "batch": int() | None as batch,
                "channel": int() | None as place,
            }:
                return cls(name, tuple(_axis_from_json(row) for row in rows), batch, place)
        msg = f"not a geometry: {value!r}"
        raise PlanError(msg)


def _axis_from_json(row: object) -> Axis:
    match row:
        case [str(name), int(position), law]:
            return Axis(name, position, law_from_json(law))
    msg = f"not an axis of a geometry: {row!r}"
    raise PlanError(msg)
