"""The rows of an input that have come and are still needed."""

from typing import Any, Generic, TypeVar

from tilekit._exact.boxes import Box
from tilekit._exact.hands import Hands

__all__ = ["Feed"]

V = TypeVar("V")


class Feed(Generic[V]):
    """
    Parts of an input that follow one another along an axis.

    Parameters
    ----------
    hands : Hands
        What handles values.
    axis : int
        Along which parts follow one another.

    Attributes
    ----------
    end : int
        Rows that have come.
    begin : int
        The row at which the input begins in the boxes that are asked for.
    """

    def __init__(self, hands: Hands[V], axis: int) -> None:
        self._hands = hands
        self._axis = axis
        self._parts: list[tuple[int, int, V]] = []
        self._low = 0
        self.end = self.begin = 0

    def put(self, part: V) -> None:
        """Take the rows that come next."""
        rows = _rows(part, self._axis)
        if rows:
            self._parts.append((self.end, self.end + rows, part))
            self.end += rows

    def get(self, box: Box) -> V:
        """Give a box of what waits."""
        low, high = (row + self.begin for row in box[self._axis])
        self._gather(low, high)
        start, _, part = next(row for row in self._parts if row[0] <= low and high <= row[1])
        return self._cut(part, box, low - start, high - start)

    def drop(self, row: int) -> None:
        """Let go of the parts that end before a row."""
        self._low = max(self._low, row)
        self._parts = [part for part in self._parts if part[1] > self._low]

    def trim(self) -> None:
        """Let go of the memory of parts of which the last rows alone wait, before more is asked for."""
        self._parts = [self._trimmed(*part) for part in self._parts]

    def _trimmed(self, start: int, stop: int, part: V) -> tuple[int, int, V]:
        if start >= self._low:
            return start, stop, part
        return self._low, stop, self._hands.own(self._rows(part, self._low - start, stop - start))

    def whole(self) -> V | None:
        """Give all rows that wait; None where none do."""
        if not self._parts:
            return None
        self._gather(self._parts[0][0], self.end)
        return self._parts[0][2]

    def _gather(self, low: int, high: int) -> None:
        """Put parts together of which a box needs rows: rows that many operations read are joined once."""
        apart = [(start, stop, part) for start, stop, part in self._parts if start < high and stop > low]
        if len(apart) < 2:
            return
        (start, stop, first), (begin, end, last) = apart[0], apart[-1]
        pieces = [part for _, _, part in apart]
        at, to = max(start, self._low), min(end, high)
        pieces[0], pieces[-1] = self._rows(first, at - start, stop - start), self._rows(last, 0, to - begin)
        rest = [(to, end, self._rows(last, to - begin, end - begin))] if end > to else []
        before, after = ([row for row in self._parts if row[1] <= low], [row for row in self._parts if row[0] >= high])
        self._parts = [*before, (at, to, self._hands.join(pieces, self._axis)), *rest, *after]

    def _rows(self, part: V, start: int, stop: int) -> V:
        rank = len(_shape(part))
        return self._hands.cut(part, tuple(slice(start, stop) if d == self._axis else slice(None) for d in range(rank)))

    def _cut(self, part: V, box: Box, start: int, stop: int) -> V:
        region = [slice(*interval) for interval in box]
        region[self._axis] = slice(start, stop)
        shape = _shape(part)
        if all(part.start == 0 and part.stop == n for part, n in zip(region, shape, strict=True)):
            return part
        return self._hands.cut(part, tuple(region))


def _shape(part: Any) -> tuple[int, ...]:
    return tuple(part.shape)


def _rows(part: Any, axis: int) -> int:
    return int(part.shape[axis])
