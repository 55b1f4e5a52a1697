"""
MLX: convolutions of its own, indices of its own, and arrays that are computed when they are asked for.

Its arrays cannot be told a device, and lack some names of the standard.
"""

import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx

from tilekit._exact.boxes import Box, Shape, extent
from tilekit._exact.graph import Node
from tilekit._exact.kernels._base import Arrays, Kernels
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.kernels._mlx_conv import convolved, unfolded_bytes, unfolded_elsewhere
from tilekit._exact.kernels._statistics import MomentsPart, merge_moments
from tilekit._exact.ops import (
    Attention,
    Conv,
    Expand,
    Moments,
    Pad,
    Permute,
    Pointwise,
    Pool,
    Reduce,
    Reshape,
    Slice,
    Windows,
)
from tilekit.backends import Array, Backend
from tilekit.backends.limits import limits_of

__all__ = ["MlxKernels"]


SCORES = 1 << 25
"""Bytes of attention scores that are made at once on a processor, where MLX makes those of all rows it is given."""


def scores_bytes(job: Job[Attention]) -> int:
    """Count the scores of all rows, in whose place the softmax is taken, and the mask of causal attention."""
    scores = math.prod(job.extent[:3]) * job.shapes[1][2] * _itemsize(job.dtype)
    return scores + (job.extent[2] * job.shapes[1][2] if job.op.causal else 0)


def attended_bytes(job: Job[Attention]) -> int:
    """Count the same for a few rows at a time, what is put together of them, and copies of keys and values."""
    scores = scores_bytes(job)
    rows = scores if scores <= SCORES else SCORES + math.prod(job.extent) * _itemsize(job.dtype)
    return rows + _copied(job)


def _copied(job: Job[Attention]) -> int:
    """Count keys and values that do not lie row by row: MLX copies them for its products."""
    total = 0
    for box, given in zip(job.boxes[1:3], job.given[1:3], strict=False):
        if box is not None and given is not None:
            (dtype, strides), shape = given, extent(box)
            total += 0 if strides[-2:] in {(shape[-1], 1), (1, shape[-2])} else math.prod(shape) * _itemsize(dtype)
    return total


def _itemsize(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def pooled_bytes(job: Job[Pool]) -> int:
    """Count the copy of an input that is a part of another, or lies in another order: windows are a view of one."""
    if job.boxes[0] is None or not job.given or job.given[0] is None:
        return 0
    dtype, strides = job.given[0]
    shape = extent(job.boxes[0])
    lies = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    whole = shape == job.shapes[0] and all(n == 1 or a == b for n, a, b in zip(shape, strides, lies, strict=True))
    return 0 if whole else math.prod(shape) * (4 if dtype == "float32" else 2)


PIECE = 1 << 19
"""Bytes of what moments are taken of at once; three copies of it are there."""


LITTLE = 1 << 18
"""Bytes of a part below which it is copied whatever it keeps alive."""
_VIEWS = (Expand, Permute, Reshape, Slice, Windows)


def _computed(x: mx.array) -> mx.array:
    compute: Any = mx.eval if mx.default_device().type == mx.cpu else mx.async_eval
    compute(x)
    return x


def _computed_part(part: MomentsPart) -> MomentsPart:
    _computed(part.mean)
    _computed(part.squares)
    return part


def _length(op: Moments, x: mx.array, axis: int) -> int:
    """Say how well an axis can be cut: not at all where it holds the groups."""
    return 0 if axis == op.channel_axis else int(x.shape[axis])


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
        made = _computed(super().run(node, shapes, box, boxes, arrays))
        if isinstance(node.op, _VIEWS) and any(self._is_part(x) for x in arrays):
            self._note(made)
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
        axis = max((axis for axis in range(x.ndim) if axis not in op.batch_axes), key=lambda axis: _length(op, x, axis))
        count = 1 if axis == op.channel_axis else max(1, -(-4 * x.size // PIECE))
        total: MomentsPart | None = None
        for piece in _pieces(x, axis, count):
            some = _computed_part(super().part(op, piece))
            total = some if total is None else _computed_part(merge_moments(total, some))
        return total

    def merge(self, op: Moments | Reduce, a: Any, b: Any) -> Any:
        """Put what two boxes gave together."""
        merged = super().merge(op, a, b)
        return _computed_part(merged) if isinstance(merged, MomentsPart) else _computed(merged)

    def scratch(self, job: Job[Any]) -> int:
        """Count what is unfolded for a convolution, copied for a pool or a border, and on a processor the scores."""
        if isinstance(job.op, Pointwise | Pad):
            return super().scratch(job)
        if isinstance(job.op, Pool):
            return pooled_bytes(job)
        if mx.default_device().type != mx.cpu:
            return unfolded_elsewhere(job, self._limits) if isinstance(job.op, Conv) else 0
        if isinstance(job.op, Conv):
            return unfolded_bytes(job)
        if isinstance(job.op, Moments):
            return 3 * min(4 * math.prod(job.shapes[0]), PIECE)
        return attended_bytes(job) if isinstance(job.op, Attention) else 0

    def plain_scratch(self, job: Job[Any]) -> int:
        """Count the same where nothing is cut into slabs, and nothing goes frame by frame."""
        if isinstance(job.op, Pool):
            return pooled_bytes(job)
        if mx.default_device().type != mx.cpu:
            limits = replace(self._limits, frames=False)
            return unfolded_elsewhere(job, limits) if isinstance(job.op, Conv) else 0
        if isinstance(job.op, Conv):
            return unfolded_bytes(job, slabs=False)
        return scores_bytes(job) + _copied(job) if isinstance(job.op, Attention) else 0

    def owns(self, x: Array) -> bool:
        """Give False: nothing tells whether an array is a part of another; `copy` copies only where one is."""
        return False

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
