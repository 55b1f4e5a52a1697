"""Leaves of PyTorch over channels-last arrays, which reach its convolutions as permuted views, without a copy."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tilekit.backends.frames import by_frames
from tilekit.backends.limits import limits_of
from tilekit.backends.torch_onednn import onednn_convolution, onednn_dtypes

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "GroupNorm", "followed"]

_FAKE: Any = torch._C._TorchDispatchModeKey.FAKE
"""While there is a mode of this kind, tensors of the very class have no values either."""


def followed(x: Tensor) -> bool:
    """Say whether something follows the calls with tensors that have no values: a compiler, `tilekit.exact`."""
    if torch.compiler.is_compiling() or type(x) not in {Tensor, torch.nn.Parameter} or x.is_meta:
        return True
    return torch._C._get_dispatch_mode(_FAKE) is not None


def _prefers_onednn(conv: torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d, x: Tensor) -> bool:
    """
    Say whether to ask oneDNN by name.

    On a CPU, torch takes a native kernel, up to 16 times slower, where one sample and its first axes are small:
    just what a stream feeds it. See ``docs/benchmarks/exact.md``.
    """
    return (
        x.device.type == "cpu"
        and not (x.requires_grad or conv.weight.requires_grad or torch.compiler.is_compiling())
        and x.dtype == conv.weight.dtype
        and x.dtype in onednn_dtypes()
        and not isinstance(conv.padding, str)
        and conv.padding_mode == "zeros"
    )


def _convolve(conv: Any, x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any) -> Tensor:
    if _prefers_onednn(conv, x):
        return onednn_convolution(x, weight, conv.bias, padding, stride, dilation, conv.groups)
    function = F.conv2d if x.ndim == 4 else F.conv3d
    return function(x, weight, conv.bias, stride, padding, dilation, conv.groups)


class Conv1d(torch.nn.Conv1d):
    """Convolution over (B, L, C)."""

    def forward(self, x: Tensor, padding: int | None = None) -> Tensor:
        """Convolve as a picture of one row, which unlike a line may be channels-last in memory."""
        pad = self.padding[0] if padding is None else padding
        if followed(x):  # whoever follows knows how to lay it out
            line = F.conv1d(x.permute(0, 2, 1), self.weight, self.bias, self.stride, pad, self.dilation)
            return line.permute(0, 2, 1)
        row, weight = x.permute(0, 2, 1).unsqueeze(2), self.weight.unsqueeze(2)
        y = _convolve(self, row, weight, (1, self.stride[0]), (0, pad), (1, self.dilation[0]))
        return y.squeeze(2).permute(0, 2, 1)


class Conv2d(torch.nn.Conv2d):
    """Convolution over (B, H, W, C)."""

    def forward(self, x: Tensor, padding: tuple[int, int] | None = None) -> Tensor:
        """Convolve."""
        pad = self.padding if padding is None else padding
        return _convolve(self, x.permute(0, 3, 1, 2), self.weight, self.stride, pad, self.dilation).permute(0, 2, 3, 1)


class Conv3d(torch.nn.Conv3d):
    """Convolution over (B, D, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, frame by frame where the device is better at that."""
        if not torch.compiler.is_compiling() and limits_of(x).frames and self.groups == 1:
            return self._by_frames(x)
        x = x.permute(0, 4, 1, 2, 3)
        return _convolve(self, x, self.weight, self.stride, self.padding, self.dilation).permute(0, 2, 3, 4, 1)

    def _by_frames(self, x: Tensor) -> Tensor:
        assert not isinstance(self.padding, str)  # our layers give numbers
        time, *sides = self.padding

        def convolve(frames: Tensor, tap: Tensor) -> Tensor:
            y = F.conv2d(frames.permute(0, 3, 1, 2), tap, None, self.stride[1:], sides, self.dilation[1:])
            return y.permute(0, 2, 3, 1)

        x = torch.cat([x.new_zeros(end := (len(x), time, *x.shape[2:])), x, x.new_zeros(end)], 1) if time else x
        total: Tensor = by_frames(x, self.weight.unbind(2), convolve, _wide, self.stride[0], self.dilation[0])
        return (total if self.bias is None else total + self.bias).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.element_size() < 4 else x


class ConvTranspose1d(torch.nn.ConvTranspose1d):
    """Transposed convolution over (B, L, C)."""

    def forward(self, x: Tensor, padding: int | None = None) -> Tensor:  # type: ignore[override]  # the length is known
        """Convolve as a picture of one row, which unlike a line may be channels-last in memory."""
        pad = self.padding[0] if padding is None else padding
        if followed(x):
            line = F.conv_transpose1d(x.permute(0, 2, 1), self.weight, self.bias, self.stride, pad)  # type: ignore[arg-type]  # a number
            return line.permute(0, 2, 1)
        row, weight = x.permute(0, 2, 1).unsqueeze(2), self.weight.unsqueeze(2)
        y = F.conv_transpose2d(row, weight, self.bias, (1, self.stride[0]), (0, pad))  # type: ignore[arg-type]  # a number, as our layers give it
        return y.squeeze(2).permute(0, 2, 1)


class GroupNorm(torch.nn.GroupNorm):
    """Group normalisation over (B, ..., C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; a group of one value, which torch's own class refuses, becomes its bias, as on MLX."""
        y = torch.group_norm(x.movedim(-1, 1), self.num_groups, self.weight, self.bias, self.eps)
        return y.movedim(1, -1)
