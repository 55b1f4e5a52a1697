"""What of arrays and operations is right on the device at hand: the limits of its place, or those pretended."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from math import prod

from tilekit._errors import InputError
from tilekit.backends._base import Array, Place
from tilekit.backends._registry import backend_of
from tilekit.backends.known import KNOWN, MOST, WATCHED, Known, Limits, known_of

__all__ = [
    "KNOWN",
    "MOST",
    "WATCHED",
    "Known",
    "Limits",
    "Place",
    "known_of",
    "limits_of",
    "place_of",
    "pretended",
    "warn_of",
]

_OVERRIDE: ContextVar[Limits | None] = ContextVar("limits", default=None)


def place_of(x: Array) -> Place:
    """
    Say where an array lives.

    Parameters
    ----------
    x : array
        Of any library.

    Returns
    -------
    Place
        Framework, kind of device and version of the framework.

    Examples
    --------
    >>> import numpy
    >>> place_of(numpy.zeros(3))[:2]
    ('numpy', 'cpu')
    """
    return backend_of(x).place(x)


def warn_of(like: Array) -> None:
    """
    Warn of what is known about the device of an array and only another version cures.

    Parameters
    ----------
    like : array
        Of any library.

    Warns
    -----
    UserWarning
        With what to install; once for each place of a program, as Python's warnings are.
    """
    place = place_of(like)
    for row in known_of(place):
        if row.advice:
            text = f"{place.framework} {place.version} on {place.device}: {row.what} ({row.source}); {row.advice}"
            warnings.warn(text, UserWarning, stacklevel=3)


def limits_of(x: Array) -> Limits:
    """
    Give the limits of the device that an array is on.

    Parameters
    ----------
    x : array
        Of any library.

    Returns
    -------
    Limits
        The strictest of all that is known about this framework, device and version.

    Examples
    --------
    >>> import numpy
    >>> limits_of(numpy.zeros(3)).any
    False
    """
    artificial = _OVERRIDE.get()
    if artificial is not None:
        return artificial
    return _folded(place_of(x))


@cache
def _folded(place: Place) -> Limits:
    limits = Limits()
    for row in known_of(place):
        limits &= row.limits
    return limits


def refuse_large(x: Array) -> None:
    """Refuse an input of which no part can be read right on its device."""
    most = limits_of(x).elements
    if prod(x.shape) > most:
        msg = (
            f"the input of shape {tuple(x.shape)} has {prod(x.shape)} elements, {said_of(x, most)}; keep it on the "
            "processor (as a NumPy array or a file) and let the function move its tile to the device"
        )
        raise InputError(msg)


def said_of(x: Array, most: float, kind: str = "elements") -> str:
    """Say who gets more than so many of what a limit counts wrong, and where that is written."""
    place = place_of(x)
    rows = [row for row in known_of(place) if getattr(row.limits, kind) == most]
    source = f" ({rows[0].source})" if rows else ""
    name = f"{place.framework} on {place.device}"
    if kind == "work":
        return f"more than the {int(most)} that {name} finishes before its driver ends them{source}"
    return f"more than the {int(most)} that {name} gets right{source}"


@contextmanager
def pretended(limits: Limits) -> Iterator[None]:
    """
    Take these limits for those of every device, in this thread.

    Parameters
    ----------
    limits : Limits
        For instance those of a device with one number that is known better for the machine at hand.

    Examples
    --------
    >>> import numpy
    >>> from dataclasses import replace
    >>> x = numpy.zeros(3)
    >>> with pretended(replace(limits_of(x), work=2**44)):
    ...     limits_of(x).work == 2**44
    True
    """
    token = _OVERRIDE.set(limits)
    try:
        yield
    finally:
        _OVERRIDE.reset(token)
