"""Arrays to NumPy and back, between host and device, and in other dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tilekit.backends import Array, backend_of
from tilekit.backends.kinds import device_of

__all__ = [
    "cast_like",
    "constants",
    "from_numpy",
    "to_device",
    "to_host",
    "to_numpy",
    "widen",
]


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


def _astype(x: Array, dtype: Any) -> Array:
    return x.astype(dtype) if hasattr(x, "astype") else backend_of(x).namespace(x).astype(x, dtype)
