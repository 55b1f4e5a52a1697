"""Padding, resampling, windows, and numbers by their place."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tilekit._exact.frontends._torch.called import Called, Rule
from tilekit._exact.frontends._torch.calls import Aten, Filled, Ramp, Slot, Triangle
from tilekit._exact.frontends._torch.patches import Folded, Hop, Lap, Overlaid, Patches
from tilekit._exact.frontends._torch.taps import averaged, cubic, linear, nearest
from tilekit._exact.ops import Fill, Local, Pad, Pool, Reduce, Resample
from tilekit._exact.ops import PadMode as Mode

__all__ = ["RULES"]


def _padded(c: Called, x: int, pairs: Sequence[int], mode: Mode, value: float = 0.0) -> int:
    """Pad by pairs (before, after), from the last axis on, as torch says it."""
    shape = c.shape_of(x)
    before, after = [0] * len(shape), [0] * len(shape)
    for d in range(len(pairs) // 2):
        before[-1 - d], after[-1 - d] = pairs[2 * d], pairs[2 * d + 1]
    if not any(before) and not any(after):
        return x
    made = [b + n + a for b, n, a in zip(before, shape, after, strict=True)]
    return c.add(Pad(tuple(before), tuple(after), mode, value), (x,), made, c.dtype_of(x))


def _pad_constant(c: Called) -> int:
    return _padded(c, c.node(c["self"]), c["pad"], "constant", float(c["value"]))


def _pad_copies(c: Called) -> int:
    mode: Mode = "replicate" if c.name.startswith("replication") else "reflect"
    return _padded(c, c.node(c["self"]), c["padding"], mode)


def _resample(c: Called) -> int:
    """Nearest, linear and cubic; also smoothed (antialias)."""
    x = c.node(c["input" if c.entry.op._schema.arguments[0].name == "input" else "self"])
    shape = c.shape_of(x)
    axes = range(len(shape) - _spatial(c.name), len(shape))
    scales = _scales(c, len(axes))
    taps = [None] * (len(shape) - len(axes)) + [
        None if shape[a] == c.shape[a] and _still(c) else _taps(c, shape[a], c.shape[a], scale)
        for a, scale in zip(axes, scales, strict=True)
    ]
    return c.add(Resample(tuple(taps)), (x,))


def _spatial(name: str) -> int:
    return next(n for n in (1, 2, 3) if f"{n}d" in name)


def _still(c: Called) -> bool:
    """Whether an axis of as many cells stays as it is: so it does but where weights reach the neighbours."""
    return not c.name.endswith("_aa")


def _scales(c: Called, n: int) -> list[float | None]:
    names = {a.name for a in c.entry.op._schema.arguments}
    if "scale_factors" in names:
        given = c["scale_factors"]
        return list(given) if given is not None else [None] * n
    each = {1: ["scales"], 2: ["scales_h", "scales_w"], 3: ["scales_d", "scales_h", "scales_w"]}[n]
    return [c[name] if name in names else None for name in each]


def _taps(c: Called, n: int, made: int, scale: float | None) -> tuple[tuple[tuple[int, float], ...], ...]:
    if "nearest" in c.name:
        return nearest(n, made, scale, exact="exact" in c.name)
    corners, smooth = bool(c["align_corners"]), c.name.endswith("_aa")
    return (cubic if "bicubic" in c.name else linear)(n, made, scale, corners, smooth, c.output.dtype)


def _max_pool(c: Called) -> int:
    if c.part:
        return c.whole()
    n = _spatial(c.name)
    kernel, stride, padding, dilation = (_each(c[name], n) for name in ("kernel_size", "stride", "padding", "dilation"))
    stride = stride or kernel
    lead = len(c.shape) - n
    lowest = float("-inf") if getattr(torch, c.dtype).is_floating_point else torch.iinfo(getattr(torch, c.dtype)).min
    zero, call = (0,) * n, "max_pool%dd_with_indices" % n if n > 1 else "max_pool1d"  # noqa: UP031
    aten = Aten(f"aten::{call}.", (Slot(0), kernel, stride, zero, dilation), (), 0 if n > 1 else None)
    axes = tuple(range(lead, lead + n))
    return c.add(Pool(axes, kernel, stride, dilation, aten, padding, lowest), (c.node(c["self"]),))


def _each(value: Sequence[int], n: int) -> tuple[int, ...]:
    return tuple(value) * n if len(value) == 1 else tuple(value)


def _avg_pool(c: Called) -> int:
    n = _spatial(c.name)
    kernel, padding = _each(c["kernel_size"], n), _each(c["padding"], n)
    stride = _each(c["stride"], n) or kernel
    x, lead = c.node(c["self"]), len(c.shape) - n
    names = {a.name for a in c.entry.op._schema.arguments}
    divisor = c["divisor_override"] if "divisor_override" in names else None
    if not any(padding) and not c["ceil_mode"] and divisor is None:
        zero = (0,) * n
        call = Aten(f"aten::avg_pool{n}d.", (Slot(0), kernel, stride, zero))
        return c.add(Pool(tuple(range(lead, lead + n)), kernel, stride, (1,) * n, call), (x,))
    if divisor is not None:
        call = Aten(f"aten::avg_pool{n}d.", (Slot(0), kernel, stride, (0,) * n, False, True, divisor))
        return c.add(Pool(tuple(range(lead, lead + n)), kernel, stride, (1,) * n, call, padding), (x,))
    shape = c.shape_of(x)
    taps = [None] * lead + [
        averaged(shape[lead + d], c.shape[lead + d], kernel[d], stride[d], padding[d], c["count_include_pad"])
        for d in range(n)
    ]
    return c.add(Resample(tuple(taps)), (x,))


def _adaptive(c: Called) -> int:
    x = c.node(c["self"])
    n = _spatial(c.name)
    shape, lead = c.shape_of(x), len(c.shape) - n
    taps: list[tuple[tuple[tuple[int, float], ...], ...] | None] = [None] * lead
    for size, made in zip(shape[lead:], c.shape[lead:], strict=True):
        rows = [(i * size // made, -(-(i + 1) * size // made)) for i in range(made)]
        taps.append(tuple(tuple((j, 1 / (b - a)) for j in range(a, b)) for a, b in rows))
    return c.add(Resample(tuple(taps)), (x,))


def _adaptive_max(c: Called) -> int:
    """Windows of one size where the output divides the input; the largest of all where it is one cell."""
    n = _spatial(c.name)
    x, lead = c.node(c["self"]), len(c.shape) - n
    shape = c.shape_of(x)
    if c.part or any(size % made for size, made in zip(shape[lead:], c.shape[lead:], strict=True)):
        return c.whole()
    axes = tuple(range(lead, lead + n))
    if all(made == 1 for made in c.shape[lead:]):
        return c.add(Reduce(axes, True, "max", Aten("aten::amax.", (Slot(0), axes, True))), (x,))
    kernel = tuple(size // made for size, made in zip(shape[lead:], c.shape[lead:], strict=True))
    zero, ones, call = (0,) * n, (1,) * n, "max_pool%dd_with_indices" % n if n > 1 else "max_pool1d"  # noqa: UP031
    pooled = Aten(f"aten::{call}.", (Slot(0), kernel, kernel, zero, ones), (), 0 if n > 1 else None)
    return c.add(Pool(axes, kernel, kernel, ones, pooled), (x,))


def _patches(c: Called) -> int:
    """Windows of pictures as channels, with a padded copy of the picture where there is padding."""
    x = c.node(c["self"])
    if len(c.shape_of(x)) != 4:
        return c.whole()
    kernel, dilation, padding, stride = (_each(c[k], 2) for k in ("kernel_size", "dilation", "padding", "stride"))
    x = _padded(c, x, (padding[1], padding[1], padding[0], padding[0]), "constant")
    batch, channels, *sizes = c.shape_of(x)
    spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    counts = [(n - wide) // step + 1 for n, wide, step in zip(sizes, spread, stride, strict=True)]
    hops = tuple(Hop(wide, step) for wide, step in zip(spread, stride, strict=True))
    op = Local((2, 3), hops, Patches(kernel, dilation, stride))
    return c.reshape(c.add(op, (x,), (batch, channels * math.prod(kernel), *counts)), c.shape)


def _folded(c: Called) -> int:
    """Windows that are summed where they overlap, each at its place."""
    x = c.node(c["self"])
    if len(c.shape_of(x)) != 3:
        return c.whole()
    kernel, dilation, padding, stride = (_each(c[k], 2) for k in ("kernel_size", "dilation", "padding", "stride"))
    spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    rows = list(zip(c.shape[2:], spread, stride, padding, strict=True))
    counts = [(n + 2 * before - wide) // step + 1 for n, wide, step, before in rows]
    laps = [Lap(wide, step, before) for _, wide, step, before in rows]
    ends = [lap.length(count) - lap.before for lap, count in zip(laps, counts, strict=True)]
    sizes = [min(n, end) for n, end in zip(c.shape[2:], ends, strict=True)]
    if any(wide < step for _, wide, step, _ in rows):
        return c.whole()
    x = c.reshape(x, (*c.shape_of(x)[:2], *counts))
    made = c.add(Local((2, 3), tuple(laps), Folded(kernel, dilation, stride)), (x,), (*c.shape[:2], *sizes))
    rest = [n - size for n, size in zip(c.shape[2:], sizes, strict=True)]
    return _padded(c, made, (0, rest[1], 0, rest[0]), "constant")


def _overlaid(c: Called) -> int:
    """Windows of one axis, as an inverse Fourier transform of short pieces sums them."""
    x = c.node(c["grad_in"])
    axis, lap = c["dim"] % len(c.shape), Lap(c["size"], c["step"], 0)
    if lap.spread < lap.stride:
        return c.whole()
    made = [*c.shape_of(x)[:-1]]
    made[axis] = lap.length(made[axis])
    summed = c.add(Local((axis,), (lap,), Overlaid(axis, lap.stride)), (x,), made)
    rest = [0, 0] * (len(made) - 1 - axis)
    return _padded(c, summed, (*rest, 0, c.shape[axis] - made[axis]), "constant")


def _full(c: Called) -> int:
    name = c.name
    value = 0 if "zero" in name or "empty" in name else 1
    if "full" in name:
        value = c["fill_value"]
    elif name == "scalar_tensor":
        value = c["s"]
    return _filled(c, value)


def _filled(c: Called, value: object) -> int:
    return c.add(Fill(Filled(value, c.output.dtype, c.output.device)), ())


def _fill(c: Called) -> int:
    value = c["value"]
    if not isinstance(value, Tensor):
        return _filled(c, value)
    return c.expand(c.cast(c.reshape(c.node(value), (1,) * len(c.shape)), c.dtype), c.shape)


def _copy(c: Called) -> int:
    """The second array in the place of the first."""
    x = c.cast(c.node(c["src"]), c.dtype)
    lead = (1,) * (len(c.shape) - len(c.shape_of(x)))
    return c.expand(c.reshape(x, (*lead, *c.shape_of(x))), c.shape)


def _arange(c: Called) -> int:
    names = {a.name for a in c.entry.op._schema.arguments}
    start = c["start"] if "start" in names else 0
    step = c["step"] if "step" in names else 1
    return c.add(Fill(Ramp(start, step, c.output.dtype, c.output.device)), ())


def _triangle(c: Called) -> int:
    inside = c.add(Fill(Triangle(c.name == "tril", c["diagonal"], c.output.device)), (), c.shape[-2:], "bool")
    zero = c.add(Fill(Filled(0, c.output.dtype, c.output.device)), (), (1,) * len(c.shape))
    return c.cell("where.self", (inside, c.node(c["self"]), zero), dtype=c.dtype)


_SAMPLED = [
    *(f"{kind}{n}d" for kind in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
]
_FILLED = ("full", "zeros", "ones", "empty", "new_full", "new_zeros", "new_ones", "new_empty", "scalar_tensor")
_LIKE = ("full_like", "zeros_like", "ones_like", "empty_like", "empty_strided", "new_empty_strided", "zero")

RULES: dict[str, Rule] = {
    "constant_pad_nd": _pad_constant,
    **{f"{kind}_pad{n}d": _pad_copies for kind in ("replication", "reflection") for n in (1, 2, 3)},
    **dict.fromkeys(_SAMPLED, _resample),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d"), _max_pool),
    **dict.fromkeys(("max_pool2d", "max_pool3d"), _max_pool),
    **{f"avg_pool{n}d": _avg_pool for n in (1, 2, 3)},
    **{f"{name}_pool{n}d": _adaptive for name in ("adaptive_avg", "_adaptive_avg") for n in (1, 2, 3)},
    **dict.fromkeys((*_FILLED, *_LIKE), _full),
    **{f"adaptive_max_pool{n}d": _adaptive_max for n in (1, 2, 3)},
    "im2col": _patches,
    "col2im": _folded,
    "unfold_backward": _overlaid,
    "fill": _fill,
    "copy": _copy,
    "arange": _arange,
    **dict.fromkeys(("tril", "triu"), _triangle),
}
