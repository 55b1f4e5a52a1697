"""Signals that end a run: unwound like an interrupt, and looked for where somebody swallowed the interrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ltx_models.progress import ProgressBar

TOLD_TO_STOP = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal by which a person or system ends a process; nothing unfinished is left."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Told:
    """The signal that came, if one did."""

    number: int | None = None


_told = _Told()


def look() -> None:
    """
    Raise `Stopped` where a signal came and its exception was lost, as in a ``__del__``, whose exceptions Python drops.

    Raises
    ------
    Stopped
        If the process was told to stop.
    """
    if _told.number is not None:
        raise Stopped(_told.number)


def told_to_stop() -> int | None:
    """Give the number of the signal that came, None without one."""
    return _told.number


class WatchedBar(ProgressBar):
    """A bar that ends the work when the process was told to stop."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Look for signals, then show how far the work is."""
        look()
        super().__call__(done, total, note)


@contextmanager
def stoppable() -> Iterator[None]:
    """
    Let signals that end a process raise `Stopped`, so that what was begun is cleared away.

    Yields
    ------
    None
        Handlers that others have put in place stay.
    """
    here = threading.current_thread() is threading.main_thread()
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in TOLD_TO_STOP if here}
    mine = {number: handler for number, handler in before.items() if handler in usual}
    _told.number = None

    def stop(number: int, frame: Any) -> None:
        _told.number = number
        raise Stopped(number)

    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in mine.items():
            signal.signal(number, handler)
