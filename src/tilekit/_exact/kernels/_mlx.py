"""
MLX: convolutions of its own, indices of its own, and arrays that are computed when they are asked for.

Its arrays cannot be told a device, and lack some names of the standard.
"""

import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from sys import getrefcount
from typing import Any

import mlx.core as mx

from tilekit._exact.boxes import Box, Shape
from tilekit._exact.chain import Chain
from tilekit._exact.graph import Node
from tilekit._exact.kernels._base import Arrays, Kernels
from tilekit._exact.kernels._jobs import Job, writes
from tilekit._exact.kernels._mlx_conv import convolved
from tilekit._exact.kernels._mlx_over import SPARE, over, pieced, pieces
from tilekit._exact.kernels._mlx_scratch import moments_piece, taken, taken_elsewhere
from tilekit._exact.kernels._statistics import MomentsPart, merge_moments
from tilekit._exact.ops import (
    Conv,
    Expand,
    Fill,
    Moments,
    Permute,
    Reduce,
    Reshape,
    Scatter,
    Slice,
    Whole,
    Windows,
)
from tilekit.backends import Array, Backend
from tilekit.backends.limits import limits_of

__all__ = ["MlxKernels"]


LITTLE = 1 << 18
"""Bytes of a part below which it is copied whatever it keeps alive."""
_VIEWS = (Expand, Permute, Reshape, Slice, Windows)


def _computed(x: mx.array) -> mx.array:
    compute: Any = mx.eval if mx.default_device().type == mx.cpu else mx.async_eval
    compute(x)
    return x


def _refs(arrays: Sequence[Array], i: int) -> int:
    return getrefcount(arrays[i])


_ALONE = _refs([mx.array(0)], 0)


def _alone(arrays: Sequence[Array], shape: Shape, size: int) -> int | None:
    """Give the first array of a shape and a size of cells to which nothing but the list refers."""
    for i in range(len(arrays)):
        if arrays[i].shape == shape and arrays[i].dtype.size == size and _refs(arrays, i) == _ALONE:
            return i
    return None


def _rows(x: mx.array, axis: int, first: int, last: int) -> mx.array:
    """Cut rows of what is broadcast to the result; the axis is counted from the end."""
    if x.ndim < -axis or x.shape[axis] == 1:
        return x
    return x[(..., slice(first, last), *(slice(None),) * (-axis - 1))]


def _computed_part(part: MomentsPart) -> MomentsPart:
    _computed(part.mean)
    _computed(part.squares)
    return part


def _cuts(op: Moments, x: mx.array, axis: int, count: int) -> tuple[int, bool]:
    """Say into how many pieces an axis can be cut, best where they add up; into none where it holds the groups."""
    return (0 if axis == op.channel_axis else min(count, x.shape[axis])), axis not in op.batch_axes


def _side_by_side(parts: Sequence[MomentsPart], axis: int) -> MomentsPart:
    mean, squares = (mx.concatenate(rows, axis=axis) for rows in ([p.mean for p in parts], [p.squares for p in parts]))
    return _computed_part(MomentsPart(parts[0].count, mean, squares))


def _pieces(x: mx.array, axis: int, count: int) -> Iterator[mx.array]:
    n = x.shape[axis]
    count = min(n, count)
    for i in range(count):
        yield x[tuple(slice(i * n // count, (i + 1) * n // count) if d == axis else slice(None) for d in range(x.ndim))]


class MlxKernels(Kernels):
    """
    Operations over arrays of ``mlx.core``.

    Parameters
    ----------
    backend : Backend
        Of MLX.
    like : array
        Any array of MLX.
    """

    def __init__(self, backend: Backend, like: Array) -> None:
        super().__init__(backend, like)
        self._limits = limits_of(like)
        self._parts: dict[int, weakref.ref[mx.array]] = {}

    def run(
        self, node: Node, shapes: tuple[Shape, ...], box: Box, boxes: tuple[Box | None, ...], arrays: Arrays
    ) -> Array:
        """
        Make a box of a node, and compute it.

        An array that waits keeps alive all that it will be made of (measured on a processor, a causal video decoder:
        17 MiB at the peak computed operation by operation, 39 step by step, 41 left to the end). A graphics processor
        is handed the work and not waited for.
        """
        made = super().run(node, shapes, box, boxes, arrays)
        part = isinstance(node.op, _VIEWS) and any(self._is_part(x) for x in arrays)
        part = part or isinstance(node.op, Fill | Whole)  # a call may give a part of what it makes
        if isinstance(arrays, list):
            arrays.clear()  # MLX writes to the memory of what nobody else holds
        _computed(made)
        if part:
            self._note(made)
        return made

    def call(self, job: Job[Any], arrays: Arrays) -> Array:
        """Call what the front end handed in; a chain of operations cell by cell piece by piece."""
        chain = job.op.call
        if isinstance(chain, Chain) and mx.default_device().type == mx.cpu:
            axis, count = pieces(job, chain)
            if count > 1:
                return self._by_pieces(job, arrays, axis, count)
        return super().call(job, arrays)

    def _by_pieces(self, job: Job[Any], arrays: Arrays, axis: int, count: int) -> Array:
        """Make a chain piece by piece, over an input that nobody else holds if there is one."""
        held, dtype = [*arrays], self.dtype(job.dtype)
        if isinstance(arrays, list):
            arrays.clear()
        at = _alone(held, job.extent, dtype.size)
        made = self.empty(job.extent, job.dtype) if at is None else held[at].view(dtype)
        given = [x.dtype for x in held]
        if at is not None:
            held[at] = None
        mx.eval(made)
        for first, last in pieced((0, job.extent[axis]), count):
            part = job.op.call(
                [
                    _rows(made if i == at else x, axis - len(job.extent), first, last).view(given[i])
                    for i, x in enumerate(held)
                ]
            )
            mx.eval(part)
            made = mx.slice_update(made, part, mx.array([first]), (axis,))
            mx.eval(made)
        return made

    def conv(self, job: Job[Conv], arrays: Arrays) -> Array:
        """Convolve; sums are those of MLX."""
        x, weight, *bias = arrays
        made = (
            mx.zeros(job.extent, dtype=self.dtype(job.dtype)) if x is None else convolved(job, x, weight, self._limits)
        )
        if not bias:
            return made
        return made + bias[0].reshape(tuple(-1 if axis == job.op.channel_axis else 1 for axis in range(made.ndim)))

    def windows(self, job: Job[Windows], arrays: Arrays) -> Array:
        """Give windows as a view, of a copy where the cells do not lie in order."""
        x, axis, shape = mx.contiguous(arrays[0]), job.op.axis, arrays[0].shape
        steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
        return mx.as_strided(x, job.extent, (*steps[:axis], job.op.hop * steps[axis], *steps[axis:]))

    def part(self, op: Moments | Reduce, x: Array) -> Any:
        """Take what one box gives to a statistic, in pieces whose copies stay small."""
        if not isinstance(op, Moments):
            return _computed(super().part(op, x))
        count = -(-4 * x.size // moments_piece(x.size))
        axis = max(range(x.ndim), key=lambda axis: _cuts(op, x, axis, count))
        parts = (_computed_part(super(MlxKernels, self).part(op, p)) for p in _pieces(x, axis, count))
        if axis == op.channel_axis:
            return super().part(op, x)
        if axis in op.batch_axes:
            return _side_by_side([*parts], op.batch_axes.index(axis))
        return reduce(lambda a, b: _computed_part(merge_moments(a, b)), parts)

    def merge(self, op: Moments | Reduce, a: Any, b: Any) -> Any:
        """Put what two boxes gave together."""
        merged = super().merge(op, a, b)
        return _computed_part(merged) if isinstance(merged, MomentsPart) else _computed(merged)

    @writes(SPARE)
    def scratch(self, job: Job[Any]) -> int:
        """Count what is unfolded, copied or summed, and on a processor the scores; there say what is written over."""
        if mx.default_device().type == mx.cpu:
            return over(job, taken(job))
        return taken_elsewhere(job, self._limits)

    @writes(SPARE)
    def plain_scratch(self, job: Job[Any]) -> int:
        """Count the same where nothing is cut into slabs, and nothing goes frame by frame."""
        if mx.default_device().type == mx.cpu:
            return over(job, taken(job, plain=True))
        return taken_elsewhere(job, replace(self._limits, frames=False), plain=True)

    def scatter(self, job: Job[Scatter], arrays: Arrays) -> Array:
        """Write one array over a part of another, in its memory where nobody else holds it."""
        base, part = arrays
        if part is None or base is None:
            return part if base is None else base
        made = mx.contiguous(base)
        made[self._written(job)] = part.astype(made.dtype)
        return made

    def owns(self, x: Array) -> bool:
        """Whether an array is no part of another that was noted."""
        return not self._is_part(x)

    def handed(self, x: Array) -> Array:
        """Give another array over the same memory, which MLX copies where one of them is written to."""
        return _computed(mx.stop_gradient(x))

    def is_finite(self, x: Array) -> bool:
        """Whether no NaN and no infinity is in an array; a sum shows it without masks, three bytes for each cell."""
        return bool(mx.isfinite(mx.sum(x)).item()) or bool(mx.all(mx.isfinite(x)).item())

    def has_nan(self, x: Array) -> bool:
        """Whether NaN is in an array."""
        return not self.is_finite(x) and bool(mx.any(mx.isnan(x)).item())

    def permute(self, x: Array, axes: tuple[int, ...]) -> Array:
        """Put the axes into another order."""
        return mx.transpose(x, axes)

    def flip(self, x: Array, axes: tuple[int, ...]) -> Array:
        """Turn axes round."""
        return x[tuple(slice(None, None, -1) if axis in axes else slice(None) for axis in range(x.ndim))]

    def take(self, x: Array, indices: Sequence[int], axis: int) -> Array:
        """Take cells of one axis by number."""
        return mx.take(x, mx.array(list(indices), dtype=mx.int32), axis=axis)

    def cut(self, x: Array, region: tuple[slice, ...]) -> Array:
        """Cut a region out; what it is a part of stays with it."""
        part = super().cut(x, region)
        if part.nbytes < x.nbytes or self._is_part(x):
            self._note(part)
        return part

    def _note(self, part: mx.array) -> None:
        """Remember that an array is a part of another, as long as it is there."""
        number = id(part)
        self._parts[number] = weakref.ref(part, lambda _: self._parts.pop(number, None))

    def _is_part(self, x: Array) -> bool:
        return id(x) in self._parts

    def copy(self, x: Array) -> Array:
        """
        Give the same cells in memory of their own: a slice in MLX holds all of what it was cut from.

        MLX copies no slice beside which less than 16 KiB are held, which is much beside small ones.
        """
        made = mx.where(mx.array(True), x, x) if self._is_part(x) and x.nbytes < LITTLE else mx.contiguous(x)
        mx.eval(made)
        return made

    def concat(self, arrays: Arrays, axis: int) -> Array:
        """Put arrays one after the other; one array is given back as it is."""
        return arrays[0] if len(arrays) == 1 else _computed(mx.concatenate(list(arrays), axis=axis))

    def put(self, out: Array, region: tuple[slice, ...], part: Array) -> Array:
        """Write a part into memory that nobody else reads, without a copy of the rest."""
        out[region] = part.astype(out.dtype)
        return _computed(out)

    def empty(self, shape: Shape, dtype: str) -> Array:
        """Give an array whose numbers do not matter."""
        return self.backend.empty(shape, self.dtype(dtype), None)

    def full(self, shape: Shape, value: Any, dtype: str) -> Array:
        """Give an array of one number, or of one cell repeated."""
        return mx.full(shape, value, dtype=self.dtype(dtype))

    def dtype(self, name: str) -> Any:
        """Give the library's dtype of a name."""
        return getattr(mx, "bool_" if name == "bool" else name)

    def cast(self, x: Array, dtype: str) -> Array:
        """Convert to a dtype by its name."""
        return x.astype(self.dtype(dtype))

    def widen(self, x: Array) -> Array:
        """Convert half precisions to float32; what is as wide or wider, and integers, stay as they are."""
        return x.astype(mx.float32) if x.dtype in {mx.bfloat16, mx.float16} else x
