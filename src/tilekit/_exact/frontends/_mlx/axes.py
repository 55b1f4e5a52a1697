"""Which parts of an array's axes the axes of a view of it are, however it was split, merged and permuted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tilekit._exact.boxes import Shape
from tilekit._exact.ops import Op, Permute, Reshape

__all__ = ["Axes", "Part", "viewed"]


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A factor of an axis of the source; parts of one axis are ordered as their places are, from outside in."""

    place: tuple[int, ...]
    size: int


Axes = list[list[Part]]
"""For each axis of a view its parts, from outside in."""


def viewed(shape: Shape, views: Sequence[tuple[Op, Shape]]) -> Axes | None:
    """Follow views (each with the shape that it makes) from a source; None where its axes are mixed."""
    axes: Axes | None = [[Part((axis,), n)] if n != 1 else [] for axis, n in enumerate(shape)]
    for op, made in views:
        if isinstance(op, Permute) and axes is not None:
            axes = [axes[axis] for axis in op.axes]
        elif isinstance(op, Reshape) and axes is not None:
            axes = _regrouped([part for parts in axes for part in parts], made)
    return axes


def _regrouped(parts: list[Part], shape: Shape) -> Axes | None:
    """Lay parts in order into the axes of a shape, split where a border falls into one."""
    parts, made = list(parts), []
    for n in shape:
        held: list[Part] = []
        while (left := n // math.prod(part.size for part in held)) > 1:
            part = parts.pop(0)
            if left % part.size == 0:
                held.append(part)
            elif part.size % left == 0:
                held.append(Part((*part.place, 0), left))
                parts.insert(0, Part((*part.place, 1), part.size // left))
            else:
                return None
        made.append(held)
    return made
