"""What a clip shows and sounds like, measured from its pixels and samples alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from training.toy.grammar import TONES
from training.toy.scenes import COLOUR_VALUES, HERTZ, WAY, strengths

THRESHOLD = 0.22  # how far a pixel of the shape is from the ground, colours from 0 to 1
STILL = 0.12  # what counts as no motion, in parts of the height
FILLED = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5}  # parts of the box around the shape
SILENT = 0.02  # root mean square of samples
PRESENT = 0.15  # magnitude of a harmonic, in parts of the fundamental's
ENDS = 5  # the first and the last fifth of a clip are compared


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What is in a clip.

    Attributes
    ----------
    colour, shape, motion, tone : str
        Words of the grammar; ``"nothing"`` where no shape is found.
    shift : (float, float)
        From the first to the last frame, across and down, in parts of the height.
    hertz : float
        The strongest frequency; 0 for silence.
    timbre : str
        The shape whose harmonics are heard; ``"none"`` for silence.
    balance : (float, float)
        Of the sound, first and last: the power on the right less that on the left, in parts of both.
    wanted : (float, float)
        What it would be for a sound that comes from where the shape is.
    """

    colour: str
    shape: str
    motion: str
    tone: str
    shift: tuple[float, float]
    hertz: float
    timbre: str
    balance: tuple[float, float]
    wanted: tuple[float, float]


def measure(frames: Any, sound: Any, rate: int) -> Seen:
    """
    Measure a clip.

    Parameters
    ----------
    frames : array, shape (F, H, W, 3)
        In [0, 1].
    sound : array, shape (2, N)
        In [-1, 1].
    rate : int
        Samples a second.
    """
    tone, hertz, timbre = _heard(sound, rate)
    balance = balance_of(sound) if tone != "none" else (0.0, 0.0)
    masks = [_mask(frame) for frame in frames]
    if min(mask.sum() for mask in masks) < 20:
        return Seen("nothing", "nothing", "nothing", tone, (0.0, 0.0), hertz, timbre, balance, (0.0, 0.0))
    ink = np.median(np.concatenate([frame[mask] for frame, mask in zip(frames, masks, strict=True)]), axis=0)
    colour = min(COLOUR_VALUES, key=lambda name: float(np.abs(ink - COLOUR_VALUES[name]).sum()))
    filled = float(np.median([_filled(mask) for mask in masks]))
    shape = min(FILLED, key=lambda name: abs(filled - FILLED[name]))
    first, last = (np.mean([_middle(mask) for mask in part], axis=0) for part in (masks[:2], masks[-2:]))
    across, down = ((last - first) / frames.shape[1]).tolist()
    motion = "still"
    if max(abs(across), abs(down)) > STILL:
        way = (int(np.sign(across)), 0) if abs(across) > abs(down) else (0, int(np.sign(down)))
        motion = next(name for name, one in WAY.items() if one == way)
    places = np.array([_middle(mask)[0] / mask.shape[1] for mask in masks])
    return Seen(colour, shape, motion, tone, (across, down), hertz, timbre, balance, _balance_at(places))


def balance_of(sound: Any) -> tuple[float, float]:
    """Give the power on the right less that on the left, in parts of both, first and last in a sound (2, N)."""
    return _ends(sound**2)


def _balance_at(places: Any) -> tuple[float, float]:
    """Give the balance of a sound that comes from these places, in parts of the width, one a frame."""
    return _ends(strengths(places) ** 2)


def _ends(power: Any) -> tuple[float, float]:
    part = power.shape[1] // ENDS
    (left, right), (later_left, later_right) = power[:, :part].sum(axis=1), power[:, -part:].sum(axis=1)
    return float((right - left) / (right + left)), float((later_right - later_left) / (later_right + later_left))


def _mask(frame: Any) -> Any:
    """Find what is not like the ground, whose colour in each row is that of the row's median of the border."""
    height, width = frame.shape[:2]
    edge = np.concatenate([frame[:, : width // 16], frame[:, -width // 16 :]], axis=1)
    ground = np.median(edge, axis=1, keepdims=True)
    smooth = np.median(ground, axis=0, keepdims=True)  # a shape near the border does not become the ground
    return np.abs(frame - smooth).max(axis=-1) > THRESHOLD + 0.1 * (height < 100)


def _middle(mask: Any) -> Any:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def _filled(mask: Any) -> float:
    rows, columns = (np.flatnonzero(mask.sum(axis=axis) > 2) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return 0.0
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return float(box.mean())


def _heard(sound: Any, rate: int) -> tuple[str, float, str]:
    power = (sound**2).sum(axis=0)
    if np.sqrt(power.mean()) < SILENT:
        return TONES[-1], 0.0, "none"
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.shape[1]), axis=1)).sum(axis=0)
    hertz = float(np.argmax(spectrum)) * rate / sound.shape[1]
    tone = min(HERTZ, key=lambda name: abs(np.log(max(hertz, 1.0) / HERTZ[name])))
    second, third = (_near(spectrum, k * hertz * sound.shape[1] / rate) / spectrum.max() for k in (2, 3))
    timbre = "triangle" if second > PRESENT else "square" if third > PRESENT else "circle"
    return tone, hertz, timbre


def _near(spectrum: Any, place: float) -> float:
    return float(spectrum[max(0, round(place) - 3) : round(place) + 4].max())
