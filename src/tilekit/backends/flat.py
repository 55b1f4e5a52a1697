"""One number everywhere, or for each channel, where the input varies: how zeros of a device look."""

from collections.abc import Callable
from math import prod

from tilekit._errors import DeviceError
from tilekit.backends._base import Array
from tilekit.backends._registry import backend_of
from tilekit.backends.limits import limits_of, place_of

__all__ = ["LEAST", "SAMPLE", "flat_without_reason", "is_flat", "refuse_flat", "said_flat", "varies"]

SAMPLE = 512
"""Elements that are looked at, three times at most, where a result varies."""
LEAST = 16
"""Elements below which being one number says nothing."""


def is_flat(x: Array) -> bool:
    """
    Say whether an array is one number everywhere, or one for each channel; where not, a few elements show that.

    A convolution of zeros is its bias, so that faults look like one number for each channel too.

    Parameters
    ----------
    x : array
        Of any library; channels are the second or the last axis.

    Returns
    -------
    bool
        False for arrays of few elements too.

    Examples
    --------
    >>> import numpy
    >>> is_flat(numpy.zeros((4, 4))), is_flat(numpy.eye(4)), is_flat(numpy.zeros(3))
    (True, False, False)
    """
    return prod(x.shape) >= LEAST and _flat(x, LEAST)


def flat_without_reason(result: Array, given: Callable[[], Array], *, patches: bool = False) -> bool:
    """
    Say whether a result is one number everywhere though what it was made of varies, on a device known to do that.

    Parameters
    ----------
    result : array
        What the device gave.
    given : callable
        Gives what it was made of; called only if the result is one number.
    patches : bool
        Whether one number at one place of every patch counts too: layers behind the faulty one, such as a pixel
        shuffle, may have given every place of a patch a number of its own. A function may mean that, so look closer.

    Returns
    -------
    bool
        False on devices of which no limit is known: there a black frame is a black frame.

    Examples
    --------
    >>> import numpy
    >>> flat_without_reason(numpy.zeros((4, 4)), lambda: numpy.eye(4))
    False
    """
    if not limits_of(result).any or not (is_flat(result) or (patches and is_flat(_one_of_a_patch(result)))):
        return False
    source = given()
    if prod(source.shape) < LEAST or backend_of(source).is_constant(source):
        return False
    if _is_one(result):
        return True
    return not any(_is_one(source, axis) for axis in _channels(source))  # one colour makes one colour


def refuse_flat(result: Array, given: Callable[[], Array], what: str, cure: str) -> None:
    """
    Refuse a result that is one number everywhere though what it was made of varies.

    Parameters
    ----------
    result, given
        As `flat_without_reason` takes them.
    what, cure : str
        What is one number, and what to do.

    Raises
    ------
    DeviceError
        On a device that is known to give such.
    """
    if flat_without_reason(result, given):
        raise DeviceError(said_flat(result, what, cure))


def said_flat(like: Array, what: str, cure: str) -> str:
    """Say what is one number everywhere, and what to do."""
    place = place_of(like)
    return (
        f"{what} one number everywhere, though the input varies; {place.framework} {place.version} on {place.device} "
        f"does so where an array inside is too large for it: {cure}; see tilekit.backends.limits"
    )


def varies(x: Array) -> bool:
    """
    Say whether the channels of an array are not one number each.

    Parameters
    ----------
    x : array
        Of any library, whatever its size.

    Returns
    -------
    bool
        What an operation is given must vary if what it gives shall.

    Examples
    --------
    >>> import numpy
    >>> varies(numpy.eye(4)), varies(numpy.ones(4))
    (True, False)
    """
    return not _flat(x, 1)


def _flat(x: Array, least: int) -> bool:
    """Whether an array is one number, or one for each channel, of which there are so many cells."""
    if _is_one(x):
        return True
    return any(prod(x.shape) // x.shape[axis] >= least and _is_one(x, axis) for axis in _channels(x))


def _one_of_a_patch(x: Array) -> Array:
    """Take one place of every patch of 2, 4, 8 or 16 cells along each axis that is long enough to show four of them."""
    steps = (next((step for step in (16, 8, 4, 2) if 4 * step <= n), 1) for n in x.shape)
    return x[tuple(slice(None, None, step) for step in steps)]


def _channels(x: Array) -> set[int]:
    """Give the axes that may be those of channels."""
    return {axis for axis in (1, len(x.shape) - 1) if 0 < axis < len(x.shape)}


def _is_one(x: Array, channel: int | None = None) -> bool:
    """Whether a sample is one number, and then all of an array; for each channel where one axis is given."""
    backend = backend_of(x)
    for part in (_sample(x), x):
        if channel is not None:
            part = part - part[tuple(slice(None) if axis == channel else slice(1) for axis in range(len(x.shape)))]
        if not backend.is_constant(part):
            return False
        if part.shape == x.shape:
            return True
    return True


def _sample(x: Array) -> Array:
    """Take every so many cells of all axes, the longest first."""
    steps = [1] * len(x.shape)
    while prod(-(-n // step) for n, step in zip(x.shape, steps, strict=True)) > SAMPLE:
        axis = max(range(len(steps)), key=lambda i: x.shape[i] / steps[i])
        steps[axis] *= 2
    return x[tuple(slice(None, None, step) for step in steps)]
