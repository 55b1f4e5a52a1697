"""
Convolutions of MLX, box by box.

On a processor MLX copies what every cell of the output reads into one matrix (measured for 3x3x3: 29 times the output).
There a box is made in slabs, one after the other, so that the matrix stays about as large as the box, and below
`UNFOLDED`; in the same time.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx

from tilekit._exact.boxes import Box, extent, within
from tilekit._exact.kernels._convolve import goes_by_frames, matrix_cells, paddings
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Conv
from tilekit.backends.frames import by_frames
from tilekit.backends.limits import Limits

__all__ = ["UNFOLDED", "convolved", "unfolded_bytes", "unfolded_elsewhere"]

UNFOLDED = 1 << 22
"""Bytes of the unfolded input of one slab, at most."""
LEAST = 1 << 20
"""Bytes below which no slab is worth its call."""


def convolved(job: Job[Conv], x: mx.array, weight: mx.array, limits: Limits) -> mx.array:
    """
    Convolve a box of the input, without a bias.

    Channels are last and weights are (out, ``*kernel``, in / groups). Where the channels are another axis, weights are
    (out, in / groups, ``*kernel``), those of a transposed convolution (in, out / groups, ``*kernel``), as in the other
    libraries.
    """
    op = job.op
    if op.channel_axis == len(job.box) - 1:
        return _framed(job, x, weight) if goes_by_frames(op, limits) else _by_slabs(job, x, weight)
    order = _channels_last(op)
    call = _framed if goes_by_frames(op, limits) else _convolved
    made = call(job, mx.transpose(x, order), _turned(op, weight))
    return mx.transpose(made, sorted(range(x.ndim), key=lambda i: order[i]))


def unfolded_bytes(job: Job[Conv], *, slabs: bool = True) -> int:
    """Count what one slab takes beside its input and the box, or all at once; nothing where MLX does not unfold."""
    if not _unfolds(job.op):
        return 0
    pieces = _slabs(job) if slabs else [job.box]
    return max(_unfolded(replace(job, box=piece)) + (_bytes(job, piece) if len(pieces) > 1 else 0) for piece in pieces)


def unfolded_elsewhere(job: Job[Conv], limits: Limits) -> int:
    """Count the same on a graphics processor: a whole matrix where it unfolds, sums where it goes frame by frame."""
    if goes_by_frames(job.op, limits):
        return 8 * math.prod(job.extent)
    return matrix_cells(job, limits) * (4 if job.dtype == "float32" else 2)


def _framed(job: Job[Conv], x: mx.array, weight: mx.array) -> mx.array:
    """Convolve frame by frame; sums are kept in float32."""
    op = job.op
    (before, after), *sides = paddings(job)
    x = mx.pad(x, [(0, 0), (before, after), *sides, (0, 0)])

    def convolve(frames: mx.array, tap: mx.array) -> mx.array:
        return mx.conv_general(frames, tap, stride=op.stride[1:], kernel_dilation=op.dilation[1:])

    taps = [weight[:, i] for i in range(weight.shape[1])]
    made: mx.array = by_frames(x, taps, convolve, lambda y: y.astype(mx.float32), op.stride[0], op.dilation[0])
    return made.astype(x.dtype)


def _unfolds(op: Conv) -> bool:
    """Whether MLX copies what every cell reads: not where cells stand apart, and of groups in one axis alone."""
    apart = any(n != 1 for n in (*op.dilation, *op.input_dilation))
    grouped = op.groups > 1 and (len(op.axes) > 1 or op.transposed)
    return mx.default_device().type == mx.cpu and not apart and not grouped


def _unfolded(job: Job[Conv]) -> int:
    """Count the matrix, the padded input, and the sums of half precision, all float32."""
    op = job.op
    cells = math.prod(extent(job.box)) // extent(job.box)[op.channel_axis]
    padded = 1
    for d, axis in enumerate(op.axes):
        (start, stop), before, after = op.window(d, job.box[axis], job.shapes[0][axis])
        padded *= stop - start + before + after
    batch = cells // math.prod(extent(job.box)[axis] for axis in op.axes)
    sums = 0 if job.dtype == "float32" else math.prod(extent(job.box))
    return 4 * (job.shapes[0][op.channel_axis] * (cells * math.prod(op.kernel) + batch * padded) + sums)


def _bytes(job: Job[Conv], box: Box) -> int:
    return math.prod(extent(box)) * (4 if job.dtype == "float32" else 2)


def _slabs(job: Job[Conv]) -> list[Box]:
    """Cut a box along the first axes of the kernel until what one piece unfolds is small."""
    pieces = [job.box]
    most = min(UNFOLDED, max(LEAST, _bytes(job, job.box)))
    for axis in job.op.axes:
        size = _unfolded(replace(job, box=pieces[0]))
        start, stop = job.box[axis]
        count = min(stop - start, -(-size // most))
        if count > 1:
            pieces = [
                (*piece[:axis], (start + i * (stop - start) // count, start + (i + 1) * (stop - start) // count), *rest)
                for piece in pieces
                for i, rest in ((i, piece[axis + 1 :]) for i in range(count))
            ]
    return pieces


def _by_slabs(job: Job[Conv], x: mx.array, weight: mx.array) -> mx.array:
    pieces = _slabs(job) if _unfolds(job.op) else [job.box]
    if len(pieces) == 1:
        return _convolved(job, x, weight)
    given = job.boxes[0]
    assert given is not None  # a box that reads nothing is not convolved
    made = mx.zeros(job.extent, dtype=x.dtype)
    for piece in pieces:
        need = job.op.need(piece, job.shape, job.shapes)[0]
        if need is None:
            continue
        part = _convolved(replace(job, box=piece), x[within(given, need)], weight)
        mx.eval(part)
        made[within(job.box, piece)] = part
        mx.eval(made)
    return made


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
