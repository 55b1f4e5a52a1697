"""How the arrays of a function go along with an axis of its input: so many rows of each for so many of the input."""

from collections.abc import Mapping
from dataclasses import dataclass

from tilekit._exact.boxes import Box

__all__ = ["Period", "Shift"]

Shift = tuple[int, int]
"""An axis, and by how many rows a box moves along it with each unit."""


@dataclass(frozen=True, slots=True)
class Period:
    """What moves along with the input."""

    axis: int
    """Of the input."""
    unit: int
    """The fewest rows of the input that go along with whole rows of all arrays."""
    out_axis: int
    """Of the output."""
    out_rows: int
    """Rows of the output to a unit."""
    shifts: Mapping[int, Shift]
    """For each node that moves."""

    def moved(self, node: int, box: Box, units: int) -> Box:
        """Give where a box of a node lies so many units further on."""
        shift = self.shifts.get(node)
        if shift is None or not box:
            return box
        axis, rows = shift
        start, stop = box[axis]
        return (*box[:axis], (start + rows * units, stop + rows * units), *box[axis + 1 :])
