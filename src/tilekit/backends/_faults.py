"""Faults of devices, played on a processor: what is counted, whatever the library."""

from threading import RLock

from tilekit.backends._base import Array
from tilekit.backends.counted import Counted
from tilekit.backends.limits import Limits

__all__ = ["ENDED", "TURN", "Faults"]

TURN = RLock()
"""Held while functions of a library are replaced: one thread plays at a time, others wait."""
ENDED = "Command buffer execution failed: Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)"
"""What is raised where a driver ends an operation that takes too long."""


class Faults(Counted):
    """
    How large the largest arrays were, and which operations gave wrong numbers for that.

    Parameters
    ----------
    limits : Limits
        What is right.

    Attributes
    ----------
    played : list of str
        Operations that gave wrong numbers, in order.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        self.played: list[str] = []

    def array(self, x: Array) -> Array:
        """Give an array on the device that is played."""
        return x

    def large(self, elements: int) -> bool:
        """Take note of an array, and tell whether the device gets it wrong."""
        self.note(elements)
        return elements > self.limits.elements

    def convolved(self, made: int, unfolded: int) -> bool:
        """Take note of a convolution, and tell whether the device gets it wrong."""
        self.note_convolution(made, unfolded)
        return made > self.limits.convolution or unfolded > self.limits.unfolded

    def padded(self, frame: int) -> bool:
        """Take note of the frames whose time is padded, and tell whether the device gets it wrong."""
        self.note_padding(frame)
        return frame > self.limits.padded_frame

    def watch(self, work: int, what: str, name: str) -> None:
        """Take note of the multiply-adds of an operation, and end it as the driver of the device would."""
        self.note_work(work, what)
        if work > self.limits.work:
            self.played.append(name)
            raise RuntimeError(ENDED)
