"""The newest few entries of a dictionary."""

from threading import Lock
from typing import Any, TypeVar

__all__ = ["Newest"]

Entry = TypeVar("Entry")
KEPT = 8
"""Plans that are kept; those of long clips take memory."""


class Newest(dict[Any, Entry]):
    """
    A dictionary of which the newest entries alone are kept; several threads may add to it.

    A copy is empty, and so is what pickle gives back: plans of a copy must read the weights of the copy.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type["Newest[Entry]"], tuple[()]]:
        """Leave the entries behind."""
        return type(self), ()

    def add(self, key: Any, entry: Entry) -> None:
        """Keep an entry, and let the oldest go where they become too many."""
        with self._lock:
            self[key] = entry
            while len(self) > KEPT:
                del self[next(iter(self))]
