"""What goes between ranks, whatever carries it."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from tilekit._exact.boxes import Box
from tilekit._exact.graph import Node
from tilekit._exact.strips.parts import Shared

__all__ = ["Link"]

V = TypeVar("V")


class Link(Protocol[V]):
    """The way from one rank to the others."""

    def swap(self, node: Node, gives: Sequence[tuple[int, Box, V]], takes: Sequence[tuple[int, Box]]) -> list[V]:
        """Send boxes of a node, and give those that come, in the order of `takes`."""

    def share(self, node: Node, box: Box, part: V | None, givers: Shared) -> list[V]:
        """Give the parts of a box of a statistic from all ranks that have one, in the order of `givers`."""
