"""Whether all ranks are about to do the same."""

from collections.abc import Sequence
from zlib import crc32

from tilekit._errors import InputError
from tilekit._exact.kernels import kernels_of
from tilekit._exact.strips.transports import Transport
from tilekit.backends import Array

__all__ = ["agree", "number_of"]


def number_of(text: str) -> int:
    """Give a number that differs where texts do."""
    return crc32(text.encode())


def agree(transport: Transport, like: Array, told: Sequence[tuple[str, int]]) -> None:
    """
    See that all ranks have the same.

    Parameters
    ----------
    transport : Transport
        The ranks.
    like : array
        Of the library and the device.
    told : sequence of (str, int)
        What is compared, in words, and a number of 32 bits that differs where it does.

    Raises
    ------
    InputError
        If another rank has another.
    """
    kernels, shape = kernels_of(like), (2 * len(told),)
    halves = [float(half) for _, number in told for half in (number >> 16, number & 0xFFFF)]
    mine = kernels.weights(halves, shape, kernels.empty((1,), "float32"))
    rows = [
        [int(half) for half in row] for row in transport.everyone(mine, range(transport.size), shape, "float32", like)
    ]
    for k, (what, _) in enumerate(told):
        others = [rank for rank, row in enumerate(rows) if row[2 * k : 2 * k + 2] != rows[0][2 * k : 2 * k + 2]]
        if others:
            names = ", ".join(map(str, others))
            msg = f"strips: rank {names} was called with another {what} than rank 0; call all ranks with the same"
            raise InputError(msg)
