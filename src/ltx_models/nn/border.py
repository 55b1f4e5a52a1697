"""The border of every network: what the device would get wrong is refused, and zeros are not handed out as a result."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

from ltx_models.nn._types import Array, Backend
from tilekit.backends import canary
from tilekit.backends.counted import refuse_size, within_limits
from tilekit.backends.flat import refuse_flat

__all__ = ["check_widest", "guarded", "one_of_a_patch"]

Method = TypeVar("Method", bound=Callable[..., Any])


def guarded(cure: str, seen: Callable[[Any, Array], Array] | None = None) -> Callable[[Method], Method]:
    """
    Guard a plain call of a network: the method takes an array and gives one.

    On a processor nothing happens, nor while something follows the call with arrays that have no numbers.

    Parameters
    ----------
    cure : str
        What to call instead where an array or an operation inside is too large for the device.
    seen : callable, optional
        From the network and its result to a part that is one number for each channel where the last layer gave zeros,
        if the whole is not: a layer behind it gave every place of a patch, or every bin, a number of its own.

    Returns
    -------
    callable
        Wraps the method. It raises `tilekit.PlanError` where an array or an operation is too large, and
        `tilekit.DeviceError` where the canary finds the device wrong or the result is one number everywhere though the
        input varies.
    """

    def wrapped(method: Method) -> Method:
        first = list(signature(method).parameters)[1]

        @wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            x = args[0] if args else kwargs.get(first)
            if not self.nn.is_array(x) or self.nn.followed(x):
                return method(self, *args, **kwargs)
            what = f"{type(self).__name__}.{method.__name__}"
            with within_limits(x, f"{what}: the plain call", cure):
                made = method(self, *args, **kwargs)
            refuse_flat(made if seen is None else seen(self, made), lambda: x, f"{what}: the result is", cure)
            return made

        return cast("Method", call)

    return wrapped


def check_widest(nn: Backend, x: Array, elements: int, what: str, cure: str, *, work: int = 0) -> None:
    """
    Refuse a network whose widest array and heaviest operation are known beforehand.

    Parameters
    ----------
    nn : Backend
        The framework.
    x : array
        On the device; on a processor nothing happens.
    elements : int
        Of the widest array.
    what, cure : str
        What makes it, and what to do instead.
    work : int
        Multiply-adds of the operation that makes it.

    Raises
    ------
    tilekit.PlanError
        If the device gets so large an array wrong, or its driver ends so long an operation.
    tilekit.DeviceError
        If the canary finds the device wrong.
    """
    if not nn.followed(x):
        canary.check(x)
        refuse_size(x, elements, f"{what} an array of {elements} elements", cure)
        refuse_size(x, work, f"{what} a matrix product of {work} multiply-adds", cure, "work")


def one_of_a_patch(network: Any, pixels: Array) -> Array:
    """Give the first pixel of each patch, which are one channel of the last layer."""
    step = network.config.patch_size
    return pixels[..., ::step, ::step]
