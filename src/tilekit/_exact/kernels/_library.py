"""The small calls that kernels make of a library: indexing, layout, dtypes. A library with gaps overrides them."""

from collections.abc import Hashable, Sequence
from typing import Any

from tilekit._exact.boxes import Shape
from tilekit.backends import Array, Backend

__all__ = ["Arrays", "Library"]

Arrays = Sequence[Array]


class Library:
    """
    One array library, as kernels use it.

    Parameters
    ----------
    backend : Backend
        Of the arrays.
    like : array
        An array of the library, on the device where results belong.
    """

    def __init__(self, backend: Backend, like: Array) -> None:
        self.backend = backend
        self.xp = backend.namespace(like)
        self.device = getattr(like, "device", None)

    def reshape(self, x: Array, shape: Shape) -> Array:
        """Give the same cells under another shape."""
        return self.xp.reshape(x, shape)

    def permute(self, x: Array, axes: tuple[int, ...]) -> Array:
        """Put the axes into another order."""
        return self.xp.permute_dims(x, axes)

    def broadcast(self, x: Array, shape: Shape) -> Array:
        """Repeat axes of one cell."""
        return self.xp.broadcast_to(x, shape)

    def concat(self, arrays: Arrays, axis: int) -> Array:
        """Put arrays one after the other; one array is given back as it is."""
        return arrays[0] if len(arrays) == 1 else self.backend.concat(arrays, axis)

    def flip(self, x: Array, axes: tuple[int, ...]) -> Array:
        """Turn axes round."""
        return self.xp.flip(x, axis=axes)

    def take(self, x: Array, indices: Sequence[int], axis: int) -> Array:
        """Take cells of one axis by number."""
        return self.xp.take(x, self.xp.asarray(list(indices), dtype=self.xp.int64, device=self.device), axis=axis)

    def cut(self, x: Array, region: tuple[slice, ...]) -> Array:
        """Cut a region out, without copying where the library can."""
        return x[region]

    def copy(self, x: Array) -> Array:
        """Give the same cells in memory of their own, and no more than they take."""
        return self.xp.asarray(x, copy=True)

    def layout(self, x: Array) -> Hashable:
        """Say how the cells lie in memory, where a function can ask for that and they do not lie in order."""
        del x
        return None

    def owns(self, x: Array) -> bool:
        """Whether an array keeps no more memory alive than its cells take."""
        base = getattr(x, "base", None)
        return base is None or (
            hasattr(base, "nbytes") and base.nbytes <= x.nbytes and getattr(base, "base", 0) is None
        )

    def handed(self, x: Array) -> Array:
        """Give an array as whoever called may have it: one of the library."""
        return x

    def put(self, out: Array, region: tuple[slice, ...], part: Array) -> Array:
        """Write a part, and give the array back."""
        return self.backend.put(out, region, part, (slice(None),) * part.ndim)

    def write(self, out: Array, region: tuple[slice, ...], part: Array) -> Array:
        """Write a part into a large array at once, without another copy of it, and give the array back."""
        return self.backend.put(out, region, part, (slice(None),) * part.ndim)

    def empty(self, shape: Shape, dtype: str) -> Array:
        """Give an array whose numbers do not matter."""
        return self.xp.empty(shape, dtype=self.dtype(dtype), device=self.device)

    def full(self, shape: Shape, value: Any, dtype: str) -> Array:
        """Give an array of one number, or of one cell repeated."""
        if hasattr(value, "shape"):
            return self.copy(self.broadcast(self.cast(value, dtype), shape))
        return self.xp.full(shape, value, dtype=self.dtype(dtype), device=self.device)

    def weights(self, values: Sequence[float], shape: Shape, like: Array) -> Array:
        """Give numbers as an array of this shape and of the dtype of `like`."""
        return self.backend.weights(values, shape, like.dtype, like)

    def dtype(self, name: str) -> Any:
        """Give the library's dtype of a name."""
        return getattr(self.xp, "bool" if name == "bool" else name)

    def dtype_name(self, x: Array) -> str:
        """Give the name of an array's dtype."""
        return str(x.dtype).rpartition(".")[2]

    def cast(self, x: Array, dtype: str) -> Array:
        """Convert to a dtype by its name; the array itself where it has it."""
        wanted = self.dtype(dtype)
        return x if x.dtype == wanted else self.xp.astype(x, wanted)

    def widen(self, x: Array) -> Array:
        """Convert half precisions to float32; what is as wide or wider, and integers, stay as they are."""
        if not self.backend.is_floating(x):
            return x
        wanted = self.backend.blend_dtype(x)
        return x if x.dtype == wanted else self.xp.astype(x, wanted)

    def is_finite(self, x: Array) -> bool:
        """Whether no NaN and no infinity is in an array; a sum shows it without a mask, but it may overflow."""
        return bool(self.xp.isfinite(self.xp.sum(x))) or bool(self.xp.all(self.xp.isfinite(x)))

    def has_nan(self, x: Array) -> bool:
        """Whether NaN is in an array; infinity may be what a function means, such as the logarithm of 0."""
        return not self.is_finite(x) and bool(self.xp.any(self.xp.isnan(x)))

    def nbytes(self, x: Array) -> int:
        """Count the bytes that the cells of an array take."""
        return int(x.nbytes)

    def synchronize(self, x: Array) -> None:
        """Finish what is pending, so that memory can be given back."""
        self.backend.synchronize(x)
