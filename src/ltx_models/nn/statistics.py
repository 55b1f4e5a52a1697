"""The statistics by which latents are normalised."""

from __future__ import annotations

from typing import Any

from ltx_models.nn import Array, Module

STATISTICS = ("mean-of-means", "std-of-means")  # those that the networks use; official files carry others


class PerChannelStatistics(Module):
    """
    Mean and standard deviation of each latent channel.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Latent channels.
    """

    def __init__(self, nn: Any, channels: int) -> None:
        super().__init__()
        nn.buffer(self, "mean-of-means", nn.xp.zeros((channels,), dtype=nn.float32))
        nn.buffer(self, "std-of-means", nn.xp.ones((channels,), dtype=nn.float32))

    def forward(self, x: Array, *, normalize: bool) -> Array:
        """Normalise (..., C), or undo it."""
        mean, std = getattr(self, "mean-of-means"), getattr(self, "std-of-means")
        return (x - mean) / std if normalize else x * std + mean
