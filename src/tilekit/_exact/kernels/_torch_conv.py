"""Convolutions of PyTorch on a box, with zeros where it touches the border."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tilekit._exact.kernels._convolve import crops_of, evened, goes_by_frames, paddings
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.kernels._torch_scratch import heavy
from tilekit._exact.ops import Conv
from tilekit.backends.frames import by_frames
from tilekit.backends.limits import limits_of
from tilekit.backends.torch_onednn import onednn_convolution, onednn_dtypes
from tilekit.backends.torch_pad import pad_constant

__all__ = ["convolve"]

_FORWARD: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def convolve(job: Job[Conv], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve what is given of x; axes are (batch, channels, ...)."""
    op, pads = job.op, paddings(job)
    row = len(op.axes) == 1 and x.device.type == "cpu"
    if row:
        op, pads, x, weight = _as_row(op), ((0, 0), *pads), x.unsqueeze(2), weight.unsqueeze(2)
    made = (_transposed if op.transposed else _forward)(op, x, weight, bias, pads)
    return made.squeeze(2) if row else made


@cache
def _as_row(op: Conv) -> Conv:
    """Give a convolution of sound as that of a picture of one row, whose channels may lie together in memory."""
    pairs: dict[str, Any] = {name: (one, *getattr(op, name)) for name, one in _ROW.items()}
    return replace(op, axes=(2, 3), channel_axis=1, **pairs)


_ROW = {"kernel": 1, "stride": 1, "before": 0, "after": 0, "dilation": 1, "input_dilation": 1}


def _forward(op: Conv, x: Tensor, weight: Tensor, bias: Tensor | None, pads: Sequence[tuple[int, int]]) -> Tensor:
    if any(n != 1 for n in op.input_dilation):
        x = _stretched(x, op.input_dilation)
    if goes_by_frames(op, limits_of(x)):
        return _framed(op, x, weight, bias, pads)
    pads = evened(op, pads)
    merged = tuple(min(before, after) for before, after in pads)
    rest = [(before - both, after - both) for (before, after), both in zip(pads, merged, strict=True)]
    if any(before or after for before, after in rest):
        x = pad_constant(x, [n for pair in reversed(rest) for n in pair])
    if _asks_onednn(x, weight):
        lies = _lies(x, weight)
        x = x if lies is None else x.contiguous()
        made = onednn_convolution(x, weight, bias, merged, op.stride, op.dilation, op.groups)
        return made if lies is None else made.contiguous(memory_format=lies)
    out: Tensor = _FORWARD[len(op.axes)](x, weight, bias, op.stride, merged, op.dilation, op.groups)
    return out


def _framed(op: Conv, x: Tensor, weight: Tensor, bias: Tensor | None, pads: Sequence[tuple[int, int]]) -> Tensor:
    """Convolve frame by frame; sums of half precisions are kept in float32."""
    x = pad_constant(x, [n for pair in reversed(pads) for n in pair])

    def convolve(frames: Tensor, tap: Tensor) -> Tensor:
        y: Tensor = F.conv2d(frames.permute(0, 3, 1, 2), tap, None, op.stride[1:], 0, op.dilation[1:])
        return y.permute(0, 2, 3, 1)

    rows = x.permute(0, 2, 3, 4, 1)
    made: Tensor = by_frames(rows, weight.unbind(2), convolve, wide, op.stride[0], op.dilation[0])
    made = made if bias is None else made + bias
    return made.to(x.dtype).permute(0, 4, 1, 2, 3)


def wide(x: Tensor) -> Tensor:
    """Convert half precisions to float32."""
    return x.float() if x.element_size() < 4 else x


WIDE = 256
"""Channels from which a matrix product of oneDNN is faster in every layout."""


def _stretched(x: Tensor, apart: Sequence[int]) -> Tensor:
    """Put the cells apart, with zeros between them."""
    sizes = [(n - 1) * step + 1 for n, step in zip(x.shape[2:], apart, strict=True)]
    wide = x.new_zeros((*x.shape[:2], *sizes))
    wide[:, :, *(slice(None, None, step) for step in apart)] = x
    return wide


def _asks_onednn(x: Tensor, weight: Tensor) -> bool:
    """
    Say whether to ask oneDNN by name.

    On a CPU, torch takes a native kernel, up to 16 times slower, where one sample and its first axes are small, as
    they are in a strip. A kernel of one cell is a matrix product, which the native one does as well for few channels
    that lie apart.
    """
    return (
        x.device.type == "cpu"
        and x.ndim > 3
        and x.dtype == weight.dtype
        and x.dtype in onednn_dtypes()
        and (any(n != 1 for n in weight.shape[2:]) or x.stride(1) == 1 or x.shape[1] >= WIDE)
        and x.numel() > 0
    )


def _lies(x: Tensor, weight: Tensor) -> torch.memory_format | None:
    """
    Say in which order the channels of a strip lie, where it is so small that it is better turned than its weight.

    Torch copies a weight into the order of the array before it calls oneDNN, in each strip anew.
    """
    made = x.numel() // x.shape[1] * weight.shape[0]
    if x.stride(1) != 1 or not weight.is_contiguous() or not heavy(weight.numel(), x.numel(), made):
        return None
    return torch.channels_last if x.ndim == 4 else torch.channels_last_3d


def _transposed(op: Conv, x: Tensor, weight: Tensor, bias: Tensor | None, pads: Sequence[tuple[int, int]]) -> Tensor:
    """Let torch spread what is given over the output, and cut off what other cells add to."""
    crops = crops_of(op, pads)
    held = None if crops.lacking else bias
    call = _TRANSPOSED[len(op.axes)]
    out: Tensor = call(x, weight, held, op.input_dilation, crops.padding, crops.more, op.groups, op.dilation)
    if crops.needed:  # a copy, so that what is too much does not stay
        out = pad_constant(out, [-n for crop in reversed(crops.rest) for n in crop])
    if crops.lacking and bias is not None:
        out = out + bias.view(-1, *(1,) * len(op.axes))
    return out
