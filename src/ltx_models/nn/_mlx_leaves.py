"""Leaves of MLX, and what counts what its operations make: MLX does not show them as they are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import prod
from typing import Any

import mlx.core as mx
import mlx.nn

from tilekit.backends.counted import COUNTING, Counted
from tilekit.backends.frames import by_frames
from tilekit.backends.limits import limits_of

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "GroupNorm",
    "Linear",
    "Module",
    "counting",
    "multiplied",
]


def counting(operation: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """Count what an operation makes, where somebody counts."""

    @wraps(operation)
    def call(*args: Any, **kwargs: Any) -> mx.array:
        made = operation(*args, **kwargs)
        counted = COUNTING.get()
        if counted is not None:
            counted.note(made.size)
        return made

    return call


def _convolved(convolve: Callable[..., mx.array], x: mx.array, weight: mx.array, *numbers: Any) -> mx.array:
    """
    Convolve with (stride, padding, dilation, ...), and count: the multiply-adds before, then what is made.

    Where nobody counts, that is all.
    """
    counted = COUNTING.get()
    if counted is None:
        return convolve(x, weight, *numbers)
    sides = zip(x.shape[1:-1], weight.shape[1:-1], *(_each(n, x.ndim - 2) for n in numbers[:3]), strict=True)
    cells = prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)
    counted.note_work(x.shape[0] * cells * weight.size, "a convolution")
    return _noted(counted, x, weight, convolve(x, weight, *numbers))


def _each(number: Any, axes: int) -> Sequence[int]:
    return [number] * axes if isinstance(number, int) else number


def _noted(counted: Counted, x: mx.array, weight: mx.array, made: mx.array) -> mx.array:
    """Count the arrays of a convolution: its input, its output, and what Metal unfolds."""
    wide = weight.ndim == 5 and (limits_of(x).unfolds or weight.shape[-1] % 16 != 0)
    counted.note(max(x.size, made.size))
    counted.note_convolution(made.size, made.size // made.shape[-1] * prod(weight.shape[1:]) if wide else 0)
    return made


def multiplied(product: Callable[..., mx.array], x: mx.array, *others: mx.array, work: int) -> mx.array:
    """Make a matrix product, and count: its multiply-adds before, then its result."""
    counted = COUNTING.get()
    if counted is None:
        return product(x, *others)
    counted.note_work(work, "a matrix product")
    made = product(x, *others)
    counted.note(made.size)
    return made


class Module(mlx.nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """An MLX module whose call is its ``forward``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer."""
        return self.forward(*args, **kwargs)


class Linear(mlx.nn.Linear):  # type: ignore[misc]  # mlx.nn is untyped
    """A matrix product over the last axis, and a bias."""

    def __call__(self, x: mx.array) -> mx.array:
        """Multiply, and add."""
        return multiplied(super().__call__, x, work=x.size * self.weight.shape[0])


class Conv1d(mlx.nn.Conv1d):  # type: ignore[misc]  # mlx.nn is untyped
    """Convolution over (B, L, C)."""

    def __call__(self, x: mx.array, padding: int | None = None) -> mx.array:
        """Convolve."""
        pad = self.padding if padding is None else padding
        y = _convolved(mx.conv1d, x, self.weight, self.stride, pad, self.dilation, self.groups)
        return y + self.bias if "bias" in self else y


class Conv2d(mlx.nn.Conv2d):  # type: ignore[misc]  # mlx.nn is untyped
    """Convolution over (B, H, W, C)."""

    def __call__(self, x: mx.array, padding: tuple[int, int] | None = None) -> mx.array:
        """Convolve."""
        pad = self.padding if padding is None else padding
        y = _convolved(mx.conv2d, x, self.weight, self.stride, pad, self.dilation, self.groups)
        return y + self.bias if "bias" in self else y


class Conv3d(mlx.nn.Conv3d):  # type: ignore[misc]  # mlx.nn is untyped
    """Convolution over (B, D, H, W, C)."""

    def __call__(self, x: mx.array) -> mx.array:
        """Convolve, frame by frame where the device is better at that."""
        if not limits_of(x).frames:
            y = _convolved(mx.conv3d, x, self.weight, self.stride, self.padding, self.dilation)
            return y + self.bias if "bias" in self else y
        (time, *sides), stride, dilation = self.padding, self.stride, _each(self.dilation, 3)

        def convolve(frames: mx.array, tap: mx.array) -> mx.array:
            return _convolved(mx.conv2d, frames, tap, stride[1:], sides, dilation[1:])

        padded = mx.pad(x, [(0, 0), (time, time), (0, 0), (0, 0), (0, 0)]) if time else x
        taps = [self.weight[:, i] for i in range(self.weight.shape[1])]
        total: mx.array = by_frames(padded, taps, convolve, _float32, stride[0], dilation[0])
        return (total + self.bias if "bias" in self else total).astype(x.dtype)


def _float32(x: mx.array) -> mx.array:
    return x.astype(mx.float32)


class ConvTranspose1d(mlx.nn.ConvTranspose1d):  # type: ignore[misc]  # mlx.nn is untyped
    """Transposed convolution over (B, L, C)."""

    def __call__(self, x: mx.array, padding: int | None = None) -> mx.array:
        """Convolve."""
        pad = self.padding if padding is None else padding
        counted = COUNTING.get()
        if counted is not None:  # zeros between the cells are multiplied too
            cells = (x.shape[1] - 1) * self.stride - 2 * pad + self.weight.shape[1]
            counted.note_work(x.shape[0] * cells * self.weight.size, "a convolution")
        y = mx.conv_transpose1d(x, self.weight, self.stride, pad)
        if counted is not None:
            _noted(counted, x, self.weight, y)
        return y + self.bias if "bias" in self else y


class GroupNorm(mlx.nn.GroupNorm):  # type: ignore[misc]  # mlx.nn is untyped
    """Group normalisation over (B, ..., C), with groups of neighbouring channels as in PyTorch."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__(num_groups, num_channels, eps=eps, pytorch_compatible=True)
