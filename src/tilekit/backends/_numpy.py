"""NumPy: strips are blended in pieces that stay in the cache, without temporaries of their size."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from tilekit.backends._base import Array, Backend, Place, Region

__all__ = ["NumpyBackend", "blend_into", "pieces"]

PIECE_CELLS = 1 << 18


class NumpyBackend(Backend):
    """NumPy arrays, written in place."""

    name = "numpy"

    def place(self, x: Array) -> Place:
        """Say that arrays are NumPy's, whatever library the class of one is from."""
        return Place("numpy", "cpu", np.__version__)

    def namespace(self, like: Array) -> Any:
        """Give numpy itself."""
        return np

    def is_floating(self, x: Array) -> bool:
        return isinstance(x, np.ndarray) and bool(np.issubdtype(x.dtype, np.floating))

    def obstacle(self, x: Array) -> str | None:
        """Say what keeps an array from being cut and blended: a mask, which would be dropped."""
        return (
            "a masked array: its mask would be lost; give x.filled(value)" if isinstance(x, np.ma.MaskedArray) else None
        )

    def copy(self, x: Array) -> Array:
        """Give an array of its own memory."""
        return np.array(x)

    def detached(self, x: Array) -> Array:
        """Give the array itself, unless it is a view: pickling takes no more than that, but its base would stay."""
        return x if x.base is None else np.array(x)

    def same_device(self, x: Array, like: Array) -> bool:
        """Give True: there is one place only."""
        return True

    def empty(self, shape: Sequence[int], dtype: Any, like: Array) -> Array:
        return np.empty(tuple(shape), dtype=dtype)

    def from_numpy(self, numbers: Any, like: Array) -> Array:
        return np.array(numbers, dtype=like.dtype)

    def put(self, out: Array, region: Region, part: Array, source: Region) -> Array:
        out[region] = part[source]
        return out

    def blend(  # noqa: PLR0913, PLR0917
        self, out: Array, region: Region, part: Array, source: Region, weight: Array, base: Array | None
    ) -> Array:
        target = out[region]
        blend_into(target, part[source], weight, target if base is out else base)
        return out


def blend_into(target: np.ndarray, part: np.ndarray, weight: np.ndarray, base: np.ndarray | None) -> None:
    """Write ``target = base + part * weight`` piece by piece."""
    if base is None and target.dtype == weight.dtype:
        np.multiply(part, weight, out=target)
        return
    weight = np.broadcast_to(weight, target.shape)
    scratch = np.empty(min(PIECE_CELLS, target.size), weight.dtype)
    for piece in pieces(target.shape, PIECE_CELLS):
        into = target[piece]
        value = scratch[: into.size].reshape(into.shape)
        np.multiply(part[piece], weight[piece], out=value)
        if base is None:
            into[...] = value
        else:
            np.add(base[piece], value, out=into, casting="same_kind")


def pieces(shape: Sequence[int], most: int) -> Iterator[Region]:
    """Cut a shape along its leading axes into regions of at most `most` cells."""
    for axis, size in enumerate(shape):
        inner = prod(shape[axis + 1 :])
        if inner <= most or axis == len(shape) - 1:
            step = max(1, min(size, most // inner))
            for outer in np.ndindex(*shape[:axis]):
                lead = tuple(slice(i, i + 1) for i in outer)
                for start in range(0, size, step):
                    yield (*lead, slice(start, min(start + step, size)))
            return
