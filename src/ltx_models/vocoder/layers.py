"""The layers of the vocoders: anti-aliased activations and residual branches."""

from __future__ import annotations

from typing import Any

from ltx_models.nn import Array, Module
from ltx_models.nn.sound import Filter, convolve, hold, window
from ltx_models.nn.stream import Flow

SLOPE = 0.1  # of the leaky rectifiers of HiFi-GAN

# of the two halves of a cell the earlier weighs three cells before to two after it, the later two before to three after
UP = Filter([[11, 9, 7, 5, 3, 1, -1], [-1, 10, 8, 6, 4, 2, 0]], step=1, scale=2)
DOWN = Filter([[-1, *range(12)]], step=2)
REACH = 6  # cells that an anti-aliased activation reaches to either side: three for each filter


class SnakeBeta(Module):
    """
    The activation x + sin(a x)**2 / b with a rate and a height for each channel, stored as logarithms.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    height : bool
        Whether there is a height; otherwise 1 / a.
    """

    def __init__(self, nn: Any, channels: int, height: bool) -> None:
        super().__init__()
        self.alpha = nn.parameter((channels,))
        if height:
            self.beta = nn.parameter((channels,))

    def forward(self, x: Array) -> Array:
        """Map (B, T, C), which may be overwritten."""
        xp = self.nn.xp
        rate = xp.exp(self.alpha)
        height = xp.exp(self.beta) if hasattr(self, "beta") else rate
        return self.nn.snake_(x, rate, 1 / (height + 1e-9))


class Taps(Module):
    """
    A stored filter of twelve taps.

    Parameters
    ----------
    nn : Backend
        The framework.
    """

    filter: Array

    def __init__(self, nn: Any) -> None:
        super().__init__()
        nn.buffer(self, "filter", nn.xp.zeros((1, 1, 12), dtype=nn.float32))


class LowPass(Module):
    """
    Holder that spells the official key ``downsample.lowpass.filter``.

    Parameters
    ----------
    nn : Backend
        The framework.
    """

    def __init__(self, nn: Any) -> None:
        super().__init__()
        self.lowpass = Taps(nn)


class Activation(Module):
    """
    An activation at twice the rate, so that the harmonics it makes do not fold back into the band.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    height : bool
        Of the `SnakeBeta`.
    """

    def __init__(self, nn: Any, channels: int, height: bool) -> None:
        super().__init__()
        self.act = SnakeBeta(nn, channels, height)
        self.upsample = Taps(nn)
        self.downsample = LowPass(nn)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, T, C)."""
        nn = self.nn
        if flow.first and flow.last:
            return self._whole(x)
        cells = x.shape[1] + REACH * ((1 if flow.first else 2) + (1 if flow.last else 0))
        kept = cells - 2 * REACH
        x = window(flow, self, x, REACH, REACH, edge="replicate", spare=UP.needs(kept + UP.groups) - cells)
        x = self.act(UP(nn, x, self.upsample.filter))
        # beyond the ends of the clip lie copies of the outermost halves
        if flow.first:
            x[:, :REACH] = x[:, REACH : REACH + 1]
        if flow.last:
            end = 2 * cells - 3 * REACH
            x[:, end : end + REACH] = x[:, end - 1 : end]
        return DOWN(nn, x, self.downsample.lowpass.filter)[:, :kept]

    def _whole(self, x: Array) -> Array:
        nn, cells = self.nn, x.shape[1]
        after = UP.needs(cells + 2 * REACH) - cells - REACH
        x = nn.pad(x, ((0, 0), (REACH, after), (0, 0)), "replicate")
        x = self.act(UP(nn, x, self.upsample.filter))
        x = nn.repeat_ends_(x, REACH, REACH + 2 * cells)  # beyond the clip lie copies of its outermost halves
        return DOWN(nn, x, self.downsample.lowpass.filter)[:, :cells]


class ResBlock(Module):
    """
    Three times: activation, dilated convolution, activation, convolution, added to the input.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels, size : int
        Channels in and out, and cells of the windows.
    dilations : sequence of int
        Of the first convolution of each turn.
    activation : {"snake", "snakebeta", None}
        The anti-aliased activation (2.3), or leaky rectifiers (2.0).
    """

    def __init__(self, nn: Any, channels: int, size: int, dilations: tuple[int, ...], activation: str | None) -> None:
        super().__init__()
        self.reaches = [(size - 1) * dilation // 2 for dilation in dilations]
        self.reach = (size - 1) // 2
        self.lag = sum(self.reaches) + len(dilations) * self.reach
        self.convs1 = nn.ModuleList(
            [
                nn.Conv1d(channels, channels, size, padding=reach, dilation=dilation)
                for reach, dilation in zip(self.reaches, dilations, strict=True)
            ]
        )
        self.convs2 = nn.ModuleList([nn.Conv1d(channels, channels, size, padding=self.reach) for _ in dilations])
        if activation is not None:
            height = activation == "snakebeta"
            self.acts1 = nn.ModuleList([Activation(nn, channels, height) for _ in dilations])
            self.acts2 = nn.ModuleList([Activation(nn, channels, height) for _ in dilations])
            self.lag += 2 * REACH * len(dilations)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, T, C)."""
        nn = self.nn
        for i, (conv1, conv2) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            h = self.acts1[i](x, flow) if hasattr(self, "acts1") else nn.leaky_relu(x, SLOPE)
            h = convolve(flow, conv1, h, self.reaches[i])
            h = self.acts2[i](h, flow) if hasattr(self, "acts2") else nn.leaky_relu_(h, SLOPE)
            h = convolve(flow, conv2, h, self.reach)
            x = nn.add_(h, [hold(flow, conv2, x, h.shape[1])])
        return x
