"""The layers of the latent upsamplers."""

from __future__ import annotations

from typing import Any

from ltx_models.nn import Array, Module

GROUPS, EPS = 32, 1e-5


class ResBlock(Module):
    """
    Two convolutions with group norms, added to the input before the last SiLU.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    """

    def __init__(self, nn: Any, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps=EPS)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels, eps=EPS)

    def forward(self, x: Array) -> Array:
        """Map (B, F, H, W, C)."""
        h = self.nn.silu_(self.norm1(self.conv1(x)))
        return self.nn.silu_(self.nn.add_(self.norm2(self.conv2(h)), [x]))


class Blur(Module):
    """
    Holder that spells the official key ``upsampler.blur_down.kernel``.

    Parameters
    ----------
    nn : Backend
        The framework.
    stride : int
        Cells of which one is kept.
    """

    kernel: Array

    def __init__(self, nn: Any, stride: int) -> None:
        super().__init__()
        self.stride = stride
        nn.buffer(self, "kernel", nn.xp.zeros((1, 1, 5, 5), dtype=nn.float32))

    def forward(self, x: Array) -> Array:
        """Blur (B, H, W, C) over zeros and keep every `stride`-th cell each way."""
        if self.stride == 1:
            return x
        x = self.nn.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        rows, columns = ((n - 5) // self.stride + 1 for n in x.shape[1:3])
        total: Array = None
        for i in range(5):
            for j in range(5):
                part = x[:, i : i + self.stride * (rows - 1) + 1 : self.stride]
                part = part[:, :, j : j + self.stride * (columns - 1) + 1 : self.stride] * self.kernel[0, 0, i, j]
                total = part if total is None else self.nn.add_(total, [part])
        return total


class Rational(Module):
    """
    Cells multiplied by one whole number, blurred, and divided by another, each way.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    times, by : int
        The two numbers.
    """

    def __init__(self, nn: Any, channels: int, times: int, by: int) -> None:
        super().__init__()
        self.times = times
        self.conv = nn.Conv2d(channels, times * times * channels, 3, padding=1)
        self.blur_down = Blur(nn, by)

    def forward(self, x: Array) -> Array:
        """Map (B, F, H, W, C)."""
        return framewise(lambda frame: self.blur_down(shuffle(self.nn.xp, self.conv(frame), self.times)), x)


def framewise(fn: Any, x: Array) -> Array:
    """Map each frame of (B, F, H, W, C) as a picture."""
    y = fn(x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def shuffle(xp: Any, x: Array, times: int) -> Array:
    """Rearrange (B, H, W, c h w) as (B, H h, W w, c)."""
    batch, rows, columns, channels = x.shape
    c = channels // times**2
    x = xp.permute_dims(x.reshape(batch, rows, columns, c, times, times), (0, 1, 4, 2, 5, 3))
    return x.reshape(batch, rows * times, columns * times, c)
