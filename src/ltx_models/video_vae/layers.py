"""
The layers of the video autoencoder, over (B, F, H, W, C).

Each layer takes a piece of a clip and the `Flow` of its unit; the whole clip is the piece that is first and last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log, prod
from typing import Any

import numpy as np

from ltx_models.nn import Array, Module
from ltx_models.nn.stream import Flow
from ltx_models.video_vae.config import SpatialPadding

PIXEL_NORM_EPS = 1e-8  # fixed in the official code; the configured epsilon is not used by this network


@dataclass(slots=True)
class Context:
    """
    What the layers of one decode share.

    Attributes
    ----------
    causal : bool
        Whether convolutions over time look back only.
    draws : iterator of array, optional
        The noise, in the order in which the layers ask for it; None to draw anew.
    maps : dict
        Noise maps already drawn, by the layer's identity: each serves all frames and all tiles.
    """

    causal: bool
    draws: Iterator[Array] | None = None
    maps: dict[int, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Window:
    """
    Where a batch of spatial tiles lies in the frame, in cells of the lowest resolution that the tiles go through.

    Attributes
    ----------
    corners : tuple of (int, int)
        Top and left of each tile of the batch.
    frame : (int, int)
        Height and width of the whole frame.
    """

    corners: tuple[tuple[int, int], ...]
    frame: tuple[int, int]


class CausalConv3d(Module):
    """
    Convolution over a clip: frames are replicated beyond its ends, space is padded by zeros or mirrored.

    Parameters
    ----------
    nn : Backend
        The framework.
    inputs, outputs : int
        Channels.
    padding : {"zeros", "reflect"}
        What lies beyond the border of a frame.
    """

    def __init__(self, nn: Any, inputs: int, outputs: int, padding: SpatialPadding) -> None:
        super().__init__()
        self.reflect = padding == "reflect"
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=0 if self.reflect else (0, 1, 1))

    def join(self, x: Array, flow: Flow) -> Array:
        """Put around a piece what the convolution needs."""
        lead, trail = (2, 0) if flow.context.causal else (1, 1)
        return flow.extend(self, x, lead, trail, reflect=self.reflect)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Convolve a piece (B, F, H, W, C)."""
        x = self.join(x, flow)
        return self.conv(x)


class TimestepEmbedder(Module):
    """
    A sinusoid of the timestep through two linear layers.

    Parameters
    ----------
    nn : Backend
        The framework.
    width : int
        Channels of the embedding.
    """

    def __init__(self, nn: Any, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(256, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, timestep: Array) -> Array:
        """Embed (B,) timesteps as (B, width)."""
        nn = self.nn
        angle = nn.cast(timestep, nn.float32)[:, None] * nn.asarray(_frequencies(), timestep)[None]
        wave = nn.xp.concat([nn.xp.cos(angle), nn.xp.sin(angle)], axis=-1)
        return self.linear_2(nn.silu(self.linear_1(nn.cast(wave, self.linear_1.weight.dtype))))


def _frequencies() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.exp(-log(10000.0) * np.arange(128) / 128).astype(np.float32)


class TimeEmbedder(Module):
    """
    Holder that spells the official key ``timestep_embedder``.

    Parameters
    ----------
    nn : Backend
        The framework.
    width : int
        Channels of the embedding.
    """

    def __init__(self, nn: Any, width: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedder(nn, width)

    def forward(self, timestep: Array) -> Array:
        """Embed (B,) timesteps as (B, width)."""
        return self.timestep_embedder(timestep)


class ResnetBlock3D(Module):
    """
    Two convolutions, each after norm and SiLU, added to the input.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    padding : {"zeros", "reflect"}
        What lies beyond the border of a frame.
    timestep : bool
        Whether scales and shifts depend on a timestep.
    inject_noise : bool
        Whether noise is added after each convolution.
    """

    convolutions = 2

    def __init__(
        self, nn: Any, channels: int, padding: SpatialPadding, *, timestep: bool = False, inject_noise: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(nn, channels, channels, padding)
        self.conv2 = CausalConv3d(nn, channels, channels, padding)
        self.modulated = timestep
        if timestep:
            self.scale_shift_table = nn.parameter((4, channels))
        self.inject_noise = inject_noise
        if inject_noise:
            self.per_channel_scale1 = nn.parameter((channels, 1, 1))
            self.per_channel_scale2 = nn.parameter((channels, 1, 1))

    def forward(self, x: Array, flow: Flow, embedding: Array | None = None) -> Array:
        """Map a piece (B, F, H, W, C); `embedding` is (B, 4 C)."""
        rows: list[Array | None] = [None] * 4
        if self.modulated:
            rows = modulation(self.scale_shift_table, embedding)
        # each name is bound anew so that at most three arrays of this size live at once; the first convolution keeps
        # frames before their norm, because the residual branch waits with the same ones
        held = flow.held(self.conv1)
        h = self.conv1.join(x, flow)
        h = activate(self.nn, h, rows[0], rows[1], overwrite=True)
        h = self.conv1.conv(h)
        if self.inject_noise:
            h = self.nn.add_(h, [self._noise(self.conv1, self.per_channel_scale1, h, flow)])
        h = self.conv2.join(activate(self.nn, h, rows[2], rows[3], overwrite=True), flow)
        h = self.conv2.conv(h)
        if self.inject_noise:
            h = self.nn.add_(h, [self._noise(self.conv2, self.per_channel_scale2, h, flow)])
        return self.nn.add_(h, flow.late(held, x, 0 if flow.context.causal else 2, h.shape[1]))

    def _noise(self, site: Any, scale: Array, h: Array, flow: Flow) -> Array:
        """Give (B or 1, F, H, W, C) of noise: one map of the frame for all frames."""
        context, height, width = flow.context, h.shape[2], h.shape[3]
        window: Window | None = flow.window
        cells = height, width
        if window is not None:
            cells = tuple(n * flow.scale for n in window.frame)  # type: ignore[assignment]  # two of two
        if id(site) not in context.maps:
            drawn = next(context.draws) if context.draws is not None else self.nn.randn(cells, h)
            context.maps[id(site)] = self.nn.cast(drawn, h.dtype)
        noise = context.maps[id(site)][None]
        if window is not None:
            repeats = h.shape[0] // len(window.corners)
            crops = [
                noise[:, top * flow.scale : top * flow.scale + height, left * flow.scale : left * flow.scale + width]
                for top, left in window.corners
                for _ in range(repeats)
            ]
            noise = self.nn.xp.concat(crops, axis=0)
        noise = noise[:, None, :, :, None] * self.nn.xp.reshape(scale, (-1,))
        return self.nn.xp.broadcast_to(noise, (noise.shape[0], h.shape[1], *noise.shape[2:]))


def modulation(table: Array, embedding: Array) -> list[Array]:
    """Split table (n, C) + embedding (B, n C) into n rows (B, 1, 1, 1, C)."""
    count, channels = table.shape
    rows = embedding.reshape(-1, count, channels) + table
    return [rows[:, i, None, None, None, :] for i in range(count)]


def activate(
    nn: Any, x: Array, shift: Array | None = None, scale: Array | None = None, *, overwrite: bool = False
) -> Array:
    """Norm over channels, modulate, SiLU; `overwrite` where `x` may be overwritten."""
    x = nn.rms_norm_(x, PIXEL_NORM_EPS) if overwrite else nn.rms_norm(x, None, PIXEL_NORM_EPS)
    if scale is not None:
        x = x * (1 + scale) + shift
    return nn.silu_(x)


class ResBlocks(Module):
    """
    Residual blocks that share one timestep embedder: ``res_x``.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels, layers : int
        Channels, and how many blocks.
    padding : {"zeros", "reflect"}
        What lies beyond the border of a frame.
    timestep : bool
        Whether scales and shifts depend on a timestep.
    inject_noise : bool
        Whether the blocks add noise.
    """

    def __init__(
        self,
        nn: Any,
        channels: int,
        layers: int,
        padding: SpatialPadding,
        *,
        timestep: bool = False,
        inject_noise: bool = False,
    ) -> None:
        super().__init__()
        if timestep:
            self.time_embedder = TimeEmbedder(nn, 4 * channels)
        self.res_blocks = nn.ModuleList(
            [ResnetBlock3D(nn, channels, padding, timestep=timestep, inject_noise=inject_noise) for _ in range(layers)]
        )


class DepthToSpaceUpsample(Module):
    """
    A convolution whose channels become cells of time and space: ``compress_*`` of a decoder.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in.
    stride : (int, int, int)
        Cells of time, height and width that one cell becomes.
    multiplier : int
        Channels out are channels in divided by this.
    residual : bool
        Whether the rearranged input is added.
    padding : {"zeros", "reflect"}
        What lies beyond the border of a frame.
    """

    convolutions = 1

    def __init__(
        self,
        nn: Any,
        channels: int,
        stride: tuple[int, int, int],
        multiplier: int,
        *,
        residual: bool,
        padding: SpatialPadding,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.residual = residual
        self.conv = CausalConv3d(nn, channels, prod(stride) * channels // multiplier, padding)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, F, H, W, C)."""
        held = flow.held(self.conv)
        h = self.conv(x, flow)
        parts = flow.late(held, x, 0 if flow.context.causal else 1, h.shape[1]) if self.residual else []
        h = depth_to_space(self.nn.xp, h, self.stride)
        if self.residual:
            skip = depth_to_space(self.nn.xp, parts[0] if len(parts) == 1 else self.nn.concat(parts), self.stride)
            # the skip's channels stand again and again beside the convolution's
            repeats = h.shape[-1] // skip.shape[-1]
            h = self.nn.add_(h.reshape(*h.shape[:-1], repeats, skip.shape[-1]), [skip[..., None, :]])
            h = h.reshape(*h.shape[:-2], -1)
        # the first of two frames that came of the clip's first one stands for time before it
        return h[:, 1:] if flow.first and self.stride[0] == 2 else h


class SpaceToDepthDownsample(Module):
    """
    A convolution beside a mean, both with cells of time and space made channels: ``compress_*_res`` of an encoder.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in.
    stride : (int, int, int)
        Cells of time, height and width that become one.
    multiplier : int
        Channels out are channels in times this.
    padding : {"zeros", "reflect"}
        What lies beyond the border of a frame.
    """

    convolutions = 1

    def __init__(
        self, nn: Any, channels: int, stride: tuple[int, int, int], multiplier: int, padding: SpatialPadding
    ) -> None:
        super().__init__()
        self.stride = stride
        self.outputs = channels * multiplier
        self.conv = CausalConv3d(nn, channels, self.outputs // prod(stride), padding)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, F, H, W, C)."""
        xp = self.nn.xp
        if flow.first and self.stride[0] == 2:
            x = self.nn.concat([x[:, :1], x])
        skip = space_to_depth(xp, x, self.stride)
        skip = xp.mean(skip.reshape(*skip.shape[:-1], self.outputs, -1), axis=-1)
        return self.nn.add_(space_to_depth(xp, self.conv(x, flow), self.stride), [skip])


def depth_to_space(xp: Any, x: Array, stride: tuple[int, int, int]) -> Array:
    """Rearrange (B, F, H, W, c t h w) as (B, F t, H h, W w, c)."""
    b, f, height, width, channels = x.shape
    t, h, w = stride
    c = channels // (t * h * w)
    x = xp.permute_dims(x.reshape(b, f, height, width, c, t, h, w), (0, 1, 5, 2, 6, 3, 7, 4))
    return x.reshape(b, f * t, height * h, width * w, c)


def space_to_depth(xp: Any, x: Array, stride: tuple[int, int, int]) -> Array:
    """Rearrange (B, F t, H h, W w, c) as (B, F, H, W, c t h w)."""
    b, frames, height, width, c = x.shape
    t, h, w = stride
    x = x.reshape(b, frames // t, t, height // h, h, width // w, w, c)
    x = xp.permute_dims(x, (0, 1, 3, 5, 7, 2, 4, 6))
    return x.reshape(b, frames // t, height // h, width // w, c * t * h * w)
