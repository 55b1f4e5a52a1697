"""Who may look at modules: a trace puts stand-ins into them, and is alone meanwhile; plain calls go side by side."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["GATE", "Gate"]


class Gate:
    """
    A lock that many threads hold together, or one alone, which may take it again.

    A thread that holds it together with others and asks to be alone lets go of it meanwhile: it stands within a plain
    call that calls an exact function, and computes nothing until that has been followed.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together: dict[int, int] = {}
        """How often each thread holds it."""
        self._alone: int | None = None
        self._depth = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Keep others from being alone."""
        me = threading.get_ident()
        with self._changed:
            self._wait(me, others=False)
            self._together[me] = self._together.get(me, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._together[me] -= 1
                if not self._together[me]:
                    del self._together[me]
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other thread holds it, and keep them waiting."""
        me = threading.get_ident()
        with self._changed:
            held = self._together.pop(me, 0)
            self._changed.notify_all()
            self._wait(me, others=True)
            self._alone, self._depth = me, self._depth + 1
        try:
            yield
        finally:
            with self._changed:
                self._depth -= 1
                if not self._depth:
                    self._alone = None
                    self._changed.notify_all()
                if held:
                    self._wait(me, others=False)
                    self._together[me] = held

    def _wait(self, me: int, *, others: bool) -> None:
        """Wait until no other thread is alone, and, with `others`, until none holds it."""
        self._changed.wait_for(
            lambda: self._alone == me or (self._alone is None and not (others and self._together.keys() - {me}))
        )

    def hold_still(self) -> None:
        """Wait until no other thread is alone, before a process is forked: its modules would keep the stand-ins."""
        self._changed.acquire()
        self._wait(threading.get_ident(), others=False)

    def go_on(self) -> None:
        """Let others go on, in the process that was forked."""
        self._changed.release()

    def begin_anew(self) -> None:
        """Forget the threads that the new process does not have."""
        me = threading.get_ident()
        self._changed = threading.Condition()
        self._together = {thread: times for thread, times in self._together.items() if thread == me}


GATE = Gate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=GATE.hold_still, after_in_parent=GATE.go_on, after_in_child=GATE.begin_anew)
