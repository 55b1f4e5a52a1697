"""Operations of MLX, whose arrays are channels-last by nature, and the leaves of `_mlx_leaves`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import mlx.core as mx
import mlx.core as xp
import mlx.nn
import numpy as np
from mlx.nn import Embedding, Identity, RMSNorm
from mlx.utils import tree_flatten, tree_unflatten

from ltx_models.nn._mlx_leaves import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    GroupNorm,
    Linear,
    Module,
    counting,
    multiplied,
)
from ltx_models.nn._types import BackendName
from ltx_models.nn.queries import attention_work, by_queries
from tilekit.backends._mlx_compile import probing
from tilekit.backends.counted import COUNTING
from tilekit.backends.limits import limits_of

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "Embedding",
    "GroupNorm",
    "Identity",
    "Linear",
    "Module",
    "ModuleList",
    "RMSNorm",
    "xp",
]

name: BackendName = "mlx"
float32 = mx.float32
_STORED: dict[str, tuple[Any, Any]] = {
    "F64": (np.float64, None),
    "F32": (np.float32, None),
    "F16": (np.float16, None),
    "BF16": (np.uint16, mx.bfloat16),
    "F8_E4M3": (np.uint8, None),
    "F8_E5M2": (np.uint8, None),
    "I64": (np.int64, None),
    "I32": (np.int32, None),
    "I16": (np.int16, None),
    "I8": (np.int8, None),
    "U32": (np.uint32, None),
    "U8": (np.uint8, None),
    "BOOL": (np.bool_, None),
}
ModuleList = list
_PAD_MODES: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge"}


def parameter(shape: Sequence[int], fill: float = 0.0) -> mx.array:
    """Make a parameter."""
    return mx.full(tuple(shape), fill)


def buffer(module: Module, name: str, value: mx.array) -> None:
    """Set a frozen array."""
    module[name] = value
    module.freeze(recurse=False, keys=name)


def dtype(name: str) -> Any:
    """Give the dtype of that name."""
    return getattr(mx, name)


def is_array(x: object) -> bool:
    """Say whether `x` is an MLX array."""
    return isinstance(x, mx.array)


def asarray(x: Any, like: mx.array | None = None) -> mx.array:
    """Make an array."""
    return mx.array(x) if like is None else mx.array(x).astype(like.dtype)


def on_device(x: mx.array, like: mx.array) -> mx.array:
    """Return `x`: MLX arrays belong to no device."""
    return x


def cast(x: mx.array, dtype: Any, device: Any = None) -> mx.array:
    """Convert to a dtype."""
    return x.astype(dtype)


def from_buffer(data: Any, dtype: str, shape: Sequence[int]) -> mx.array:
    """Make an array of raw bytes; 8-bit floats, which MLX lacks, stay bytes."""
    stored, seen = _STORED[dtype]
    x = mx.array(data.view(stored).reshape(tuple(shape)))
    return x if seen is None else x.view(seen)


def to_buffer(x: mx.array) -> Any:
    """Give the raw bytes, in memory of their own."""
    return np.array(mx.contiguous(x).reshape(-1).view(mx.uint8))


def to_numpy(x: mx.array, wait: bool = True) -> Any:
    """Give a NumPy array; what is pending is computed, since memory is shared."""
    return np.array(x.astype(mx.float32) if x.dtype in {mx.bfloat16, mx.float16} else x)


def expanded(x: mx.array, axis: int) -> bool:
    """Say whether an axis has one cell."""
    return x.shape[axis] == 1


def randn(shape: Sequence[int], like: mx.array) -> mx.array:
    """Draw from the standard normal distribution."""
    return mx.random.normal(tuple(shape)).astype(like.dtype)


@counting
def silu(x: mx.array) -> mx.array:
    """Compute x * sigmoid(x)."""
    return x * mx.sigmoid(x)


silu_ = silu


@counting
def gelu_tanh(x: mx.array) -> mx.array:
    """Compute the tanh approximation of GELU."""
    y: mx.array = mlx.nn.gelu_approx(x)
    return y


def sigmoid(x: mx.array) -> mx.array:
    """Compute the logistic function."""
    return mx.sigmoid(x)


@counting
def leaky_relu(x: mx.array, slope: float) -> mx.array:
    """Compute max(x, slope * x)."""
    y: mx.array = mlx.nn.leaky_relu(x, slope)
    return y


leaky_relu_ = leaky_relu


@counting
def snake_(x: mx.array, rate: mx.array, height: mx.array) -> mx.array:
    """Compute x + height * sin(rate * x)**2."""
    return x + height * mx.square(mx.sin(x * rate))


def copy(x: mx.array) -> mx.array:
    """Copy."""
    return x + mx.zeros((), dtype=x.dtype)


def unfold(x: mx.array, size: int, step: int) -> mx.array:
    """Give the windows along axis 1."""
    batch, length, channels = x.shape
    shape = (batch, (length - size) // step + 1, size, channels)
    return mx.as_strided(mx.contiguous(x), shape, (length * channels, step * channels, channels, 1))


@probing
def all_finite(x: mx.array) -> bool:
    """Say whether no value is NaN or infinite."""
    try:
        return bool(mx.all(mx.isfinite(x)).item())
    except (RuntimeError, ValueError):  # what MLX raises when a traced array is asked for its values
        return True


@probing
def followed(x: mx.array) -> bool:
    """Say whether something follows the call; looked for on devices with limits alone, as it computes what waits."""
    if not limits_of(x).any:
        return False
    try:
        mx.eval(x)
    except (RuntimeError, ValueError):
        return True
    return False


@counting
def multiply_add(x: mx.array, y: mx.array, z: mx.array) -> mx.array:
    """Compute x * y + z."""
    return x * y + z


@counting
def rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """Divide by the root mean square over the last axis."""
    return mx.fast.rms_norm(x, weight, eps)


@counting
def rms_norm_(x: mx.array, eps: float) -> mx.array:
    """Divide by the root mean square over the last axis."""
    return mx.fast.rms_norm(x, None, eps)


@counting
def layer_norm(x: mx.array, eps: float) -> mx.array:
    """Normalise over the last axis."""
    return mx.fast.layer_norm(x, None, None, eps)


def matmul(x: mx.array, y: mx.array) -> mx.array:
    """Multiply matrices."""
    batch = prod(np.broadcast_shapes(x.shape[:-2], y.shape[:-2]))
    return multiplied(mx.matmul, x, y, work=batch * x.shape[-2] * x.shape[-1] * y.shape[-1])


def attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None = None) -> mx.array:
    """Attend; some queries at a time where all of them would take the device too long."""
    made: mx.array = by_queries(_attention, q, k, v, mask, lambda parts: mx.concatenate(parts, axis=2))
    return made


def _attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None) -> mx.array:
    if (counted := COUNTING.get()) is not None:
        counted.note_work(attention_work(q, k, v), "attention")
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask)


@counting
def pad(x: mx.array, widths: Sequence[tuple[int, int]], mode: str = "zeros") -> mx.array:
    """Pad the axes by (before, after) cells."""
    return mx.pad(x, list(widths), mode=_PAD_MODES[mode])


@counting
def repeat_ends_(x: mx.array, start: int, stop: int) -> mx.array:
    """Write the first and the last of some cells of axis 1 over those before and after."""
    return mx.pad(x[:, start:stop], [(0, 0), (start, x.shape[1] - stop), (0, 0)], mode="edge")


@counting
def concat(parts: Sequence[mx.array], reflect: bool = False, workspace: dict[str, mx.array] | None = None) -> mx.array:
    """Put parts of a clip after one another in a new array, with a mirrored cell around each frame."""
    del workspace  # MLX keeps freed memory for itself
    x = mx.concatenate(list(parts), axis=1)
    return mx.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect") if reflect else x


@counting
def add_(x: mx.array, parts: Sequence[mx.array]) -> mx.array:
    """Add parts that follow one another along axis 1."""
    return x + (parts[0] if len(parts) == 1 else mx.concatenate(list(parts), axis=1))


def to_fp8(x: mx.array) -> mx.array:
    """Round to 8-bit floats, which MLX keeps as bytes."""
    return mx.to_fp8(mx.clip(x, -448, 448))


def from_fp8(x: mx.array, dtype: Any) -> mx.array:
    """Convert 8-bit floats."""
    return mx.from_fp8(x, dtype)


def convert_rows(x: mx.array, rows: int, convert: Callable[[mx.array], mx.array]) -> mx.array:
    """Convert rows."""
    parts = []
    for begin in range(0, x.shape[0], rows):
        parts.append(convert(x[begin : begin + rows]))
        mx.eval(parts[-1])
    return mx.concatenate(parts)


def is_fp8(x: mx.array) -> bool:
    """Say whether `x` holds bytes."""
    return bool(x.dtype == mx.uint8)


def as_fp8(x: mx.array) -> mx.array:
    """Leave bytes as they are."""
    return x


def assign(module: Module, name: str, value: mx.array) -> None:
    """Replace a parameter or buffer."""
    module[name] = value


def meta(x: mx.array) -> mx.array:
    """Make an array of the same shape and dtype that is not computed until it is used."""
    return mx.zeros(x.shape, x.dtype)


def widest(x: mx.array) -> Any:
    """Give float32: float64 is for the CPU only."""
    return mx.float32


def async_eval(*arrays: mx.array) -> None:
    """Let the device begin."""
    mx.async_eval(*arrays)  # type: ignore[no-untyped-call]  # the stub has no types


def synchronize(*arrays: mx.array) -> None:
    """Compute what is pending."""
    mx.eval(*arrays)


def _official(module: Module) -> dict[str, tuple[int, ...]]:
    """Name the weights of convolutions, with the permutation that leads from MLX (O, *K, I) to the official layout."""
    order = {}
    for path, leaf in module.named_modules():
        if isinstance(leaf, (Conv1d, Conv2d, Conv3d)):
            order[f"{path}.weight".lstrip(".")] = (0, leaf.weight.ndim - 1, *range(1, leaf.weight.ndim - 1))
        elif isinstance(leaf, ConvTranspose1d):
            order[f"{path}.weight".lstrip(".")] = (2, 0, 1)
    return order


def _inverse(order: Sequence[int]) -> list[int]:
    return [order.index(i) for i in range(len(order))]


def weights(module: Module) -> dict[str, mx.array]:
    """Name every parameter and buffer, in the official layout."""
    order = _official(module)
    return {k: v.transpose(order[k]) if k in order else v for k, v in tree_flatten(module.parameters())}


def shapes(module: Module) -> dict[str, tuple[int, ...]]:
    """Name the official shape of every parameter and buffer."""
    order = _official(module)
    return {
        k: tuple(v.shape[i] for i in order[k]) if k in order else tuple(v.shape)
        for k, v in tree_flatten(module.parameters())
    }


def build(make: Callable[[], Module]) -> Module:
    """Make a module; its arrays are lazy, so they take no memory until they are used."""
    return make()


def load(module: Module, weights: Mapping[str, mx.array], device: Any = None, strict: bool = True) -> Any:
    """Give the module its weights."""
    order = _official(module)
    pairs = [(k, mx.contiguous(v.transpose(_inverse(order[k]))) if k in order else v) for k, v in weights.items()]
    module.update(tree_unflatten(pairs))
    return module.eval()
