"""Pictures: one PNG, or several in a labelled sheet."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ltx_models.media._files import MediaError, as_float32, replacing
from ltx_models.media._places import PICTURE, check_suffix

_MARGIN = 8
_TEXT = 20


def write_picture(path: str | os.PathLike[str], image: Any) -> None:
    """
    Write one picture as PNG.

    Parameters
    ----------
    path : str or path-like
        The file, ``.png``.
    image : array, shape (3, H, W) or (H, W, 3)
        Floats in [-1, 1], channels first, of any array library (what lies outside is clipped); or uint8, channels
        last.

    Raises
    ------
    MediaError
        If the shape is another, a value is not finite, or the place cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_picture(f"{folder}/grey.png", np.zeros((3, 16, 16), np.float32))
    """
    check_suffix(path, PICTURE)
    with replacing(path) as part:
        _pillow("Image").fromarray(_rgb8(image, str(path))).save(part, format="PNG")


def contact_sheet(
    path: str | os.PathLike[str], rows: Mapping[str, Any], *, width: int = 1600, max_columns: int = 4
) -> None:
    """
    Write frames as a sheet: one labelled row for each clip, the same evenly spaced frames in each.

    Parameters
    ----------
    path : str or path-like
        The file, ``.png``.
    rows : mapping of str to array, shape (1, 3, F, H, W)
        Label and clip, floats in [-1, 1]; all of one shape.
    width : int
        Width of the sheet, in pixels.
    max_columns : int
        Most frames in a row.

    Raises
    ------
    MediaError
        If there are no rows, their shapes differ, or the place cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> clip = np.zeros((1, 3, 9, 32, 32), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     contact_sheet(f"{folder}/sheet.png", {"original": clip, "decoded": clip}, width=400)
    """
    check_suffix(path, PICTURE)
    shapes = {label: tuple(clip.shape) for label, clip in rows.items()}
    if len(set(shapes.values())) != 1:
        msg = f"{path}: a sheet needs clips of one shape, got {shapes}"
        raise MediaError(msg)
    _, _, n_frames, height, clip_width = next(iter(shapes.values()))
    columns = min(max_columns, n_frames)
    picked = np.linspace(0, n_frames - 1, columns).round().astype(int).tolist()
    cell_width = (width - _MARGIN * (columns + 1)) // columns
    cell_height = round(cell_width * height / clip_width)
    image_module, draw_module, font_module = _pillow("Image"), _pillow("ImageDraw"), _pillow("ImageFont")
    row_height = cell_height + _TEXT + _MARGIN
    sheet = image_module.new("RGB", (width, _MARGIN + len(rows) * row_height), "white")
    draw, font = draw_module.Draw(sheet), font_module.load_default(size=14)
    for row, (label, clip) in enumerate(rows.items()):
        top = _MARGIN + row * row_height
        draw.text((_MARGIN, top), label, fill="black", font=font)
        for column, k in enumerate(picked):
            cell = image_module.fromarray(_rgb8(clip[0, :, k, ...], label))
            cell = cell.resize((cell_width, cell_height), image_module.Resampling.LANCZOS)
            sheet.paste(cell, (_MARGIN + column * (cell_width + _MARGIN), top + _TEXT))
    with replacing(path) as part:
        sheet.save(part, format="PNG")


def _rgb8(image: Any, where: str) -> npt.NDArray[np.uint8]:
    """Bring a picture to (H, W, 3) uint8."""
    shape = tuple(image.shape)
    if "uint8" in str(image.dtype) and len(shape) == 3 and shape[2] == 3:
        return np.asarray(image, dtype=np.uint8)
    if len(shape) != 3 or shape[0] != 3:
        msg = f"{where}: a picture must have shape (3, H, W), got {shape}"
        raise MediaError(msg)
    values = as_float32(image)
    if not np.isfinite(values).all():
        msg = f"{where}: the picture has values that are not finite"
        raise MediaError(msg)
    levels: npt.NDArray[np.uint8] = np.rint(np.clip((values + 1) * 127.5, 0, 255)).astype(np.uint8)
    return levels.transpose(1, 2, 0)


def _pillow(name: str) -> Any:
    try:
        return import_module(f"PIL.{name}")
    except ModuleNotFoundError as e:
        msg = "pictures need Pillow; install it with: pip install 'tilekit-vae[video]'"
        raise MediaError(msg) from e
