"""What all files have in common: one error, one way of being written, one way of becoming numpy."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt


class MediaError(ValueError):
    """A file that cannot be read or written, or content that its format cannot hold."""


def av() -> ModuleType:
    """PyAV, or an error that says how to get it."""
    try:
        return import_module("av")
    except ModuleNotFoundError as e:
        msg = "video and sound files need PyAV; install it with: pip install 'tilekit-vae[video]'"
        raise MediaError(msg) from e


def open_media(path: str | os.PathLike[str]) -> Any:
    """Open a file for reading, or say why not."""
    library = av()
    try:
        return library.open(os.fspath(path))
    except (library.error.FFmpegError, OSError) as e:
        msg = f"cannot read {path}: {e.strerror or 'not a media file'}"
        raise MediaError(msg) from e


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """
    Give a temporary name beside ``path``, and rename it to ``path`` when the block ends well.

    The temporary file is made at once, so that a place that cannot be written is refused before any work.
    When the block raises anything, a ``KeyboardInterrupt`` included, the temporary file is removed and what stood
    at ``path`` stays as it was.

    Parameters
    ----------
    path : str or path-like
        The file to be made or replaced. Its folder must exist.

    Yields
    ------
    pathlib.Path
        The temporary file, empty, in the same folder; its name ends in ``.part``.

    Raises
    ------
    MediaError
        If the folder does not exist or cannot be written, or if ``path`` is a folder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as part:
    ...         _ = part.write_text("whole")
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    part = _part_of(Path(path))
    try:
        _create(part, path)
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def refuse_unwritable(path: str | os.PathLike[str]) -> None:
    """
    Try a place that will be written later, so that hours of work do not end there.

    Parameters
    ----------
    path : str or path-like
        The file to be written; what stands there stays as it is.

    Raises
    ------
    MediaError
        If the folder does not exist or cannot be written, or if ``path`` is a folder.

    Examples
    --------
    >>> refuse_unwritable("/nowhere/a.mp4")
    Traceback (most recent call last):
    ...
    ltx_models.media._files.MediaError: cannot write /nowhere/a.mp4: No such file or directory; choose ...
    """
    part = _part_of(Path(path))
    try:
        _create(part, path)
    finally:
        part.unlink(missing_ok=True)


def _part_of(target: Path) -> Path:
    """Name a temporary file beside the target."""
    if target.is_dir():
        msg = f"{target} is a folder; give the name of a file"
        raise MediaError(msg)
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def _create(part: Path, target: str | os.PathLike[str]) -> None:
    """Make an empty file, or say why it cannot be made."""
    try:
        part.open("xb").close()
    except OSError as e:
        msg = f"cannot write {target}: {e.strerror}; choose a folder that exists and can be written"
        raise MediaError(msg) from e


def as_float32(array: Any) -> npt.NDArray[np.float32]:
    """
    Bring an array of any library, dtype and device to numpy.

    Parameters
    ----------
    array : array
        Of numpy, PyTorch, MLX or anything that numpy can read.

    Returns
    -------
    ndarray
        float32, of the same shape; not copied where it is that already.

    Examples
    --------
    >>> as_float32(np.ones(2, np.float16)).dtype
    dtype('float32')
    """
    if hasattr(array, "detach"):
        array = array.detach().cpu().float()  # torch: out of the graph and off the device
    elif "bfloat16" in str(array.dtype):
        array = array.astype(array.__array_namespace__().float32)  # MLX: numpy has no bfloat16
    return np.asarray(array, dtype=np.float32)
