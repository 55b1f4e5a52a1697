"""Which clip a verb takes, and how much of it."""

import argparse
from pathlib import Path

from ltx_models.byte_sizes import format_bytes
from ltx_models.cli.machine import memory_bytes
from ltx_models.cli.options import positive
from ltx_models.clips.fitting import SPACE, TIME, FittedClip, fit_clip
from ltx_models.media import MediaError, probe_video, sample_clip

__all__ = ["SPACE", "TIME", "FittedClip", "add_clip", "add_fitting", "grid_size", "read_fitted"]

SHARE = 0.5  # of memory that the frames of a clip may take, as they are read at once


CLIP_HELP = "video file; default: Big Buck Bunny of the extra 'samples'"


def add_clip(parser: argparse.ArgumentParser, text: str = CLIP_HELP) -> None:
    """Declare which clip, how much of it, and what happens where it does not fit."""
    parser.add_argument("clip", nargs="?", type=Path, metavar="CLIP", help=text)
    add_fitting(parser)


def add_fitting(parser: argparse.ArgumentParser) -> None:
    """Declare how much of a clip is read, and what happens where it does not fit."""
    parser.add_argument(
        "--frames",
        type=_frames,
        metavar="N",
        help="frames from the beginning, 1 + 8k; default: all",
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
    refuse_longer_than_memory(path, args.frames)
    return fit_clip(path, frames=args.frames or None, fit=args.fit)


def refuse_longer_than_memory(path: Path, frames: int | None) -> None:
    """Refuse a clip whose frames are more than memory holds, where file and system tell."""
    info, memory = probe_video(path), memory_bytes()
    if info.frames is None or memory is None:
        return
    wanted = min(frames or info.frames, info.frames)
    a_frame = info.height * info.width * 3 * (4 + 1)  # as float32, beside the bytes that were read
    if wanted * a_frame > SHARE * memory:
        fitting = max(1, int(SHARE * memory / a_frame) - 1) // TIME * TIME + 1
        msg = (
            f"{path}: {wanted} frames of {info.width}x{info.height} take {format_bytes(wanted * a_frame)}, and this "
            f"machine has {format_bytes(memory)}; --frames {fitting} fits, or encode parts of the clip one by one"
        )
        raise MediaError(msg)


def grid_size(width: int, height: int, frames: int) -> None:
    """Refuse a size that is not of whole latents, and name the nearest that is."""
    if height % SPACE or width % SPACE or frames % TIME != 1 or not height or not width:
        size = f"{_near(width, SPACE)}x{_near(height, SPACE)}"
        msg = (
            f"{width}x{height} with {frames} frames is off the grid ({SPACE} pixels, 1 + {TIME}k frames); "
            f"nearest {size} with {1 + _near(frames - 1, TIME, 0)}"
        )
        raise MediaError(msg)


def _near(value: int, factor: int, least: int = 1) -> int:
    return max(least, round(value / factor)) * factor


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
