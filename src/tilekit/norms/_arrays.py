"""What norms need of an array library beyond `tilekit.backends`: dtypes, moves between host and device, checks."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tilekit._errors import BackendError
from tilekit.backends import Array, backend_of

__all__ = [
    "cast_like",
    "check_same_kind",
    "constants",
    "device_of",
    "from_numpy",
    "is_finite",
    "to_device",
    "to_host",
    "to_numpy",
    "trim_memory",
    "widen",
]


def device_of(x: Array) -> Any:
    """Give the device of an array; None where its library names none (MLX: all memory is shared)."""
    return getattr(x, "device", None)


def widen(x: Array) -> Array:
    """Convert half precision to float32; wider dtypes stay as they are."""
    dtype = backend_of(x).blend_dtype(x)
    return x if x.dtype == dtype else _astype(x, dtype)


def cast_like(x: Array, like: Array) -> Array:
    """Convert `x` to the dtype of `like`, without a copy if it has that dtype."""
    return x if x.dtype == like.dtype else _astype(x, like.dtype)


def to_numpy(x: Array) -> npt.NDArray[Any]:
    """Convert to NumPy, in float32 at least, which holds every value of float16 and bfloat16."""
    return np.asarray(to_host(widen(x)))


def from_numpy(values: npt.NDArray[Any], like: Array) -> Array:
    """Make an array of the library and on the device of `like`."""
    xp, device = backend_of(like).namespace(like), device_of(like)
    return xp.asarray(values) if device is None else xp.asarray(values, device=device)


def constants(values: npt.NDArray[np.float64], like: Array) -> Array:
    """Make an array on the device of `like`, in the dtype of ``widen(like)``."""
    return from_numpy(values.astype(np.float64 if backend_of(like).itemsize(like) > 4 else np.float32), like)


def to_host(x: Array) -> Array:
    """Move an array to host memory, within its library; `x` itself if it is there."""
    x = x.detach() if hasattr(x, "detach") else x
    return x.cpu() if hasattr(x, "cpu") else x


def to_device(x: Array, device: Any) -> Array:
    """Move an array to a device; `x` itself if it is there."""
    return x if device_of(x) == device else x.to(device)


def trim_memory() -> None:
    """
    Return freed memory to the operating system.

    The C library of Linux keeps freed blocks below 32 MiB, such as tiles: without this the tiles of one stage stay
    resident while those of the next, which are larger, take new memory.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def is_finite(x: Array) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    xp = backend_of(x).namespace(x)
    return bool(xp.all(xp.isfinite(x)))


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


def _astype(x: Array, dtype: Any) -> Array:
    return x.astype(dtype) if hasattr(x, "astype") else backend_of(x).namespace(x).astype(x, dtype)
