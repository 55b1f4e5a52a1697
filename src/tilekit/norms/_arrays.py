"""What norms need of an array library beyond `tilekit.backends`: the way to the host and back, and kinds compared."""

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
    "give_back",
    "is_finite",
    "to_device",
    "to_host",
    "to_numpy",
    "widen",
]


def device_of(x: Array) -> Any:
    """Say where an array lies; None where its library does not tell (MLX: all memory is shared)."""
    return getattr(x, "device", None)


def widen(x: Array) -> Array:
    """Convert half precisions to float32; what is as wide or wider stays as it is."""
    dtype = backend_of(x).blend_dtype(x)
    return x if x.dtype == dtype else _astype(x, dtype)


def cast_like(x: Array, like: Array) -> Array:
    """Convert `x` to the dtype of `like`; no copy where it has it."""
    return x if x.dtype == like.dtype else _astype(x, like.dtype)


def to_numpy(x: Array) -> npt.NDArray[Any]:
    """Give a NumPy array, in float32 at least: it holds every value of the half precisions too, bfloat16 among them."""
    return np.asarray(to_host(widen(x)))


def from_numpy(values: npt.NDArray[Any], like: Array) -> Array:
    """Make an array of the library and on the device of `like`."""
    xp, where = backend_of(like).namespace(like), device_of(like)
    return xp.asarray(values) if where is None else xp.asarray(values, device=where)


def constants(values: npt.NDArray[np.float64], like: Array) -> Array:
    """Make an array beside `like` in the dtype that `widen` gives it."""
    return from_numpy(values.astype(np.float64 if backend_of(like).itemsize(like) > 4 else np.float32), like)


def to_host(x: Array) -> Array:
    """Move an array to the memory of the host, in its own library; itself where it is there."""
    x = x.detach() if hasattr(x, "detach") else x
    return x.cpu() if hasattr(x, "cpu") else x


def to_device(x: Array, where: Any) -> Array:
    """Move an array back; itself where it is there."""
    return x if device_of(x) == where else x.to(where)


def give_back() -> None:
    """
    Give freed memory back to the system.

    The C library of Linux keeps freed blocks below 32 MiB, which tiles are, for itself: without this the tiles of one
    stage stay resident while those of the next, which are larger, take fresh memory.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def is_finite(x: Array) -> bool:
    """Whether no NaN and no infinity is in an array."""
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
