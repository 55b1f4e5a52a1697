"""A clip made to fit the grid of the network: whole latents in space, 1 + 8k frames in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ltx_models.clips.buckets import Bucket, choose, filled
from ltx_models.media import MediaError, VideoInfo, iter_frames, probe_video

SPACE, TIME = 32, 8
Fit = Literal["crop", "refuse"]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FittedClip:
    """
    A clip on the grid.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    video : ndarray, shape (1, 3, F, H, W)
        Frames, float32 in [-1, 1].
    fps : fractions.Fraction
        Frames a second.
    cut : bool
        Whether the file has more frames.
    notes : tuple of str
        What was done to make it fit, for the user.
    pixel_aspect : fractions.Fraction
        Width of a pixel over its height, as the clip is shown.
    """

    path: Path
    video: npt.NDArray[np.float32]
    fps: Fraction
    cut: bool
    notes: tuple[str, ...]
    pixel_aspect: Fraction = Fraction(1)


def fit_clip(path: Path, *, frames: int | None = None, fit: Fit = "crop", buckets: Sequence[Bucket] = ()) -> FittedClip:
    """
    Read a clip, cropped to the grid in the middle, or scaled and cropped to the bucket that suits it best.

    Parameters
    ----------
    path : path
        A video file.
    frames : int, optional
        Frames from the beginning, 1 + 8k; all of them where absent, as far as they are 1 + 8k.
    fit : {"crop", "refuse"}
        What happens to a size off the grid of 32 pixels, without buckets.
    buckets : sequence of Bucket
        Sizes and lengths to choose from; see `choose`.

    Returns
    -------
    FittedClip
        With notes of what was done to make it fit.

    Raises
    ------
    MediaError
        If the file is no video, is damaged, too small or too short, or does not fit and that is to be refused.
    """
    info = probe_video(path)
    if buckets:
        return _in_bucket(path, info, buckets)
    height, width = info.height // SPACE * SPACE, info.width // SPACE * SPACE
    if not height or not width:
        msg = f"{path}: {info.width}x{info.height} is smaller than one latent; it needs at least {SPACE}x{SPACE} pixels"
        raise MediaError(msg)
    notes = []
    if (height, width) != (info.height, info.width):
        above = f"{-(-info.width // SPACE) * SPACE}x{-(-info.height // SPACE) * SPACE}"
        if fit == "refuse":
            msg = (
                f"{path}: {info.width}x{info.height} is off the grid of {SPACE} pixels; nearest {width}x{height} "
                f"or {above}; or use --fit crop"
            )
            raise MediaError(msg)
        notes.append(f"{info.width}x{info.height} is off the grid of {SPACE} pixels: cropped to {width}x{height}")
    top, left = (info.height - height) // 2, (info.width - width) // 2
    window = slice(top, top + height), slice(left, left + width)
    read = [frame[window] for frame in iter_frames(path, n_frames=frames)]
    kept = 1 + (len(read) - 1) // TIME * TIME
    if kept != len(read):
        notes.append(f"{len(read)} frames are not 1 + {TIME}k: the last {len(read) - kept} are left out")
    elif info.frames is not None and kept < info.frames:
        notes.append(f"the first {kept} of {info.frames} frames (--frames all takes all)")
    cut = info.frames is None or kept < info.frames
    return FittedClip(path, _stacked(read[:kept]), info.fps, cut, tuple(notes), info.pixel_aspect)


def _in_bucket(path: Path, info: VideoInfo, buckets: Sequence[Bucket]) -> FittedClip:
    """Read as much of a clip as its bucket wants; that depends on its length, which not every file says."""
    shown = (info.height, round(info.width * info.pixel_aspect))
    most = max(bucket.frames for bucket in buckets)
    read: list[Pixels] = []
    available = info.frames
    if available is None:
        read = [frame for frame, _ in zip(iter_frames(path), range(most), strict=False)]
        available = len(read)
    bucket = choose(buckets, *shown, available, str(path))
    frames: Sequence[Pixels] = read or list(iter_frames(path, n_frames=bucket.frames))
    note = f"{info.width}x{info.height}, {available} frames: scaled and cropped to {bucket}"
    scaled = [filled(frame, bucket, shown) for frame in frames[: bucket.frames]]
    return FittedClip(path, _stacked(scaled), info.fps, bucket.frames < available, (note,))


def _stacked(frames: Sequence[Pixels]) -> npt.NDArray[np.float32]:
    """Make a clip (1, 3, F, H, W) in [-1, 1] of frames (H, W, 3)."""
    video = np.stack([frame.transpose(2, 0, 1) for frame in frames], axis=1)[None]
    return video.astype(np.float32) / np.float32(127.5) - np.float32(1)
