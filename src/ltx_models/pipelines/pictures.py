"""Given pictures and clips: read, compressed as the training data were, scaled to the size that a stage wants."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ltx_models.media import MediaError, iter_frames
from ltx_models.media._files import av, refuse_irregular

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Fit = Literal["refuse", "crop"]
# What Pillow raises of damaged files, depending on the format.
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error, zlib.error)
LOST = 1 / 16  # of a side: what scaling to whole cells may cost without being asked


@dataclass(frozen=True, slots=True)
class Image:
    """
    A picture that a clip should show.

    Attributes
    ----------
    picture : path, PIL image or array of uint8, shape (H, W, 3)
        What to show.
    frame : int
        Where in the clip, counted from 0; a negative number counts from its end.
    strength : float
        1 to keep it as it is, 0 to ignore it.
    crf : int, optional
        How strongly it is compressed first (H.264; 0 not at all); by default as the checkpoint's version wants it.
    """

    picture: Any
    frame: int = 0
    strength: float = 1.0
    crf: int | None = None


def read_picture(picture: Any) -> Pixels:
    """
    Read a picture.

    Parameters
    ----------
    picture : path, PIL image or array of uint8, shape (H, W, 3)
        The picture.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB, upright, in the colours of sRGB where a file says which others it has.

    Raises
    ------
    MediaError
        If the file is missing or no picture, or the array has another shape or dtype.
    """
    if isinstance(picture, (str, os.PathLike)):
        try:
            pillow, turned = import_module("PIL.Image"), import_module("PIL.ImageOps").exif_transpose
        except ModuleNotFoundError as error:
            msg = "pictures need Pillow; install it with: pip install 'tilekit-vae[video]'"
            raise MediaError(msg) from error
        refuse_irregular(picture)
        try:
            with pillow.open(picture) as opened:
                return np.asarray(_in_srgb(_in_8_bits(turned(opened), opened.format, picture)))
        except MediaError:
            raise
        except (*UNREADABLE, pillow.DecompressionBombError) as error:
            reason = getattr(error, "strerror", None) or error
            msg = f"{picture}: cannot be read as a picture: {reason}"
            raise MediaError(msg) from error
    pixels = np.asarray(picture.convert("RGB") if hasattr(picture, "convert") else picture)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        msg = (
            f"image: got {pixels.dtype} of shape {pixels.shape}, expected uint8 of shape (height, width, 3), or a path"
        )
        raise MediaError(msg)
    return pixels


def _in_8_bits(picture: Any, form: str | None, path: Any) -> Any:
    """Scale grey levels of 16 bits, which Pillow would clip to white; refuse those whose range nobody says."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    levels = np.asarray(picture)
    # PNG has no other grey levels of more than 8 bits, and older releases of Pillow call them 32-bit ones.
    if picture.mode.startswith("I;16") or (picture.mode == "I" and form == "PNG"):
        grey = import_module("PIL.Image").fromarray(np.rint(levels / 257).astype(np.uint8))
        grey.info = {name: value for name, value in picture.info.items() if name == "icc_profile"}
        return grey
    msg = f"{path}: holds {levels.dtype} levels, whose black and white it does not say; write it with 8 or 16 bits"
    raise MediaError(msg)


def _in_srgb(picture: Any) -> Any:
    """Convert a Pillow image by the colour profile that it has (phones write Display P3), without one as it is."""
    profile = picture.info.get("icc_profile")
    flat = picture.convert({"RGBA": "RGB", "LA": "L"}.get(picture.mode, picture.mode))
    if profile:
        colours = import_module("PIL.ImageCms")
        try:
            given = colours.ImageCmsProfile(io.BytesIO(profile))
            wanted = colours.ImageCmsProfile(colours.createProfile("sRGB"))
            return colours.profileToProfile(flat, given, wanted, outputMode="RGB")
        except (colours.PyCMSError, OSError, ValueError):  # a profile that says nothing usable
            pass
    return flat.convert("RGB")


def compressed(picture: Pixels, crf: int) -> Pixels:
    """
    Compress a picture as a frame of H.264, and read it again.

    Parameters
    ----------
    picture : ndarray of uint8, shape (H, W, 3)
        RGB.
    crf : int
        0 (not at all) to 51.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        Of the same size, an odd last row or column left out.

    Raises
    ------
    ValueError
        If `crf` is out of range.
    """
    if not 0 <= crf <= 51:
        msg = f"image crf: got {crf}, allowed is 0 (not compressed) to 51"
        raise ValueError(msg)
    if crf == 0:
        return picture
    height, width = (n // 2 * 2 for n in picture.shape[:2])
    buffer = io.BytesIO()
    with av().open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.options = {"crf": str(crf), "preset": "veryfast"}
        frame = av().VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    buffer.seek(0)
    with av().open(buffer) as container:
        decoded: Pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return decoded


def scaled(picture: Pixels, height: int, width: int, *, fit: Fit = "refuse", what: str = "image") -> Floats:
    """
    Scale a picture to cover a size, and cut what stands out on both sides.

    Parameters
    ----------
    picture : ndarray of uint8, shape (H, W, 3)
        RGB.
    height, width : int
        The size.
    fit : {"refuse", "crop"}
        Whether a picture of another shape, which would lose more than a sixteenth of a side, is refused.
    what : str
        Its name in errors.

    Returns
    -------
    ndarray of float32, shape (3, height, width)
        In [-1, 1].

    Raises
    ------
    ValueError
        If its shape is another; the text names a size that fits.

    Notes
    -----
    Bilinear, without smoothing where it shrinks: what the models were trained with.
    """
    rows, columns = picture.shape[:2]
    scale = max(height / rows, width / columns)
    tall, wide = math.ceil(rows * scale), math.ceil(columns * scale)
    lost = max(1 - height / tall, 1 - width / wide)
    if lost > LOST and fit == "refuse":
        cell = 64
        better = max(cell, round(width * rows / columns / cell) * cell)
        msg = (
            f"{what}: {columns}x{rows} would lose {lost:.0%} of a side to become {width}x{height}; crop it, ask for "
            f"about {width}x{better}, or allow the crop (--fit crop, fit='crop')"
        )
        raise ValueError(msg)
    top, left = (tall - height) // 2, (wide - width) // 2
    columns_at = _weights(columns, wide, left, width)
    rows_at = _weights(rows, tall, top, height)
    x = _mixed(_mixed(picture.astype(np.float32), 0, rows_at), 1, columns_at)
    values: Floats = (x / np.float32(127.5) - 1).transpose(2, 0, 1)
    return np.ascontiguousarray(values)


def _weights(size: int, target: int, first: int, count: int) -> tuple[Any, Any, Floats]:
    """Give for each new cell the two old ones it lies between, and how far it is from the first."""
    place = np.clip((np.arange(first, first + count) + 0.5) * (size / target) - 0.5, 0, size - 1)
    low = np.floor(place).astype(np.intp)
    return low, np.minimum(low + 1, size - 1), (place - low).astype(np.float32)


def _mixed(x: Floats, axis: int, weights: tuple[Any, Any, Floats]) -> Floats:
    low, high, share = weights
    share = share.reshape(-1, 1, 1) if axis == 0 else share.reshape(1, -1, 1)
    mixed: Floats = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return mixed


def read_image(image: Image, height: int, width: int, *, crf: int, fit: Fit = "refuse") -> Floats:
    """
    Read one picture as a clip of a single frame.

    Parameters
    ----------
    image : Image
        The picture.
    height, width : int
        Pixels of the stage.
    crf : int
        How strongly it is compressed unless it says so itself.
    fit : {"refuse", "crop"}
        See `scaled`.

    Returns
    -------
    ndarray of float32, shape (1, 3, 1, height, width)
        In [-1, 1].
    """
    picture = compressed(read_picture(image.picture), crf if image.crf is None else image.crf)
    what = str(image.picture) if isinstance(image.picture, (str, os.PathLike)) else f"image at frame {image.frame}"
    return scaled(picture, height, width, fit=fit, what=what)[None, :, None]


def read_reference(
    path: str | Path, frames: int, height: int, width: int, *, time_scale: int = 1, fit: Fit = "refuse"
) -> Floats:
    """
    Read the beginning of a clip for reference.

    Parameters
    ----------
    path : path
        A video file.
    frames : int
        The most frames to read; where it has fewer, the last 1 + 8k of them are taken.
    height, width : int
        Pixels.
    time_scale : int
        Keep the first frame, and then one in so many.
    fit : {"refuse", "crop"}
        See `scaled`.

    Returns
    -------
    ndarray of float32, shape (1, 3, 1 + 8k, height, width)
        In [-1, 1].

    Raises
    ------
    MediaError
        If the file is no video.
    """
    kept = [
        scaled(frame, height, width, fit=fit, what=str(path))
        for i, frame in enumerate(_upto(path, frames))
        if i == 0 or (i - 1) % time_scale == 0
    ]
    return np.stack(kept[: 1 + (len(kept) - 1) // 8 * 8], axis=1)[None]


def _upto(path: str | Path, frames: int) -> Iterator[Pixels]:
    for i, frame in enumerate(iter_frames(path)):
        if i == frames:
            return
        yield frame
