"""What a stage keeps for later ones: boxes of one node, which go from the first row on."""

from typing import Generic, TypeVar

from tilekit._exact.boxes import Box, contains, meet, within
from tilekit._exact.graph import Node
from tilekit._exact.hands import Hands
from tilekit._exact.steps import Place

__all__ = ["Store"]

V = TypeVar("V")


class Store(Generic[V]):
    """
    The boxes of one node.

    Parameters
    ----------
    node : Node
        Whose.
    axis : int
        Along which rows go.
    place : {"device", "host", "disk"}
        Where they lie.
    hands : Hands
        What handles values.
    parts : list of (Box, value), optional
        What is there already.
    """

    def __init__(
        self, node: Node, axis: int, place: Place, hands: Hands[V], parts: list[tuple[Box, V]] | None = None
    ) -> None:
        self._node = node
        self._axis = axis
        self._place = place
        self._hands = hands
        self._parts: list[tuple[Box, V]] = parts or []

    def put(self, box: Box, value: V) -> None:
        """Take a box."""
        self._parts.append((box, self._hands.away(self._hands.own(value), self._place)))

    def get(self, box: Box) -> V:
        """Give a box of what is there."""
        pieces: list[tuple[Box, V]] = []
        axis, (first, last) = self._axis, box[self._axis] if box else (0, 0)
        for held, value in self._parts:
            if box and (held[axis][0] >= last or held[axis][1] <= first):  # mostly, where there are many
                continue
            shared = meet(held, box) if box else held
            if shared is None:
                continue
            here = self._hands.back(value, self._place)
            pieces.append((shared, here if shared == held else self._hands.cut(here, within(held, shared))))
            if contains(held, box):
                return pieces[-1][1]
        return self._hands.assemble(self._node, box, pieces)

    def release(self, row: int) -> None:
        """Let go of the boxes that end before a row; one number has no rows."""
        self._parts = [part for part in self._parts if not part[0] or part[0][self._axis][1] > row]
