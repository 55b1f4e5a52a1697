"""Mean and square distances of one box of an array of PyTorch: what it gives to a statistic."""

import math

import torch
from torch import Tensor

from tilekit._exact.kernels._statistics import MomentsPart
from tilekit._exact.kernels._torch_scratch import SMALL, even_parts, in_turn, moment_pieces
from tilekit._exact.ops import Moments

__all__ = ["is_half", "moments_part"]


def is_half(x: Tensor) -> bool:
    """Whether numbers are of half precision."""
    return x.is_floating_point() and x.element_size() < 4


def moments_part(op: Moments, x: Tensor) -> MomentsPart:
    """Take the moments of each group of one box, in two passes, in float64 where the device has it."""
    if x.device.type == "cpu" and is_half(x) and in_turn(op, tuple(x.shape), x.stride()):
        groups = math.prod(x.shape[: op.channel_axis]) * op.groups
        parted = even_parts(x.numel() // groups)
        if parted:
            made = _of_groups(_as_they_are(x.view(groups, parted, -1)))
            kept = (*x.shape[: op.channel_axis], op.groups)
            return MomentsPart(made.count, made.mean.reshape(kept), made.squares.reshape(kept))
    rest = [a for a in range(x.ndim) if a not in op.batch_axes and a != op.channel_axis]
    order = (*op.batch_axes, op.channel_axis, *rest)
    x = x if order == tuple(range(x.ndim)) else x.permute(order)
    lead = len(op.batch_axes) + 1
    rows = _merged(x.unflatten(lead - 1, (op.groups, -1)), lead)
    if rows.ndim == lead + 1:
        return _in_pieces(rows, lead)
    # channels that lie together: each by itself, where putting them in order would be a copy
    return _of_groups(_in_pieces(_merged(rows, lead + 1), lead + 1))


def _as_they_are(rows: Tensor) -> MomentsPart:
    """Take the moments along the last axis, by the call that reads half precisions as they are, in two passes."""
    kept, count = rows.shape[:-1], rows.shape[-1]
    n = math.prod(kept)
    mean, variance = torch.batch_norm_update_stats(rows.view(1, n, count), torch.zeros(n), torch.ones(n), 0.0)
    return MomentsPart(count, mean.double().reshape(kept), variance.double().mul_(count).reshape(kept))


def _in_pieces(rows: Tensor, lead: int) -> MomentsPart:
    """Take the moments along all but the first axes, in two passes, the second in pieces."""
    axes, exact = tuple(range(lead, rows.ndim)), rows.device.type != "mps"
    axis = max(axes, key=lambda axis: rows.shape[axis])
    count, kept, wide = math.prod(rows.shape[lead:]), rows.shape[:lead], torch.float64 if exact else torch.float32
    # half precisions become wider in the arithmetic itself, without a copy
    rough = rows.mean(axes, keepdim=True, dtype=torch.promote_types(rows.dtype, torch.float32))
    parted = moment_pieces(rows.numel(), rows.shape[axis], half=is_half(rows))
    split = rows.tensor_split(parted, axis)
    # sums along several axes are made one by one, and need the second pass for the mean too
    if not exact or (split[0].numel() > SMALL and len(axes) == 1):
        squares = _total([_squares(piece - rough, axes) for piece in split], wide)
        return MomentsPart(count, rough.reshape(kept).to(wide), squares)
    # without a copy in float64, which would be above what a plain call of a small network takes
    parts = [_small_moments(piece - rough, axes) for piece in split]
    first, squares = (_total(list(sums), wide) for sums in zip(*parts, strict=True))
    squares = (squares - first * first / count).clamp_(min=0)  # rounding, where all cells are the same
    return MomentsPart(count, rough.reshape(kept) + first / count, squares)


def _merged(x: Tensor, lead: int) -> Tensor:
    """See all axes from `lead` on as one, where that needs no copy; else as they are."""
    size = 1
    for axis in range(x.ndim - 1, lead - 1, -1):
        if x.shape[axis] != 1 and x.stride(axis) != size * x.stride(-1):
            return x
        size *= x.shape[axis]
    return x.view(*x.shape[:lead], -1)


def _of_groups(channels: MomentsPart) -> MomentsPart:
    """Put the moments of the channels of each group together, which have as many cells each."""
    mean = channels.mean.mean(-1)
    apart = (channels.mean - mean[..., None]).square_().sum(-1)
    count = channels.mean.shape[-1]
    return MomentsPart(channels.count * count, mean, channels.squares.sum(-1) + apart * channels.count)


def _squares(apart: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Sum squares along some axes, in place: a dot product of rows would make another copy."""
    return apart.mul_(apart).sum(axes)


def _small_moments(apart: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Give the sum, and the sum of squares in float64."""
    return apart.sum(axes), torch.linalg.vector_norm(apart, dim=axes, dtype=torch.float64).square_()


def _total(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    return parts[0].to(dtype) if len(parts) == 1 else torch.stack(parts).sum(0, dtype=dtype)
