"""The audio decoder: latents to log-mel spectrograms, whole or as an exact stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.audio_vae.layers import CausalConv2d, Level, Middle, Upsample, activate, refuse_attention, scaled
from ltx_models.nn import Array, Module
from ltx_models.nn.border import guarded
from ltx_models.nn.checks import check_sound
from ltx_models.nn.chunks import chunks_of, placed
from ltx_models.nn.sound import cap, whole
from ltx_models.nn.statistics import PerChannelStatistics
from ltx_models.nn.stream import Flow, Stage, Unit, run


class AudioDecoder(Module):
    """
    From latents to a log-mel spectrogram.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : AudioVAEConfig
        The levels and channels.
    """

    def __init__(self, nn: Any, config: AudioVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.per_channel_statistics = PerChannelStatistics(nn, config.latent_channels * config.latent_bins)
        width = config.channels * config.multipliers[-1]
        self.conv_in = CausalConv2d(nn, config.latent_channels, width, 3, config.causal)
        self.mid = Middle(nn, width, config)
        levels = []
        for i, multiplier in reversed(list(enumerate(config.multipliers))):
            before, width = width, config.channels * multiplier
            levels.append(Level(nn, [before] + [width] * (config.blocks + 1), config, "up" if i else None))
        self.up = nn.ModuleList(levels[::-1])
        self.conv_out = CausalConv2d(nn, width, config.mel_channels, 3, config.causal)

    @guarded("stream() makes it in pieces that are right")
    def forward(self, latent: Array) -> Array:
        """
        Decode a whole clip.

        Parameters
        ----------
        latent : array, shape (B, 8, t, 16)
            Normalised latents, 25 a second.

        Returns
        -------
        array, shape (B, 2, 4 t - 3, 64)
            Natural logarithm of the mel spectrogram of left and right, 100 frames a second, in the dtype of the
            weights. A decoder that is not causal gives 4 t frames.

        Raises
        ------
        ValueError
            If the shape or dtype does not fit, or a value is not finite.
        """
        return self.nn.xp.permute_dims(whole(self.nn, self.units(), self.preprocess(latent)), (0, 3, 1, 2))

    def stream(self, latent: Array | Iterable[Array], *, frames_per_chunk: int = 25) -> Iterator[tuple[int, Array]]:
        """
        Decode a clip piece by piece: equal to the whole decode, in memory that does not grow with the clip.

        Parameters
        ----------
        latent : array, shape (B, 8, t, 16), or iterable of such arrays
            Normalised latents; an iterable gives the clip in parts that follow one another, and ends when it ends.
        frames_per_chunk : int
            Latent frames that go through the network at once, at least 1.

        Yields
        ------
        start : int
            The first spectrogram frame of the block.
        mel : array, shape (B, 2, n, 64)
            Finished frames, in order, each once.

        Raises
        ------
        ValueError
            As for a whole decode; if `frames_per_chunk` is not at least 1; if the network attends over the whole clip.
        """
        refuse_attention(self.config)
        chunks = chunks_of(self.nn, "latent", latent, frames_per_chunk)
        stage = Stage(self.nn, self.units(frames_per_chunk))
        mels = run([stage], map(self.preprocess, chunks))
        return placed(self.nn, mels, lambda mel: self.nn.xp.permute_dims(mel, (0, 3, 1, 2)))

    def units(self, chunk: int | None = None) -> list[Unit]:
        """List the steps of the network, from denormalised latents (B, t, 16, 8) to (B, T, 64, 2)."""
        steps: list[tuple[Any, int]] = [(self.conv_in, 1), *((step, step.convolutions) for step in self.mid.steps)]
        for level in reversed(list(self.up)):
            steps += [(step, step.convolutions) for step in level.steps]
        steps.append((self.postprocess, 1))
        units, scale = [], 1
        for step, convolutions in steps:
            lag = 0 if self.config.causal else convolutions
            if isinstance(step, Upsample):
                lag = (lag + 1) // 2  # counted in its input cells, of which each becomes two
            units.append(Unit(step, lag=lag, **cap(chunk and chunk * scale, lag)))
            scale *= 2 if isinstance(step, Upsample) else 1
        return units

    def preprocess(self, latent: Array) -> Array:
        """Check the latents and denormalise them: (B, t, 16, 8)."""
        nn, config = self.nn, self.config
        check_sound(nn, "latent", latent, config.latent_channels, config.latent_bins)
        latent = nn.cast(latent, self.conv_in.conv.weight.dtype)
        return scaled(nn, self.per_channel_statistics, nn.xp.permute_dims(latent, (0, 2, 1, 3)), normalize=False)

    def postprocess(self, x: Array, flow: Flow) -> Array:
        """Map the last stage to the spectrogram."""
        return self.conv_out(activate(self.nn, x), flow)
