"""What is counted of the arrays of a call: the largest of each kind, and the work."""

from threading import Lock

from tilekit.backends import canary
from tilekit.backends.limits import Limits

__all__ = ["Counted"]


class Counted:
    """
    The largest arrays and operations of a call, and its work; operations of several threads may be counted.

    Attributes
    ----------
    elements, convolution, unfolded, padded_frame, work : int
        The most that was met of what `Limits` counts.
    heaviest : str
        The operation of most multiply-adds; `work` is how many.
    total : int
        Multiply-adds of all operations.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.elements = self.convolution = self.unfolded = self.padded_frame = self.work = self.total = 0
        self.heaviest = ""

    def note(self, elements: int) -> None:
        """Take note of an array."""
        with self._lock:
            self.elements = max(self.elements, elements)

    def note_convolution(self, made: int, unfolded: int) -> None:
        """Take note of a convolution: of its output, and of what it unfolds."""
        with self._lock:
            self.convolution = max(self.convolution, made)
            self.unfolded = max(self.unfolded, unfolded)

    def note_work(self, work: int, what: str) -> None:
        """Take note of the multiply-adds of an operation."""
        with self._lock:
            self.total += work
            if work > self.work:
                self.work, self.heaviest = work, what

    def note_padding(self, frame: int) -> None:
        """Take note of the frames whose time is padded with a constant."""
        with self._lock:
            self.padded_frame = max(self.padded_frame, frame)

    def worst(self, limits: Limits) -> tuple[str, int] | None:
        """Give what passes a limit first, by the name of the limit, and its size; None where all is right."""
        for name in ("work", "convolution", "unfolded", "padded_frame", "elements"):
            size = getattr(self, name)
            if size > getattr(limits, name):
                return name, size
        return None

    @property
    def sizes(self) -> canary.Sizes:
        """What the canary asks for."""
        return canary.Sizes(self.elements, self.convolution, self.unfolded, self.total)
