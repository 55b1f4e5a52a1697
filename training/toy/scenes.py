"""Clips of what a sentence asks for: a shape that moves over a plain ground, and a tone that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from training.toy.grammar import Wish, draw_wish

Floats = NDArray[np.float32]

FRAMES, FPS = 33, 24
SMALL, LARGE = (96, 128), (192, 256)  # height and width of the first stage and of the result, pixels
RATE = 48000  # of the sound as it is drawn; a multiple of what the networks take and give
SECONDS = FRAMES / FPS
COLOUR_VALUES = {
    "red": (0.92, 0.13, 0.13),
    "yellow": (0.95, 0.85, 0.12),
    "green": (0.12, 0.75, 0.25),
    "blue": (0.15, 0.30, 0.95),
    "white": (0.96, 0.96, 0.96),
}
# A convolutional vocoder that is fed the same frame again and again repeats itself with every frame, 100 times a
# second: it can hold those tones that are multiples of 100 Hz, with a phase that belongs to the frame.
HERTZ = {"low": 300, "middle": 600, "high": 1200}
# the strength of each harmonic, by shape: a pure tone, a hollow one, a bright one
HARMONICS = {"circle": (1.0,), "square": (0.8, 0.0, 0.35, 0.0, 0.2), "triangle": (0.7, 0.4, 0.3, 0.2)}
LOUDNESS = 0.4
SIDES = (
    0.25,
    0.75,
)  # places of the shape, in parts of the width, at which the sound is as far left and right as it goes
ANGLES = (0.15, 0.85)  # of the sound there, in parts of a right angle: 0 is the left speaker alone, 1 the right one
BEEP_SECONDS, GAP_SECONDS, FADE_SECONDS = 0.12, 0.08, 0.01
WAY = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}


@dataclass(frozen=True, slots=True)
class Scene:
    """
    One clip, without its size in pixels.

    Attributes
    ----------
    wish : Wish
        What it shows.
    start, stop : (float, float)
        Where the middle of the shape is first and last, across and down, in parts of the height.
    radius : float
        In parts of the height.
    top, bottom : (float, float, float)
        Colours of the ground, red, green, blue from 0 to 1.
    """

    wish: Wish
    start: tuple[float, float]
    stop: tuple[float, float]
    radius: float
    top: tuple[float, float, float]
    bottom: tuple[float, float, float]


def draw_scene(rng: np.random.Generator, wish: Wish | None = None) -> Scene:
    """Draw what a sentence leaves open."""
    wish = draw_wish(rng) if wish is None else wish
    radius = rng.uniform(0.26, 0.29)
    across, down = WAY[wish.motion]
    # the middle of the path, and half its length: the shape stays inside
    middle = np.array([0.667 + rng.uniform(-1, 1) * (0.02 if across else 0.25), 0.5 + rng.uniform(-1, 1) * 0.02])
    if not down:
        middle[1] = 0.5 + rng.uniform(-1, 1) * 0.1
    half = np.array([across * rng.uniform(0.27, 0.32), down * rng.uniform(0.13, 0.16)])
    first, last = middle - half, middle + half
    if wish.ground == "black":
        top = bottom = (0.0, 0.0, 0.0)
    else:
        tint = rng.uniform(0.0, 0.18, 3)
        top = _three(tint)
        bottom = _three(tint * rng.uniform(0.2, 1.6))
    return Scene(wish, (float(first[0]), float(first[1])), (float(last[0]), float(last[1])), float(radius), top, bottom)


def draw_video(scene: Scene, size: tuple[int, int], frames: int = FRAMES) -> Floats:
    """Draw (3, F, H, W) in [-1, 1]."""
    height, width = size
    rows = ((np.arange(height) + 0.5) / height).astype(np.float32)[None, :, None]
    columns = ((np.arange(width) + 0.5) / height).astype(np.float32)[None, None, :]
    part = np.linspace(0, 1, frames, dtype=np.float32)[:, None, None]
    x = columns - (scene.start[0] + part * (scene.stop[0] - scene.start[0]))
    y = rows - (scene.start[1] + part * (scene.stop[1] - scene.start[1]))
    cover = np.clip(0.5 - _distance(scene.wish.shape, x, y, scene.radius) * height, 0, 1)[None]
    top, bottom = (np.array(c, np.float32)[:, None, None, None] for c in (scene.top, scene.bottom))
    ground = top + (bottom - top) * rows[None]
    ink = np.array(COLOUR_VALUES[scene.wish.colour], np.float32)[:, None, None, None]
    video: Floats = (2 * (ground + (ink - ground) * cover) - 1).astype(np.float32)
    return video


def draw_sound(scene: Scene, seconds: float = SECONDS) -> Floats:
    """Draw (2, N) at 48 kHz: a tone with the harmonics of the shape, which comes from where the shape is."""
    time = np.arange(round(seconds * RATE)) / RATE
    if scene.wish.tone == "none":
        return np.zeros((2, len(time)), np.float32)
    pitch = HERTZ[scene.wish.tone]
    wave = sum(a * np.sin(2 * np.pi * pitch * (k + 1) * time) for k, a in enumerate(HARMONICS[scene.wish.shape]))
    if scene.wish.rhythm == "beeping":
        since = time % (BEEP_SECONDS + GAP_SECONDS)
        wave = wave * np.clip(np.minimum(since, BEEP_SECONDS - since) / FADE_SECONDS, 0, 1)
    else:
        wave = wave * np.clip(time / FADE_SECONDS, 0, 1)
    return (LOUDNESS * wave * pan(scene, time)).astype(np.float32)


def pan(scene: Scene, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give how loud the sound is left and right (2, N) at these seconds."""
    part = np.clip(time / SECONDS, 0, 1)  # the shape stays where it ends
    return strengths((scene.start[0] + part * (scene.stop[0] - scene.start[0])) * SMALL[0] / SMALL[1])


def strengths(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Give how loud a sound is left and right (2, N) from places in parts of the width: their squares sum to 1.

    Examples
    --------
    >>> strengths(np.array([0.2, 0.5, 0.8])).round(2)
    array([[0.97, 0.71, 0.23],
           [0.23, 0.71, 0.97]])
    """
    angle = np.pi / 2 * np.interp(place, SIDES, ANGLES)
    return np.stack([np.cos(angle), np.sin(angle)])


def _distance(shape: str, x: Floats, y: Floats, radius: float) -> Floats:
    """Give how far outside the shape each point is, negative inside."""
    if shape == "circle":
        found = np.sqrt(x * x + y * y) - radius
    elif shape == "square":
        found = np.maximum(np.abs(x), np.abs(y)) - 0.88 * radius
    else:  # equal sides, one of them at the bottom
        y = y - 0.15 * radius
        found = np.maximum(y - 0.65 * radius, 0.8660254 * np.abs(x) - 0.5 * y - 0.65 * radius)
    return np.asarray(found, np.float32)


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    r, g, b = np.clip(values, 0, 1).tolist()
    return r, g, b
