"""Whether two arrays are of one library, device and dtype; no array library is needed to ask."""

from typing import Any

from tilekit._errors import BackendError
from tilekit.backends import Array, backend_of

__all__ = ["check_same_kind", "device_of"]


def device_of(x: Array) -> Any:
    """Give the device of an array; None where its library names none (MLX: all memory is shared)."""
    return getattr(x, "device", None)


def check_same_kind(x: Array, like: Array, name: str, *, dtype: bool = False, of: str = "the tile") -> None:
    """Refuse an array of another library or device, and with `dtype` of another dtype, than `like` has."""
    got, expected = backend_of(x), backend_of(like)
    if got is not expected:
        msg = f"{name}: an array of {got.name}, but {of} is of {expected.name}; convert one of them"
        raise BackendError(msg)
    if not got.same_device(x, like):
        msg = f"{name}: on device {device_of(x)}, but {of} is on {device_of(like)}; move one of them"
        raise BackendError(msg)
    if dtype and x.dtype != like.dtype:
        msg = f"{name}: {x.dtype}, but {of} is {like.dtype}; convert one of them"
        raise BackendError(msg)


def empty_like(x: Array, shape: tuple[int, ...]) -> Array:
    """Make an array of another shape, of the library, dtype and device of `x`; its cells are not written."""
    return backend_of(x).empty(shape, x.dtype, x)
