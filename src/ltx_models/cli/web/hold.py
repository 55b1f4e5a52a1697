"""One server a folder: a lock that the system lets go of with the process that has it, however that ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO

from ltx_models.media import MediaError

LOCK = "lock"
TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
FAR = 1 << 30  # a byte that nobody writes: on Windows a locked one cannot be read


def hold(root: Path) -> IO[str]:
    """
    Take a folder for this process.

    Parameters
    ----------
    root : Path
        The folder.

    Returns
    -------
    file
        Open for as long as the folder is held; runs, which are processes of their own, do not inherit it.

    Raises
    ------
    MediaError
        If another server has the folder, or its disk knows no locks.
    """
    try:
        file = (root / LOCK).open("a+", encoding="ascii")
    except OSError as error:
        msg = f"--folder: cannot write {root / LOCK}: {error.strerror}; choose a folder that can be written"
        raise MediaError(msg) from error
    try:
        _lock(file)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise MediaError(_refusal(root, error, holder)) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _refusal(root: Path, error: OSError, holder: str) -> str:
    """Say why a folder cannot be held."""
    if error.errno not in TAKEN:
        return f"--folder: {root} cannot be locked: {error.strerror}; choose a folder on a disk of this machine"
    which = f" (process {holder})" if holder.isdigit() else ""
    return f"--folder: another server{which} has {root}; open its page, end it, or choose another folder with --folder"


def _lock(file: IO[str]) -> None:
    """Lock a file, or raise OSError at once."""
    if os.name == "nt":
        import msvcrt

        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # of Windows
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
