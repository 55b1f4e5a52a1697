"""Waveforms that are written as they come, and spectrograms that are read as they are needed."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ltx_models.media import MediaError, as_float32, replacing

_HEADER = "<4sI4s4sIHHIIHHH4sII4sI"  # RIFF, then fmt with an empty extension, fact and data
_FLOAT = 3
_MOST = 2**32 - 1 - struct.calcsize(_HEADER)


class WavWriter:
    """
    A wav file of 32-bit floats that grows block by block; made by `wav_writer`.

    Parameters
    ----------
    file : binary file
        Open for writing, empty.
    path : path
        For messages.
    rate : int
        Samples a second.
    """

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str], rate: int) -> None:
        self.samples = self.channels = 0
        self._file, self._path, self._rate = file, path, rate
        self._file.write(b"\0" * struct.calcsize(_HEADER))

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
        self._file.write(np.ascontiguousarray(values[0].T).astype("<f4").tobytes())

    def finish(self) -> None:
        """Write the header, which tells the length."""
        size, frame = 4 * self.samples * self.channels, 4 * self.channels
        format_ = (_FLOAT, self.channels, self._rate, self._rate * frame, frame, 32, 0)
        riff = struct.calcsize(_HEADER) - 8 + size
        self._file.seek(0)
        fields = (b"RIFF", riff, b"WAVE", b"fmt ", 18, *format_, b"fact", 4, self.samples, b"data", size)
        self._file.write(struct.pack(_HEADER, *fields))


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
    with replacing(path) as part, part.open("wb") as file:
        writer = WavWriter(file, path, rate)
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
