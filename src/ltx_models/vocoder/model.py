"""The vocoder of LTX-2.0: log-mel spectrograms to a waveform of 24 kHz, whole or as an exact stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ltx_models.nn import Array
from ltx_models.nn.border import guarded
from ltx_models.nn.chunks import chunks_of, placed
from ltx_models.nn.sound import whole
from ltx_models.nn.stream import Stage, run
from ltx_models.vocoder.generator import Generator, side_by_side


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

    @guarded("stream() makes it in pieces that are right")
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
        return self.nn.xp.permute_dims(whole(self.nn, self.units(), self.preprocess(mel)), (0, 2, 1))

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
        blocks = run([Stage(self.nn, self.units(frames_per_chunk))], map(self.preprocess, chunks))
        return placed(self.nn, blocks, lambda block: self.nn.xp.permute_dims(block, (0, 2, 1)))

    def preprocess(self, mel: Array) -> Array:
        """Check the spectrogram and lay its channels side by side: (B, T, 128)."""
        return side_by_side(self.nn, mel, self.config, self.conv_pre.weight.dtype)
