"""Sums, means, extremes, statistics, and norms."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from tilekit._exact.frontends._torch.called import Called, Rule
from tilekit._exact.frontends._torch.calls import Aten, RootMeanSquare, Slot
from tilekit._exact.ops import Along, Moments, Normalize, Reduce

__all__ = ["RULES"]

_LONG = 1 << 10
"""Cells above which a sum is made of parts; shorter ones are left to torch's own call."""


def _wide(dtype: str) -> str:
    """Give the dtype in which sums are kept."""
    return {"float16": "float32", "bfloat16": "float32"}.get(dtype, dtype)


def _axes(c: Called, given: Any, n: int) -> tuple[int, ...]:
    if given is None or given == []:
        return tuple(range(n))
    return tuple(sorted(axis % max(1, n) for axis in (given if isinstance(given, (list, tuple)) else [given])))


def _argument(c: Called, name: str) -> Any:
    return c[name] if any(a.name == name for a in c.entry.op._schema.arguments) else None


def _reduced(shape: Sequence[int], axes: Sequence[int], keep: bool) -> list[int]:
    if keep:
        return [1 if d in axes else n for d, n in enumerate(shape)]
    return [n for d, n in enumerate(shape) if d not in axes]


def _reduce(
    c: Called,
    x: int,
    axes: tuple[int, ...],
    call: Aten,
    how: Literal["sum", "max", "min"] | None,
    dtype: str,
    keep: bool,
) -> int:
    shape = _reduced(c.shape_of(x), axes, keep)
    return c.add(Reduce(axes, keep, how, call), (x,), shape, dtype)


def _total(c: Called, x: int, axes: tuple[int, ...], keep: bool, dtype: str) -> int:
    """Sum in a wide dtype."""
    call = Aten("aten::sum.dim_IntList", (Slot(0), axes, keep), (("dtype", getattr(torch, dtype)),))
    return _reduce(c, x, axes, call, "sum", dtype, keep)


def _sum(c: Called) -> int:
    x = c.node(c["self"])
    axes = _axes(c, _argument(c, "dim"), len(c.shape_of(x)))
    total = _total(c, x, axes, bool(_argument(c, "keepdim")), _wide(c.dtype))
    return c.cast(total, c.dtype)


def _mean(c: Called) -> int:
    x = c.node(c["self"])
    shape = c.shape_of(x)
    axes = _axes(c, _argument(c, "dim"), len(shape))
    if not axes or not math.prod(shape[axis] for axis in axes):
        return c.whole()
    total = _total(c, x, axes, bool(_argument(c, "keepdim")), _wide(c.dtype))
    divided = c.cell("div.Scalar", (total,), math.prod(shape[axis] for axis in axes), dtype=_wide(c.dtype))
    return c.cast(divided, c.dtype)


def _extreme(c: Called) -> int:
    if c.entry.several:  # with the places: max and min along one axis
        return _other_reduction(c) if c.part else _extreme_of(c, [c["dim"]])
    return _extreme_of(c, _argument(c, "dim"))


def _extreme_of(c: Called, given: Any) -> int:
    x = c.node(c["self"])
    how: Literal["max", "min"] = "max" if "max" in c.name else "min"
    axes, keep = _axes(c, given, len(c.shape_of(x))), bool(_argument(c, "keepdim"))
    return _reduce(c, x, axes, Aten(f"aten::a{how}.", (Slot(0), axes, keep)), how, c.dtype, keep)


def _extremes(c: Called) -> int:
    """The smallest and the largest at once."""
    x = c.node(c["self"])
    how: Literal["max", "min"] = "max" if c.part else "min"
    axes, keep = _axes(c, c["dim"], len(c.shape_of(x))), bool(c["keepdim"])
    return _reduce(c, x, axes, Aten(f"aten::a{how}.", (Slot(0), axes, keep)), how, c.dtype, keep)


def _vector_norm(c: Called) -> int:
    """The root of the sum of squares; by torch's own call where the sum is short, as over channels."""
    x = c.node(c["self"])
    shape = c.shape_of(x)
    axes, keep = _axes(c, c["dim"], len(shape)), c["keepdim"]
    length = math.prod(shape[axis] for axis in axes)
    if c["ord"] != 2 or length <= _LONG or not getattr(torch, c.dtype_of(x)).is_floating_point:
        call, _ = c.call()
        return _reduce(c, x, axes, call, None, c.dtype, keep)
    wide = _wide(c.dtype)
    squares = c.cell("pow.Tensor_Scalar", (c.cast(x, wide),), 2, dtype=wide)
    return c.cast(c.cell("sqrt.", (_total(c, squares, axes, keep, wide),), dtype=wide), c.dtype)


def _other_reduction(c: Called) -> int:
    """Product, any, all, argmax and the like: read as a whole along their axes."""
    call, inputs = c.call()
    shape = c.shape_of(inputs[0])
    axes = _axes(c, _argument(c, "dim"), len(shape))
    keep = bool(_argument(c, "keepdim"))
    if len(inputs) != 1 or tuple(_reduced(shape, axes, keep)) != c.shape:
        return c.whole()
    return c.add(Reduce(axes, keep, None, call), inputs)


def _moments(c: Called, x: int, axes: tuple[int, ...]) -> int:
    """Mean and variance over axes; the output is (other axes..., 1, 2)."""
    shape = c.shape_of(x)
    kept = tuple(d for d in range(len(shape)) if d not in axes)
    made = (*(shape[d] for d in kept), 1, 2)
    return c.add(Moments(1, kept, axes[0]), (x,), made, _wide(c.dtype_of(x)))


def _moment(c: Called, moments: int, which: int, shape: Sequence[int], axes: Sequence[int], keep: bool) -> int:
    last = len(c.shape_of(moments)) - 1
    return c.reshape(c.slice(moments, last, which, 1), _reduced(shape, axes, keep))


def _variance(c: Called) -> int:
    """var, std, and both with the mean."""
    x = c.node(c["self"])
    shape, names = c.shape_of(x), {a.name for a in c.entry.op._schema.arguments}
    axes, keep = _axes(c, _argument(c, "dim"), len(shape)), bool(_argument(c, "keepdim"))
    correction = c["correction"] if "correction" in names else (1 if c["unbiased"] else 0)
    correction = 1 if correction is None else correction
    count = math.prod(shape[axis] for axis in axes)
    if count <= correction or "complex" in c.dtype_of(x):
        return c.whole()
    moments, wide = _moments(c, x, axes), _wide(c.dtype)
    if c.entry.several and c.part == 1:
        return c.cast(_moment(c, moments, 0, shape, axes, keep), c.dtype)
    made = _moment(c, moments, 1, shape, axes, keep)
    made = c.cell("mul.Scalar", (made,), count / (count - correction), dtype=wide) if correction else made
    made = c.cell("sqrt.", (made,), dtype=wide) if c.name.startswith("std") else made
    return c.cast(made, c.dtype)


def _group_norm(c: Called) -> int:
    if c.part:
        return c.whole()
    x = c.node(c["input"])
    affine = [c.node(p) for p in (c["weight"], c["bias"]) if p is not None]
    moments = c.add(Moments(c["group"], (0,), 1), (x,), (c.shape[0], c["group"], 2), _wide(c.dtype))
    kind = Normalize(c["group"], c["eps"], (0,), 1, c["weight"] is not None, c["bias"] is not None)
    return c.add(kind, (x, moments, *affine))


def _batch_norm(c: Called) -> int:
    """By the statistics of the network: cell by cell. By those of the input: a barrier."""
    if c.part:
        return c.whole()
    x = c.node(c["input"])
    names = {a.name for a in c.entry.op._schema.arguments}
    wide, epsilon = _wide(c.dtype), c["eps" if "eps" in names else "epsilon"]
    training = bool(c["training"]) if "training" in names else "no_training" not in c.name
    affine = {name: c[name] for name in ("weight", "bias") if c[name] is not None}
    column = [n if d == 1 else 1 for d, n in enumerate(c.shape)]
    columns = {name: c.reshape(c.cast(c.node(p), wide), column) for name, p in affine.items()}
    if training:
        made = _normalized_batch(c, x, epsilon, wide)
    else:
        mean, variance = (c.reshape(c.cast(c.node(c[f"running_{k}"]), wide), column) for k in ("mean", "var"))
        scale = c.cell("rsqrt.", (c.cell("add.Scalar", (variance,), epsilon, dtype=wide),), dtype=wide)
        if "weight" in columns:
            scale = c.cell("mul.Tensor", (scale, columns.pop("weight")), dtype=wide)
        shift = c.cell("mul.Tensor", (mean, scale), dtype=wide)
        shift = (
            c.cell("sub.Tensor", (columns.pop("bias"), shift), dtype=wide)
            if "bias" in columns
            else c.cell("neg.", (shift,), dtype=wide)
        )
        return c.cast(c.cell("addcmul.", (shift, c.cast(x, wide), scale), dtype=wide), c.dtype)
    if "weight" in columns:
        made = c.cell("mul.Tensor", (made, columns["weight"]), dtype=wide)
    if "bias" in columns:
        made = c.cell("add.Tensor", (made, columns["bias"]), dtype=wide)
    return c.cast(made, c.dtype)


def _normalized_batch(c: Called, x: int, epsilon: float, wide: str) -> int:
    """Each channel over all other axes, as instance norms of one picture are made."""
    shape = c.shape_of(x)
    moments = c.add(Moments(1, (1,), 0), (x,), (shape[1], 1, 2), wide)
    return c.add(Normalize(1, epsilon, (1,), 0, weight=False, bias=False), (x, moments), shape, c.dtype)


def _layer_norm(c: Called) -> int:
    """A norm per position: over the last axes; where these are many cells, by statistics made of parts."""
    if c.part:
        return c.whole()
    n, normed = len(c.shape), c["normalized_shape"]
    axes = tuple(range(n - len(normed), n))
    if c.name == "native_layer_norm" and len(axes) > 1 and math.prod(normed) > _LONG:
        return _normed_over(c, axes)
    call, inputs = c.call()
    return c.add(Along(axes, call), inputs)


def _normed_over(c: Called, axes: tuple[int, ...]) -> int:
    batch, wide = tuple(range(axes[0])), _wide(c.dtype)
    affine = [("mul.Tensor", c["weight"]), ("add.Tensor", c["bias"])]
    x = c.node(c["input"])
    x = c.cast(x, wide) if any(p is not None for _, p in affine) else x
    moments = c.add(Moments(1, batch, axes[0]), (x,), (*c.shape[: axes[0]], 1, 2), wide)
    made = c.add(Normalize(1, c["eps"], batch, axes[0], False, False), (x, moments), c.shape, c.dtype_of(x))
    for name, given in affine:
        made = made if given is None else c.cell(name, (made, c.cast(c.node(given), wide)), dtype=wide)
    return c.cast(made, c.dtype)


def _root_mean_square(c: Called) -> int:
    """A norm of each position over its channels."""
    inputs = [c.node(x) for x in (c["x"], c["weight"]) if x is not None]
    return c.add(Along((len(c.shape) - 1,), RootMeanSquare(c.shape[-1], c["eps"], len(inputs) > 1)), inputs)


def _along_dim(c: Called) -> int:
    """Whole along one axis or some, cell by cell over the others."""
    call, inputs = c.call()
    given = _argument(c, "dim")
    if len(inputs) != 1 or len(c.shape_of(inputs[0])) != len(c.shape):
        return c.whole()
    return c.add(Along(_axes(c, given, len(c.shape)), call), inputs)


def _renorm(c: Called) -> int:
    """Each part along one axis by its norm over all others."""
    call, inputs = c.call()
    n = len(c.shape)
    return c.add(Along(tuple(axis for axis in range(n) if axis != c["dim"] % n), call), inputs)


def _log_sigmoid(c: Called) -> int:
    return c.whole() if c.part else c.cell("log_sigmoid.", (c.node(c["self"]),), dtype=c.dtype)


_SUMMED: dict[str, Rule] = {
    "sum": _sum,
    "mean": _mean,
    **dict.fromkeys(("amax", "amin", "max", "min"), _extreme),
    "aminmax": _extremes,
    "linalg_vector_norm": _vector_norm,
    **dict.fromkeys(("prod", "any", "all", "argmax", "argmin", "logsumexp", "norm"), _other_reduction),
    **dict.fromkeys(("kthvalue", "median", "nanmedian", "mode"), _other_reduction),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), _variance),
}
_NORMS: dict[str, Rule] = {
    "native_group_norm": _group_norm,
    **dict.fromkeys(("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"), _batch_norm),
    **dict.fromkeys(("_native_batch_norm_legit", "_native_batch_norm_legit_no_training"), _batch_norm),
    "_batch_norm_with_update": _batch_norm,
    "root_mean_square": _root_mean_square,
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm"), _layer_norm),
}
_ALONG = ("_softmax", "_log_softmax", "_safe_softmax", "softmax", "cumsum", "cumprod", "logcumsumexp", "sort", "cummax")
_FOURIER = ("_fft_r2c", "_fft_c2r", "_fft_c2c", "cummin", "topk", "glu")

RULES: dict[str, Rule] = {
    **_SUMMED,
    **_NORMS,
    **dict.fromkeys((*_ALONG, *_FOURIER), _along_dim),
    "renorm": _renorm,
    "log_sigmoid_forward": _log_sigmoid,
}
