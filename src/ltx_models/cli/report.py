"""What a verb tells its user: tables within 80 columns, or JSON."""

from collections.abc import Mapping, Sequence

from ltx_models.byte_sizes import format_bytes


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """
    Align rows: the first column to the left, the others to the right.

    Parameters
    ----------
    rows : sequence of tuple of str
        The first is the head.

    Returns
    -------
    str
        Lines without a last newline.

    Examples
    --------
    >>> print(table([("", "encode", "decode"), ("tiles", "6", "12")]))
           encode  decode
    tiles       6      12
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def pairs(facts: Mapping[str, str]) -> str:
    """Write facts one a line, their names aligned."""
    width = max(map(len, facts))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in facts.items())


def size_of(n_bytes: float | None) -> str:
    """
    Write a number of bytes as people read it.

    Parameters
    ----------
    n_bytes : float or None
        Bytes; None where nobody told.

    Returns
    -------
    str
        As `format_bytes` writes it, or that it is unknown.

    Examples
    --------
    >>> size_of(3 * 2**30)
    '3.0 GiB'
    """
    return "memory unknown" if n_bytes is None else format_bytes(n_bytes)
