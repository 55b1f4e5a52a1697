"""Looks at numbers that are not there while a function is followed, and whose error the function catches itself."""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

__all__ = ["watched"]


@contextmanager
def watched(
    is_look: Callable[[BaseException], bool], allowed: Collection[CodeType] = (), library: str | None = None
) -> Iterator[list[BaseException]]:
    """
    Note errors that a function catches, and by which it goes another way than a plain call.

    A debugger that is there stays alone, and nothing is noted.

    Parameters
    ----------
    is_look : callable
        Whether an error is one of a look at numbers.
    allowed : collection of code
        Functions that may catch it, since they do the same in a plain call.
    library : str, optional
        The package whose own functions are not watched.

    Yields
    ------
    list of BaseException
        Those that came up.
    """
    seen: list[BaseException] = []
    if sys.gettrace() is not None:
        yield seen
        return

    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "exception" and isinstance(argument[1], BaseException) and is_look(argument[1]):
            seen[:] = [error for error in seen if error is not argument[1]]  # it goes from frame to frame
            if frame.f_code not in allowed:
                seen.append(argument[1])
        return inside

    def entered(frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        if library is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == library:
            return None
        frame.f_trace_lines = False
        return inside

    sys.settrace(entered)
    try:
        yield seen
    finally:
        sys.settrace(None)
