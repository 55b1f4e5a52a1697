"""A convolution with the array API alone: one matrix product for each tap of the kernel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from tilekit._exact.boxes import Shape
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.kernels._library import Library
from tilekit._exact.ops import Conv
from tilekit.backends import Array
from tilekit.backends.limits import Limits

__all__ = ["Crops", "convolve", "crops_of", "evened", "goes_by_frames", "matrix_cells", "paddings"]


def paddings(job: Job[Conv]) -> tuple[tuple[int, int], ...]:
    """Give the zeros before and after what is read along each axis of the kernel, in cells of the stretched input."""
    op, shape = job.op, job.shapes[0]
    windows = (op.window(d, job.box[axis], shape[axis]) for d, axis in enumerate(op.axes))
    return tuple((before, after) for _, before, after in windows)


def evened(op: Conv, pads: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Give as many zeros after as before where a stride passes over the ones added: libraries then need no copy."""
    pairs = zip(pads, op.stride, strict=True)
    return tuple((before, before if after < before < after + stride else after) for (before, after), stride in pairs)


@dataclass(frozen=True, slots=True)
class Crops:
    """What a call of a transposed convolution is told to leave out, and what is left to do with its result."""

    padding: tuple[int, ...]
    """Cells that the call leaves out at both ends."""
    more: tuple[int, ...]
    """Cells that it gives after that at the far end."""
    rest: tuple[tuple[int, int], ...]
    """Cells that it makes too much at either end; negative where it makes too few."""

    @property
    def lacking(self) -> bool:
        """Whether zeros must be added to what the call gives."""
        return any(n < 0 for pair in self.rest for n in pair)

    @property
    def needed(self) -> bool:
        """Whether anything is left to do."""
        return any(n for pair in self.rest for n in pair)


def crops_of(op: Conv, pads: Sequence[tuple[int, int]]) -> Crops:
    """
    Say how a transposed convolution that spreads what is given over the output is cut to a box.

    `pads` count the zeros of the equal convolution over a stretched input; a call reaches a kernel less one cell over
    each end, so what it makes too much is the difference. Where the cells stand further apart than the kernel is long,
    zeros are missing instead. A call leaves out as much at both ends, but may give some cells more at the far one.
    """
    padding, more, rest = [], [], []
    for d, (zeros, others) in enumerate(pads):
        spread = (op.kernel[d] - 1) * op.dilation[d]
        before, after = spread - zeros, spread - others
        gives = before - after if 0 < before - after < max(op.input_dilation[d], op.dilation[d]) and before >= 0 else 0
        both = before if gives else max(0, min(before, after))
        padding.append(both)
        more.append(gives)
        rest.append((before - both, after - both + gives))
    return Crops(tuple(padding), tuple(more), tuple(rest))


def convolve(library: Library, job: Job[Conv], x: Array, weight: Array) -> Array:
    """
    Convolve what is given; the bias is not added.

    The weight is (channels of the output, channels of a group, kernel...), that of a transposed convolution (channels
    of the input, channels of a group of the output, kernel...).
    """
    op, xp = job.op, library.xp
    lead = tuple(axis for axis in range(x.ndim) if axis not in op.axes and axis != op.channel_axis)
    order = (*lead, op.channel_axis, *op.axes)
    x = _stretch(library, xp.permute_dims(x, order), job)
    out_cells = tuple(job.extent[axis] for axis in op.axes)
    batch = tuple(x.shape[: len(lead)])
    total = None
    for tap in product(*(range(k) for k in op.kernel)):
        window = x[(..., *_taken(op, tap, out_cells))]
        window = xp.reshape(window, (*batch, op.groups, x.shape[len(lead)] // op.groups, math.prod(out_cells)))
        part = xp.matmul(_tap_weight(xp, op, weight, tap), window)
        if total is None:
            total = part
        else:
            total += part
        del part, window
    channels = job.extent[op.channel_axis]
    inverse = tuple(order.index(axis) for axis in range(len(order)))
    return xp.permute_dims(xp.reshape(total, (*batch, channels, *out_cells)), inverse)


def _taken(op: Conv, tap: Shape, out_cells: Shape) -> tuple[slice, ...]:
    starts = (t * d for t, d in zip(tap, op.dilation, strict=True))
    rows = zip(starts, out_cells, op.stride, strict=True)
    return tuple(slice(start, start + (n - 1) * stride + 1, stride) for start, n, stride in rows)


def _tap_weight(xp: Any, op: Conv, weight: Array, tap: Shape) -> Array:
    """Give (groups, channels of the output, channels of the input) of a group at one tap."""
    if not op.transposed:
        w = weight[(..., *tap)]
        return xp.reshape(w, (op.groups, w.shape[0] // op.groups, w.shape[1]))
    w = weight[(..., *(k - 1 - t for t, k in zip(tap, op.kernel, strict=True)))]
    w = xp.reshape(w, (op.groups, w.shape[0] // op.groups, w.shape[1]))
    return xp.permute_dims(w, (0, 2, 1))


def _stretch(library: Library, x: Array, job: Job[Conv]) -> Array:
    """Put the cells `input_dilation` apart and the zeros around."""
    apart, pads = job.op.input_dilation, paddings(job)
    if all(n == 1 for n in apart) and not any(before or after for before, after in pads):
        return x
    lead = x.ndim - len(apart)
    sizes = [(n - 1) * step + 1 for n, step in zip(x.shape[lead:], apart, strict=True)]
    whole = tuple(n + before + after for n, (before, after) in zip(sizes, pads, strict=True))
    out = library.full((*x.shape[:lead], *whole), 0.0, library.dtype_name(x))
    rows = zip(sizes, pads, apart, strict=True)
    region = tuple(slice(before, before + n, step) for n, (before, _), step in rows)
    return library.put(out, (*(slice(None),) * lead, *region), x)


def goes_by_frames(op: Conv, limits: Limits) -> bool:
    """Whether a convolution is made as a sum of those of frames, which this device is better at."""
    return limits.frames and len(op.axes) == 3 and op.groups == 1 and not op.transposed and _is_plain(op)


def matrix_cells(job: Job[Conv], limits: Limits) -> int:
    """Count the elements of the matrix that a device with limits unfolds the input to; 0 where it does not."""
    op = job.op
    wide = len(op.axes) == 3 and (limits.unfolds or op.channels % 16 != 0)
    if job.boxes[0] is None or goes_by_frames(op, limits) or not (wide or not _is_plain(op)):
        return 0
    return math.prod(job.extent) // job.extent[op.channel_axis] * math.prod(op.kernel) * op.channels


def _is_plain(op: Conv) -> bool:
    return all(n == 1 for n in op.input_dilation)
