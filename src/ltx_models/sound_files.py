"""Waveforms that are written as they come, and spectrograms that are read as they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltx_models.media import MediaError, as_float32, replacing
from ltx_models.media._files import av, refuse_irregular
from ltx_models.media.audio import TrackWriter

_MOST = 2**32 - 2**12  # bytes of samples that a wav file can hold beside its head


class WavWriter:
    """
    A wav file of 32-bit floats that grows block by block; made by `wav_writer`.

    Parameters
    ----------
    container : container
        Of PyAV, open for writing.
    path : path
        For messages.
    rate : int
        Samples a second.
    """

    def __init__(self, container: Any, path: str | os.PathLike[str], rate: int) -> None:
        self.samples = self.channels = 0
        self._container, self._path, self._rate = container, path, rate
        self._track: TrackWriter | None = None

    def write(self, block: Any) -> None:
        """
        Append samples.

        Parameters
        ----------
        block : array, shape (1, channels, n)
            Of any array library, finite.

        Raises
        ------
        MediaError
            If the shape is another, a value is not finite, or the file becomes larger than wav can say (4 GiB).
        """
        values = as_float32(block)
        if values.ndim != 3 or values.shape[0] != 1 or self.channels not in {0, values.shape[1]}:
            msg = f"{self._path}: got samples of shape {values.shape}, expected (1, {self.channels or 'channels'}, n)"
            raise MediaError(msg)
        if not np.isfinite(values).all():
            msg = f"{self._path}: samples {self.samples} and on are not all finite"
            raise MediaError(msg)
        self.channels = values.shape[1]
        self.samples += values.shape[2]
        if 4 * self.samples * self.channels > _MOST:
            msg = f"{self._path}: {self.samples} samples are more than a wav file can hold; write parts of the sound"
            raise MediaError(msg)
        if self._track is None:
            self._track = TrackWriter(self._container, self._path, self._rate, self.channels, "pcm_f32le", "flt")
        self._track.write(values[0])

    def finish(self) -> None:
        """Write what is still held back; a file without samples is refused."""
        if self._track is None:
            msg = f"{self._path}: no samples were written; a wav file holds at least one"
            raise MediaError(msg)
        self._track.finish()


@contextmanager
def wav_writer(path: str | os.PathLike[str], rate: int) -> Iterator[WavWriter]:
    """
    Write a wav file block by block, in constant memory.

    Parameters
    ----------
    path : path
        The file, ending in ``.wav``. It gets this name when it is complete.
    rate : int
        Samples a second.

    Yields
    ------
    WavWriter
        Takes the blocks.

    Raises
    ------
    MediaError
        If the suffix is another, or the place cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from ltx_models.media import read_audio
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with wav_writer(f"{folder}/a.wav", 24000) as file:
    ...         for _ in range(3):
    ...             file.write(np.full((1, 2, 100), 0.25, dtype=np.float32))
    ...     samples, rate = read_audio(f"{folder}/a.wav")
    >>> samples.shape, float(samples.min()), rate
    ((1, 2, 300), 0.25, 24000)
    """
    if Path(path).suffix.lower() != ".wav":
        msg = f"{path}: sound that is written as it comes is a .wav file; convert it afterwards"
        raise MediaError(msg)
    with replacing(path) as part, av().open(str(part), "w", format="wav") as container:
        writer = WavWriter(container, path, rate)
        yield writer
        writer.finish()


def read_mel(path: str | os.PathLike[str], frames: int) -> Iterator[npt.NDArray[np.float32]]:
    """
    Read a spectrogram part by part.

    Parameters
    ----------
    path : path
        A safetensors file with a tensor ``mel`` of shape (1, 2, T, 64).
    frames : int
        Mel frames at once.

    Yields
    ------
    ndarray, shape (1, 2, n, 64)
        float32, in order.

    Raises
    ------
    MediaError
        If the file is missing, damaged or holds no such tensor.
    """
    from safetensors import SafetensorError, safe_open

    refuse_irregular(path)
    try:
        with safe_open(os.fspath(path), "numpy") as file:
            if "mel" not in file.keys():  # noqa: SIM118  # not a mapping
                msg = f"{path}: holds no tensor 'mel'; write the spectrogram with safetensors under that name"
                raise MediaError(msg)
            part = file.get_slice("mel")
            shape = part.get_shape()
            if len(shape) != 4 or shape[0] != 1 or 0 in shape:
                msg = f"{path}: 'mel' has shape {tuple(shape)}, expected (1, 2, frames, 64)"
                raise MediaError(msg)
            for start in range(0, shape[2], frames):
                yield np.asarray(part[:, :, start : min(start + frames, shape[2])], dtype=np.float32)
    except (OSError, SafetensorError) as error:
        msg = f"cannot read a spectrogram from {path}: {error}"
        raise MediaError(msg) from error
