"""Boxes: what part of an array is meant, as one half-open interval for each axis; integers alone."""

import math
from collections.abc import Iterable
from functools import lru_cache

__all__ = [
    "Box",
    "Interval",
    "Shape",
    "cells",
    "contains",
    "extent",
    "full",
    "hull",
    "meet",
    "union",
    "within",
    "without",
]

Shape = tuple[int, ...]
Interval = tuple[int, int]
Box = tuple[Interval, ...]


@lru_cache(1 << 14)
def full(shape: Shape) -> Box:
    """Give the box of a whole array."""
    return tuple((0, n) for n in shape)


@lru_cache(1 << 14)
def extent(box: Box) -> Shape:
    """Give the shape of a box."""
    return tuple([stop - start for start, stop in box])


def cells(box: Box) -> int:
    """Count the cells of a box."""
    return math.prod(extent(box))


def hull(a: Box | None, b: Box) -> Box:
    """Give the smallest box that holds both."""
    if a is None or a == b:
        return b
    rows = zip(a, b, strict=True)
    return tuple([(i if i < k else k, j if j > m else m) for (i, j), (k, m) in rows])


def union(boxes: Iterable[Box]) -> Box | None:
    """Give the smallest box that holds all; None for no box."""
    held: Box | None = None
    for box in boxes:
        held = hull(held, box)
    return held


def meet(a: Box, b: Box) -> Box | None:
    """Give what two boxes share; None for nothing."""
    if a == b:
        return a
    shared = []
    for (i, j), (k, m) in zip(a, b, strict=True):
        start, stop = i if i > k else k, j if j < m else m
        if start >= stop:
            return None
        shared.append((start, stop))
    return tuple(shared)


def contains(outer: Box, inner: Box) -> bool:
    """Whether a box holds another."""
    return outer == inner or all(i <= k and m <= j for (i, j), (k, m) in zip(outer, inner, strict=True))


def without(box: Box, taken: Box | None) -> tuple[Box, ...]:
    """Give what is left of a box where another is taken from it, as boxes that share no cell."""
    shared = None if taken is None else meet(box, taken)
    if shared is None:
        return (box,)
    left: list[Box] = []
    for axis, ((start, stop), (first, last)) in enumerate(zip(box, shared, strict=True)):
        sides = [side for side in ((start, first), (last, stop)) if side[0] < side[1]]
        left += [(*shared[:axis], side, *box[axis + 1 :]) for side in sides]
    return tuple(left)


def within(outer: Box, inner: Box) -> tuple[slice, ...]:
    """Give the slices that cut `inner` out of an array that holds `outer`."""
    return tuple([slice(k - i, m - i) for (i, _), (k, m) in zip(outer, inner, strict=True)])
