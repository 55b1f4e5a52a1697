"""The sound of a clip, as long as its pictures, in two channels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltx_models.audio_vae import log_mel
from ltx_models.media import MediaError, probe_video, read_audio
from ltx_models.nn import Array

Floats = npt.NDArray[np.float32]
_HALF = 0.707  # of what both ears hear, and of what is behind, in a mix of surround sound
# channels in their usual order: left, right, centre, low, and pairs behind
_PAIRS = {6: ((0, 2, 4), (1, 2, 5)), 8: ((0, 2, 4, 6), (1, 2, 5, 7))}


def stereo(samples: Floats, what: str) -> Floats:
    """
    Bring sound to two channels, as the official trainer does.

    Parameters
    ----------
    samples : ndarray, shape (1, channels, N)
        One channel is given to both sides; 5.1 and 7.1 are mixed, with weights that sum to one.
    what : str
        Its name in errors.

    Returns
    -------
    ndarray, shape (1, 2, N)
        Left and right.

    Raises
    ------
    MediaError
        If it has another number of channels.
    """
    channels = samples.shape[1]
    if channels <= 2:
        return np.repeat(samples, 2, axis=1) if channels == 1 else samples
    if channels not in _PAIRS:
        msg = f"{what}: has {channels} channels of sound, expected 1, 2, 6 (5.1) or 8 (7.1); mix it down first"
        raise MediaError(msg)
    sides = []
    for main, *others in _PAIRS[channels]:
        mixed = samples[:, main] + _HALF * samples[:, others].sum(axis=1)
        sides.append(mixed / np.float32(1 + _HALF * len(others)))
    return np.stack(sides, axis=1).astype(np.float32)


def sound_latents(path: Path, frames: int, fps: Fraction, encoder: Any, device: Any) -> tuple[Array | None, float]:
    """
    Encode the sound of a clip.

    Parameters
    ----------
    path : Path
        The clip.
    frames : int
        How many of its frames are encoded.
    fps : fractions.Fraction
        Frames a second.
    encoder : AudioEncoder
        What `ltx_models.load_audio_encoder` gave.
    device : optional
        Of the encoder.

    Returns
    -------
    latents : array, shape (1, 8, T, 16), or None
        None where the clip has no sound. Sound that ends before the pictures is followed by silence.
    seconds : float
        How long it is.
    """
    if probe_video(path).audio is None:
        return None, 0.0
    samples, rate = read_audio(path)
    count = int(frames / fps * rate)
    kept = stereo(samples, str(path))[:, :, :count]
    kept = np.pad(kept, ((0, 0), (0, 0), (0, count - kept.shape[2])))
    nn, config = encoder.nn, encoder.config
    waves = nn.cast(nn.asarray(np.ascontiguousarray(kept)), nn.float32, device)
    mel = log_mel(waves, rate, target_rate=config.sample_rate, mel_bins=config.mel_bins)
    latents = encoder(mel)
    nn.synchronize(latents)
    return latents, count / rate
