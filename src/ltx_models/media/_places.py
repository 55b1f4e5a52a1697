"""Where results may be written: tried before the work whose result they are to hold."""

import os
import shutil
from collections.abc import Iterable

from ltx_models.byte_sizes import format_bytes
from ltx_models.media._files import DiskError, MediaError, create, real_target, unfinished

VIDEO = (".mp4",)
LATENTS = (".safetensors",)
PICTURE = (".png",)
SOUND = (".wav", ".flac")
Place = str | os.PathLike[str]


def refuse_unwritable(path: Place, n_bytes: int = 0, *, suffixes: tuple[str, ...] = ()) -> None:
    """
    Try a place that will be written later, so that hours of work do not end there.

    Parameters
    ----------
    path : str or path-like
        The file to be written; what stands there stays as it is.
    n_bytes : int
        How large it will be at least.
    suffixes : tuple of str
        What its name may end in; empty where that does not matter.

    Raises
    ------
    MediaError
        If the folder does not exist or cannot be written, if ``path`` is a folder, a device or anything else that is
        no regular file, or if its name ends in something else.
    DiskError
        If there is less room than that.

    Examples
    --------
    >>> refuse_unwritable("no-such-folder/a.mp4")
    Traceback (most recent call last):
    ...
    ltx_models.media._files.MediaError: cannot write no-such-folder/a.mp4: No such file or directory; choose ...
    """
    target = real_target(path)
    check_suffix(path, suffixes)
    with unfinished(target) as part:
        create(part, path)
        free = shutil.disk_usage(part.parent).free
    if n_bytes > free:
        msg = (
            f"cannot write {path}: {format_bytes(n_bytes)} are needed, {format_bytes(free)} are free on that disk; "
            "free some space, or choose another disk"
        )
        raise DiskError(msg)


def check_suffix(path: Place, suffixes: tuple[str, ...]) -> None:
    """Refuse a name that would say something else than what the file holds."""
    ending = os.path.splitext(path)[1]
    if suffixes and ending.lower() not in suffixes:
        allowed = " or ".join(suffixes)
        msg = f"cannot write {path}: its name must end in {allowed}, got {ending or 'no suffix'!r}; choose another name"
        raise MediaError(msg)


def refuse_same(output: Place | None, others: Iterable[Place | None], what: str = "read") -> None:
    """
    Refuse to write over a file that the same run needs.

    Parameters
    ----------
    output : str, path-like or None
        What will be written.
    others : iterable of str, path-like or None
        What is read, or written besides; None is passed over.
    what : str
        What is done with those.

    Raises
    ------
    MediaError
        If one of them is the same file, by another name or through a link too, or lies in it, where it is a folder.

    Examples
    --------
    >>> refuse_same("a.mp4", ["./a.mp4"])
    Traceback (most recent call last):
    ...
    ltx_models.media._files.MediaError: cannot write a.mp4: the same file is read (./a.mp4); choose another name
    """
    if output is None:
        return
    target = os.path.realpath(output)
    for other in others:
        if other is None:
            continue
        place = os.path.realpath(other)
        if target == place or place.startswith(target + os.sep) or _same(target, place):
            msg = f"cannot write {output}: the same file is {what} ({other}); choose another name"
            raise MediaError(msg)


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return False
