"""
MLX: results are written through NumPy's view of the evaluated buffer.

A slice update on a lazy MLX array copies the whole array (measured: 230 ms for a tile of a 256 MiB array, against
0.1 ms through the view). MLX documents that writing to such a view changes the array. Where the buffer cannot be
viewed, the slow way is taken, evaluated step by step.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from tilekit.backends._base import Array, Backend, Place, Region
from tilekit.backends._mlx_memory import untouched
from tilekit.backends._numpy import blend_into

__all__ = ["MlxBackend"]


class MlxBackend(Backend):
    """Arrays of ``mlx.core``."""

    name = "mlx"

    def namespace(self, like: Array) -> Any:
        """Give ``mlx.core``, which lacks parts of the standard."""
        return mx

    def is_floating(self, x: Array) -> bool:
        return isinstance(x, mx.array) and bool(mx.issubdtype(x.dtype, mx.floating))

    def itemsize(self, x: Array) -> int:
        return int(x.dtype.size)

    def blend_dtype(self, x: Array) -> Any:
        return mx.float64 if x.dtype == mx.float64 else mx.float32

    def has_nan(self, x: Array) -> bool:
        return bool(mx.any(mx.isnan(x)).item())

    def copy(self, x: Array) -> Array:
        """Give the array itself: a slice of MLX is no view, so that nobody can write through it."""
        return x

    def same_device(self, x: Array, like: Array) -> bool:
        """Give True: memory is shared."""
        return True

    def place(self, x: Array) -> Place:
        """Say where arrays are computed: memory is shared, so the default device decides."""
        if mx.default_device().type == mx.DeviceType.cpu:
            device = "cpu"
        else:
            device = "metal" if mx.metal.is_available() else "cuda"
        return Place("mlx", device, str(mx.__version__))  # type: ignore[attr-defined]  # not in its stubs

    def empty(self, shape: Sequence[int], dtype: Any, like: Array) -> Array:
        return untouched(shape, dtype)

    def weights(self, values: Sequence[float], shape: Sequence[int], dtype: Any, like: Array) -> Array:
        out = mx.array(list(values), dtype=dtype).reshape(tuple(shape))
        mx.eval(out)
        return out

    def from_numpy(self, numbers: Any, like: Array) -> Array:
        return mx.array(numbers).astype(like.dtype)

    def to_numpy(self, x: Array) -> Any:
        """Convert an array to NumPy; bfloat16 to float32."""
        return np.array(x.astype(mx.float32) if x.dtype == mx.bfloat16 else x)

    def concat(self, tiles: Sequence[Array], axis: int) -> Array:
        return mx.concatenate(list(tiles), axis=axis)

    def synchronize(self, x: Array) -> None:
        """Evaluate `x`; without this the graph keeps every tile alive."""
        mx.eval(x)

    def put(self, out: Array, region: Region, part: Array, source: Region) -> Array:
        target = _view(out)
        if target is not None and part.dtype == out.dtype:
            target[region] = _bits(part)[source]
        elif target is not None:
            target[region] = _bits(part[source].astype(out.dtype))
        else:
            out[region] = part[source].astype(out.dtype)
            mx.eval(out)
        return out

    def blend(  # noqa: PLR0913, PLR0917
        self, out: Array, region: Region, part: Array, source: Region, weight: Array, base: Array | None
    ) -> Array:
        target = _view(out)
        if target is not None and out.dtype == part.dtype == weight.dtype:
            below = target[region] if base is out else None if base is None else _bits(base)
            blend_into(target[region], _bits(part)[source], _bits(weight), below)
            return out
        value = part[source].astype(weight.dtype) * weight
        if base is not None:
            value = (out[region] if base is out else base) + value
        mx.eval(value)
        return self.put(out, region, value, (slice(None),) * value.ndim)


def _view(x: Array) -> Any:
    """NumPy's writable view of an evaluated array, or None where there is none."""
    mx.eval(x)
    view = _bits(x)
    return view if view.flags.writeable and not view.flags.owndata else None


def _bits(x: Array) -> Any:
    """Numbers of an array for NumPy without a copy; bfloat16, which NumPy lacks, as its bits."""
    if x.dtype == mx.bfloat16:
        x = x.view(mx.uint16)
    mx.eval(x)
    return np.asarray(x)
