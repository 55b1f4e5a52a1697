"""Padding of tensors that is right on every device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tilekit.backends.limits import limits_of

__all__ = ["pad_constant"]


def pad_constant(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """
    Pad with a constant as `torch.nn.functional.pad` does, without its faults on MPS.

    There, time of a five-dimensional tensor is overwritten where frames are large, so it is padded by concatenation.

    Parameters
    ----------
    x : torch.Tensor
        Any shape.
    pads : sequence of int
        (before, after) of the last axis, then of the one before it, and so on; negative ones cut off.
    value : float
        What is put there.

    Returns
    -------
    torch.Tensor
        The padded tensor.

    Examples
    --------
    >>> pad_constant(torch.ones(2), (1, 2), 5.0).tolist()
    [5.0, 1.0, 1.0, 5.0, 5.0]
    """
    before, after = pads[4:6] if len(pads) > 4 else (0, 0)
    if x.ndim != 5 or not (before > 0 or after > 0) or _fits(x, pads):
        return F.pad(x, list(pads), value=value)
    x = F.pad(x, [*pads[:4], min(before, 0), min(after, 0), *pads[6:]], value=value)
    shape = list(x.shape)
    ends = [x.new_full((*shape[:2], max(n, 0), *shape[3:]), value) for n in (before, after)]
    return torch.cat([ends[0], x, ends[1]], 2)


def _fits(x: Tensor, pads: Sequence[int]) -> bool:
    """Whether frames are small enough before and after."""
    height, width = x.shape[-2:]
    frame = max(height, height + sum(pads[2:4])) * max(width, width + sum(pads[:2]))
    return frame <= limits_of(x).padded_frame
