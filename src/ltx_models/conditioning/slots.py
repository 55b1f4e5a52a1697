"""
Generated keyframes (2.5): single frames within a clip that are made along with it, as tokens of their own.

A slot has the position of one frame and the tokens of one latent frame; the transformer is told by a mark that it is a
keyframe. After sampling its tokens are taken out, and they are no part of the clip's latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ltx_models.conditioning.states import LatentState
from ltx_models.conditioning.tokens import SCALE, Floats, patchify, unpatchify, video_positions
from ltx_models.nn import Array, backend_of


def even_keyframes(count: int, frames: int) -> tuple[int, ...]:
    """
    Spread keyframes evenly within a clip.

    Parameters
    ----------
    count : int
        Keyframes.
    frames : int
        Frames of the clip, at least ``count + 2``: the first and the last are not among them.

    Returns
    -------
    tuple of int
        Frames of the clip, in order.

    Raises
    ------
    ValueError
        If a number is too small.

    Notes
    -----
    Source: Lightricks/LTX-2; in float32, halves go to the even number.

    Examples
    --------
    >>> even_keyframes(3, 121)
    (30, 60, 90)
    """
    if count < 0 or frames < count + 2:
        msg = f"keyframes: got {count} for {frames} frames; expected 0 or more, and at least {count + 2} frames"
        raise ValueError(msg)
    step = np.float32(frames - 1) / np.float32(count + 1)
    places = np.arange(1, count + 1, dtype=np.float32)
    back = np.float32(frames - 1) - step * (np.float32(count + 1) - places)
    spread = np.where(places < (count + 2) // 2, step * places, back)
    return tuple(int(frame) for frame in np.round(spread))


def append_slots(state: LatentState, frames: Sequence[int], *, fps: float, initial: Array | None = None) -> LatentState:
    """
    Ask for keyframes at some frames of a clip, as tokens that are generated with it.

    Parameters
    ----------
    state : LatentState
        A video stream, which gets slots once.
    frames : sequence of int
        Frames of the clip (not latent frames); each counts once, in order.
    fps : float
        Frames a second.
    initial : array, shape (B, C, K, H, W), optional
        Latents to start from, one latent frame for each of the K frames; zeros where absent.

    Returns
    -------
    LatentState
        With the tokens appended, marked as keyframes.

    Raises
    ------
    ValueError
        If a frame does not lie within the clip, `initial` does not fit, or the state has slots already.
    """
    if len(state.shape) != 5 or state.slots is not None:
        what = "has slots already" if len(state.shape) == 5 else f"is no video stream, its shape is {state.shape}"
        msg = f"slots: the state {what}; give all frames at once, to a video stream"
        raise ValueError(msg)
    batch, channels, latent_frames, height, width = state.shape
    most = SCALE[0] * (latent_frames - 1) + 1
    chosen = sorted({int(frame) for frame in frames})
    if not chosen or chosen[0] < 0 or chosen[-1] >= most:
        msg = f"slots: got frames {list(frames)}, expected at least one, each from 0 to {most - 1}"
        raise ValueError(msg)
    shape = (batch, channels, len(chosen), height, width)
    if initial is not None and tuple(initial.shape) != shape:
        msg = f"initial: got shape {tuple(initial.shape)}, expected {shape}"
        raise ValueError(msg)
    nn = backend_of(state.latent)
    zeros = nn.asarray(np.zeros((batch, len(chosen) * height * width, channels), np.float32), state.latent)
    tokens = zeros if initial is None else nn.cast(patchify(initial), state.latent.dtype)
    grid = video_positions(1, height, width, fps=fps, causal=False)
    positions = np.concatenate([_placed(grid, frame, fps) for frame in chosen], axis=2)
    ones = np.ones((batch, zeros.shape[1]), np.float32)
    first = state.mask.shape[1]
    return replace(
        state.appended(tokens, zeros, ones, positions, ones),
        slots=(first, len(chosen)),
    )


def _placed(grid: Floats, frame: int, fps: float) -> Floats:
    """Give the positions of one frame's cells: it lasts until the next frame."""
    placed = grid.copy()
    placed[:, 0] = np.array([frame, frame + 1], np.float32) / np.float32(fps)
    return placed


def take_slots(state: LatentState, tokens: Array) -> Array:
    """
    Cut the generated keyframes out of a stream's tokens.

    Parameters
    ----------
    state : LatentState
        The stream, as it was sampled.
    tokens : array, shape (B, T, C)
        Its tokens after sampling.

    Returns
    -------
    array, shape (B, C, K, H, W)
        The latents of the keyframes, in the order of their frames.

    Raises
    ------
    ValueError
        If the state has no slots, or there are too few tokens.
    """
    if state.slots is None:
        msg = "slots: this state has none; append_slots makes them"
        raise ValueError(msg)
    (first, count), (batch, channels, _, height, width) = state.slots, state.shape
    return unpatchify(tokens[:, first:], (batch, channels, count, height, width))
