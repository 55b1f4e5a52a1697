"""The generator of both vocoders: a convolution, then stages that each lengthen time by a transposed convolution."""

from __future__ import annotations

from math import ceil
from typing import Any

from ltx_models.nn import Array, Module
from ltx_models.nn.checks import check_sound
from ltx_models.nn.sound import cap, convolve, held, hold, window
from ltx_models.nn.stream import Flow, Unit
from ltx_models.vocoder.config import GeneratorConfig
from ltx_models.vocoder.layers import REACH, SLOPE, Activation, ResBlock

LAST_SLOPE = 0.01  # of the last leaky rectifier of HiFi-GAN: PyTorch's default


class Generator(Module):
    """
    From a spectrogram to a waveform.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : GeneratorConfig
        The stages and channels.
    """

    def __init__(self, nn: Any, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv_pre = nn.Conv1d(config.mel_channels * config.mel_bins, width, 7, padding=3)
        ups, blocks = [], []
        for rate, size in zip(config.rates, config.sizes, strict=True):
            ups.append(nn.ConvTranspose1d(width, width // 2, size, stride=rate, padding=(size - rate) // 2))
            width //= 2
            for taps, dilations in zip(config.branch_sizes, config.dilations, strict=True):
                blocks.append(ResBlock(nn, width, taps, dilations, config.activation))
        self.ups = nn.ModuleList(ups)
        self.resblocks = nn.ModuleList(blocks)
        if config.activation is not None:
            self.act_post = Activation(nn, width, height=True)
        self.conv_post = nn.Conv1d(width, config.mel_channels, 7, padding=3, bias=config.bias)

    def units(self, chunk: int | None = None) -> list[Unit]:
        """List the steps of the network, from (B, T, channels * bins) to samples (B, N, channels)."""
        units = [Unit(self.start, lag=3, **cap(chunk, 3))]
        scale, branches = 1, len(self.config.branch_sizes)
        for i, rate in enumerate(self.config.rates):
            blocks = list(self.resblocks)[i * branches : (i + 1) * branches]
            stage = UpsampleStage(self.ups[i], blocks, self.config, i)
            units.append(Unit(stage, lag=stage.lag, **cap(chunk and chunk * scale, stage.lag)))
            scale *= rate
        lag = 3 + (REACH if self.config.activation is not None else 0)
        return [*units, Unit(self.finish, lag=lag, **cap(chunk and chunk * scale, lag))]

    def start(self, x: Array, flow: Flow) -> Array:
        """Convolve the spectrogram."""
        return convolve(flow, self.conv_pre, x, 3)

    def finish(self, x: Array, flow: Flow) -> Array:
        """Map the last stage to samples."""
        nn = self.nn
        x = nn.leaky_relu_(x, LAST_SLOPE) if self.config.activation is None else self.act_post(x, flow)
        x = convolve(flow, self.conv_post, x, 3)
        if not self.config.bounded:
            return x
        return nn.xp.tanh(x) if self.config.tanh else clamp(nn.xp, x)


def clamp(xp: Any, x: Array) -> Array:
    """Limit to [-1, 1]."""
    return xp.minimum(xp.maximum(x, xp.full_like(x, -1)), xp.full_like(x, 1))


class UpsampleStage:
    """One stage of a generator as a unit: a transposed convolution, then the mean of the branches."""

    def __init__(self, up: Any, blocks: list[Any], config: GeneratorConfig, index: int) -> None:
        self.up, self.blocks = up, blocks
        self.rate, size = config.rates[index], config.sizes[index]
        self.rectified = config.activation is None
        self.pad = (size - self.rate) // 2
        self.reach = (size - 1 - self.pad) // self.rate  # cells before and after that one cell's samples depend on
        self.lag = self.reach + ceil((max(block.lag for block in blocks) + 1) / self.rate) - 1

    def __call__(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, T, C)."""
        nn = flow.nn
        x = nn.leaky_relu_(x, SLOPE) if self.rectified else x
        if flow.first and flow.last:
            x = self.up(x)
        else:
            x = window(flow, self.up, x, self.reach, self.reach)
            x = self.up(x, padding=self.pad + self.reach * self.rate)
        outs = [block(x, flow) for block in self.blocks]
        cells = min(out.shape[1] + held(flow, block) for block, out in zip(self.blocks, outs, strict=True))
        parts = [hold(flow, block, out, cells) for block, out in zip(self.blocks, outs, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = nn.add_(total, [part])
        return total * (1 / len(self.blocks))


def side_by_side(nn: Any, mel: Array, config: GeneratorConfig, dtype: Any) -> Array:
    """Check (B, C, T, bins) and rearrange it as (B, T, C * bins)."""
    check_sound(nn, "mel", mel, config.mel_channels, config.mel_bins)
    mel = nn.xp.permute_dims(nn.cast(mel, dtype), (0, 2, 1, 3))
    return mel.reshape(*mel.shape[:2], -1)
