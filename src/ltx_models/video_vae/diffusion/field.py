"""The noise of a decode: one field for the whole video, however it is cut, given or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltx_models.nn import Array, Backend, backend_of
from ltx_models.video_vae.diffusion.sweep import TIME


class Field:
    """
    Noise by pieces along one axis.

    Parameters
    ----------
    nn : Backend
        The framework.
    shape : sequence of int
        (B, 3, F, H, W) of the noise.
    frames : int
        Frames that are asked for: F, or more, which repeat the last.
    like : array
        Whose dtype and device drawn noise has.
    noise : array, optional
        The field; where absent, each piece is drawn by the framework when it is asked for, so that memory does not grow
        with the video. Pieces must then be asked for once each, in order.
    """

    def __init__(self, nn: Backend, shape: Sequence[int], frames: int, like: Array, noise: Array | None = None) -> None:
        self.nn, self.shape, self.frames, self.like, self.noise = nn, tuple(shape), frames, like, noise
        self._last: Array = None  # the last frame that was drawn

    def part(self, axis: int, start: int, stop: int) -> Array:
        """Give the noise from `start` to `stop` along an axis, time 0: (B, 3, F, H, W)."""
        if axis != TIME:
            return self._repeated(self._there(axis, start, stop), self.frames - self.shape[2])
        there = min(stop, self.shape[2])
        if start >= there:
            last = self._last if self.noise is None else self.noise[:, :, -1:]
            return self._repeated(last, stop - start - 1)
        drawn = self._there(axis, start, there)
        self._last = self.nn.copy(drawn[:, :, -1:]) if self.noise is None and there == self.shape[2] else None
        return self._repeated(drawn, stop - there)

    def _there(self, axis: int, start: int, stop: int) -> Array:
        if self.noise is not None:
            return self.noise[(slice(None), slice(None), *(slice(None),) * axis, slice(start, stop), ...)]
        shape = list(self.shape)
        shape[2 + axis] = stop - start
        return self.nn.randn(tuple(shape), like=self.like)

    def _repeated(self, x: Array, more: int) -> Array:
        """Repeat the last frame."""
        return self.nn.pad(x, [(0, 0), (0, 0), (0, more), (0, 0), (0, 0)], "replicate") if more else x


def seeded_field(shape: Sequence[int], seed: int, like: Array) -> Array:
    """
    Draw the noise of a decode from a seed: the same on every framework and device, and for every budget.

    Parameters
    ----------
    shape : sequence of int
        (B, 3, F, H, W), as `DiffusionDecoder.noise_shape` gives it.
    seed : int
        Where the sequence of random numbers begins.
    like : array
        Whose framework, dtype and device to use.

    Returns
    -------
    array
        Standard normal noise of that shape. It is drawn frame by frame, so that no second array of its size is made.

    Examples
    --------
    >>> import torch
    >>> seeded_field((1, 3, 9, 4, 4), 10, torch.zeros(1)).shape
    torch.Size([1, 3, 9, 4, 4])
    """
    nn: Any = backend_of(like)
    draw = np.random.default_rng(seed)
    batch, channels, frames, height, width = shape
    field = nn.on_device(nn.xp.zeros(tuple(shape), dtype=like.dtype), like)
    for frame in range(frames):
        drawn = draw.standard_normal((batch, channels, height, width), dtype=np.float32)
        field[:, :, frame] = nn.asarray(drawn, like)
        nn.synchronize(field)
    return field
