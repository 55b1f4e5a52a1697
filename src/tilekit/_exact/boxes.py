"""Boxes: what part of an array is meant, as one half-open interval for each axis; integers alone."""

import math
from collections.abc import Iterable, Sequence

__all__ = ["Box", "Interval", "Shape", "cells", "contains", "extent", "full", "hull", "meet", "union", "within"]

Shape = tuple[int, ...]
Interval = tuple[int, int]
Box = tuple[Interval, ...]


def full(shape: Sequence[int]) -> Box:
    """Give the box of a whole array."""
    return tuple((0, n) for n in shape)


def extent(box: Box) -> Shape:
    """Give the shape of a box."""
    return tuple(stop - start for start, stop in box)


def cells(box: Box) -> int:
    """Count the cells of a box."""
    return math.prod(extent(box))


def hull(a: Box | None, b: Box) -> Box:
    """Give the smallest box that holds both."""
    return b if a is None else tuple((min(p[0], q[0]), max(p[1], q[1])) for p, q in zip(a, b, strict=True))


def union(boxes: Iterable[Box]) -> Box | None:
    """Give the smallest box that holds all; None for no box."""
    held: Box | None = None
    for box in boxes:
        held = hull(held, box)
    return held


def meet(a: Box, b: Box) -> Box | None:
    """Give what two boxes share; None for nothing."""
    shared = tuple((max(p[0], q[0]), min(p[1], q[1])) for p, q in zip(a, b, strict=True))
    return shared if all(start < stop for start, stop in shared) else None


def contains(outer: Box, inner: Box) -> bool:
    """Whether a box holds another."""
    return all(p[0] <= q[0] and q[1] <= p[1] for p, q in zip(outer, inner, strict=True))


def within(outer: Box, inner: Box) -> tuple[slice, ...]:
    """Give the slices that cut `inner` out of an array that holds `outer`."""
    return tuple(slice(q[0] - p[0], q[1] - p[0]) for p, q in zip(outer, inner, strict=True))
