"""The operations of a run, written with the array API alone; libraries with a faster way override them."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = ["Array", "ArrayFunction", "Backend", "Place", "Region"]

Array = Any  # an array of any library; the one place where the type is given up
ArrayFunction = Callable[[Array], Array]
Region = tuple[slice, ...]


class Place(NamedTuple):
    """Where arrays live."""

    framework: str
    """``"torch"``, ``"mlx"``, …"""
    device: str
    """Kind of device: ``"cpu"``, ``"cuda"``, ``"mps"``, ``"metal"``, …"""
    version: str
    """Of the framework."""
    libraries: tuple[tuple[str, str], ...] = ()
    """Libraries below it that matter, and their versions."""


class Backend:
    """
    An array library that follows the Python array API standard.

    A library for which indexing cannot write, or has a faster way, gets a subclass. `put` and
    `blend` return `out` because some libraries make a new array instead of writing into the old one.
    """

    name = "array-api"

    def namespace(self, like: Array) -> Any:
        """Give the module with the functions of the standard for this array."""
        from array_api_compat import array_namespace

        return array_namespace(like)

    def is_floating(self, x: Array) -> bool:
        """Whether the numbers are real floating-point ones."""
        return bool(self.namespace(x).isdtype(x.dtype, "real floating"))

    def itemsize(self, x: Array) -> int:
        """Bytes of one number of a floating-point array."""
        return int(self.namespace(x).finfo(x.dtype).bits) // 8

    def blend_dtype(self, x: Array) -> Any:
        """Dtype in which tiles like `x` are blended: float32, or the dtype itself where it is wider."""
        return x.dtype if self.itemsize(x) > 4 else self.namespace(x).float32

    def has_nan(self, x: Array) -> bool:
        """Whether any number is NaN."""
        xp = self.namespace(x)
        return bool(xp.any(xp.isnan(x)))

    def is_constant(self, x: Array) -> bool:
        """Whether all numbers are the same."""
        xp = self.namespace(x)
        return bool(xp.min(x) == xp.max(x))

    def obstacle(self, x: Array) -> str | None:
        """Say what keeps an array from being cut and blended, and what to do; None where nothing does."""
        return None

    def copy(self, x: Array) -> Array:
        """Give an array of its own memory, so that who writes into it changes no other."""
        return self.namespace(x).asarray(x, copy=True)

    def same_device(self, x: Array, like: Array) -> bool:
        """Whether two arrays are on the same device."""
        return bool(getattr(x, "device", None) == getattr(like, "device", None))

    def place(self, x: Array) -> Place:
        """Say where an array lives; a library that this does not suit says so itself."""
        framework = type(x).__module__.partition(".")[0]
        version = getattr(sys.modules.get(framework), "__version__", "")
        return Place(framework, "cpu", str(version))

    def empty(self, shape: Sequence[int], dtype: Any, like: Array) -> Array:
        """Give an array of this shape, on the device of `like`; its numbers do not matter."""
        return self.namespace(like).empty(tuple(shape), dtype=dtype, device=like.device)

    def weights(self, values: Sequence[float], shape: Sequence[int], dtype: Any, like: Array) -> Array:
        """Give numbers as an array of this shape, on the device of `like`."""
        xp = self.namespace(like)
        return xp.reshape(xp.asarray(list(values), dtype=dtype, device=like.device), tuple(shape))

    def from_numpy(self, numbers: Any, like: Array) -> Array:
        """Give NumPy's numbers as an array of the dtype of `like`, on its device."""
        return self.namespace(like).asarray(numbers, dtype=like.dtype, device=like.device)

    def to_numpy(self, x: Array) -> Any:
        """Convert an array to NumPy; to float32 where NumPy lacks the dtype."""
        import numpy as np

        return np.asarray(x)

    def concat(self, tiles: Sequence[Array], axis: int) -> Array:
        """Concatenate arrays along an existing axis."""
        return self.namespace(tiles[0]).concat(list(tiles), axis=axis)

    def detached(self, x: Array) -> Array:
        """Give an array that may go to another thread or process: computed, and no part of a larger one."""
        x = self.copy(x)
        self.synchronize(x)
        return x

    def synchronize(self, x: Array) -> None:
        """Wait until `x` is computed, so that the memory of what it was made from can be freed."""

    def put(self, out: Array, region: Region, part: Array, source: Region) -> Array:
        """Write ``out[region] = part[source]``, in the dtype of `out`."""
        out[region] = self.namespace(out).astype(part[source], out.dtype)
        return out

    def blend(  # noqa: PLR0913, PLR0917
        self, out: Array, region: Region, part: Array, source: Region, weight: Array, base: Array | None
    ) -> Array:
        """
        Write ``out[region] = base + part[source] * weight``, computed in the dtype of `weight`.

        `base` is None for zero, `out` itself for ``out[region]``, or an array of the region's shape.
        """
        xp = self.namespace(out)
        value = xp.astype(part[source], weight.dtype) * weight
        if base is not None:
            value = (out[region] if base is out else base) + value
        out[region] = xp.astype(value, out.dtype)
        return out
