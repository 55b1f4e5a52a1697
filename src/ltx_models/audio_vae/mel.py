"""
Waveforms to the log-mel spectrograms that the audio encoder takes.

The same numbers as torchaudio's ``resample`` and ``MelSpectrogram`` as LTX-2 uses them, for torch and MLX arrays,
without torchaudio: the filters are made by NumPy, in float64. Sound of any length passes in blocks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from math import ceil, gcd, log
from typing import Any

import numpy as np

from ltx_models.nn import BACKENDS, Array, Backend, backend

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

SAMPLE_RATE = 16000
HOP = 160
N_FFT = 1024
FLOOR = 1e-5  # the least magnitude of a band: what silence is made of
BLOCK = 1 << 18  # samples of the input at once

_SINC_ZEROS, _ROLLOFF = 6, 0.99  # of torchaudio's default resampler
_MOST_TAPS = 1 << 24


def log_mel(
    waveform: Array,
    sample_rate: int,
    *,
    mel_bins: int = 64,
    target_rate: int = SAMPLE_RATE,
    hop: int = HOP,
    n_fft: int = N_FFT,
) -> Array:
    """
    Make the log-mel spectrogram of a waveform.

    Parameters
    ----------
    waveform : array of torch or MLX, shape (B, C, N)
        Samples, in [-1, 1] by custom; the audio encoder takes C = 2, left and right.
    sample_rate : int
        Samples a second of the waveform.
    mel_bins : int
        Bands of frequency between 0 and half the target rate.
    target_rate : int
        Samples a second to resample to.
    hop, n_fft : int
        Samples, at the target rate, from one frame to the next, and in the window of one.

    Returns
    -------
    array, shape (B, C, 1 + n // hop, mel_bins)
        Natural logarithm of the magnitude in each band, with n = ceil(N * target_rate / sample_rate), in the dtype of
        the waveform.

    Raises
    ------
    ValueError
        If the waveform is no finite (B, C, N) array of floating-point numbers or too short to be mirrored at its ends,
        or the rate is not a whole number or shares too small a factor with the target rate.

    Notes
    -----
    Source: ``torchaudio.functional.resample`` (Hann-windowed sinc, width 6, rolloff 0.99) and
    ``torchaudio.transforms.MelSpectrogram`` (periodic Hann, centred, reflected, power 1, Slaney scale and norm).

    Examples
    --------
    >>> import torch
    >>> from ltx_models import log_mel
    >>> mel = log_mel(torch.zeros(1, 2, 24000), 24000)
    >>> mel.shape, round(float(mel[0, 0, 0, 0]), 3)
    (torch.Size([1, 2, 101, 64]), -11.513)
    """
    nn = _backend_of(waveform)
    options = {"mel_bins": mel_bins, "target_rate": target_rate, "hop": hop, "n_fft": n_fft}
    pieces = (waveform[..., i : i + BLOCK] for i in range(0, max(1, waveform.shape[-1]), BLOCK))
    blocks = [block for _, block in mel_stream(pieces, sample_rate, **options)]
    return blocks[0] if len(blocks) == 1 else nn.xp.concat(blocks, axis=2)


def mel_stream(
    chunks: Iterable[Array],
    sample_rate: int,
    *,
    mel_bins: int = 64,
    target_rate: int = SAMPLE_RATE,
    hop: int = HOP,
    n_fft: int = N_FFT,
) -> Iterator[tuple[int, Array]]:
    """
    Make the log-mel spectrogram of a waveform that comes in chunks: the same as `log_mel` of all of it.

    Parameters
    ----------
    chunks : iterable of array, shape (B, C, n)
        Parts of the waveform that follow one another.
    sample_rate, mel_bins, target_rate, hop, n_fft : int
        As for `log_mel`.

    Yields
    ------
    start : int
        The first frame of the block.
    mel : array, shape (B, C, frames, mel_bins)
        Finished frames, in order, each once.

    Raises
    ------
    ValueError
        As for `log_mel`.
    """
    _resample_sizes(sample_rate, target_rate)
    if not 0 < hop < n_fft // 2:
        msg = f"hop: got {hop} samples, expected from 1 to {n_fft // 2 - 1}, less than half the window"
        raise ValueError(msg)
    return _mel_blocks(iter(chunks), sample_rate, mel_bins, target_rate, hop, n_fft)


def _mel_blocks(
    chunks: Iterator[Array], sample_rate: int, mel_bins: int, target_rate: int, hop: int, n_fft: int
) -> Iterator[tuple[int, Array]]:
    head = next(chunks, None)
    if head is None:
        msg = "waveform: there are no samples at all"
        raise ValueError(msg)
    nn, leading, dtype = _backend_of(head), tuple(head.shape[:-1]), head.dtype
    lines = _lines(nn, leading, head, chunks)
    if sample_rate != target_rate:
        lines = _resampled(nn, lines, sample_rate, target_rate)
    start = 0
    for frames in _frames(nn, lines, hop, n_fft):
        taper = nn.asarray(_hann(n_fft), frames)
        spectrum = nn.xp.abs(nn.xp.fft.rfft(frames * taper, axis=-1))
        mel = nn.xp.matmul(spectrum, nn.asarray(mel_filters(mel_bins, n_fft, target_rate), spectrum))
        mel = nn.xp.log(nn.xp.where(mel > FLOOR, mel, nn.xp.full_like(mel, FLOOR)))
        mel = nn.cast(mel.reshape(*leading, *mel.shape[1:]), dtype)
        nn.synchronize(mel)
        yield start, mel
        start += mel.shape[2]


def _lines(nn: Backend, leading: tuple[int, ...], head: Array, chunks: Iterator[Array]) -> Iterator[Array]:
    """Check each chunk and give it as (B * C, n, 1) in float32."""
    for chunk in chain([head], chunks):
        if not nn.is_array(chunk) or chunk.ndim != 3 or tuple(chunk.shape[:-1]) != leading or 0 in chunk.shape:
            got = tuple(getattr(chunk, "shape", ())) or type(chunk).__name__
            msg = (
                f"waveform: got {got}, expected (batch, channels, samples), none of them 0, chunks alike but in samples"
            )
            raise ValueError(msg)
        if not nn.xp.isdtype(chunk.dtype, "real floating"):
            msg = f"waveform: got dtype {chunk.dtype}, expected a floating-point one; divide int16 samples by 32768"
            raise ValueError(msg)
        if not nn.all_finite(chunk):
            msg = "waveform: holds NaN or infinite samples"
            raise ValueError(msg)
        yield nn.cast(chunk, nn.float32).reshape(leading[0] * leading[1], -1, 1)


def _resampled(nn: Backend, lines: Iterator[Array], rate: int, target: int) -> Iterator[Array]:
    """Resample (L, n, 1) lines that follow one another."""
    old, new, width = _resample_sizes(rate, target)
    taken = emitted = 0
    buffer: Array = None
    for line, last in _flag_last(lines):
        taken += line.shape[1]
        buffer = nn.pad(line, ((0, 0), (width, 0), (0, 0))) if buffer is None else nn.concat([buffer, line])
        if last:
            buffer = nn.pad(buffer, ((0, 0), (0, width + old), (0, 0)))
        groups = (buffer.shape[1] - (2 * width + old)) // old + 1
        if groups < 1:
            continue
        taps = nn.asarray(_resample_filter(old, new, width), buffer)
        part = nn.xp.matmul(nn.unfold(buffer, 2 * width + old, old)[..., 0], taps).reshape(buffer.shape[0], -1, 1)
        buffer = buffer[:, groups * old :]
        if last:
            part = part[:, : -(-new * taken // old) - emitted]
        emitted += part.shape[1]
        yield part


def _frames(nn: Backend, lines: Iterator[Array], hop: int, n_fft: int) -> Iterator[Array]:
    """Cut (L, n, 1) lines that follow one another, mirrored at both ends, into overlapping (L, frames, n_fft)."""
    half, started = n_fft // 2, False
    buffer: Array = None
    for line, last in _flag_last(lines):
        buffer = line if buffer is None else nn.concat([buffer, line])
        if not started and buffer.shape[1] <= half:
            if last:
                msg = (
                    f"waveform: {buffer.shape[1]} samples at the target rate are too few to be mirrored at the ends; "
                    f"give at least {half + 1}"
                )
                raise ValueError(msg)
            continue
        if not started:
            buffer = nn.pad(buffer, ((0, 0), (half, 0), (0, 0)), "reflect")
            started = True
        if last:
            buffer = nn.pad(buffer, ((0, 0), (0, half), (0, 0)), "reflect")
        frames = (buffer.shape[1] - n_fft) // hop + 1
        if frames > 0:
            yield nn.unfold(buffer, n_fft, hop)[..., 0]
            buffer = nn.copy(buffer[:, frames * hop :])


def _flag_last(lines: Iterator[Array]) -> Iterator[tuple[Array, bool]]:
    """Say of each item whether it is the last."""
    held = next(lines)
    for line in lines:
        yield held, False
        held = line
    yield held, True


def _backend_of(x: object) -> Backend:
    """Find the framework of an array among those that are imported already."""
    for name in BACKENDS:
        if name in sys.modules and (nn := backend(name)).is_array(x):
            return nn
    msg = f"waveform: got a {type(x).__module__}.{type(x).__name__}, expected an array of {' or '.join(BACKENDS)}"
    raise ValueError(msg)


def _resample_sizes(rate: Any, target: Any) -> tuple[int, int, int]:
    """Give the smallest whole periods of both rates, and how far the filter reaches beyond one."""
    for name, value in (("sample_rate", rate), ("target_rate", target)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            msg = f"{name}: got {value!r}, expected a whole number of samples a second"
            raise ValueError(msg)
    common = gcd(rate, target)
    old, new = rate // common, target // common
    width = ceil(_SINC_ZEROS * old / (min(old, new) * _ROLLOFF))
    if (2 * width + old) * new > _MOST_TAPS:
        msg = (
            f"sample_rate: {rate} and {target} Hz have only the factor {common} in common, which makes a filter of "
            f"{(2 * width + old) * new} taps; give a common rate such as 44100 or 48000"
        )
        raise ValueError(msg)
    return old, new, width


@cache
def _resample_filter(old: int, new: int, width: int) -> FloatArray:
    """Make the taps (2 * width + old, new): a column for each of the new samples in a period."""
    cutoff = min(old, new) * _ROLLOFF
    time = np.arange(-width, width + old)[:, None] / old - np.arange(new)[None] / new
    time = np.clip(time * cutoff, -_SINC_ZEROS, _SINC_ZEROS)
    taps: FloatArray = np.sinc(time) * np.cos(time * np.pi / (2 * _SINC_ZEROS)) ** 2 * (cutoff / old)
    return taps


@cache
def _hann(size: int) -> FloatArray:
    """Make the periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


@cache
def mel_filters(bins: int, n_fft: int = N_FFT, rate: int = SAMPLE_RATE) -> FloatArray:
    """
    Make the bands of frequency: triangles on the Slaney scale, of equal area.

    Parameters
    ----------
    bins : int
        Bands between 0 Hz and half the rate.
    n_fft, rate : int
        Samples in a window, and samples a second.

    Returns
    -------
    array, shape (n_fft // 2 + 1, bins)
        The weight of each frequency in each band.

    Examples
    --------
    >>> mel_filters(64).shape
    (513, 64)
    """
    # linear to 1 kHz, 200 / 3 Hz a mel; beyond, 27 mels to a factor of 6.4
    knee, per_mel, growth = 1000.0, 200.0 / 3, log(6.4) / 27
    top = rate / 2
    top_mel = top / per_mel if top < knee else knee / per_mel + log(top / knee) / growth
    mels = np.linspace(0, top_mel, bins + 2)
    edges = np.where(mels < knee / per_mel, mels * per_mel, knee * np.exp(growth * (mels - knee / per_mel)))
    frequency = np.linspace(0, top, n_fft // 2 + 1)[:, None]
    rise = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    filters: FloatArray = np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))
    return filters
