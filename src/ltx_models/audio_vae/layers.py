"""The layers of the audio autoencoder: pictures of sound, whose height is time and whose width is frequency."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.nn import Array, Module
from ltx_models.nn.sound import hold, window
from ltx_models.nn.statistics import PerChannelStatistics
from ltx_models.nn.stream import Flow

NORM_EPS = 1e-6


class CausalConv2d(Module):
    """
    Convolution over (B, T, M, C) that looks back over zeros in time; both ways in frequency.

    Parameters
    ----------
    nn : Backend
        The framework.
    inputs, outputs : int
        Channels.
    size : {1, 3}
        Cells of the window, each way.
    causal : bool
        Whether it looks back only; otherwise one cell either way.
    """

    def __init__(self, nn: Any, inputs: int, outputs: int, size: int, causal: bool) -> None:
        super().__init__()
        self.lead, self.trail = (size - 1, 0) if causal else (size // 2, size // 2)
        self.sides = size // 2
        self.conv = nn.Conv2d(inputs, outputs, size, padding=(self.lead, self.sides))

    def forward(self, x: Array, flow: Flow) -> Array:
        """Convolve a piece."""
        if flow.first and flow.last:
            y = self.conv(x)  # pads both ends alike: what it gives beyond the clip is left out
            return y if self.lead == self.trail else y[:, : x.shape[1]]
        return self.conv(window(flow, self, x, self.lead, self.trail), padding=(0, self.sides))


class ResnetBlock(Module):
    """
    Two convolutions, each after norm and SiLU, added to the input.

    Parameters
    ----------
    nn : Backend
        The framework.
    inputs, outputs : int
        Channels.
    causal : bool
        Whether convolutions over time look back only.
    """

    convolutions = 2

    def __init__(self, nn: Any, inputs: int, outputs: int, causal: bool) -> None:
        super().__init__()
        self.conv1 = CausalConv2d(nn, inputs, outputs, 3, causal)
        self.conv2 = CausalConv2d(nn, outputs, outputs, 3, causal)
        if inputs != outputs:
            self.nin_shortcut = CausalConv2d(nn, inputs, outputs, 1, causal)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, T, M, C)."""
        h = self.conv1(activate(self.nn, x), flow)
        h = self.conv2(activate(self.nn, h), flow)
        if hasattr(self, "nin_shortcut"):
            x = self.nin_shortcut.conv(x)
        return self.nn.add_(h, [hold(flow, self, x, h.shape[1])])


def activate(nn: Any, x: Array) -> Array:
    """Norm over channels, then SiLU."""
    return nn.silu_(nn.rms_norm(x, None, NORM_EPS))


class SpectrogramAttention(Module):
    """
    Every cell of the picture attends to every other.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    """

    convolutions = 0

    def __init__(self, nn: Any, channels: int) -> None:
        super().__init__()
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a whole clip (B, T, M, C)."""
        h = self.nn.rms_norm(x, None, NORM_EPS)
        one_head = (x.shape[0], 1, x.shape[1] * x.shape[2], x.shape[3])
        q, k, v = (conv(h).reshape(one_head) for conv in (self.q, self.k, self.v))
        return x + self.proj_out(self.nn.attention(q, k, v).reshape(x.shape))


class Middle(Module):
    """
    Two residual blocks, with attention between them where there is any.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    config : AudioVAEConfig
        Whether to attend and to look back only.
    """

    def __init__(self, nn: Any, channels: int, config: AudioVAEConfig) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(nn, channels, channels, config.causal)
        if config.attention:
            self.attn_1 = SpectrogramAttention(nn, channels)
        self.block_2 = ResnetBlock(nn, channels, channels, config.causal)

    @property
    def steps(self) -> list[Any]:
        """Its layers in order."""
        return [self.block_1, *([self.attn_1] if hasattr(self, "attn_1") else []), self.block_2]


class Upsample(Module):
    """
    Every cell four times, then a convolution; of the first two rows of time the first is left out.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    causal : bool
        Whether convolutions over time look back only; otherwise both rows stay.
    """

    convolutions = 1

    def __init__(self, nn: Any, channels: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.conv = CausalConv2d(nn, channels, channels, 3, causal)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, T, M, C)."""
        batch, time, bins, channels = x.shape
        x = self.nn.xp.broadcast_to(x[:, :, None, :, None], (batch, time, 2, bins, 2, channels))
        x = self.conv(x.reshape(batch, 2 * time, 2 * bins, channels), flow)
        return x[:, 1:] if self.causal and flow.first else x


class Downsample(Module):
    """
    A convolution with stride 2 over time and frequency.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    causal : bool
        Whether it looks back in time, or ahead.
    """

    convolutions = 0  # none that reads ahead: only the causal one is streamed

    def __init__(self, nn: Any, channels: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, T, M, C)."""
        lead, trail = (2, 0) if self.causal else (0, 1)
        x = window(flow, self, x, lead, trail, keep=1)
        if x.shape[1] < 3:  # the end of a clip of even length: its last row is the middle of no window
            return x[:, :0, ::2]
        return self.conv(self.nn.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0))))


class Level(Module):
    """
    Residual blocks of one resolution, and the way to the next.

    Parameters
    ----------
    nn : Backend
        The framework.
    widths : sequence of int
        Channels before, between and after the blocks.
    config : AudioVAEConfig
        Whether to look back only.
    resample : {"up", "down", None}
        The layer that leads on, named ``upsample`` or ``downsample``.
    """

    def __init__(self, nn: Any, widths: list[int], config: AudioVAEConfig, resample: str | None) -> None:
        super().__init__()
        pairs = pairwise(widths)
        self.block = nn.ModuleList([ResnetBlock(nn, before, after, config.causal) for before, after in pairs])
        if resample == "up":
            self.upsample = Upsample(nn, widths[-1], config.causal)
        elif resample == "down":
            self.downsample = Downsample(nn, widths[-1], config.causal)

    @property
    def steps(self) -> list[Any]:
        """Its layers in order."""
        return [*self.block, *(getattr(self, name) for name in ("upsample", "downsample") if hasattr(self, name))]


def scaled(nn: Any, statistics: PerChannelStatistics, x: Array, *, normalize: bool) -> Array:
    """Normalise (B, t, c, bins) by the statistics, whose index is c * bins + bin, or undo it: (B, t, bins, c)."""
    batch, time, channels, bins = x.shape
    x = statistics(x.reshape(batch, time, channels * bins), normalize=normalize)
    return nn.xp.permute_dims(x.reshape(batch, time, channels, bins), (0, 1, 3, 2))


def refuse_attention(config: AudioVAEConfig) -> None:
    """Refuse to stream a network whose middle needs the whole clip."""
    if config.attention:
        msg = "stream: the middle of this network attends over the whole clip; call it on the whole clip"
        raise ValueError(msg)
