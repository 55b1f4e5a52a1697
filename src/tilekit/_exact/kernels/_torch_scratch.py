"""What the kernels of PyTorch take for themselves while they make a box, in bytes. Integers alone."""

import math
from typing import Any

from tilekit._exact.boxes import Shape, cells, extent
from tilekit._exact.chain import Chain
from tilekit._exact.kernels._convolve import evened, paddings
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Attention, Conv, Moments, Normalize, Pointwise, Resample

__all__ = ["SMALL", "scratch"]

SMALL = 1 << 16
"""Cells up to which statistics are taken in float64."""
_SIZES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


def scratch(job: Job[Any]) -> int:  # noqa: PLR0911  # one for each kind
    """Count the bytes beside what is made and what is given."""
    size, op = _SIZES.get(job.dtype, 4), job.op
    if isinstance(op, Conv):
        return _padded(job, size) if job.boxes[0] is not None else 0
    if isinstance(op, Pointwise) and isinstance(op.call, Chain):
        return op.call.scratch(job.box)
    if isinstance(op, Attention):
        return sum(cells(box) for box in job.boxes[:3] if box is not None) * size
    if isinstance(op, Normalize) and size < 4:
        return cells(job.box) * (8 - size)  # x and the result in float32, before it is rounded
    if isinstance(op, Moments) and job.boxes[0] is not None:
        n = cells(job.boxes[0])
        return n * (16 if n <= SMALL else 4 if size >= 4 else 8)  # distances from the mean, and x as wide as they are
    if isinstance(op, Resample) and size < 4 and job.boxes[0] is not None:
        return (cells(job.box) + cells(job.boxes[0])) * 4 - cells(job.box) * size
    return 0


def _padded(job: Job[Conv], size: int) -> int:
    """Count a copy of the input with the zeros that torch cannot add on its own: more at one end than at the other."""
    op, pads, given = job.op, paddings(job), job.boxes[0]
    assert given is not None  # asked only where something is read
    if op.transposed:
        return 0
    pads = evened(op, pads)
    stretched = any(n != 1 for n in op.input_dilation)
    merged = [min(before, after) for before, after in pads]
    if not stretched and all(before == after for before, after in pads):
        return 0
    shape: Shape = extent(given)
    wide = list(shape)
    for axis, apart, (before, after), both in zip(op.axes, op.input_dilation, pads, merged, strict=True):
        wide[axis] = (shape[axis] - 1) * apart + 1 + before + after - 2 * both
    return math.prod(wide) * size * (2 if stretched else 1)
