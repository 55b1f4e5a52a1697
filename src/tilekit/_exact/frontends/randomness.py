"""The global generators of random numbers, of Python and NumPy: what is drawn from them is no function of an input."""

import random
import sys
from typing import Any

__all__ = ["generators"]


def generators() -> Any:
    """Give the state of both; NumPy's where it is imported."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return random.getstate(), None
    _, keys, *rest = numpy.random.get_state()
    return random.getstate(), (keys.tobytes(), *rest)
