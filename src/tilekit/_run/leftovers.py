"""
Whose temporary files are whose: names that tell process and machine, and removing what killed processes left.

A name ends in ``PROCESS-MACHINE-``, and something of its own after that.
"""

import os
import platform
import re
import shutil
import tempfile
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path
from zlib import crc32

__all__ = ["alive", "folder_of_this_process", "machine", "mark"]


def folder_of_this_process(name: str) -> tempfile.TemporaryDirectory[str]:
    """
    Make a temporary folder that goes when it is cleaned up, and remove those that killed processes left.

    Parameters
    ----------
    name : str
        What the names of all such folders begin with.

    Returns
    -------
    tempfile.TemporaryDirectory
        Where Python puts temporary files: see `tempfile.gettempdir`.
    """
    wanted = re.compile(rf"{re.escape(name)}-(\d+)-{machine()}-\w+")
    with suppress(OSError):
        for left in Path(tempfile.gettempdir()).iterdir():
            found = wanted.fullmatch(left.name)
            if found and not alive(int(found[1])) and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{name}-{mark()}-")


def mark() -> str:
    """Give the part of a name that tells process and machine."""
    return f"{os.getpid()}-{machine()}"


@cache
def machine() -> str:
    """
    Name this machine since it was started, and the set of processes in it to which numbers of processes belong.

    Hosts of one name on one network folder, copies of one virtual machine and containers of one image differ: each
    system that runs has a number of its own. What was left before a restart therefore stays.
    """
    names = [os.fsencode(platform.node())]
    try:
        names.append(Path("/proc/sys/kernel/random/boot_id").read_bytes())
    except OSError:
        names.append(b"%x" % uuid.getnode())  # of the network card
    with suppress(OSError):
        names.append(os.fsencode(os.readlink("/proc/self/ns/pid")))
    return f"{crc32(b' '.join(names)):08x}"


def alive(process: int) -> bool:
    """Whether a process of this machine lives, as far as anybody can tell."""
    if os.name == "nt":  # where the question itself would end the process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
