"""The audio encoder: log-mel spectrograms to latents, whole or as an exact stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.audio_vae.layers import CausalConv2d, Downsample, Level, Middle, activate, refuse_attention, scaled
from ltx_models.nn import Array, Module
from ltx_models.nn.border import guarded
from ltx_models.nn.checks import check_sound
from ltx_models.nn.chunks import chunks_of, placed
from ltx_models.nn.sound import cap, whole
from ltx_models.nn.statistics import PerChannelStatistics
from ltx_models.nn.stream import Flow, Stage, Unit, run


class AudioEncoder(Module):
    """
    From a log-mel spectrogram to latents.

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
        width = config.channels
        self.conv_in = CausalConv2d(nn, config.mel_channels, width, 3, config.causal)
        levels = []
        for i, multiplier in enumerate(config.multipliers):
            before, width = width, config.channels * multiplier
            down = "down" if i + 1 < len(config.multipliers) else None
            levels.append(Level(nn, [before] + [width] * config.blocks, config, down))
        self.down = nn.ModuleList(levels)
        self.mid = Middle(nn, width, config)
        self.conv_out = CausalConv2d(nn, width, 2 * config.latent_channels, 3, config.causal)

    @guarded("stream() makes it in pieces that are right", lambda _, latents: latents[..., :1])
    def forward(self, mel: Array) -> Array:
        """
        Encode a whole clip.

        Parameters
        ----------
        mel : array, shape (B, 2, T, 64)
            Natural logarithm of the mel spectrogram, as `log_mel` makes it.

        Returns
        -------
        array, shape (B, 8, ceil(T / 4), 16)
            Normalised latent means, in the dtype of the weights.

        Raises
        ------
        ValueError
            If the shape or dtype does not fit, or a value is not finite.
        """
        return self.postprocess(whole(self.nn, self.units(), self.preprocess(mel)))

    def stream(self, mel: Array | Iterable[Array], *, frames_per_chunk: int = 100) -> Iterator[tuple[int, Array]]:
        """
        Encode a clip piece by piece: equal to the whole encode, in memory that does not grow with the clip.

        Parameters
        ----------
        mel : array, shape (B, 2, T, 64), or iterable of such arrays
            The spectrogram; an iterable gives it in parts that follow one another, and ends when it ends.
        frames_per_chunk : int
            Spectrogram frames that go through the network at once, at least 4.

        Yields
        ------
        start : int
            The first latent frame of the block.
        latents : array, shape (B, 8, n, 16)
            Finished latents, in order, each once.

        Raises
        ------
        ValueError
            As for a whole encode; if `frames_per_chunk` is less than 4; if the network attends over the whole clip or
            is not causal.
        """
        refuse_attention(self.config)
        if not self.config.causal:
            msg = "stream: this encoder reads ahead in time, only causal ones are streamed; call it on the whole clip"
            raise ValueError(msg)
        chunks = chunks_of(self.nn, "mel", mel, frames_per_chunk)
        if frames_per_chunk < self.config.factor:
            msg = (
                f"frames_per_chunk: got {frames_per_chunk}, expected at least {self.config.factor}, those of one latent"
            )
            raise ValueError(msg)
        stage = Stage(self.nn, self.units(frames_per_chunk))
        return placed(self.nn, run([stage], map(self.preprocess, chunks)), self.postprocess)

    def units(self, chunk: int | None = None) -> list[Unit]:
        """List the steps of the network, from spectrograms (B, T, 64, 2) to moments (B, t, 16, 16)."""
        steps: list[Any] = [self.conv_in]
        for level in self.down:
            steps += level.steps
        units, scale = [], 1
        for step in [*steps, *self.mid.steps, self.finish]:
            stride = 2 if isinstance(step, Downsample) else 1
            units.append(Unit(step, stride=stride, **cap(chunk and chunk // scale, stride)))
            scale *= stride
        return units

    def preprocess(self, mel: Array) -> Array:
        """Check the spectrogram and turn it: (B, T, 64, 2)."""
        nn, config = self.nn, self.config
        check_sound(nn, "mel", mel, config.mel_channels, config.mel_bins)
        return nn.xp.permute_dims(nn.cast(mel, self.conv_in.conv.weight.dtype), (0, 2, 3, 1))

    def finish(self, x: Array, flow: Flow) -> Array:
        """Map the last stage to moments, of which the first half are means."""
        return self.conv_out(activate(self.nn, x), flow)

    def postprocess(self, moments: Array) -> Array:
        """Normalise the means: (B, 8, t, 16)."""
        nn = self.nn
        means = nn.xp.permute_dims(moments[..., : self.config.latent_channels], (0, 1, 3, 2))
        means = scaled(nn, self.per_channel_statistics, means, normalize=True)
        return nn.xp.permute_dims(means, (0, 3, 1, 2))
