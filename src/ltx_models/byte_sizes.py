"""Numbers of bytes as people write and read them."""

import math
import re

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b\s*", re.IGNORECASE)


def parse_bytes(text: str, name: str = "") -> int:
    """
    Read a number of bytes.

    Parameters
    ----------
    text : str
        A number and a unit: B, kB, MB, GB or TB, powers of 1000, or KiB, MiB, GiB or TiB, powers of 1024; in capitals
        or not.
    name : str
        What it is, which begins the error.

    Returns
    -------
    int
        Bytes, at least 1.

    Raises
    ------
    ValueError
        If it is no such text: a bare number, and a unit without the B, could mean several things.

    Examples
    --------
    >>> parse_bytes("2GB"), parse_bytes("2 GiB"), parse_bytes("500kB")
    (2000000000, 2147483648, 500000)
    """
    match = _TEXT.fullmatch(text)
    known = match is not None and not (match[3] and not match[2])
    count = round(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()]) if match and known else 0
    if not count:
        msg = (
            "expected a size such as 16GB or 500MiB, with one of the units B, kB, MB, GB, TB (powers of 1000), KiB, "
            f"MiB, GiB, TiB (powers of 1024), got {text!r}"
        )
        raise ValueError(f"{name}: {msg}" if name else msg)
    return count


def format_bytes(n_bytes: float, *, up: bool = False) -> str:
    """
    Write a number of bytes in units of powers of 1024.

    Parameters
    ----------
    n_bytes : float
        Bytes.
    up : bool
        Whether to round up, for an amount that must suffice when it is typed in; to the nearest otherwise.

    Returns
    -------
    str
        Whole bytes, or one decimal of the unit in which the number is less than 1000.

    Examples
    --------
    >>> format_bytes(1536), format_bytes(3 * 2**30), format_bytes(1023 * 2**20)
    ('1.5 KiB', '3.0 GiB', '1.0 GiB')
    >>> format_bytes(1.01 * 2**20), format_bytes(1.01 * 2**20, up=True)
    ('1.0 MiB', '1.1 MiB')
    """
    rounded = math.ceil if up else round
    if n_bytes < 1000:
        return f"{rounded(n_bytes)} B"
    power = 1
    while rounded(10 * n_bytes / 1024**power) >= 10_000 and power < 4:
        power += 1
    return f"{rounded(10 * n_bytes / 1024**power) / 10:.1f} {'KMGT'[power - 1]}iB"
