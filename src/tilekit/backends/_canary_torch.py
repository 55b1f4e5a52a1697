"""What the canary asks of PyTorch."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["convolve", "pad_time", "sum", "zeros"]


def convolve(x: Tensor, w: Tensor) -> Tensor:
    """Convolve (B, C, ...) by (O, C, ...) without padding."""
    function: Any = (torch.conv1d, torch.conv2d, torch.conv3d)[x.ndim - 3]
    out: Tensor = function(x, w)
    return out


def pad_time(x: Tensor, before: int) -> Tensor:
    """Put zeros before the first frame of (B, C, F, H, W)."""
    return torch.nn.functional.pad(x, (0, 0, 0, 0, before, 0))


def sum(x: Tensor, axis: int) -> Tensor:
    """Add up along an axis."""
    return x.sum(axis)


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Give zeros on the device of `like`."""
    return torch.zeros(shape, dtype=like.dtype, device=like.device)
