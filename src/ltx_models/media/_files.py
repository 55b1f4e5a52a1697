"""What all files have in common: one error, one way of being written, one way of becoming numpy."""

import errno
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

import tilekit
from ltx_models.byte_sizes import format_bytes
from ltx_models.media.regular import irregular
from tilekit._run.leftovers import alive, machine, mark


class MediaError(ValueError):
    """A file that cannot be read or written, or content that its format cannot hold."""


class DiskError(MediaError, tilekit.DiskError):
    """A disk that is full, or takes no file of that size."""


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_begun: set[tuple[int, int, Path]] = set()
"""The temporary names in use, with the process and the thread that use them."""


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
    refuse_irregular(path)
    try:
        # A path that begins with its root is no URL, whatever colons follow.
        return library.open(os.path.abspath(path), metadata_errors="replace")
    except (library.error.FFmpegError, OSError) as e:
        msg = f"cannot read {path}: {e.strerror or 'not a media file'}"
        raise MediaError(msg) from e


def refuse_irregular(path: str | os.PathLike[str]) -> None:
    """Refuse to read a named pipe or device, which would be waited for, and cannot be read twice."""
    kind = irregular(path)
    if kind is not None:
        msg = f"cannot read {path}: it is {kind}; give a regular file"
        raise MediaError(msg)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """
    Give a temporary name beside ``path``, and rename it to ``path`` when the block ends well.

    The temporary file is made at once, so that a place that cannot be written is refused before any work.
    When the block raises anything, a ``KeyboardInterrupt`` included, the temporary file is removed and what stood
    at ``path`` stays as it was. What a process that was killed left is removed when the same file is made again.

    Parameters
    ----------
    path : str or path-like
        The file to be made or replaced. Its folder must exist. Where a link stands, the file that it leads to is meant.

    Yields
    ------
    pathlib.Path
        The temporary file, empty, in the same folder; its name ends in ``.part``.

    Raises
    ------
    MediaError
        If the folder does not exist or cannot be written, or if ``path`` is a folder, a device or anything else
        that is no regular file.
    DiskError
        If the disk is full.

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
    target = real_target(path)
    with unfinished(target) as part:
        create(part, path)
        yield part
        part.replace(target)


@contextmanager
def unfinished(path: str | os.PathLike[str]) -> Iterator[Path]:
    """
    Give a temporary name beside ``path``; whoever asked makes a file or folder of it, and gives it its name.

    What stands under the temporary name when the block ends, however it ends, is removed. So is, at the beginning,
    what earlier processes of this machine left for the same ``path`` when they were killed.

    Parameters
    ----------
    path : str or path-like
        The file or folder to be made.

    Yields
    ------
    pathlib.Path
        A name that is not taken, in the same folder.

    Raises
    ------
    DiskError
        If the block fails because the disk is full: it says how much was written and how much is free.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with unfinished(Path(folder, "a")) as part:
    ...         part.mkdir()
    ...     list(Path(folder).iterdir())
    []
    """
    target = Path(path)
    remove_leftovers(target)
    part = target.with_name(f".{target.name}.{mark()}-{secrets.token_hex(3)}.part")
    begun = os.getpid(), threading.get_ident(), part
    _begun.add(begun)
    try:
        yield part
    except Exception as error:
        full = _full_disk(error, target, _size(part))
        if full is not None:
            raise full from error
        raise
    finally:
        _remove(part)
        _begun.discard(begun)


def remove_unfinished() -> None:
    """
    Remove what this thread has begun and not finished: for one that was told to stop.

    A signal can come between two steps of a ``with`` block's own end, so that the block clears nothing away.
    """
    for begun in list(_begun):
        if begun[:2] == (os.getpid(), threading.get_ident()):
            _remove(begun[2])
            _begun.discard(begun)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """
    Remove what killed processes left of a file or folder; what a living process is writing stays.

    Parameters
    ----------
    path : str or path-like
        The file or folder that they were to make.

    Notes
    -----
    The temporary name tells process and machine. Leftovers of other machines on a shared disk stay, also of those
    of the same name, and so do those of before a restart: nobody here knows whether those processes live.
    """
    target = Path(path)
    name = re.compile(re.escape(f".{target.name}.") + rf"(\d+)-{machine()}-[0-9a-f]{{6}}\.(part|before)")
    with suppress(OSError):
        for left in target.parent.iterdir():
            found = name.fullmatch(left.name)
            # what stood there before an unlucky replacement is kept as long as nothing stands there
            if found and not alive(int(found[1])) and (found[2] == "part" or target.exists()):
                _remove(left)


def _full_disk(error: BaseException, target: Path, written: int) -> DiskError | None:
    """Make an error that says what is known of a full disk; None where it is not that."""
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "errno", None) not in _FULL:
        cause = cause.__cause__
    if cause is None or isinstance(error, tilekit.DiskError):  # which says already what is full
        return None
    reason = os.strerror(cause.errno)  # type: ignore[attr-defined]  # it has one: see above
    try:
        free = format_bytes(shutil.disk_usage(target.parent).free)
    except OSError:
        free = "an unknown amount"
    msg = (
        f"cannot write {target}: {reason} ({format_bytes(written)} were written, {free} are free on that disk); free "
        "some space, or choose another disk"
    )
    return DiskError(msg)


def _size(part: Path) -> int:
    try:
        return sum(_size(inner) for inner in part.iterdir()) if part.is_dir() else part.stat().st_size
    except OSError:  # it is not there, or may not be looked at
        return 0


def _remove(part: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink(missing_ok=True)


def real_target(path: str | os.PathLike[str]) -> Path:
    """Give the file that will be written, links followed; refuse devices and whatever else is no regular file."""
    target = Path(os.path.realpath(path))
    if os.path.islink(target):  # which realpath leaves where links lead in a circle
        msg = f"cannot write {path}: the link leads nowhere; give the name of a file"
        raise MediaError(msg)
    if os.path.isdir(target):  # False where nobody may look
        msg = f"{path} is a folder; give the name of a file"
        raise MediaError(msg)
    kind = irregular(target)
    if kind is not None:
        msg = f"cannot write {path}: it is {kind}, and only regular files are written; give the name of a file"
        raise MediaError(msg)
    return target


def create(part: Path, target: str | os.PathLike[str]) -> None:
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
