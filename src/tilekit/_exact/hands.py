"""What carries a program out: arrays of a library, or byte counts."""

from typing import Protocol, TypeVar

from tilekit._exact.boxes import Box
from tilekit._exact.graph import Node
from tilekit._exact.ops import Moments, Reduce
from tilekit._exact.steps import Place

__all__ = ["Hands"]

V = TypeVar("V")


class Hands(Protocol[V]):
    """What is done with values, whatever they are."""

    def source(self) -> V:
        """Give the input of the function."""

    def constant(self, node: Node) -> V:
        """Give a captured array."""

    def make(self, node: Node, box: Box, boxes: tuple[Box | None, ...], values: list[V | None]) -> V:
        """Make a box of a node. The list is the hands' to empty: nobody else may hold what is in it."""

    def cut(self, value: V, region: tuple[slice, ...]) -> V:
        """Cut a region out, without copying."""

    def own(self, value: V) -> V:
        """Copy what keeps more memory alive than its cells take."""

    def join(self, values: list[V], axis: int) -> V:
        """Put values one after the other."""

    def assemble(self, node: Node, box: Box, pieces: list[tuple[Box, V]]) -> V:
        """Put pieces together that fill a box."""

    def part(self, op: Moments | Reduce, value: V) -> V:
        """Take what one box gives to a statistic."""

    def merge(self, op: Moments | Reduce, a: V, b: V) -> V:
        """Put what two boxes gave together."""

    def finish(self, node: Node, part: V) -> V:
        """Give the statistic."""

    def away(self, value: V, place: Place) -> V:
        """Bring a value to where it is stored."""

    def back(self, value: V, place: Place) -> V:
        """Bring it back."""

    def emit(self, box: Box, value: V) -> None:
        """Take a box of the output."""
