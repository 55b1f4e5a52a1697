"""
The audio autoencoder of LTX-2 and LTX-2.3: log-mel spectrograms to latents and back, whole or as an exact stream.

Pictures of sound: height is time, width is frequency. Along time the official networks look back only, over zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ltx_models.audio_config import AudioVAEConfig
from ltx_models.audio_layers import CausalConv2d, Downsample, Level, Middle, Upsample, activate
from ltx_models.checkpoints import BackendName, Checkpoint, DType, load_component, prefixed
from ltx_models.nn import Array, Backend, Module
from ltx_models.nn.stream import Flow, Pipeline, Unit, run
from ltx_models.sound_layers import cap, check_sound, placed, whole
from ltx_models.video_layers import PerChannelStatistics
from ltx_models.video_stream import chunks_of

NORM_EPS = 1e-6
STATISTICS = ("mean-of-means", "std-of-means")


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
        return self.nn.xp.permute_dims(whole(self.nn, self.units(), self.enter(latent)), (0, 3, 1, 2))

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
        pipeline = Pipeline(self.nn, self.units(frames_per_chunk))
        mels = run([pipeline], map(self.enter, chunks))
        return placed(self.nn, (self.nn.xp.permute_dims(mel, (0, 3, 1, 2)) for mel in mels))

    def units(self, chunk: int | None = None) -> list[Unit]:
        """List the steps of the network, from denormalised latents (B, t, 16, 8) to (B, T, 64, 2)."""
        steps: list[tuple[Any, int]] = [(self.conv_in, 1), *((step, step.convolutions) for step in self.mid.steps)]
        for level in reversed(list(self.up)):
            steps += [(step, step.convolutions) for step in level.steps]
        steps.append((self.leave, 1))
        units, scale = [], 1
        for step, convolutions in steps:
            lag = 0 if self.config.causal else convolutions
            if isinstance(step, Upsample):
                lag = (lag + 1) // 2  # counted in its input cells, of which each becomes two
            units.append(Unit(step, lag=lag, **cap(chunk and chunk * scale, lag)))
            scale *= 2 if isinstance(step, Upsample) else 1
        return units

    def enter(self, latent: Array) -> Array:
        """Check the latents and denormalise them: (B, t, 16, 8)."""
        nn, config = self.nn, self.config
        check_sound(nn, "latent", latent, config.latent_channels, config.latent_bins)
        latent = nn.cast(latent, self.conv_in.conv.weight.dtype)
        return scaled(nn, self.per_channel_statistics, nn.xp.permute_dims(latent, (0, 2, 1, 3)), normalize=False)

    def leave(self, x: Array, flow: Flow) -> Array:
        """Map the last stage to the spectrogram."""
        return self.conv_out(activate(self.nn, x), flow)


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
        return self.leave(whole(self.nn, self.units(), self.enter(mel)))

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
        pipeline = Pipeline(self.nn, self.units(frames_per_chunk))
        return placed(self.nn, map(self.leave, run([pipeline], map(self.enter, chunks))))

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

    def enter(self, mel: Array) -> Array:
        """Check the spectrogram and turn it: (B, T, 64, 2)."""
        nn, config = self.nn, self.config
        check_sound(nn, "mel", mel, config.mel_channels, config.mel_bins)
        return nn.xp.permute_dims(nn.cast(mel, self.conv_in.conv.weight.dtype), (0, 2, 3, 1))

    def finish(self, x: Array, flow: Flow) -> Array:
        """Map the last stage to moments, of which the first half are means."""
        return self.conv_out(activate(self.nn, x), flow)

    def leave(self, moments: Array) -> Array:
        """Normalise the means: (B, 8, t, 16)."""
        nn = self.nn
        means = nn.xp.permute_dims(moments[..., : self.config.latent_channels], (0, 1, 3, 2))
        means = scaled(nn, self.per_channel_statistics, means, normalize=True)
        return nn.xp.permute_dims(means, (0, 3, 1, 2))


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


def _names(component: str) -> Any:
    prefixes = prefixed((f"audio_vae.{component}.", ""), (f"{component}.", ""))

    def rename(key: str) -> str | None:
        if key.startswith(("audio_vae.per_channel_statistics.", "per_channel_statistics.")):
            name = key.rpartition(".")[2]
            return f"per_channel_statistics.{name}" if name in STATISTICS else None
        return prefixes(key)

    return rename


def _read_config(checkpoint: Checkpoint, config: Mapping[str, Any] | None) -> AudioVAEConfig:
    found = checkpoint.config if config is None else config
    return AudioVAEConfig.read(found.get("audio_vae", found))


def load_audio_decoder(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the audio decoder of a checkpoint.

    Parameters
    ----------
    path : path
        A safetensors file (whole checkpoint or one component), or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights, and so of the result.
    device : optional
        A torch device.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``audio_vae``.

    Returns
    -------
    AudioDecoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> decoder = load_audio_decoder("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> AudioDecoder:
        return AudioDecoder(nn, _read_config(checkpoint, config))

    return load_component(path, make, _names("decoder"), backend_name=backend, dtype=dtype, device=device)


def load_audio_encoder(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the audio encoder of a checkpoint.

    Parameters
    ----------
    path : path
        A safetensors file (whole checkpoint or one component), or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights, and so of the result.
    device : optional
        A torch device.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``audio_vae``.

    Returns
    -------
    AudioEncoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> encoder = load_audio_encoder("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> AudioEncoder:
        return AudioEncoder(nn, _read_config(checkpoint, config))

    return load_component(path, make, _names("encoder"), backend_name=backend, dtype=dtype, device=device)
