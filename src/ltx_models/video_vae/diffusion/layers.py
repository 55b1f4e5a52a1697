"""Layers of the diffusion video decoder. Arrays are channels-last: (B, T, H, W, C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltx_models.nn import Array, Backend, Module
from ltx_models.transformer.rope import rotate
from ltx_models.video_vae.config import Triple
from ltx_models.video_vae.diffusion.attention import Span, attend
from ltx_models.video_vae.diffusion.config import GATE_ROWS
from ltx_models.video_vae.diffusion.geometry import slab_frames

SINUSOIDS = 128
ROPE_BASE = 10000.0


def rope_channels(head_dim: int) -> Triple:
    """
    Split the channels of a head into those turned by time, by height and by width.

    Parameters
    ----------
    head_dim : int
        Channels of a head; each share must be even and positive.

    Returns
    -------
    (int, int, int)
        The shares.

    Raises
    ------
    ValueError
        If a share is odd or 0.

    Examples
    --------
    >>> rope_channels(64)
    (16, 24, 24)
    """
    time = head_dim // 4 // 2 * 2
    height = (head_dim - time) // 2
    shares = (time, height, head_dim - time - height)
    if any(share <= 0 or share % 2 for share in shares):
        msg = f"vae.decoder.head_dim: got {head_dim}, which splits into {shares}; each share must be even and positive"
        raise ValueError(msg)
    return shares


def turn(nn: Backend, x: Array, starts: Triple) -> Array:
    """
    Turn pairs of channels (2i, 2i + 1) by the place of their cell: rotary position embedding.

    Parameters
    ----------
    nn : Backend
        The framework.
    x : array, shape (B, T, H, W, heads, d)
        Queries or keys.
    starts : (int, int, int)
        The place of the first cell along each axis.

    Returns
    -------
    array, shape (B, T, H, W, heads, d)
        Turned by angles ``place * 10000 ** (-2 i / share)``; each axis turns a share of the channels.
    """
    turned, first = [], 0
    for axis, share in enumerate(rope_channels(x.shape[-1])):
        rates = ROPE_BASE ** (-np.arange(0, share, 2, dtype=np.float64) / share)
        places = np.arange(starts[axis], starts[axis] + x.shape[1 + axis], dtype=np.float32)
        angles = places[:, None] * rates.astype(np.float32)
        shape = [1] * 6
        shape[1 + axis], shape[5] = angles.shape
        cos, sin = (nn.asarray(wave(angles).reshape(shape), like=x) for wave in (np.cos, np.sin))
        turned.append(rotate(nn, x[..., first : first + share], (cos, sin), "interleaved"))
        first += share
    return nn.xp.concat(turned, axis=-1)


class NeighbourhoodAttention(Module):
    """
    Attention of each cell to the cells around it.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels, head_dim : int
        Channels in all, and of a head.
    kernel : (int, int, int)
        Frames, rows and columns that a cell attends to.
    """

    def __init__(self, nn: Any, channels: int, head_dim: int, kernel: Triple) -> None:
        super().__init__()
        self.heads, self.kernel = channels // head_dim, kernel
        self.qkv = nn.Linear(channels, 3 * channels)
        self.q_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.k_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.proj = nn.Linear(channels, channels)

    def project(self, x: Array, starts: Triple) -> tuple[Array, Array, Array]:
        """Make queries, keys and values, (B, T, H, W, heads, d), of cells of which the first is at `starts`."""
        nn = self.nn
        rows = nn.xp.reshape(self.qkv(x), (*x.shape[:-1], 3, self.heads, -1))
        q, k = turn(nn, self.q_norm(rows[..., 0, :, :]), starts), turn(nn, self.k_norm(rows[..., 1, :, :]), starts)
        return q, k, nn.copy(rows[..., 2, :, :])

    def forward(self, q: Array, k: Array, v: Array, spans: Sequence[Span]) -> Array:
        """Attend, and project what was gathered: (B, T, H, W, C)."""
        out = attend(self.nn, q, k, v, self.kernel, spans)
        return self.proj(self.nn.xp.reshape(out, (*q.shape[:4], -1)))


class GatedMLP(Module):
    """
    SwiGLU: ``w_down(silu(w_gate x) * w_up x)``, without biases.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels; four times as many inside, rounded up to a multiple of 16.
    """

    def __init__(self, nn: Any, channels: int) -> None:
        super().__init__()
        hidden = -(-4 * channels // 16) * 16
        self.w_gate = nn.Linear(channels, hidden, bias=False)
        self.w_up = nn.Linear(channels, hidden, bias=False)
        self.w_down = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Array) -> Array:
        """Transform each cell, (B, T, H, W, C), some frames at a time."""
        nn = self.nn
        frames = slab_frames(x.shape[0], x.shape[2], x.shape[3])
        done = []
        for first in range(0, x.shape[1], frames):
            part = x[:, first : first + frames, ...]
            done.append(self.w_down(nn.silu(self.w_gate(part)) * self.w_up(part)))
            nn.synchronize(done[-1])
        return done[0] if len(done) == 1 else nn.xp.concat(done, axis=1)


class Block(Module):
    """
    A block of a deterministic stage: attention and MLP, each after a norm and added to what came in.

    It runs in two parts, since a decode in pieces must wait for keys between them.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels, head_dim : int
        Channels in all, and of a head.
    kernel : (int, int, int)
        Cells that a cell attends to.
    """

    def __init__(self, nn: Any, channels: int, head_dim: int, kernel: Triple) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(channels, eps=1e-6)
        self.attn = NeighbourhoodAttention(nn, channels, head_dim, kernel)
        self.norm2 = nn.RMSNorm(channels, eps=1e-6)
        self.mlp = GatedMLP(nn, channels)

    def enter(self, x: Array, context: Array | None, rows: Array | None) -> tuple[Array, Array]:
        """Give what attention is added to, and what it reads: (B, T, H, W, C) each."""
        del context, rows  # of a denoising block
        return x, self.norm1(x)

    def forward(self, x: Array, gathered: Array, rows: Array | None) -> Array:
        """Finish cells whose attention has been gathered, (B, T, H, W, C)."""
        del rows
        x = x + gathered
        return x + self.mlp(self.norm2(x))


class DenoisingBlock(Block):
    """
    A block of the denoising stage: the context is added, and the timestep scales and shifts after each norm.

    The rows of the modulation that would be gates are not used: published files have them folded into the weights.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels, context, head_dim : int
        Channels in all, of the context, and of a head.
    kernel : (int, int, int)
        Cells that a cell attends to.
    """

    def __init__(self, nn: Any, channels: int, context: int, head_dim: int, kernel: Triple) -> None:
        super().__init__(nn, channels, head_dim, kernel)
        self.context_proj = nn.Linear(context, channels)
        self.scale_shift_table = nn.parameter((GATE_ROWS, channels))

    def enter(self, x: Array, context: Array | None, rows: Array | None) -> tuple[Array, Array]:
        """Add the context (B, T, H, W, C'); `rows`, (7, C), are scales and shifts of the timestep."""
        assert rows is not None
        x = x + self.context_proj(context)
        return x, self.norm1(x) * (1 + rows[0, :]) + rows[1, :]

    def forward(self, x: Array, gathered: Array, rows: Array | None) -> Array:
        """Finish cells whose attention has been gathered, (B, T, H, W, C)."""
        assert rows is not None
        x = x + gathered
        return x + self.mlp(self.norm2(x) * (1 + rows[3, :]) + rows[4, :])


class Upsample(Module):
    """
    A linear layer whose channels become cells.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels, reduction : int
        Channels before, and by what they are divided.
    stride : (int, int, int)
        Cells of time, height and width that one cell becomes.
    """

    def __init__(self, nn: Any, channels: int, reduction: int, stride: Triple) -> None:
        super().__init__()
        self.stride = stride
        self.proj = nn.Linear(channels, channels // reduction * stride[0] * stride[1] * stride[2])

    def forward(self, x: Array, first: bool = True) -> Array:
        """Enlarge (B, T, H, W, C); the first of the new frames goes where `first` and time grows: it stands for one."""
        xp = self.nn.xp
        batch, time, height, width, _ = x.shape
        p, q, r = self.stride
        x = xp.reshape(self.proj(x), (batch, time, height, width, -1, p, q, r))
        x = xp.permute_dims(x, (0, 1, 5, 2, 6, 3, 7, 4))
        x = xp.reshape(x, (batch, time * p, height * q, width * r, -1))
        return x[:, 1:, ...] if first and p > 1 else x


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
        self.mlp = nn.ModuleList([nn.Linear(2 * SINUSOIDS, width), nn.Identity(), nn.Linear(width, width)])

    def forward(self, timestep: float) -> Array:
        """Embed one timestep, already scaled, as (1, width)."""
        nn, first = self.nn, self.mlp[0].weight
        angles = timestep * 10000.0 ** (-np.arange(SINUSOIDS, dtype=np.float32) / np.float32(SINUSOIDS))
        wave = np.concatenate([np.cos(angles), np.sin(angles)]).astype(np.float32)[None]
        return self.mlp[2](nn.silu(self.mlp[0](nn.asarray(wave, like=first))))


class SharedModulation(Module):
    """
    Rows of scales, shifts and gates that all denoising blocks share.

    Parameters
    ----------
    nn : Backend
        The framework.
    embedding, channels : int
        Channels of the embedded timestep, and of a row.
    """

    def __init__(self, nn: Any, embedding: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(embedding, GATE_ROWS * channels)

    def forward(self, embedded: Array) -> Array:
        """Make the rows, (7, channels), of an embedded timestep (1, embedding)."""
        return self.nn.xp.reshape(self.proj(self.nn.silu(embedded)), (GATE_ROWS, -1))
