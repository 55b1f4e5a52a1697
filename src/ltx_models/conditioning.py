"""
What is generated and what is given: latent states, positions, and conditions such as images, keyframes and references.

A state is made empty, gets conditions, then noise, and goes through `ltx_models.sampling.denoise`:

    state = video_state(latent_shape, fps=24, like=array)
    state = replace_frames(state, image_latent, frame=0)
    state = add_noise(state, 1.0, draw)

Positions and masks that steps need on the host are NumPy arrays, so that no step waits for a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltx_models.nn import Array, Backend, backend_of

Floats = NDArray[np.float32]
SCALE = (8, 32, 32)  # frames, rows and columns of a latent cell
AUDIO_RATE = 25.0  # latent frames a second
AUDIO_SAMPLE_RATE, AUDIO_HOP, AUDIO_DOWNSAMPLE = 16000, 160, 4


@dataclass(frozen=True, slots=True)
class LatentState:
    """
    One stream's tokens before, during and after sampling.

    Attributes
    ----------
    latent : array, shape (B, T, C)
        Tokens, noisy while sampling.
    clean : array, shape (B, T, C)
        Given tokens; of no meaning where `mask` is 1.
    mask : array of float32 on the host, shape (B, T)
        1 where a token is generated, 0 where it is given, between for part of the noise.
    positions : array of float32 on the host, shape (B, axes, T, 2)
        See `ltx_models.Modality`.
    shape : tuple of int
        Of the latent that the first tokens make up: (B, C, F, H, W) of video, (B, C, T, mel) of audio.
    attention_mask : array of float32 on the host, shape (B, T, T), or None
        How much tokens attend to each other.
    frozen : bool
        The stream is given as a whole and only conditions the other.
    """

    latent: Array
    clean: Array
    mask: Floats
    positions: Floats
    shape: tuple[int, ...]
    attention_mask: Floats | None = None
    frozen: bool = False

    @property
    def generated(self) -> int:
        """How many of the tokens, the first ones, make up the result."""
        return int(np.prod(self.shape[2:5])) if len(self.shape) == 5 else self.shape[2]


def patchify(latent: Array) -> Array:
    """
    Turn a latent into tokens.

    Parameters
    ----------
    latent : array, shape (B, C, F, H, W) or (B, C, T, mel)
        Of video, or of audio.

    Returns
    -------
    array, shape (B, F * H * W, C) or (B, T, C * mel)
        Tokens.

    Raises
    ------
    ValueError
        If it has another number of axes.

    Examples
    --------
    >>> import torch
    >>> patchify(torch.zeros(1, 8, 3, 16)).shape
    torch.Size([1, 3, 128])
    """
    xp = backend_of(latent).xp
    if latent.ndim == 5:
        batch, channels = latent.shape[:2]
        return xp.permute_dims(xp.reshape(latent, (batch, channels, -1)), (0, 2, 1))
    if latent.ndim == 4:
        x = xp.permute_dims(latent, (0, 2, 1, 3))
        return xp.reshape(x, (*x.shape[:2], -1))
    msg = f"latent: got shape {tuple(latent.shape)}, expected (B, C, F, H, W) of video or (B, C, T, mel) of audio"
    raise ValueError(msg)


def unpatchify(tokens: Array, shape: Sequence[int]) -> Array:
    """
    Turn tokens back into a latent.

    Parameters
    ----------
    tokens : array, shape (B, T, C)
        Tokens; those beyond the latent's (appended keyframes and references) are left out.
    shape : sequence of int
        (B, C, F, H, W) of video or (B, C, T, mel) of audio.

    Returns
    -------
    array
        Of that shape.

    Raises
    ------
    ValueError
        If there are too few tokens or other channels.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(1, 4, 2, 3, 5)
    >>> bool((unpatchify(patchify(x), x.shape) == x).all())
    True
    """
    xp = backend_of(tokens).xp
    video = len(shape) == 5
    count, channels = (int(np.prod(shape[2:])), shape[1]) if video else (shape[2], shape[1] * shape[3])
    if tokens.shape[0] != shape[0] or tokens.shape[1] < count or tokens.shape[2] != channels:
        msg = (
            f"tokens: got shape {tuple(tokens.shape)}, a latent {tuple(shape)} needs ({shape[0]}, {count}, {channels})"
        )
        raise ValueError(msg)
    tokens = tokens[:, :count]
    if video:
        return xp.reshape(xp.permute_dims(tokens, (0, 2, 1)), tuple(shape))
    x = xp.reshape(tokens, (shape[0], shape[2], shape[1], shape[3]))
    return xp.permute_dims(x, (0, 2, 1, 3))


def video_positions(
    frames: int,
    height: int,
    width: int,
    *,
    fps: float,
    scale: tuple[int, int, int] = SCALE,
    causal: bool = True,
    first: int = 0,
) -> Floats:
    """
    Place video tokens in seconds and pixels.

    Parameters
    ----------
    frames, height, width : int
        Latent cells.
    fps : float
        Frames a second, above 0.
    scale : tuple of int
        Frames, rows and columns of a latent cell.
    causal : bool
        Whether the first latent frame stands for a single frame.
    first : int
        Frame of the clip at which these latents start.

    Returns
    -------
    array of float32 on the host, shape (1, 3, frames * height * width, 2)
        Start and end of each token: seconds, rows, columns.

    Raises
    ------
    ValueError
        If a size or `fps` is not above 0.

    Examples
    --------
    >>> video_positions(2, 1, 1, fps=1.0)[0, 0].tolist()
    [[0.0, 1.0], [1.0, 9.0]]
    """
    if min(frames, height, width) < 1 or not fps > 0:
        msg = f"positions: got {frames} x {height} x {width} cells at {fps} frames a second; all must be above 0"
        raise ValueError(msg)
    axes = [np.arange(n)[:, None] * s + np.array([0, s]) for n, s in zip((frames, height, width), scale, strict=True)]
    if causal:
        axes[0] = np.maximum(axes[0] + 1 - scale[0], 0)
    times = (axes[0] + first).astype(np.float32) / np.float32(fps)
    grids = np.meshgrid(*(np.arange(n) for n in (frames, height, width)), indexing="ij")
    cells = [bounds[grid.reshape(-1)] for bounds, grid in zip((times, *axes[1:]), grids, strict=True)]
    return np.stack(cells)[None].astype(np.float32)


def audio_positions(
    frames: int,
    *,
    sample_rate: int = AUDIO_SAMPLE_RATE,
    hop_length: int = AUDIO_HOP,
    downsample: int = AUDIO_DOWNSAMPLE,
    causal: bool = True,
) -> Floats:
    """
    Place audio tokens in seconds.

    Parameters
    ----------
    frames : int
        Latent frames.
    sample_rate, hop_length, downsample : int
        Samples a second, samples between mel frames, and mel frames in a latent frame.
    causal : bool
        Whether the first latent frame stands for a single mel frame.

    Returns
    -------
    array of float32 on the host, shape (1, 1, frames, 2)
        Start and end of each token in seconds.

    Raises
    ------
    ValueError
        If there are no frames.

    Examples
    --------
    >>> audio_positions(2)[0, 0].round(3).tolist()
    [[0.0, 0.009999999776482582], [0.009999999776482582, 0.05000000074505806]]
    """
    if frames < 1:
        msg = f"positions: got {frames} audio frames, expected at least 1"
        raise ValueError(msg)
    bounds = (np.arange(frames)[:, None] + np.array([0, 1])) * downsample
    if causal:
        bounds = np.maximum(bounds + 1 - downsample, 0)
    seconds: Floats = bounds.astype(np.float32) * np.float32(hop_length) / np.float32(sample_rate)
    return seconds[None, None]


def audio_tokens(frames: int, fps: float) -> int:
    """
    Count the audio tokens that go with a clip.

    Parameters
    ----------
    frames : int
        Video frames (not latent ones).
    fps : float
        Frames a second, above 0.

    Returns
    -------
    int
        Duration times 25, rounded; halves go to the even number.

    Raises
    ------
    ValueError
        If a number is not above 0.

    Examples
    --------
    >>> audio_tokens(121, 24)
    126
    """
    if frames < 1 or not fps > 0:
        msg = f"got {frames} frames at {fps} a second; both must be above 0"
        raise ValueError(msg)
    return round(frames / fps * AUDIO_RATE)


def video_state(
    shape: Sequence[int], *, fps: float, like: Array, initial: Array | None = None, causal: bool = True
) -> LatentState:
    """
    Make a video stream with nothing given.

    Parameters
    ----------
    shape : sequence of int
        (B, C, F, H, W) of the latent.
    fps : float
        Frames a second.
    like : array
        Whose framework, dtype and device to use.
    initial : array, shape (B, C, F, H, W), optional
        A latent to start from, as after upsampling.
    causal : bool
        Whether the first latent frame stands for a single frame.

    Returns
    -------
    LatentState
        All of it to be generated.
    """
    positions = video_positions(*shape[2:], fps=fps, causal=causal)
    return _state(shape, positions, like, initial)


def audio_state(shape: Sequence[int], *, like: Array, initial: Array | None = None) -> LatentState:
    """
    Make an audio stream with nothing given.

    Parameters
    ----------
    shape : sequence of int
        (B, C, T, mel) of the latent.
    like : array
        Whose framework, dtype and device to use.
    initial : array, shape (B, C, T, mel), optional
        A latent to start from.

    Returns
    -------
    LatentState
        All of it to be generated.
    """
    return _state(shape, audio_positions(shape[2]), like, initial)


def _state(shape: Sequence[int], positions: Floats, like: Array, initial: Array | None) -> LatentState:
    nn = backend_of(like)
    shape = tuple(shape)
    if initial is not None and tuple(initial.shape) != shape:
        msg = f"initial: got shape {tuple(initial.shape)}, expected {shape}"
        raise ValueError(msg)
    latent = nn.asarray(np.zeros(shape, dtype=np.float32), like) if initial is None else initial
    tokens = nn.cast(patchify(latent), like.dtype)
    batch, count, _ = tokens.shape
    return LatentState(tokens, tokens, np.ones((batch, count), np.float32), positions, shape)


def freeze(state: LatentState, latent: Array) -> LatentState:
    """
    Give a stream as a whole: it keeps its tokens and only conditions the other (audio to video, video to audio).

    Parameters
    ----------
    state : LatentState
        The stream.
    latent : array
        Of the state's shape.

    Returns
    -------
    LatentState
        With mask 0, to be given to the model at noise level 0.

    Raises
    ------
    ValueError
        If the shape is another.
    """
    if tuple(latent.shape) != state.shape:
        msg = f"latent: got shape {tuple(latent.shape)}, expected {state.shape}"
        raise ValueError(msg)
    tokens = backend_of(latent).cast(patchify(latent), state.latent.dtype)
    return replace(state, latent=tokens, clean=tokens, mask=np.zeros_like(state.mask), frozen=True)


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
        1 to keep it as it is, 0 to generate it all the same.

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
    return replace(state, latent=_put(state.latent, clean[:, start:stop], start, stop), clean=clean, mask=mask)


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
        1 to keep it as it is, 0 to generate it all the same.

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
        1 to keep it as it is, 0 to generate it all the same.
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
    masks = None
    if attention is not None or state.attention_mask is not None:
        masks = _grown(state, tokens.shape[1], 1.0 if attention is None else attention)
    return replace(
        state,
        latent=nn.xp.concat([state.latent, tokens], axis=1),
        clean=nn.xp.concat([state.clean, tokens], axis=1),
        mask=np.concatenate([state.mask, added], axis=1),
        positions=np.concatenate([state.positions, positions], axis=2),
        attention_mask=masks,
    )


def _grown(state: LatentState, added: int, attention: float) -> Floats:
    batch, count = state.mask.shape
    grown = np.zeros((batch, count + added, count + added), np.float32)
    grown[:, :count, :count] = 1 if state.attention_mask is None else state.attention_mask
    grown[:, : state.generated, count:] = attention
    grown[:, count:, : state.generated] = attention
    grown[:, count:, count:] = 1
    return grown


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
    given = freeze(state, latent)
    nn = backend_of(latent)
    kept = kept.reshape(1, -1)
    share = nn.asarray(kept[..., None], given.clean)
    return replace(
        state,
        latent=state.latent * (1 - share) + given.clean * share,
        clean=state.clean * (1 - share) + given.clean * share,
        mask=state.mask * (1 - kept) + (1 - strength) * kept,
    )


def add_noise(state: LatentState, scale: float, draw: Callable[[Array], Array]) -> LatentState:
    """
    Make a state noisy before sampling.

    Parameters
    ----------
    state : LatentState
        With all its conditions: noise is drawn for appended tokens too.
    scale : float
        Noise level that sampling begins with, from 0 to 1.
    draw : callable
        Gives standard normal noise in the shape, dtype and on the device of an array.

    Returns
    -------
    LatentState
        Given tokens stay clean.

    Raises
    ------
    ValueError
        If `scale` is not in [0, 1].
    """
    if not 0 <= scale <= 1:
        msg = f"scale: got {scale}, allowed is 0 to 1"
        raise ValueError(msg)
    nn = backend_of(state.latent)
    x, clean, noise = (nn.cast(a, nn.float32) for a in (state.latent, state.clean, draw(state.latent)))
    mask = mask_array(nn, state)
    x = x + (noise - x) * scale
    return replace(state, latent=nn.cast(clean + (x - clean) * mask, state.latent.dtype))


def mask_array(nn: Backend, state: LatentState) -> Array:
    """
    Give a state's mask on the device.

    Parameters
    ----------
    nn : Backend
        The framework.
    state : LatentState
        The state.

    Returns
    -------
    array of float32, shape (B, T, 1)
        The mask.
    """
    x = nn.asarray(np.ascontiguousarray(state.mask[..., None]))
    return nn.cast(x, nn.float32, getattr(state.latent, "device", None))


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
