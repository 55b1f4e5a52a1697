"""The feature extractors: all layers of a token, scaled, joined and projected."""

from __future__ import annotations

from math import sqrt
from typing import Any

from ltx_models.nn import Array, Module

EPS = 1e-6


class FirstExtractor(Module):
    """
    The feature extractor of 2.0: each layer is scaled to a common range over the tokens of a sample; one projection.

    Parameters
    ----------
    nn : Backend
        The framework.
    inputs, outputs : int
        Channels of all layers of a token together, and of a feature.
    """

    def __init__(self, nn: Any, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.aggregate_embed = nn.Linear(inputs, outputs, bias=False)

    def forward(self, hidden: Array, keep: Array) -> tuple[Array, Array]:
        """Map (B, T, D, L) in float32, with (B, T, 1, 1) true where a token is, to (B, T, C), the same for both."""
        nn, xp = self.nn, self.nn.xp
        batch, time, width, layers = hidden.shape
        tokens = xp.sum(nn.cast(keep, hidden.dtype), axis=1, keepdims=True)
        kept = xp.where(keep, hidden, xp.zeros_like(hidden))
        mean = xp.sum(kept, axis=(1, 2), keepdims=True) / (tokens * width + EPS)
        huge = xp.full_like(hidden, float("inf"))
        low = xp.min(xp.where(keep, hidden, huge), axis=(1, 2), keepdims=True)
        high = xp.max(xp.where(keep, hidden, -huge), axis=(1, 2), keepdims=True)
        x = xp.where(keep, 8 * (hidden - mean) / (high - low + EPS), xp.zeros_like(hidden))
        x = self.aggregate_embed(nn.cast(x.reshape(batch, time, width * layers), self.aggregate_embed.weight.dtype))
        return x, x


class SecondExtractor(Module):
    """
    The feature extractor of 2.3: each layer of a token is scaled to a root mean square of 1; two projections.

    Parameters
    ----------
    nn : Backend
        The framework.
    inputs : int
        Channels of all layers of a token together.
    video, audio : int
        Channels of a feature for video, and for audio; 0 for none.
    """

    def __init__(self, nn: Any, inputs: int, video: int, audio: int) -> None:
        super().__init__()
        self.inputs, self.video, self.audio = inputs, video, audio
        self.video_aggregate_embed = nn.Linear(inputs, video)
        if audio:
            self.audio_aggregate_embed = nn.Linear(inputs, audio)

    def forward(self, hidden: Array, keep: Array) -> tuple[Array, Array | None]:
        """Map (B, T, D, L) in float32, with (B, T, 1, 1) true where a token is, to (B, T, C) of each."""
        nn, xp = self.nn, self.nn.xp
        batch, time, width, layers = hidden.shape
        x = hidden / xp.sqrt(xp.mean(hidden**2, axis=2, keepdims=True) + EPS)
        x = xp.where(keep, x, xp.zeros_like(x)).reshape(batch, time, width * layers)

        def project(linear: Any, outputs: int) -> Array:
            return linear(nn.cast(x * sqrt(outputs / width), linear.weight.dtype))

        video = project(self.video_aggregate_embed, self.video)
        return video, project(self.audio_aggregate_embed, self.audio) if self.audio else None
