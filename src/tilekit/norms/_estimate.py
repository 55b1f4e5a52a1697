"""A subsampled copy of an array with the distribution of the whole, from which statistics can be estimated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilekit.backends import Array, backend_of
from tilekit.backends.arrays import cast_like, constants, from_numpy
from tilekit.norms._stats import GroupStats, group_norm


def subsample(x: Array, axes: Sequence[int], channel_axis: int, sizes: Sequence[int]) -> Array:
    """Take evenly spread cells, at most `sizes` along `axes`, and keep the mean and the variance of every channel."""
    xp, channels = backend_of(x).namespace(x), int(x.shape[channel_axis])
    small = x
    for axis, size in zip(axes, sizes, strict=True):
        n = int(x.shape[axis])
        if size < n:
            picks = ((np.arange(size) + 0.5) * n / size).astype(np.int64)
            small = xp.take(small, from_numpy(picks, x), axis=axis)
    if small is x:
        return x
    whole = GroupStats.of(x, channels, channel_axis=channel_axis)
    own = GroupStats.of(small, channels, channel_axis=channel_axis)
    small = group_norm(small, own, None, None, 1e-12, channel_axis=channel_axis)
    shape = [int(x.shape[0])] + [1] * (x.ndim - 1)
    shape[channel_axis] = channels
    mean, deviation = (constants(v.reshape(shape), x) for v in (whole.mean, np.sqrt(whole.variance)))
    small = cast_like(small * deviation + mean, x)
    return xp.minimum(xp.maximum(small, xp.min(x)), xp.max(x))
