"""
Arrays of which only shape, strides and memory are known: they come and go as the real ones do, and are counted.

A buffer is counted as long as something refers to it, which CPython knows at once: the forecast lets go of its ghosts
where the run lets go of its arrays.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from sys import getrefcount

from tilekit._exact.boxes import Shape

__all__ = ["Ghost", "Ledger", "contiguous", "holds", "in_order", "overlaps"]


class Ledger:
    """The bytes that are there, and the most that there were."""

    def __init__(self) -> None:
        self.live = 0
        self.peak = 0

    def ghost(self, shape: Shape, itemsize: int) -> "Ghost":
        """Give an array in memory of its own."""
        return Ghost(shape, contiguous(shape), itemsize, _Buffer(self, math.prod(shape) * itemsize))

    def like(self, ghost: "Ghost") -> "Ghost":
        """Give an array in memory of its own that lies as another does."""
        return Ghost(ghost.shape, ghost.strides, ghost.itemsize, _Buffer(self, ghost.buffer.nbytes))

    def uncounted(self, shape: Shape, itemsize: int) -> "Ghost":
        """Give an array that is the caller's: the input, a weight."""
        return Ghost(shape, contiguous(shape), itemsize, _Buffer(Ledger(), math.prod(shape) * itemsize))

    def add(self, nbytes: int) -> None:
        """Count memory."""
        live = self.live = self.live + nbytes
        if live > self.peak:  # noqa: PLR1730  in the innermost loop
            self.peak = live

    def touch(self, nbytes: int) -> None:
        """Count memory that goes at once."""
        if self.live + nbytes > self.peak:  # noqa: PLR1730  in the innermost loop
            self.peak = self.live + nbytes


class _Buffer:
    """Memory that is counted while anything refers to it."""

    __slots__ = ("_ledger", "nbytes")

    def __init__(self, ledger: Ledger, nbytes: int) -> None:
        self._ledger = ledger
        self.nbytes = nbytes
        ledger.add(nbytes)

    def __del__(self) -> None:
        self._ledger.live -= self.nbytes


class Ghost:
    """
    A view of a buffer.

    Parameters
    ----------
    shape : tuple of int
        Of the view.
    strides : tuple of int
        In cells.
    itemsize : int
        Bytes of a cell.
    buffer : _Buffer
        What is kept alive.
    """

    __slots__ = ("buffer", "itemsize", "shape", "strides")

    def __init__(self, shape: Shape, strides: Shape, itemsize: int, buffer: _Buffer) -> None:
        self.shape = shape
        self.strides = strides
        self.itemsize = itemsize
        self.buffer = buffer

    @property
    def nbytes(self) -> int:
        """The bytes of its cells."""
        return math.prod(self.shape) * self.itemsize

    @property
    def owns(self) -> bool:
        """Whether nothing else is kept alive by it."""
        return self.buffer.nbytes <= self.nbytes

    def view(self, shape: Shape, strides: Shape) -> "Ghost":
        """Give another view of the same memory."""
        return Ghost(shape, strides, self.itemsize, self.buffer)

    def cut(self, region: tuple[slice, ...]) -> "Ghost":
        """Give the view of a region."""
        shape, strides = [], []
        for part, n, stride in zip(region, self.shape, self.strides, strict=True):
            start, stop, step = part.indices(n)
            shape.append(-((start - stop) // step))
            strides.append(step * stride)
        return self.view(tuple(shape), tuple(strides))

    def reshape(self, shape: Shape) -> "Ghost | None":
        """Give the view under another shape; None where the cells must be copied."""
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        strides: list[int] = []
        at = 0
        rest = [n for n in shape if n != 1]
        i = 0
        while i < len(rest):
            size, j, total = old[at][0], i + 1, rest[i]
            stop = at + 1
            while size != total:
                if size < total:
                    size *= old[stop][0]
                    stop += 1
                else:
                    total *= rest[j]
                    j += 1
            if any(old[k][1] != old[k + 1][0] * old[k + 1][1] for k in range(at, stop - 1)):
                return None
            step = old[stop - 1][1]
            run = []
            for n in reversed(rest[i:j]):
                run.append(step)
                step *= n
            strides += reversed(run)
            at, i = stop, j
        placed = iter(strides)
        return self.view(shape, tuple(1 if n == 1 else next(placed) for n in shape))


def overlaps(shape: Shape, strides: Shape) -> bool:
    """Whether some cells of a view are one in memory, as those of windows that overlap, or of what is repeated."""
    reach = 1
    for stride, n in sorted((abs(stride), n) for n, stride in zip(shape, strides, strict=True) if n > 1):
        if stride < reach:
            return True
        reach += stride * (n - 1)
    return False


@lru_cache(1 << 14)
def contiguous(shape: Shape) -> Shape:
    """Give the strides of an array that lies in order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def in_order(shape: Shape, strides: Shape) -> bool:
    """Say whether cells lie one after the other, the last axis first."""
    return strides == contiguous(shape) or all(
        n == 1 or stride == whole for n, stride, whole in zip(shape, strides, contiguous(shape), strict=True)
    )


def _held(values: "Sequence[Ghost | None]", i: int) -> tuple[int, int]:
    value = values[i]
    assert value is not None  # not asked otherwise
    return getrefcount(value), getrefcount(value.buffer)


_ALONE = next(_held(values, i) for values in ([Ledger().ghost((), 1)],) for i, value in enumerate(values))


def holds(values: "Sequence[Ghost | None]", spare: int) -> tuple[int, ...]:
    """
    Say of each array in a list whether its memory holds more than it does, by more than `spare` bytes.

    Else whether anything but the list refers to it, or to its memory: the numbers are those of `Job.holds`.
    """
    return tuple(
        [
            0 if value is None or value.buffer.nbytes > value.nbytes + spare else 1 + (_held(values, i) == _ALONE)
            for i, value in enumerate(values)
        ]
    )
