"""A clip made to fit the grid of the network: whole latents in space, 1 + 8k frames in time."""

import argparse
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ltx_models.cli.options import positive
from ltx_models.media import MediaError, iter_frames, probe_video, sample_clip

SPACE, TIME = 32, 8
DEFAULT_FRAMES = 17


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


def add_clip(parser: argparse.ArgumentParser) -> None:
    """Declare which clip, how much of it, and what happens where it does not fit."""
    parser.add_argument(
        "clip", nargs="?", type=Path, metavar="CLIP", help="video file; default: Big Buck Bunny of the extra 'samples'"
    )
    parser.add_argument(
        "--frames",
        type=_frames,
        default=DEFAULT_FRAMES,
        metavar="N",
        help=f"frames from the beginning, 1 + 8k, or 'all'; default: {DEFAULT_FRAMES}",
    )
    parser.add_argument(
        "--fit",
        choices=("crop", "refuse"),
        default="crop",
        help="sizes off the grid of 32 pixels: cut the same from both sides and say so (default), or refuse",
    )


def read_fitted(args: argparse.Namespace) -> FittedClip:
    """Read the clip that the arguments name, cropped to the grid in the middle."""
    path = sample_clip() if args.clip is None else args.clip
    info = probe_video(path)
    height, width = info.height // SPACE * SPACE, info.width // SPACE * SPACE
    if not height or not width:
        msg = f"{path}: {info.width}x{info.height} is smaller than one latent; it needs at least {SPACE}x{SPACE} pixels"
        raise MediaError(msg)
    notes = []
    if (height, width) != (info.height, info.width):
        above = f"{-(-info.width // SPACE) * SPACE}x{-(-info.height // SPACE) * SPACE}"
        if args.fit == "refuse":
            msg = (
                f"{path}: {info.width}x{info.height} is off the grid of {SPACE} pixels; nearest {width}x{height} "
                f"or {above}; or use --fit crop"
            )
            raise MediaError(msg)
        notes.append(f"{info.width}x{info.height} is off the grid of {SPACE} pixels: cropped to {width}x{height}")
    top, left = (info.height - height) // 2, (info.width - width) // 2
    window = slice(top, top + height), slice(left, left + width)
    frames = [frame[window].transpose(2, 0, 1) for frame in iter_frames(path, n_frames=args.frames or None)]
    kept = 1 + (len(frames) - 1) // TIME * TIME
    if kept != len(frames):
        notes.append(f"{len(frames)} frames are not 1 + {TIME}k: the last {len(frames) - kept} are left out")
    elif info.frames is not None and kept < info.frames:
        notes.append(f"the first {kept} of {info.frames} frames (--frames all takes all)")
    video = np.stack(frames[:kept], axis=1)[None].astype(np.float32) / np.float32(127.5) - np.float32(1)
    cut = info.frames is None or kept < info.frames
    return FittedClip(path, video, info.fps, cut, tuple(notes), info.pixel_aspect)


def _frames(text: str) -> int:
    """Read a number of frames; 0 stands for all."""
    if text == "all":
        return 0
    value = positive(text)
    if value % TIME != 1:
        below = 1 + (value - 1) // TIME * TIME
        msg = f"expected 1 + {TIME}k frames or 'all', got {value}; nearest {below} or {below + TIME}"
        raise argparse.ArgumentTypeError(msg)
    return value
