"""The vocoder of LTX-2.3: a generator, and a second one that adds what is missing above 8 kHz."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from ltx_models.nn import Array, Module
from ltx_models.nn.border import guarded
from ltx_models.nn.chunks import chunks_of, placed
from ltx_models.nn.sound import Filter, cap, whole, window
from ltx_models.nn.stream import Flow, Stage, Unit, run
from ltx_models.vocoder.config import BandwidthConfig
from ltx_models.vocoder.generator import Generator, clamp, side_by_side

FLOOR = 1e-5  # the least magnitude of a band


class Basis(Module):
    """
    The windows of a Fourier transform, as convolutions that a checkpoint brings along.

    Parameters
    ----------
    nn : Backend
        The framework.
    n_fft : int
        Samples of a window.
    """

    forward_basis: Array

    def __init__(self, nn: Any, n_fft: int) -> None:
        super().__init__()
        shape = (2 * (n_fft // 2 + 1), 1, n_fft)
        nn.buffer(self, "forward_basis", nn.xp.zeros(shape, dtype=nn.float32))
        nn.buffer(self, "inverse_basis", nn.xp.zeros(shape, dtype=nn.float32))


class MelTransform(Module):
    """
    The spectrogram between the two generators, which looks back only.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : BandwidthConfig
        Its sizes.
    """

    mel_basis: Array

    def __init__(self, nn: Any, config: BandwidthConfig) -> None:
        super().__init__()
        self.hop, self.n_fft = config.hop, config.n_fft
        nn.buffer(self, "mel_basis", nn.xp.zeros((config.mel_bins, config.n_fft // 2 + 1), dtype=nn.float32))
        self.stft_fn = Basis(nn, config.n_fft)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece of samples (B, N, C) to the frames (B, T, C * bins) that it completes."""
        nn, xp = self.nn, self.nn.xp
        batch, _, channels = x.shape
        lead = self.n_fft - self.hop
        cells = x.shape[1] + (lead if flow.first else flow.kept[id(self)].shape[1])
        frames = max(0, (cells - lead) // self.hop)
        x = window(flow, self, x, lead, 0, keep=cells - frames * self.hop)
        if not frames:
            return xp.zeros_like(xp.broadcast_to(x[:, :0, :1], (batch, 0, channels * self.mel_basis.shape[0])))
        lines = xp.permute_dims(x, (0, 2, 1)).reshape(batch * channels, -1, 1)
        windows = xp.permute_dims(nn.unfold(lines, self.n_fft, self.hop)[..., 0], (0, 2, 1))
        # the matrix on the left: the frames of all channels never become one axis, so who cuts along time may do so
        waves = nn.matmul(self.stft_fn.forward_basis[:, 0], windows)
        bands = waves.shape[1] // 2
        mel = nn.matmul(self.mel_basis, xp.sqrt(waves[:, :bands] ** 2 + waves[:, bands:] ** 2))
        mel = xp.log(xp.maximum(mel, xp.full_like(mel, FLOOR)))
        mel = mel.reshape(batch, channels * mel.shape[1], mel.shape[2])
        return xp.permute_dims(mel, (0, 2, 1))


class Resampler:
    """Raises the rate by a whole number: a Hann-windowed sinc between repeated ends. It has no weights of its own."""

    zeros, rolloff, reach = 6, 0.99, 7

    def __init__(self, ratio: int) -> None:
        self.ratio = ratio
        taps = 2 * self.reach * ratio + 1
        time = np.clip((np.arange(taps) / ratio - self.reach) * self.rolloff, -self.zeros, self.zeros)
        self.taps = np.sinc(time) * np.cos(time * np.pi / (2 * self.zeros)) ** 2 * self.rolloff
        # sample q of a cell weighs the cell `reach - i` after it by tap q + i * ratio
        cells = range(2 * self.reach, -1, -1)
        index = [[q + i * ratio if q + i * ratio < taps else -1 for i in cells] for q in range(ratio)]
        self.filter = Filter(index, step=1)

    def __call__(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, N, C)."""
        cells = x.shape[1] + self.reach * ((1 if flow.first else 2) + (1 if flow.last else 0))
        kept = cells - 2 * self.reach
        spare = self.filter.needs(kept) - cells
        x = window(flow, self, x, self.reach, self.reach, edge="replicate", spare=spare)
        return self.filter(flow.nn, x, flow.nn.asarray(self.taps, x))[:, : kept * self.ratio]


class BandwidthVocoder(Module):
    """
    The vocoder of LTX-2.3: 16 kHz by one generator, extended to 48 kHz by another. It holds and computes in float32.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : BandwidthConfig
        Both generators and the spectrogram between them.
    """

    def __init__(self, nn: Any, config: BandwidthConfig) -> None:
        super().__init__()
        self.config = config
        self.vocoder = Generator(nn, config.vocoder)
        self.bwe_generator = Generator(nn, config.extension)
        self.mel_stft = MelTransform(nn, config)

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
        array, shape (B, 2, 480 T)
            Samples in [-1, 1], `sample_rate` a second, in the dtype of `mel`.

        Raises
        ------
        ValueError
            If the shape or dtype does not fit, or a value is not finite.
        """
        nn = self.nn
        low = whole(nn, self.vocoder.units(), self.preprocess(mel))
        samples = low.shape[1] * self.config.ratio
        low = nn.pad(low, ((0, 0), (0, -low.shape[1] % self.config.hop), (0, 0)))
        wide = whole(nn, [Unit(self.mel_stft), *self.bwe_generator.units()], low)
        wide = clamp(nn.xp, nn.add_(wide, [Resampler(self.config.ratio)(low, Flow(nn))]))[:, :samples]
        return nn.cast(nn.xp.permute_dims(wide, (0, 2, 1)), mel.dtype)

    def stream(self, mel: Array | Iterable[Array], *, frames_per_chunk: int = 50) -> Iterator[tuple[int, Array]]:
        """
        Make the waveform piece by piece, as `Vocoder.stream` does.

        Parameters
        ----------
        mel, frames_per_chunk
            As `Vocoder.stream` takes them, with the same errors.

        Yields
        ------
        start : int
            The first sample of the block.
        samples : array, shape (B, 2, n)
            Finished samples, in order, each once.
        """
        return placed(self.nn, self._blocks(chunks_of(self.nn, "mel", mel, frames_per_chunk), frames_per_chunk))

    def _blocks(self, chunks: Iterator[Array], chunk: int) -> Iterator[Array]:
        head = next(chunks)
        dtype, extension = head.dtype, Extension(self, chunk)
        stages = [Stage(self.nn, self.vocoder.units(chunk)), extension]
        mels = map(self.preprocess, chain([head], chunks))
        del head
        for block in run(stages, mels):
            yield self.nn.cast(self.nn.xp.permute_dims(block, (0, 2, 1)), dtype)

    def preprocess(self, mel: Array) -> Array:
        """Check the spectrogram and lay its channels side by side: (B, T, 128)."""
        return side_by_side(self.nn, mel, self.config.vocoder, self.vocoder.conv_pre.weight.dtype)


class Extension:
    """
    The way from 16 to 48 kHz as a stage of a stream: the resampled waveform waits for what the generator adds to it.

    Parameters
    ----------
    vocoder : BandwidthVocoder
        The network.
    chunk : int
        Mel frames of the first generator at once.
    """

    def __init__(self, vocoder: BandwidthVocoder, chunk: int) -> None:
        self.nn, self.config = vocoder.nn, vocoder.config
        hop, resample = self.config.hop, Resampler(self.config.ratio)
        frames = max(1, chunk * self.config.vocoder.factor // hop)
        transform = Unit(vocoder.mel_stft, **cap(frames * hop, hop))
        self.upper = Stage(self.nn, [transform, *vocoder.bwe_generator.units(frames)])
        self.lower = Stage(self.nn, [Unit(resample, lag=resample.reach, **cap(frames * hop, resample.reach))])
        self.waiting: list[Array] = []
        self.taken = self.given = 0

    def push(self, x: Array, *, last: bool) -> Iterator[tuple[Array, bool]]:
        """Put samples (B, n, C) in and take out what they complete, as `Pipeline.push`."""
        self.taken += x.shape[1]
        if last:  # zeros fill the last hop; what is made of them is left out
            x = self.nn.pad(x, ((0, 0), (0, -self.taken % self.config.hop), (0, 0)))
        self.waiting += [block for block, _ in self.lower.push(x, last=last)]
        for upper, ends in self.upper.push(x, last=last):
            block = clamp(self.nn.xp, self.nn.add_(self._take(upper.shape[1]), [upper]))
            block = block[:, : self.taken * self.config.ratio - self.given] if last else block
            self.given += block.shape[1]
            yield block, ends

    def _take(self, cells: int) -> Array:
        parts: list[Array] = []
        while cells:
            part = self.waiting.pop(0)
            if part.shape[1] > cells:
                self.waiting.insert(0, part[:, cells:])
                part = part[:, :cells]
            cells -= part.shape[1]
            parts.append(part)
        return self.nn.concat(parts)
