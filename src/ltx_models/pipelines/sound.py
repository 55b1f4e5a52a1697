"""Given sound: cut to a clip's length, as the spectrogram that the audio encoder takes; and sound as it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltx_models.media import MediaError, read_audio

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sound:
    """
    A waveform.

    Attributes
    ----------
    samples : array of float32, shape (1, channels, N)
        In [-1, 1].
    rate : int
        Samples a second.
    """

    samples: Any
    rate: int


def read_sound(path: str | Path, seconds: float, *, start: float = 0.0, shorter: bool = False) -> Sound:
    """
    Read as much of a file's sound as a clip lasts.

    Parameters
    ----------
    path : path
        A sound or video file.
    seconds : float
        How long the clip is.
    start : float
        Where in the file to begin, in seconds.
    shorter : bool
        Take what there is where that is less than asked for.

    Returns
    -------
    Sound
        Stereo: one channel is given to both sides, and of more than two nothing is guessed.

    Raises
    ------
    MediaError
        If the file has no sound, more than two channels, or too little of it.
    """
    samples, rate = read_audio(path)
    if samples.shape[1] > 2:
        msg = f"{path}: has {samples.shape[1]} channels of sound, expected one or two; mix it down first"
        raise MediaError(msg)
    begin, count = round(start * rate), round(seconds * rate)
    left = samples.shape[2] - begin
    if start < 0 or (left < count and not shorter):
        msg = (
            f"{path}: has {samples.shape[2] / rate:.2f} s of sound, the clip needs "
            f"{seconds:.2f} s from {start:.2f} s on; ask for fewer frames, or begin earlier"
        )
        raise MediaError(msg)
    kept: Floats = samples[:, :, begin : begin + count]
    return Sound(np.ascontiguousarray(np.repeat(kept, 2, axis=1) if kept.shape[1] == 1 else kept), rate)
