"""Sizes and lengths that the clips of a data set are brought to, so that they can share a batch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import numpy.typing as npt

from ltx_models.media import MediaError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Bucket:
    """
    A size and a length.

    Parameters
    ----------
    width, height : int
        Pixels, multiples of 32.
    frames : int
        1 + 8k.

    Raises
    ------
    ValueError
        If they are off the grid.

    Examples
    --------
    >>> print(Bucket.read("768x512x49"))
    768x512x49
    """

    width: int
    height: int
    frames: int

    def __post_init__(self) -> None:
        if self.width < 32 or self.height < 32 or self.width % 32 or self.height % 32:
            msg = f"bucket {self}: width and height must be multiples of 32 pixels"
            raise ValueError(msg)
        if self.frames < 1 or self.frames % 8 != 1:
            below = max(1, 1 + (self.frames - 1) // 8 * 8)
            msg = f"bucket {self}: frames must be 1 + 8k, nearest {below} or {below + 8}"
            raise ValueError(msg)

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.width}x{self.height}x{self.frames}"

    @classmethod
    def read(cls, text: str) -> Bucket:
        """Read ``WxHxF``."""
        found = re.fullmatch(r"(\d{1,6})x(\d{1,6})x(\d{1,6})", text.strip())
        if found is None:
            msg = f"expected WIDTHxHEIGHTxFRAMES, such as 768x512x49, got {text!r}"
            raise ValueError(msg)
        return cls(*map(int, found.groups()))


def choose(buckets: Sequence[Bucket], height: int, width: int, frames: int, what: str = "clip") -> Bucket:
    """
    Choose the bucket of a clip: of those not longer, the nearest in aspect, then the longest, then the largest.

    Parameters
    ----------
    buckets : sequence of Bucket
        At least one.
    height, width, frames : int
        Of the clip.
    what : str
        Its name in errors.

    Returns
    -------
    Bucket
        The one whose aspect is nearest as a ratio, as the official trainer chooses.

    Raises
    ------
    MediaError
        If the clip is shorter than every bucket.

    Examples
    --------
    >>> buckets = [Bucket(768, 512, 49), Bucket(512, 768, 49), Bucket(768, 512, 9)]
    >>> print(choose(buckets, 1080, 1920, 30))
    768x512x9
    """
    fitting = [bucket for bucket in buckets if bucket.frames <= frames]
    if not fitting:
        shortest = min(bucket.frames for bucket in buckets)
        msg = f"{what}: has {frames} frames, the shortest bucket wants {shortest}; leave the clip out, or add a bucket"
        raise MediaError(msg)
    return min(
        fitting,
        key=lambda b: (abs(math.log(width / height) - math.log(b.width / b.height)), -b.frames, -b.height * b.width),
    )


def filled(frame: Pixels, bucket: Bucket, shown: tuple[int, int] | None = None) -> Pixels:
    """
    Scale a frame until it covers a bucket, and cut what stands out on both sides.

    Parameters
    ----------
    frame : ndarray of uint8, shape (H, W, 3)
        RGB.
    bucket : Bucket
        The size.
    shown : (int, int), optional
        Height and width as players show the frame, where its pixels are not square.

    Returns
    -------
    ndarray of uint8, shape (bucket.height, bucket.width, 3)
        Bicubic, smoothed where it shrinks.

    Raises
    ------
    MediaError
        If Pillow is not installed.
    """
    height, width = shown or frame.shape[:2]
    if width * bucket.height > bucket.width * height:  # wider than the bucket
        size = (width * bucket.height // height, bucket.height)
    else:
        size = (bucket.width, height * bucket.width // width)
    left, top = (size[0] - bucket.width) // 2, (size[1] - bucket.height) // 2
    try:
        pillow = import_module("PIL.Image")
    except ModuleNotFoundError as error:
        msg = "buckets need Pillow; install it with: pip install 'tilekit-vae[video]'"
        raise MediaError(msg) from error
    scaled = pillow.fromarray(frame)
    if scaled.size != size:
        scaled = scaled.resize(size, pillow.Resampling.BICUBIC)
    return np.asarray(scaled.crop((left, top, left + bucket.width, top + bucket.height)))
