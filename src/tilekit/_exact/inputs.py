"""What `exact` is handed in: checked before anything runs, and made where only a shape is known."""

from operator import index
from typing import Any

from tilekit._errors import InputError, PlanError
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit.backends import Array, canary
from tilekit.backends.limits import refuse_large

__all__ = ["check_input", "checked_budget", "checked_shape", "example", "is_array", "made_empty"]


def is_array(x: object) -> bool:
    """Whether something is an array, of whatever library."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def checked_budget(memory_bytes: int | None) -> int | None:
    if memory_bytes is None:
        return None
    number = _whole(memory_bytes)
    if number is None or number <= 0:
        msg = f"memory_bytes: got {memory_bytes!r}, expected a positive number of bytes, such as 2 * 2**30, or None"
        raise PlanError(msg)
    return number


def _whole(value: Any) -> int | None:
    """Give an integer, of NumPy too; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Refuse what is no shape of an array with cells."""
    sizes = [] if isinstance(shape, (str, bytes)) or not hasattr(shape, "__iter__") else [_whole(n) for n in shape]
    if not sizes or any(n is None or n <= 0 for n in sizes):
        msg = f"plan: got {shape!r}, expected an array or its shape, positive whole numbers such as (1, 4, 64, 64)"
        raise PlanError(msg)
    return tuple(n for n in sizes if n is not None)


def check_input(x: Array, kernels: Kernels, name: str = "input", rest: str = "nothing was computed") -> None:
    """Refuse what cannot be computed with; `rest` says what is known of the result."""
    shape = tuple(x.shape)
    if 0 in shape:
        msg = f"{name}: shape {shape} has no cells; give at least one along every axis"
        raise InputError(msg)
    refuse_large(x)
    canary.check(x)
    if kernels.backend.is_floating(x) and not kernels.is_finite(x):
        msg = f"{name}: NaN or infinity in an array of shape {shape}; {rest}"
        raise InputError(msg)


def example(function: Any, shape: tuple[int, ...], like: Array | None) -> Array:
    """Make an input of a shape."""
    like = _first_weight(function) if like is None else like
    if like is None:
        msg = f"plan: a shape {shape} alone does not say the library and the dtype; give `like`, an array that does"
        raise PlanError(msg)
    kernels = kernels_of(like)
    return made_empty(kernels, shape, kernels.dtype_name(like))


def made_empty(kernels: Kernels, shape: tuple[int, ...], dtype: str) -> Array:
    """
    Make an array of a shape, of which the library touches nothing.

    Raises
    ------
    PlanError
        If the library makes none so large.
    """
    try:
        return kernels.empty(shape, dtype)
    except (RuntimeError, ValueError, MemoryError, OverflowError) as error:
        msg = f"no array of shape {shape} of {dtype} can be made here ({str(error).partition(chr(10))[0]})"
        raise PlanError(msg) from error


def _first_weight(function: Any) -> Array | None:
    """Give a floating-point weight of a module, or of the module whose method this is."""
    owner = getattr(function, "__self__", function)
    parameters = getattr(owner, "parameters", None)
    if not callable(parameters):
        return None
    leaves = [parameters()]
    while leaves:
        leaf = leaves.pop(0)
        if isinstance(leaf, dict):
            leaves = [*leaf.values(), *leaves]
        elif hasattr(leaf, "dtype"):
            if kernels_of(leaf).backend.is_floating(leaf):
                return leaf
        elif hasattr(leaf, "__iter__") and not isinstance(leaf, str):
            leaves = [*leaf, *leaves]
    return None
