"""The rows of an input that have come and are still needed."""

from typing import Any, Generic, TypeVar

from tilekit._exact.boxes import Box, full
from tilekit._exact.graph import Node
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
    node : Node
        The input.
    axis : int
        Along which parts follow one another.
    lent : bool
        Whether the memory of a part may be written to when the next is asked for, as readers do that fill one buffer.

    Attributes
    ----------
    end : int
        Rows that have come.
    begin : int
        The row at which the input begins in the boxes that are asked for.
    """

    def __init__(self, hands: Hands[V], node: Node, axis: int, *, lent: bool = True) -> None:
        self._hands = hands
        self._node = node
        self._axis = axis
        self._lent = lent
        self._parts: list[tuple[int, int, V]] = []
        self._theirs = 0
        self._low = 0
        self.end = self.begin = 0

    def put(self, part: V) -> None:
        """Take the rows that come next."""
        rows = _shape(part)[self._axis]
        self._parts.append((self.end, self.end + rows, part))
        self._theirs = self.end
        self.end += rows

    def get(self, box: Box) -> V:
        """Give a box of what waits."""
        low, high = (row + self.begin for row in box[self._axis])
        self._gather(low, high)
        start, stop, part = next(row for row in self._parts if row[0] <= low and high <= row[1])
        region = [slice(*interval) for interval in box]
        region[self._axis] = slice(low - start, high - start)
        if any(cut.start or cut.stop < n for cut, n in zip(region, _shape(part), strict=True)):
            return self._hands.cut(part, tuple(region))
        if self._lent and stop > self._theirs:  # a view of all of it could stay
            return self._copied(start, stop, part)[2]
        return part

    def drop(self, row: int) -> None:
        """Let go of the parts that end before a row."""
        self._low = max(self._low, row)
        self._parts = [part for part in self._parts if part[1] > self._low]

    def keep(self) -> None:
        """Copy the rows of the last part that wait, before more is asked for."""
        if not self._lent:
            return
        self._parts = [row if row[1] <= self._theirs else self._copied(*row) for row in self._parts]
        self._theirs = self.end

    def _copied(self, start: int, stop: int, part: V) -> tuple[int, int, V]:
        at = max(start, self._low)
        rows = self._rows(part, at - start, stop - start)
        box = full(_shape(rows))
        return at, stop, self._hands.assemble(self._node, box, [(box, rows)])

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


def _shape(part: Any) -> tuple[int, ...]:
    return tuple(part.shape)
