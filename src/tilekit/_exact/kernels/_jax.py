"""
JAX: every operation compiled together with the parts that it reads, and arrays that nobody can write to.

What is compiled is kept by JAX for each shape; strips of one size share it, wherever they begin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tilekit._errors import BackendError
from tilekit._exact.boxes import Box, Shape
from tilekit._exact.graph import Node
from tilekit._exact.kernels._base import Arrays, Kernels
from tilekit._exact.kernels._convolve import paddings
from tilekit._exact.kernels._jax_views import Pure, View, is_pure, made, resolved, written
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.kernels._statistics import MomentsPart, group_moments
from tilekit._exact.ops import (
    Attention,
    Concat,
    Conv,
    Expand,
    Fill,
    Local,
    Moments,
    Normalize,
    Pad,
    Permute,
    Reduce,
    Resample,
    Reshape,
    Slice,
)
from tilekit.backends import Array, Backend

__all__ = ["JaxKernels"]

HANDED = (Attention, Fill, Local, Normalize)
"""Kinds whose calls are the user's, or the base's, one operation after the other: of arrays, not of views."""


@dataclass(frozen=True, slots=True)
class _Cells(Pure):
    """Cells of some axes by number, which are handed in after the array."""

    axes: tuple[int, ...]

    def __call__(self, arrays: Sequence[Any]) -> Any:
        x, *indices = arrays
        for axis, index in zip(self.axes, indices, strict=True):
            x = jnp.take(x, index, axis=axis, mode="clip")
        return x


@dataclass(frozen=True, slots=True)
class _Weighed(Pure):
    """Weighted sums along some axes, in float32 at least: for each the cells and the weights, (taps, cells)."""

    axes: tuple[int, ...]
    dtype: str

    def __call__(self, arrays: Sequence[Any]) -> Any:
        x, *given = arrays
        x = x if x.dtype.itemsize > 4 else x.astype(jnp.float32)
        for axis, cells, weights in zip(self.axes, given[::2], given[1::2], strict=True):
            shape = tuple(-1 if d == axis else 1 for d in range(x.ndim))
            x = sum(
                jnp.take(x, row, axis=axis, mode="clip") * factors.reshape(shape).astype(x.dtype)
                for row, factors in zip(cells, weights, strict=True)
            )
        return x.astype(self.dtype)


@dataclass(frozen=True, slots=True)
class _Convolved(Pure):
    """A convolution with all that it is told, and the bias."""

    op: Conv
    around: tuple[tuple[int, int], ...]
    dtype: str

    def __call__(self, arrays: Sequence[Any]) -> Any:
        op = self.op
        x, weight, *bias = arrays
        kernel = tuple(range(2, 2 + len(op.axes)))
        batch = next(axis for axis in range(x.ndim) if axis not in op.axes and axis != op.channel_axis)
        spec = (batch, op.channel_axis, *op.axes)
        wide = jnp.promote_types(x.dtype, self.dtype)
        result = lax.conv_general_dilated(
            x.astype(wide),
            (_turned(op, weight) if op.transposed else weight).astype(wide),
            op.stride,
            self.around,
            lhs_dilation=op.input_dilation,
            rhs_dilation=op.dilation,
            dimension_numbers=lax.ConvDimensionNumbers(spec, (0, 1, *kernel), spec),
            feature_group_count=op.groups,
            precision=lax.Precision[op.precision] if op.precision else None,
        )
        return (_biased(op, result, bias[0]) if bias else result).astype(self.dtype)


def _turned(op: Conv, weight: Any) -> Any:
    """Give the weight of a transposed convolution, (in, out / groups, kernel), as that of a plain one."""
    given, share, *kernel = weight.shape
    split = weight.reshape((op.groups, given // op.groups, share, *kernel))
    weight = jnp.swapaxes(split, 1, 2).reshape((op.groups * share, given // op.groups, *kernel))
    return jnp.flip(weight, tuple(range(2, weight.ndim)))


def _biased(op: Conv, x: Any, bias: Any) -> Any:
    return x + bias.reshape(tuple(-1 if axis == op.channel_axis else 1 for axis in range(x.ndim)))


@dataclass(frozen=True, slots=True)
class _Joined(Pure):
    axis: int

    def __call__(self, arrays: Sequence[Any]) -> Any:
        return jnp.concatenate(arrays, axis=self.axis)


@dataclass(frozen=True, slots=True)
class _Summed(Pure):
    """The mean and the sum of square distances of groups."""

    op: Moments

    def __call__(self, arrays: Sequence[Any]) -> Any:
        x = arrays[0]
        part = group_moments(jnp, self.op, x if x.dtype.itemsize > 4 else x.astype(jnp.float32))
        return part.mean, part.squares


@dataclass(frozen=True, slots=True)
class _Seen(Pure):
    """Whether all numbers are finite, or some are no numbers."""

    finite: bool

    def __call__(self, arrays: Sequence[Any]) -> Any:
        return jnp.all(jnp.isfinite(arrays[0])) if self.finite else jnp.any(jnp.isnan(arrays[0]))


class JaxKernels(Kernels):
    """
    Operations over arrays of ``jax``.

    Parameters
    ----------
    backend : Backend
        Of JAX.
    like : array
        Any array of JAX.
    """

    def __init__(self, backend: Backend, like: Array) -> None:
        obstacle = backend.obstacle(like)
        if obstacle is not None:
            raise BackendError(obstacle)
        super().__init__(backend, like)
        self._waits = backend.place(like).device == "cpu"

    def run(
        self, node: Node, shapes: tuple[Shape, ...], box: Box, boxes: tuple[Box | None, ...], arrays: Arrays
    ) -> Array:
        """
        Make a box of a node, and wait for it.

        What is computed later keeps alive all that it is made of. A graphics processor is handed the work and not
        waited for: it gives memory back in the order of its work.
        """
        if isinstance(node.op, HANDED):
            arrays = [resolved(x) for x in arrays]
        result = super().run(node, shapes, box, boxes, arrays)
        return result if isinstance(result, View) else self._computed(result)

    def scratch(self, job: Job[Any]) -> int:
        """Count nothing: what a compiled operation takes for itself is not known."""
        del job
        return 0

    def plain_scratch(self, job: Job[Any]) -> int:
        """Count nothing either."""
        del job
        return 0

    def _computed(self, x: Any) -> Any:
        return jax.block_until_ready(x) if self._waits else x

    def call(self, job: Job[Any], arrays: Arrays) -> Array:
        """Call what the front end handed in: compiled where it is a call of JAX, else with arrays."""
        call = job.op.call
        return made(call, arrays) if is_pure(call) else call([resolved(x) for x in arrays])

    def conv(self, job: Job[Conv], arrays: Arrays) -> Array:
        """Convolve; sums are those of JAX."""
        x, weight, *bias = arrays
        if x is None:
            zeros = self.full(job.extent, 0.0, job.dtype)
            return _biased(job.op, zeros, resolved(bias[0])).astype(job.dtype) if bias else zeros
        return made(_Convolved(job.op, paddings(job), job.dtype), [x, weight, *bias])

    def pad(self, job: Job[Pad], arrays: Arrays) -> Array:
        """Add cells around, or cut some off."""
        if job.op.mode == "constant":
            value = [resolved(x) for x in arrays[1:]]
            return self._pad_constant(job, [arrays[0], *value])
        given = self._given(job, 0)
        axes, indices = [], []
        for axis, (start, stop) in enumerate(job.box):
            n, before = job.shapes[0][axis], job.op.before[axis]
            row = [job.op.source(i - before, n) - given[axis][0] for i in range(start, stop)]
            if row != list(range(given[axis][1] - given[axis][0])):
                axes.append(axis)
                indices.append(np.asarray(row, np.int32))
        return made(_Cells(tuple(axes)), [arrays[0], *indices]) if axes else arrays[0]

    def resample(self, job: Job[Resample], arrays: Arrays) -> Array:
        """Sum cells with known weights, in float32 at least."""
        given = self._given(job, 0)
        axes, rows = [], []
        for axis, ((start, stop), taps) in enumerate(zip(job.box, job.op.taps, strict=True)):
            if taps is not None:
                axes.append(axis)
                rows.append(_table(taps[start:stop], given[axis][0]))
        if all(cells.shape[0] == 1 and (weights == 1).all() for cells, weights in rows):
            return made(_Cells(tuple(axes)), [arrays[0], *(cells[0] for cells, _ in rows)])
        return made(_Weighed(tuple(axes), job.dtype), [arrays[0], *(part for row in rows for part in row)])

    def expand(self, job: Job[Expand], arrays: Arrays) -> Array:
        """Repeat without copying."""
        return View.of(arrays[0]).expand(job.extent)

    def reshaped(self, job: Job[Reshape], arrays: Arrays) -> Array:
        """Split and merge axes; cells that lie in another order are put in order first."""
        view = View.of(arrays[0]).reshape(job.extent)
        return lax.reshape(resolved(arrays[0]), job.extent) if view is None else view

    def permuted(self, job: Job[Permute], arrays: Arrays) -> Array:
        """Put the axes into another order."""
        return View.of(arrays[0]).permute(job.op.axes)

    def sliced(self, job: Job[Slice], arrays: Arrays) -> Array:
        """Take every so many cells."""
        steps = job.op.steps
        backwards = tuple(axis for axis, step in enumerate(steps) if step < 0)
        view = View.of(arrays[0])
        view = view.flip(backwards) if backwards else view
        if any(abs(step) != 1 for step in steps):
            view = view.cut(tuple(slice(None, None, abs(step)) for step in steps))
        made = view if view.steps else arrays[0]
        return self.copy(made) if job.op.copied and not self.owns(made) else made

    def join(self, job: Job[Concat], arrays: Arrays) -> Array:
        """Put arrays one after the other."""
        return self.concat([x for x in arrays if x is not None], job.op.axis)

    # statistics -----------------------------------------------------------------------------------------------------

    def part(self, op: Moments | Reduce, x: Array) -> Any:
        """Take what one box gives to a statistic."""
        if not isinstance(op, Moments):
            return self._computed(made(op.call, [x]) if is_pure(op.call) else op.call([resolved(x)]))
        count = View.of(x).size // max(1, op.groups * math.prod(x.shape[axis] for axis in op.batch_axes))
        mean, squares = self._computed(made(_Summed(op), [x]))
        return MomentsPart(count, mean, squares)

    # what kernels use of the library --------------------------------------------------------------------------------

    def handed(self, x: Array) -> Array:
        """Give an array as whoever called may have it."""
        return resolved(x)

    def cut(self, x: Array, region: tuple[slice, ...]) -> Array:
        """Cut a region out, without copying."""
        return View.of(x).cut(region)

    def concat(self, arrays: Arrays, axis: int) -> Array:
        """Put arrays one after the other; one array is given back as it is."""
        return arrays[0] if len(arrays) == 1 else self._computed(made(_Joined(axis), arrays))

    def take(self, x: Array, indices: Sequence[int], axis: int) -> Array:
        """Take cells of one axis by number."""
        return made(_Cells((axis,)), [x, np.asarray(list(indices), np.int32)])

    def reshape(self, x: Array, shape: Shape) -> Array:
        """Give the same cells under another shape."""
        return jnp.reshape(resolved(x), shape)

    def permute(self, x: Array, axes: tuple[int, ...]) -> Array:
        """Put the axes into another order."""
        return View.of(x).permute(axes)

    def copy(self, x: Array) -> Array:
        """Give the same cells in memory of their own, and no more than they take."""
        return self._computed(resolved(x) if isinstance(x, View) and x.steps else jnp.array(resolved(x), copy=True))

    def owns(self, x: Array) -> bool:
        """Whether an array keeps no more memory alive than its cells take."""
        return not isinstance(x, View) or x.lies.owns

    def put(self, out: Array, region: tuple[slice, ...], part: Array) -> Array:
        """Write a part into memory that nobody else reads, and give the array."""
        starts = [part.indices(n)[0] for part, n in zip(region, out.shape, strict=True)]
        return self._computed(written(out, starts, part))

    def write(self, out: Array, region: tuple[slice, ...], part: Array) -> Array:
        """Write a part into a large array at once, without another copy of it, and give the array."""
        return self.put(out, region, part)

    def empty(self, shape: Shape, dtype: str) -> Array:
        """Give an array whose numbers do not matter; JAX makes them zeros."""
        return self.full(shape, 0, dtype)

    def full(self, shape: Shape, value: Any, dtype: str) -> Array:
        """Give an array of one number, or of one cell repeated."""
        return jnp.full(shape, resolved(value), dtype=self.dtype(dtype), device=self.device)

    def dtype(self, name: str) -> Any:
        """Give the library's dtype of a name."""
        return jnp.dtype(name)

    def cast(self, x: Array, dtype: str) -> Array:
        """Convert to a dtype by its name; the array itself where it has it."""
        wanted = self.dtype(dtype)
        return x if x.dtype == wanted else resolved(x).astype(wanted)

    def widen(self, x: Array) -> Array:
        """Convert half precisions to float32; what is as wide or wider, and integers, stay as they are."""
        return resolved(x).astype(jnp.float32) if x.dtype in {jnp.bfloat16, jnp.float16} else resolved(x)

    def is_finite(self, x: Array) -> bool:
        """Whether no NaN and no infinity is in an array."""
        return bool(made(_Seen(finite=True), [x]))

    def has_nan(self, x: Array) -> bool:
        """Whether NaN is in an array."""
        return bool(made(_Seen(finite=False), [x]))


def _table(rows: Sequence[Sequence[tuple[int, float]]], first: int) -> tuple[Any, Any]:
    """Give the cells and the weights of the taps of an axis, both (taps, cells); missing ones weigh nothing."""
    most = max(len(row) for row in rows)
    full = [[*row, *[(row[0][0], 0.0)] * (most - len(row))] for row in rows]
    cells = np.asarray([[cell - first for cell, _ in row] for row in full], np.int32).T
    return cells, np.asarray([[weight for _, weight in row] for row in full], np.float64).T
