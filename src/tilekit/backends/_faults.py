"""Faults of devices, played on a processor: what is counted, whatever the library."""

from threading import Lock, RLock

from tilekit.backends._base import Array
from tilekit.backends.limits import Limits

__all__ = ["TURN", "Faults"]

TURN = RLock()
"""Held while functions of a library are replaced: one thread plays at a time, others wait."""


class Faults:
    """
    How large the largest arrays were, and which operations gave wrong numbers for that.

    Parameters
    ----------
    limits : Limits
        What is right.

    Attributes
    ----------
    elements, convolution, unfolded, padded_frame : int
        The most that was met of what `Limits` counts.
    played : list of str
        Operations that gave wrong numbers, in order.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._counting = Lock()
        self.elements = self.convolution = self.unfolded = self.padded_frame = 0
        self.played: list[str] = []

    def array(self, x: Array) -> Array:
        """Give an array on the device that is played."""
        return x

    def large(self, elements: int) -> bool:
        """Take note of an array, and tell whether the device gets it wrong."""
        with self._counting:
            self.elements = max(self.elements, elements)
        return elements > self.limits.elements

    def convolved(self, made: int, unfolded: int) -> bool:
        """Take note of a convolution, and tell whether the device gets it wrong."""
        with self._counting:
            self.convolution = max(self.convolution, made)
            self.unfolded = max(self.unfolded, unfolded)
        return made > self.limits.convolution or unfolded > self.limits.unfolded

    def padded(self, frame: int) -> bool:
        """Take note of the frames whose time is padded, and tell whether the device gets it wrong."""
        with self._counting:
            self.padded_frame = max(self.padded_frame, frame)
        return frame > self.limits.padded_frame
