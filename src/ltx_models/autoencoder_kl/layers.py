"""The blocks of `ltx_models.autoencoder_kl`, named as in diffusers; channels-last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ltx_models.nn import Array, Backend, Module

NORM_EPS = 1e-6
MOST_SCORES = 1 << 24  # attention scores at once, where the framework keeps them all: 64 MiB in float32


def block_widths(before: int, width: int, layers: int) -> list[tuple[int, int]]:
    """Give the channels before and behind each of the `layers` residual blocks of a level."""
    return [(before if i == 0 else width, width) for i in range(layers)]


class ResnetBlock2D(Module):
    """
    Two normalised convolutions beside a shortcut.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels, out_channels : int
        In and out.
    groups : int
        Of the normalisations.
    """

    def __init__(self, nn: Backend, channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = None if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def nonlinearity(self, x: Array) -> Array:
        """Activate what a norm gave; it may be overwritten."""
        return self.nn.silu_(x)

    def forward(self, x: Array) -> Array:
        """Run over (B, H, W, C)."""
        h = self.conv1(self.nonlinearity(self.norm1(x)))
        h = self.conv2(self.nonlinearity(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class PixelAttention(Module):
    """
    Self-attention of one head over all cells.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        In, out and of the head.
    groups : int
        Of the normalisation.
    """

    def __init__(self, nn: Backend, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Array) -> Array:
        """Run over (B, H, W, C)."""
        batch, height, width, channels = x.shape
        tokens = self.nn.xp.reshape(self.group_norm(x), (batch, 1, height * width, channels))
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        step = max(1, MOST_SCORES // (batch * height * width))
        rows = []
        for begin in range(0, height * width, step):
            part = self.nn.attention(q[:, :, begin : begin + step], k, v)
            self.nn.synchronize(part)  # or else a lazy framework computes all scores at once
            rows.append(part)
        y = rows[0] if len(rows) == 1 else self.nn.xp.concat(rows, axis=2)
        return x + self.nn.xp.reshape(self.to_out[0](y), x.shape)


class Downsample2D(Module):
    """
    Halve height and width by a convolution, padded below and to the right only.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        In and out.
    """

    padding = 0

    def __init__(self, nn: Backend, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Array) -> Array:
        """Run over (B, H, W, C)."""
        return self.conv(self.nn.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))))


class Upsample2D(Module):
    """
    Repeat every cell twice in height and width, then convolve.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        In and out.
    """

    def __init__(self, nn: Backend, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Array) -> Array:
        """Run over (B, H, W, C)."""
        batch, height, width, channels = x.shape
        shape = (batch, height, 2, width, 2, channels)
        x = self.nn.xp.broadcast_to(x[:, :, None, :, None, :], shape)
        return self.conv(self.nn.xp.reshape(x, (batch, 2 * height, 2 * width, channels)))


class _Level(Module):
    """
    Residual blocks of one resolution, and the step to the next.

    Parameters
    ----------
    nn : Backend
        The framework.
    widths : sequence of int
        Channels before and behind each residual block.
    groups : int
        Of the normalisations.
    last : bool
        Whether no step follows.
    """

    step: ClassVar[tuple[str, type[Module]]]
    """The layer that leads to the next resolution, and under which name checkpoints have it."""

    def __init__(self, nn: Backend, widths: Sequence[tuple[int, int]], groups: int, *, last: bool) -> None:
        super().__init__()
        name, layer = self.step
        self.resnets = nn.ModuleList([ResnetBlock2D(nn, a, b, groups) for a, b in widths])
        setattr(self, name, nn.ModuleList([] if last else [layer(nn, widths[-1][1])]))

    def forward(self, x: Array) -> Array:
        """Run over (B, H, W, C)."""
        for layer in (*self.resnets, *getattr(self, self.step[0])):
            x = layer(x)
        return x


class DownEncoderBlock2D(_Level):
    """One level of the encoder."""

    step = ("downsamplers", Downsample2D)


class UpDecoderBlock2D(_Level):
    """One level of the decoder."""

    step = ("upsamplers", Upsample2D)


class UNetMidBlock2D(Module):
    """
    The middle: two residual blocks, with attention between them or without.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        In and out.
    groups : int
        Of the normalisations.
    attention : bool
        Whether there is attention.
    """

    def __init__(self, nn: Backend, channels: int, groups: int, *, attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock2D(nn, channels, channels, groups) for _ in range(2)])
        self.attentions = nn.ModuleList([PixelAttention(nn, channels, groups)] if attention else [])

    def forward(self, x: Array) -> Array:
        """Run over (B, H, W, C)."""
        for layer in (self.resnets[0], *self.attentions, self.resnets[1]):
            x = layer(x)
        return x
