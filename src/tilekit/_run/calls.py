"""Where tiles are computed: here, one call after the other, or by an executor; results come in the plan's order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from tilekit._errors import BackendError
from tilekit._plan.schedule import Call
from tilekit._plan.spans import is_integer
from tilekit.backends import Array, Backend, backend_of
from tilekit.backends._base import ArrayFunction

__all__ = ["Executor", "Workers"]


class Executor(Protocol):
    """What runs tiles elsewhere: any `concurrent.futures.Executor`, or what behaves like one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Begin to compute ``fn(*args)``; the future that this gives has ``result()`` and ``cancel()``."""


@dataclass(frozen=True, slots=True)
class Workers:
    """
    Who computes tiles, and how many at a time.

    Attributes
    ----------
    executor : Executor or None
        None computes here, one call after the other.
    in_flight : int or None
        The most calls under way or waiting for their turn; None for twice the workers where the executor says how many
        it has, else the calls until the first block is finished.
    """

    executor: Executor | None = None
    in_flight: int | None = None

    def check(self) -> None:
        """Refuse an executor that is none, and a number that is none."""
        if self.executor is None and self.in_flight is not None:
            msg = f"in_flight: got {self.in_flight!r} without an executor; give executor= too, or leave it out"
            raise BackendError(msg)
        if self.executor is not None and not callable(getattr(self.executor, "submit", None)):
            msg = (
                f"executor: got a {type(self.executor).__qualname__}, expected an object with submit(function, tile), "
                "such as concurrent.futures.ThreadPoolExecutor"
            )
            raise BackendError(msg)
        if self.in_flight is not None and not (is_integer(self.in_flight) and int(self.in_flight) >= 1):
            msg = f"in_flight: got {self.in_flight!r}, expected an integer of at least 1"
            raise BackendError(msg)

    def compute(
        self, function: ArrayFunction, calls: Sequence[Call], read: Callable[[Call], Array], backend: Backend
    ) -> Iterator[tuple[Call, Array]]:
        """
        Compute calls.

        Parameters
        ----------
        function : callable
            From a tile, or a batch of tiles, to its result.
        calls : sequence of Call
            In the order of the plan.
        read : callable
            Gives the input of a call, when its turn comes.
        backend : Backend
            Of the input.

        Yields
        ------
        Call, array
            In the order of the plan, whatever finishes first, so that results are blended in one order and equal those
            without an executor bit for bit. An error, or dropping the iterator, cancels what has not begun.
        """
        if self.executor is None:
            for call in calls:
                yield call, _noted(call, function, read(call))
            return
        waiting: deque[tuple[Call, Any]] = deque()
        most = self._most(calls)
        try:
            for call in calls:
                waiting.append((call, self.executor.submit(_computed, function, backend.detached(read(call)))))
                if len(waiting) == most:
                    yield _finished(waiting)
            while waiting:
                yield _finished(waiting)
        finally:
            for _, future in waiting:
                future.cancel()

    def _most(self, calls: Sequence[Call]) -> int:
        if self.in_flight is not None:
            return self.in_flight
        workers = getattr(self.executor, "_max_workers", None)
        first = next((i for i, call in enumerate(calls, 1) if call.final), len(calls))
        return 2 * workers if isinstance(workers, int) else first


def _computed(function: ArrayFunction, x: Array) -> Array:
    """Compute where the executor runs; what comes back is finished, and no part of a larger array."""
    result = function(x)
    with suppress(BackendError):  # what is no array is refused where results are checked
        return backend_of(result).detached(result)
    return result


def _finished(waiting: deque[tuple[Call, Any]]) -> tuple[Call, Array]:
    call, future = waiting.popleft()
    return call, _noted(call, future.result)


def _noted(call: Call, function: Callable[..., Array], *inputs: Array) -> Array:
    """Compute, and let an error say in which tile it arose."""
    try:
        return function(*inputs)
    except Exception as error:
        names = ", ".join(str(tile.index) for tile in call.tiles)
        error.add_note(f"in tile {names} of the plan")
        raise
