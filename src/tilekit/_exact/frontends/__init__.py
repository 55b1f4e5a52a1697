"""Front ends: a function of an array library becomes a graph, and its weights are found when they are used."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from tilekit._errors import TraceError
from tilekit._exact.graph import Graph

__all__ = ["Traced", "refuse_changed"]


def _always(*key: Hashable) -> bool:
    del key
    return True


def _unwatched(x: Any) -> Callable[[], str]:
    del x
    return str


@dataclass(frozen=True)
class Traced:
    """What a front end found in a function, for one shape and dtype of its input."""

    graph: Graph
    constants: Callable[[Hashable], Any]
    """Gives the array that a `Constant` of the graph stands for, as it is now: weights may change between calls."""
    current: Callable[[], bool] = _always
    """Whether the function is still what was traced; where a module or an option was replaced, it is traced again."""
    notes: tuple[str, ...] = ()
    """What a user should know: what was found on the way and is right, but does more than it seems."""
    unknown: str = ""
    """Why nobody can say what the function takes, where it is called as it is."""
    own: Callable[[Hashable], bool] = _always
    """Whether a `Constant` stands for numbers of the function itself, and not for a weight that has this name."""
    itself: Graph | None = None
    """One operation that calls the function as it is; None where that would do more than give the result."""
    plain_bytes: int | None = None
    """The bytes that a plain call holds at its peak, the input and the weights not counted; None where it was not
    counted."""
    watch: Callable[[Any], Callable[[], str]] = _unwatched
    """Begins to look at the input and at weights: gives what names one that was changed since, where that is known."""


def refuse_changed(changed: Callable[[], str]) -> None:
    """
    Refuse to go on with a stream whose weights were changed.

    Raises
    ------
    TraceError
        If one was.
    """
    name = changed()
    if name:
        msg = f"stream: {name} was changed while it went on; what came out before is right; begin it anew"
        raise TraceError(msg)
