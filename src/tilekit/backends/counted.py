"""How large the arrays of a call are while it runs, and its end where a device would get one wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module

from tilekit._errors import PlanError
from tilekit.backends import canary
from tilekit.backends._base import Array
from tilekit.backends._counts import Counted
from tilekit.backends.limits import limits_of, said_of

__all__ = ["COUNTING", "Counted", "refuse_size", "within_limits"]


COUNTING: ContextVar[Counted | None] = ContextVar("counting", default=None)
"""What operations of MLX are counted by; PyTorch shows its operations itself."""
_SAID = {
    "elements": "an array of {} elements",
    "convolution": "the output of a convolution, of {} elements",
    "unfolded": "the unfolded input of a convolution, of {} elements",
    "padded_frame": "padded time of frames of {} elements",
    "work": "{1} of {0} multiply-adds",
}


class Guard(Counted):
    """
    Ends a call at the first array or operation that is too large for the device.

    Parameters
    ----------
    like : array
        On the device.
    what, cure : str
        What makes the array, and what to do instead.
    """

    def __init__(self, like: Array, what: str, cure: str) -> None:
        super().__init__()
        self._like, self._what, self._cure = like, what, cure
        self.limits = limits_of(like)

    def refuse(self) -> None:
        """End the call if something is too large."""
        worst = self.worst(self.limits)
        if worst is not None:
            name, size = worst
            made = _SAID[name].format(size, self.heaviest)
            refuse_size(self._like, size, f"{self._what} makes {made}", self._cure, name)

    def note(self, elements: int) -> None:
        super().note(elements)
        self.refuse()

    def note_convolution(self, made: int, unfolded: int) -> None:
        super().note_convolution(made, unfolded)
        self.refuse()

    def note_work(self, work: int, what: str) -> None:
        super().note_work(work, what)
        self.refuse()

    def note_padding(self, frame: int) -> None:
        super().note_padding(frame)
        self.refuse()


def refuse_size(like: Array, size: int, what: str, cure: str, kind: str = "elements") -> None:
    """
    Refuse an array, or an operation, that the device of an array gets wrong.

    Parameters
    ----------
    like : array
        On the device.
    size : int
        Its elements, or what else the limit counts.
    what, cure : str
        What it is of what, with its size, and what to do instead.
    kind : str
        The name of the limit.

    Raises
    ------
    PlanError
        If it is larger than is right.
    """
    most = getattr(limits_of(like), kind)
    if size > most:
        msg = f"{what}, {said_of(like, most, kind)}; {cure}"
        raise PlanError(msg)


@contextmanager
def within_limits(like: Array, what: str, cure: str) -> Iterator[None]:
    """
    Ask a device whether it is right, and end what runs within at the first array or operation too large for it.

    With MLX nothing is computed before the end of such a context, so that what is refused has taken no time; with
    PyTorch operations that are too large are refused before they run, arrays after.

    Parameters
    ----------
    like : array
        On the device; on a processor nothing happens.
    what, cure : str
        What runs, and what to do where it is refused.

    Raises
    ------
    DeviceError
        If the canary finds the device wrong.
    PlanError
        If an array or an operation is too large for it.
    """
    canary.check(like)
    guard = Guard(like, what, cure)
    if not guard.limits.any:
        yield
        return
    with _counting(like, guard):
        yield
    canary.check(like, guard.sizes)


@contextmanager
def _counting(like: Array, counted: Counted) -> Iterator[None]:
    if type(like).__module__.partition(".")[0] == "mlx":
        token = COUNTING.set(counted)
        try:
            yield
        finally:
            COUNTING.reset(token)
        return
    with import_module("tilekit.backends._counted_torch").Counting(counted):
        yield
