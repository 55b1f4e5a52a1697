"""Files that can be read from any place in them, and JSON that others wrote."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

_KINDS = {
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
}


def irregular(path: str | os.PathLike[str]) -> str | None:
    """
    Say what stands at a path where that is neither a file nor a folder: opening a named pipe waits for ever.

    Parameters
    ----------
    path : str or path-like
        The path; links are followed.

    Returns
    -------
    str or None
        Such as ``"a named pipe"``; None for files and folders, and where nothing is.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    return next((word for test, word in _KINDS.items() if test(mode)), None)


def parse_json(text: str | bytes) -> Any:
    """
    Read JSON that somebody else wrote.

    Parameters
    ----------
    text : str or bytes
        The text.

    Returns
    -------
    object
        What it says.

    Raises
    ------
    ValueError
        If it is no JSON, is nested too deeply, or names a key of an object twice.

    Examples
    --------
    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: the key 'a' is there twice
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        msg = "it is nested too deeply"
        raise ValueError(msg) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"the key {twice!r} is there twice"
        raise ValueError(msg)
    return made
