"""Latents as tokens, and where tokens stand in seconds and pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ltx_models.nn import Array, backend_of

Floats = NDArray[np.float32]
SCALE = (8, 32, 32)  # frames, rows and columns of a latent cell
AUDIO_RATE = 25.0  # latent frames a second
AUDIO_SAMPLE_RATE, AUDIO_HOP, AUDIO_DOWNSAMPLE = 16000, 160, 4


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
