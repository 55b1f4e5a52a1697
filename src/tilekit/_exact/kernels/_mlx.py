"""
MLX: convolutions of its own, indices of its own, and arrays that are computed when they are asked for.

Its arrays cannot be told a device, and lack some names of the standard.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from tilekit._exact.boxes import Shape
from tilekit._exact.kernels._base import Arrays, Kernels
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Conv
from tilekit.backends import Array

__all__ = ["MlxKernels"]


class MlxKernels(Kernels):
    """Operations over arrays of ``mlx.core``."""

    def conv(self, job: Job[Conv], arrays: Arrays) -> Array:
        """Convolve; the channels are last, a kernel that is flipped serves for a transposed convolution."""
        x, weight, *bias = arrays
        made = mx.zeros(job.extent, dtype=self.dtype(job.dtype)) if x is None else self._convolved(job, x, weight)
        return made + bias[0] if bias else made

    def _convolved(self, job: Job[Conv], x: mx.array, weight: mx.array) -> mx.array:
        op = job.op
        rows = [op.window(d, job.box[axis], job.shapes[0][axis]) for d, axis in enumerate(op.axes)]
        return mx.conv_general(
            x,
            weight,
            stride=list(op.stride),
            padding=([before for _, before, _ in rows], [after for _, _, after in rows]),
            kernel_dilation=list(op.dilation),
            input_dilation=list(op.input_dilation),
            groups=op.groups,
            flip=op.transposed,
        )

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
