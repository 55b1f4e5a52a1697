"""When Python looks for objects that refer to one another in a circle."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Iterator[None]:
    """
    Keep the garbage collector from going through all objects of a process again and again.

    Following and planning make hundreds of thousands of small objects, hardly any of them in circles; looking at what
    else there is, such as all of torch, took a quarter of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
