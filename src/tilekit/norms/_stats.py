"""Statistics of group normalisation that can be merged, and normalisation by given statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from tilekit._errors import PlanError
from tilekit._exact.tasks import check_groups
from tilekit.backends import Array, backend_of
from tilekit.backends.arrays import cast_like, constants, to_numpy, widen
from tilekit.backends.kinds import check_same_kind
from tilekit.norms._bands import bands

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GroupStats:
    """
    Count, mean and sum of squared deviations of each (sample, group) of an array.

    The array is reduced on its own device, in float32 where it is of half precision; the few numbers that result are
    kept and merged in float64 on the host, so that a merge loses nothing.

    Attributes
    ----------
    count : int
        Values in each group.
    mean : numpy array of float64, shape (B, groups)
        Their mean.
    m2 : numpy array of float64, shape (B, groups)
        The sum of their squared deviations from the mean.

    Notes
    -----
    Source of the merge: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979. Averaging the variances of the parts, as "Tiled VAE" was published, leaves out the spread between
    the means of the parts.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    >>> left, right = GroupStats.of(x[..., :1], 1), GroupStats.of(x[..., 1:], 1)
    >>> left.merge(right).variance == GroupStats.of(x, 1).variance == x.var()
    array([[ True]])
    """

    count: int
    mean: Float64
    m2: Float64

    @classmethod
    def of(cls, x: Array, groups: int, *, channel_axis: int = 1) -> GroupStats:
        """
        Reduce an array.

        Parameters
        ----------
        x : array, shape (B, C, ...) or, with ``channel_axis=-1``, (B, ..., C)
            The values; the first axis counts samples. Not empty.
        groups : int
            Number of groups of neighbouring channels.
        channel_axis : int
            Position of the channels.

        Returns
        -------
        GroupStats
            Not finite if the array is not, or where its squares leave the range of float32.

        Raises
        ------
        PlanError
            If `groups` does not divide the channels, or the array is empty.
        """
        axis = channel_axis % x.ndim
        check_groups(int(x.shape[axis]), groups)
        if 0 in x.shape:
            msg = f"cannot take statistics of an empty array, got shape {tuple(x.shape)}; give at least one cell"
            raise PlanError(msg)
        parts = bands(tuple(x.shape), axis)
        return cls.merged(_reduce(_region(x, band), groups, axis) for band in parts)

    @classmethod
    def merged(cls, parts: Iterable[GroupStats]) -> GroupStats:
        """
        Merge any number of parts into the statistics of the whole.

        Parameters
        ----------
        parts : iterable of GroupStats
            At least one.

        Returns
        -------
        GroupStats
            Independent of the order but for float64 rounding.
        """
        return reduce(cls.merge, parts)

    def merge(self, other: GroupStats) -> GroupStats:
        """
        Merge with the statistics of another part.

        Parameters
        ----------
        other : GroupStats
            Of the same samples and groups.

        Returns
        -------
        GroupStats
            Of both parts together.

        Raises
        ------
        PlanError
            If samples or groups differ.
        """
        if self.mean.shape != other.mean.shape:
            msg = f"statistics of (samples, groups) {self.mean.shape} and {other.mean.shape} cannot be merged"
            raise PlanError(msg)
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        return GroupStats(count, mean, self.m2 + other.m2 + delta * delta * (self.count * other.count / count))

    @property
    def variance(self) -> Float64:
        """Variance of each (sample, group), of the whole population as group normalisation wants it."""
        return self.m2 / self.count

    @property
    def is_finite(self) -> bool:
        """Whether neither NaN nor infinity occurred."""
        return bool(np.isfinite(self.mean).all() and np.isfinite(self.m2).all())


def group_norm(  # noqa: PLR0913  # as many as the formula has
    x: Array, stats: GroupStats, weight: Array | None, bias: Array | None, eps: float, *, channel_axis: int = 1
) -> Array:
    """
    Normalise an array, or any part of one, by given statistics.

    Parameters
    ----------
    x : array, shape (B, C, ...) or, with ``channel_axis=-1``, (B, ..., C)
        The values.
    stats : GroupStats
        Of the whole array that `x` is a part of.
    weight, bias : array, shape (C,), or None
        The affine map that follows; None for none.
    eps : float
        Added to the variance.
    channel_axis : int
        Position of the channels.

    Returns
    -------
    array, shape of x
        ``(x - mean) / sqrt(variance + eps) * weight + bias`` in the dtype of `x`, computed in float32 or wider.

    Raises
    ------
    PlanError
        If samples, groups or channels do not fit one another.
    BackendError
        If the weights are of another library or device.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.asarray([[[1.0, 3.0]]], dtype=np.float32)
    >>> group_norm(x, GroupStats.of(x, 1), None, None, eps=0.0)
    array([[[-1.,  1.]]], dtype=float32)
    """
    axis = channel_axis % x.ndim
    channels, groups = int(x.shape[axis]), stats.mean.shape[1]
    check_groups(channels, groups)
    if stats.mean.shape[0] != x.shape[0]:
        msg = f"statistics of {stats.mean.shape[0]} samples do not fit an array of {x.shape[0]}"
        raise PlanError(msg)
    # The mean that float32 can hold is subtracted first, and its rounding goes into the shift: at mean 100 and standard
    # deviation 0.01 folding all of the mean into the shift would cost three digits.
    coarse = stats.mean if backend_of(x).itemsize(x) > 4 else stats.mean.astype(np.float32).astype(np.float64)
    scale = 1.0 / np.sqrt(stats.variance + eps)
    shift = (coarse - stats.mean) * scale
    per_channel = [np.repeat(v, channels // groups, axis=1) for v in (coarse, scale, shift)]
    mean, scale, shift = per_channel
    if weight is not None:
        scale, shift = (v * _affine(weight, channels, x, "weight") for v in (scale, shift))
    if bias is not None:
        shift = shift + _affine(bias, channels, x, "bias")
    shape = [int(x.shape[0]), *([1] * (x.ndim - 1))]
    shape[axis] = channels
    mean_, scale_, shift_ = (constants(v.reshape(shape), x) for v in (mean, scale, shift))
    y = widen(x) - mean_
    y *= scale_
    y += shift_
    return cast_like(y, x)


def _affine(vector: Array, channels: int, x: Array, name: str) -> Float64:
    check_same_kind(vector, x, name)
    if tuple(vector.shape) != (channels,):
        msg = f"{name}: got shape {tuple(vector.shape)}, expected ({channels},), one value a channel"
        raise PlanError(msg)
    return to_numpy(vector).astype(np.float64)


def _region(x: Array, region: tuple[slice, ...]) -> Array:
    return x if all(s == slice(None) for s in region) else x[region]


def _reduce(x: Array, groups: int, channel_axis: int) -> GroupStats:
    """Two passes over one band, the second on deviations from the first mean, so that nothing cancels."""
    xp = backend_of(x).namespace(x)
    shape = tuple(int(n) for n in x.shape)
    grouped = (*shape[:channel_axis], groups, shape[channel_axis] // groups, *shape[channel_axis + 1 :])
    axes = tuple(a for a in range(len(grouped)) if a not in {0, channel_axis})
    x = xp.reshape(widen(x), grouped)
    count = math.prod(grouped[a] for a in axes)
    rough = _sum(x, axes) / count
    deviations = x - rough
    first = to_numpy(_sum(deviations, axes)).astype(np.float64).reshape(shape[0], groups)
    deviations *= deviations
    second = to_numpy(_sum(deviations, axes)).astype(np.float64).reshape(shape[0], groups)
    mean = to_numpy(xp.reshape(rough, (shape[0], groups))).astype(np.float64) + first / count
    return GroupStats(count, mean, second - first * first / count)


def _sum(x: Array, axes: Sequence[int]) -> Array:
    """Sum over one axis after another: the sums stay short, so libraries that add one by one lose little."""
    xp = backend_of(x).namespace(x)
    for axis in reversed(axes):
        x = xp.sum(x, axis=axis, keepdims=True)
    return x
