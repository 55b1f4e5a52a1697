"""What the kernels of the array API take beside what they give, while they give it."""

import math
from itertools import pairwise
from typing import Any

from tilekit._exact.boxes import extent
from tilekit._exact.chain import Chain
from tilekit._exact.kernels._convolve import paddings
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Conv, Moments, Normalize, Pad, Pointwise, Resample

__all__ = ["scratch"]

_SIZES = {"float64": 8, "int64": 8, "complex64": 8, "complex128": 16, "float16": 2, "bfloat16": 2, "bool": 1}
_HALVES = {"float16", "bfloat16"}


def scratch(job: Job[Any]) -> int:
    """Count the bytes beside what is made and what is given; what a user's call takes is not known."""
    if isinstance(job.op, Conv):
        return _convolved(job)
    if isinstance(job.op, Moments):
        return _moments(job)
    if isinstance(job.op, Normalize):
        return 2 * _wide(job, math.prod(job.extent)) if job.dtype in _HALVES else 0
    if isinstance(job.op, Resample):
        return _resampled(job)
    if isinstance(job.op, Pad) and job.op.mode != "constant" and job.boxes[0] is not None:
        return _one_after_the_other(job, [axis for axis, n in enumerate(extent(job.boxes[0])) if n != job.extent[axis]])
    chained = isinstance(job.op, Pointwise) and isinstance(job.op.call, Chain)
    return int(job.op.call.scratch(job.box)) if chained else 0


def _wide(job: Job[Any], cells: int) -> int:
    """Give the bytes of cells as they are computed: half precisions in float32."""
    return cells * max(4, _SIZES.get(job.dtype, 4))


def _convolved(job: Job[Conv]) -> int:
    """Count the padded input, the cells that one tap reads and its product beside the sum; wide copies of halves."""
    op, given = job.op, job.boxes[0]
    if given is None:
        return 0
    made = math.prod(job.extent)
    read = math.prod(extent(given))
    pads, batch = paddings(job), read
    for axis in op.axes:
        batch //= extent(given)[axis]
    stretched = 0
    if any(n != 1 for n in op.input_dilation) or any(before or after for before, after in pads):
        sizes = ((extent(given)[axis] - 1) * n for axis, n in zip(op.axes, op.input_dilation, strict=True))
        stretched = batch * math.prod(n + 1 + low + high for n, (low, high) in zip(sizes, pads, strict=True))
    window = batch * made // (job.extent[op.channel_axis] * math.prod(_lead(job))) if len(op.axes) > 1 else 0
    halves = made + (0 if stretched else read) if job.dtype in _HALVES else 0
    return _wide(job, stretched + halves + window + made)


def _lead(job: Job[Conv]) -> list[int]:
    return [n for axis, n in enumerate(job.extent) if axis not in job.op.axes and axis != job.op.channel_axis]


def _moments(job: Job[Moments]) -> int:
    """Count the distances from the mean and their squares; a wide copy of halves."""
    box = job.boxes[0]
    return 0 if box is None else (3 if job.dtype in _HALVES else 2) * _wide(job, math.prod(extent(box)))


def _resampled(job: Job[Resample]) -> int:
    """Count what is made of all axes but the last, and where cells are blended what is added to it."""
    axes = [axis for axis, taps in enumerate(job.op.taps) if taps is not None]
    blends = any(len(row) != 1 for axis in axes for row in job.op.taps[axis] or ())
    return _one_after_the_other(job, axes) + (2 * _wide(job, math.prod(job.extent)) if blends else 0)


def _one_after_the_other(job: Job[Any], axes: list[int]) -> int:
    """Count what is made along some axes, one after the other, before the last one."""
    given = job.boxes[0]
    if given is None or len(axes) < 2:
        return 0
    size, sizes = math.prod(extent(given)), []
    for axis in axes:
        size = size // extent(given)[axis] * job.extent[axis]
        sizes.append(size)
    before = [a + b for a, b in pairwise(sizes)]
    return max(0, max(before) - sizes[-1]) * _SIZES.get(job.dtype, 4)
