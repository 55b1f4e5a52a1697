"""
MLX: convolutions of its own, indices of its own, and arrays that are computed when they are asked for.

Its arrays cannot be told a device, and lack some names of the standard.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from tilekit._exact.boxes import Shape
from tilekit._exact.kernels._base import Arrays, Kernels
from tilekit._exact.kernels._convolve import paddings
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Conv
from tilekit.backends import Array

__all__ = ["MlxKernels"]


class MlxKernels(Kernels):
    """Operations over arrays of ``mlx.core``."""

    def conv(self, job: Job[Conv], arrays: Arrays) -> Array:
        """
        Convolve as MLX does: channels last, weights (out, ``*kernel``, in / groups), and a flip for `transposed`.

        Where the channels are another axis, weights are (out, in / groups, ``*kernel``), those of a transposed
        convolution (in, out / groups, ``*kernel``), as in the other libraries.
        """
        op = job.op
        x, weight, *bias = arrays
        if x is None:
            made = mx.zeros(job.extent, dtype=self.dtype(job.dtype))
        elif op.channel_axis == len(job.box) - 1:
            made = _convolved(job, x, weight)
        else:
            order = _channels_last(op)
            made = _convolved(job, mx.transpose(x, order), _turned(op, weight))
            made = mx.transpose(made, sorted(range(x.ndim), key=lambda i: order[i]))
        if not bias:
            return made
        return made + bias[0].reshape(tuple(-1 if axis == op.channel_axis else 1 for axis in range(made.ndim)))

    def is_finite(self, x: Array) -> bool:
        """Whether no NaN and no infinity is in an array."""
        return bool(mx.all(mx.isfinite(x)).item())

    def permute(self, x: Array, axes: tuple[int, ...]) -> Array:
        """Put the axes into another order."""
        return mx.transpose(x, axes)

    def flip(self, x: Array, axes: tuple[int, ...]) -> Array:
        """Turn axes round."""
        return x[tuple(slice(None, None, -1) if axis in axes else slice(None) for axis in range(x.ndim))]

    def take(self, x: Array, indices: Sequence[int], axis: int) -> Array:
        """Take cells of one axis by number."""
        return mx.take(x, mx.array(list(indices), dtype=mx.int32), axis=axis)

    def copy(self, x: Array) -> Array:
        """Give the same cells in memory of their own: a slice in MLX holds all of what it was cut from."""
        made = mx.contiguous(x)
        mx.eval(made)
        return made

    def put(self, out: Array, region: tuple[slice, ...], part: Array) -> Array:
        """Give the array with a part written."""
        if any(cut.step not in {None, 1} for cut in region):
            made = mx.array(out)
            made[region] = part
            return made
        starts = mx.array([cut.start or 0 for cut in region])
        return mx.slice_update(out, part.astype(out.dtype), starts, list(range(out.ndim)))

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


def _convolved(job: Job[Conv], x: mx.array, weight: mx.array) -> mx.array:
    op = job.op
    around = paddings(job)
    if op.groups > 1 and len(op.axes) > 2:  # MLX has groups in one and two axes alone
        inputs, weights = mx.split(x, op.groups, axis=-1), mx.split(weight, op.groups, axis=0)
        parts = [_called(op, 1, around, *pair) for pair in zip(inputs, weights, strict=True)]
        return mx.concatenate(parts, axis=-1)
    return _called(op, op.groups, around, x, weight)


def _called(op: Conv, groups: int, around: Sequence[tuple[int, int]], x: mx.array, weight: mx.array) -> mx.array:
    return mx.conv_general(
        x,
        weight,
        stride=list(op.stride),
        padding=([before for before, _ in around], [after for _, after in around]),
        kernel_dilation=list(op.dilation),
        input_dilation=list(op.input_dilation),
        groups=groups,
        flip=op.transposed,
    )


def _channels_last(op: Conv) -> tuple[int, ...]:
    batch = next(axis for axis in range(len(op.axes) + 2) if axis not in op.axes and axis != op.channel_axis)
    return (batch, *op.axes, op.channel_axis)


def _turned(op: Conv, weight: mx.array) -> mx.array:
    """Give weights of other libraries in the layout of MLX."""
    if not op.transposed:
        return mx.moveaxis(weight, 1, -1)
    given, made, *kernel = weight.shape
    split = weight.reshape((op.groups, given // op.groups, made, *kernel))
    return mx.moveaxis(split, 1, -1).reshape((op.groups * made, *kernel, given // op.groups))
