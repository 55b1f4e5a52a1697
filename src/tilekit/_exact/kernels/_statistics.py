"""Statistics of an array that is never there as a whole: parts, put together in a fixed order."""

import math
from dataclasses import dataclass
from typing import Any

from tilekit._exact.ops import Moments
from tilekit.backends import Array

__all__ = ["MomentsPart", "group_moments", "merge_moments"]


@dataclass(frozen=True, slots=True)
class MomentsPart:
    """Count, mean, and sum of square distances from it, for each group; the arrays are (batch axes..., groups)."""

    count: int
    mean: Array
    squares: Array


def group_moments(xp: Any, op: Moments, x: Array) -> MomentsPart:
    """
    Take the moments of one box, in the dtype of `x`, which is wide enough.

    Two passes, the second over distances from the mean, and sums along one axis after the other: they stay short, so
    that libraries which add one by one lose little.
    """
    batch, channel = op.batch_axes, op.channel_axis
    rest = [axis for axis in range(x.ndim) if axis not in batch and axis != channel]
    x = xp.permute_dims(x, (*batch, channel, *rest))
    kept = tuple(x.shape[: len(batch)])
    cells = (x.shape[len(batch)] // op.groups, *x.shape[len(batch) + 1 :])
    x = xp.reshape(x, (*kept, op.groups, *cells))
    count = math.prod(cells)
    axes = range(x.ndim - 1, len(kept), -1)
    rough = _sum(xp, x, axes) / count
    distances = x - rough
    first = _sum(xp, distances, axes)
    squares = _sum(xp, distances * distances, axes) - first * first / count
    squares = xp.where(squares < 0, xp.zeros_like(squares), squares)  # by rounding, where all cells are the same
    shape = (*kept, op.groups)
    return MomentsPart(count, xp.reshape(rough + first / count, shape), xp.reshape(squares, shape))


def merge_moments(a: MomentsPart, b: MomentsPart) -> MomentsPart:
    """Put two parts together by Chan's formula."""
    count = a.count + b.count
    apart = b.mean - a.mean
    mean = a.mean + apart * (b.count / count)
    return MomentsPart(count, mean, a.squares + b.squares + apart * apart * (a.count * (b.count / count)))


def _sum(xp: Any, x: Array, axes: range) -> Array:
    for axis in axes:
        x = xp.sum(x, axis=axis, keepdims=True)
    return x
