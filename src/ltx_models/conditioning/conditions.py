"""What is given of a stream: frames, keyframes, references, all but a stretch of time, single cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ltx_models.conditioning.states import LatentState, freeze
from ltx_models.conditioning.tokens import Floats, patchify, video_positions
from ltx_models.nn import Array, backend_of


def replace_frames(state: LatentState, latent: Array, *, frame: int = 0, strength: float = 1.0) -> LatentState:
    """
    Give latent frames: image to video with an image encoded to one latent frame.

    Parameters
    ----------
    state : LatentState
        A video stream.
    latent : array, shape (B or 1, C, f, H, W)
        What is given.
    frame : int
        Latent frame where it begins.
    strength : float
        1 to keep it as it is, 0 to ignore it.

    Returns
    -------
    LatentState
        With these tokens given.

    Raises
    ------
    ValueError
        If it does not fit or `strength` is not in [0, 1].
    """
    _check_strength(strength)
    _check_video(state, latent, same_size=True)
    frames, cells = state.shape[2], state.shape[3] * state.shape[4]
    if not 0 <= frame <= frames - latent.shape[2]:
        msg = f"frame: {latent.shape[2]} latent frames at {frame} do not lie within the clip's {frames}"
        raise ValueError(msg)
    start = frame * cells
    stop = start + latent.shape[2] * cells
    clean = _put(state.clean, _spread(latent, state), start, stop)
    mask = state.mask.copy()
    mask[:, start:stop] = 1 - strength
    return replace(state, clean=clean, mask=mask)


def append_keyframe(
    state: LatentState, latent: Array, *, frame: int, fps: float, frames: int | None = None, strength: float = 1.0
) -> LatentState:
    """
    Show the model a picture at any frame, as extra tokens beside those that are generated.

    Parameters
    ----------
    state : LatentState
        A video stream.
    latent : array, shape (B or 1, C, f, H, W)
        The encoded picture, or clip.
    frame : int
        Frame of the clip (not latent frame) where it stands.
    fps : float
        Frames a second.
    frames : int, optional
        Frames that were encoded; a single one ends one frame after its start. By default 1 for one latent frame.
    strength : float
        1 to keep it as it is, 0 to ignore it.

    Returns
    -------
    LatentState
        With the tokens appended.

    Raises
    ------
    ValueError
        If it does not fit, `frame` is negative or `strength` is not in [0, 1].
    """
    _check_video(state, latent)
    if frame < 0:
        msg = f"frame: got {frame}, expected at least 0"
        raise ValueError(msg)
    size = tuple(int(n) for n in latent.shape[2:])
    positions = video_positions(size[0], size[1], size[2], fps=fps, causal=frame == 0, first=frame)
    if (frames or (1 if size[0] == 1 else None)) == 1:
        positions[:, 0, :, 1] = np.float32(frame + 1) / np.float32(fps)
    return _append(state, latent, positions, strength)


def append_reference(
    state: LatentState,
    latent: Array,
    *,
    fps: float,
    downscale: int = 1,
    time_scale: int = 1,
    strength: float = 1.0,
    attention: float | None = None,
) -> LatentState:
    """
    Show the model a reference clip, as in-context LoRAs need.

    Parameters
    ----------
    state : LatentState
        A video stream.
    latent : array, shape (B or 1, C, f, h, w)
        The encoded reference.
    fps : float
        Frames a second of what is generated.
    downscale : int
        How many times smaller the reference is in each direction.
    time_scale : int
        Every how manyth frame of the reference was kept (the first, then one in `time_scale`).
    strength : float
        1 to keep it as it is, 0 to ignore it.
    attention : float, optional
        How much generated tokens and the reference attend to each other, from 0 to 1. References do not then attend to
        one another.

    Returns
    -------
    LatentState
        With the tokens appended.

    Raises
    ------
    ValueError
        If it does not fit, or a factor, `strength` or `attention` is out of range.
    """
    _check_video(state, latent)
    if downscale < 1 or time_scale < 1:
        msg = f"reference: got downscale {downscale} and time_scale {time_scale}, both are whole numbers from 1"
        raise ValueError(msg)
    if attention is not None and not 0 <= attention <= 1:
        msg = f"attention: got {attention}, allowed is 0 to 1"
        raise ValueError(msg)
    size = tuple(int(n) for n in latent.shape[2:])
    positions = video_positions(size[0], size[1], size[2], fps=fps / time_scale)
    if time_scale != 1:
        positions[:, 0] = np.maximum(positions[:, 0] - np.float32((time_scale - 1) / fps), 0)
    positions[:, 1:] *= downscale
    return _append(state, latent, positions, strength, attention)


def _append(
    state: LatentState, latent: Array, positions: Floats, strength: float, attention: float | None = None
) -> LatentState:
    _check_strength(strength)
    nn = backend_of(state.latent)
    tokens = _spread(latent, state)
    added = np.full((state.mask.shape[0], tokens.shape[1]), 1 - strength, np.float32)
    zeros = nn.xp.zeros_like(tokens)
    return state.appended(zeros, tokens, added, positions, np.zeros_like(added), attention)


def regenerate(state: LatentState, latent: Array, start: float, end: float) -> LatentState:
    """
    Keep a clip but for a stretch of time, which is generated anew.

    Parameters
    ----------
    state : LatentState
        A video or audio stream.
    latent : array
        The clip, of the state's shape.
    start, end : float
        Seconds; a token is generated where its interval meets [start, end).

    Returns
    -------
    LatentState
        With all other tokens given.

    Raises
    ------
    ValueError
        If the shape is another or the stretch is empty.
    """
    if not start < end:
        msg = f"stretch: got {start} to {end} seconds, which is empty"
        raise ValueError(msg)
    state = freeze(state, latent)
    times = state.positions[:, 0]
    mask = ((times[..., 0] < end) & (times[..., 1] > start)).astype(np.float32)
    return replace(state, mask=np.broadcast_to(mask, state.mask.shape).copy(), frozen=False)


def inpaint(state: LatentState, latent: Array, keep: Any, *, strength: float = 1.0) -> LatentState:
    """
    Give part of a clip's cells.

    Parameters
    ----------
    state : LatentState
        A video stream without appended tokens.
    latent : array, shape (B, C, F, H, W)
        The clip.
    keep : array on the host, shape (F, H, W)
        1 where cells are given, 0 where they are generated.
    strength : float
        1 to keep given cells as they are.

    Returns
    -------
    LatentState
        With these cells given.

    Raises
    ------
    ValueError
        If a shape is another or `strength` is not in [0, 1].
    """
    _check_strength(strength)
    kept = np.asarray(keep, dtype=np.float32)
    if kept.shape != state.shape[2:] or state.mask.shape[1] != kept.size:
        msg = f"keep: got shape {kept.shape}, expected {state.shape[2:]}, one number a latent cell"
        raise ValueError(msg)
    frozen = freeze(state, latent)
    nn = backend_of(latent)
    kept = kept.reshape(1, -1)
    share = nn.asarray(kept[..., None], frozen.clean)
    return replace(
        state,
        clean=state.clean * (1 - share) + frozen.clean * share,
        mask=state.mask * (1 - kept) + (1 - strength) * kept,
    )


def _put(x: Array, part: Array, start: int, stop: int) -> Array:
    return backend_of(x).xp.concat([x[:, :start], part, x[:, stop:]], axis=1)


def _spread(latent: Array, state: LatentState) -> Array:
    """Give a latent's tokens once a sample."""
    nn = backend_of(latent)
    tokens = nn.cast(patchify(latent), state.latent.dtype)
    return nn.xp.broadcast_to(tokens, (state.latent.shape[0], *tokens.shape[1:]))


def _check_video(state: LatentState, latent: Array, same_size: bool = False) -> None:
    batch, channels, _, *size = state.shape
    got = tuple(latent.shape)
    fits = len(state.shape) == 5 and len(got) == 5 and got[0] in {1, batch} and got[1] == channels
    if not fits or (same_size and list(got[3:]) != size):
        msg = f"latent: got shape {got}, which does not go with a video stream of shape {state.shape}"
        raise ValueError(msg)


def _check_strength(strength: float) -> None:
    if not 0 <= strength <= 1:
        msg = f"strength: got {strength}, allowed is 0 to 1"
        raise ValueError(msg)
