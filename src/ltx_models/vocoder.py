"""
The vocoders of LTX-2 (HiFi-GAN, 24 kHz) and LTX-2.3 (BigVGAN with bandwidth extension, 48 kHz), whole or streamed.

Both are generators: a convolution, then stages that each lengthen time by a transposed convolution and pass through
three residual branches side by side. In 2.3 the activations of the branches are applied at twice the rate, between
filters, and a second generator makes from the first one's waveform what is missing above 8 kHz.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ltx_models.bandwidth import BandwidthVocoder
from ltx_models.checkpoints import DTYPES, BackendName, Checkpoint, DType, load_component, open_checkpoint, prefixed
from ltx_models.nn import Array, Backend
from ltx_models.nn.stream import Pipeline, run
from ltx_models.sound_layers import placed, whole
from ltx_models.video_stream import chunks_of
from ltx_models.vocoder_config import BandwidthConfig, read_config
from ltx_models.vocoder_generator import Generator, side_by_side


class Vocoder(Generator):
    """
    The vocoder of LTX-2.0: 24 kHz.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : GeneratorConfig
        The stages and channels.
    """

    @property
    def sample_rate(self) -> int:
        """Samples a second of the waveform."""
        return self.config.sample_rate

    def forward(self, mel: Array) -> Array:
        """
        Make the waveform of a whole spectrogram.

        Parameters
        ----------
        mel : array, shape (B, 2, T, 64)
            Natural logarithm of the mel spectrogram of left and right, 100 frames a second.

        Returns
        -------
        array, shape (B, 2, 240 T)
            Samples in [-1, 1], `sample_rate` a second, in the dtype of the weights.

        Raises
        ------
        ValueError
            If the shape or dtype does not fit, or a value is not finite.
        """
        return self.nn.xp.permute_dims(whole(self.nn, self.units(), self.enter(mel)), (0, 2, 1))

    def stream(self, mel: Array | Iterable[Array], *, frames_per_chunk: int = 50) -> Iterator[tuple[int, Array]]:
        """
        Make the waveform piece by piece: equal to the whole, in memory that does not grow with the length.

        Parameters
        ----------
        mel : array, shape (B, 2, T, 64), or iterable of such arrays
            The spectrogram; an iterable gives it in parts that follow one another, and ends when it ends.
        frames_per_chunk : int
            Mel frames that go through the network at once, at least 1.

        Yields
        ------
        start : int
            The first sample of the block.
        samples : array, shape (B, 2, n)
            Finished samples, in order, each once.

        Raises
        ------
        ValueError
            As for the whole, or if `frames_per_chunk` is not at least 1.
        """
        chunks = chunks_of(self.nn, "mel", mel, frames_per_chunk)
        blocks = run([Pipeline(self.nn, self.units(frames_per_chunk))], map(self.enter, chunks))
        return placed(self.nn, (self.nn.xp.permute_dims(block, (0, 2, 1)) for block in blocks))

    def enter(self, mel: Array) -> Array:
        """Check the spectrogram and lay its channels side by side: (B, T, 128)."""
        return side_by_side(self.nn, mel, self.config, self.conv_pre.weight.dtype)


def load_vocoder(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the vocoder of a checkpoint.

    Parameters
    ----------
    path : path
        A safetensors file (whole checkpoint or one component), or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights. A vocoder with bandwidth extension (2.3) holds and computes in float32 all the same,
        as half precision is audible there.
    device : optional
        A torch device.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``vocoder``.

    Returns
    -------
    Vocoder or BandwidthVocoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference; the configuration decides which.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> vocoder = load_vocoder("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """
    with open_checkpoint(path, "numpy") as checkpoint:
        found = read_config(_section(checkpoint.config if config is None else config))
    wide = isinstance(found, BandwidthConfig)

    def make(nn: Backend, checkpoint: Checkpoint) -> Any:
        return BandwidthVocoder(nn, found) if isinstance(found, BandwidthConfig) else Vocoder(nn, found)

    if dtype not in DTYPES:
        msg = f"dtype: got {dtype!r}, allowed are {', '.join(map(repr, DTYPES))}"
        raise ValueError(msg)
    kept: DType = "float32" if wide else dtype
    return load_component(path, make, prefixed(("vocoder.", "")), backend_name=backend, dtype=kept, device=device)


def _section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the description of the vocoder in a whole configuration, or in that section alone."""
    inner = config.get("vocoder", config)
    # the section of 2.3 has a part of the same name
    return config if "bwe" in config else inner
