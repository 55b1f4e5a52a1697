"""Operations that move cells without computing."""

import math
from collections.abc import Container, Sequence

from torch import Tensor

from tilekit._exact.frontends._torch.aliases import CannotFollow
from tilekit._exact.frontends._torch.called import Called, Rule
from tilekit._exact.frontends._torch.calls import Bits, Half, Strided
from tilekit._exact.ops import Along, Pointwise, Slice, Whole, Windows

__all__ = ["RULES"]


def _alias(c: Called) -> int:
    return c.node(c["self"])


def _clone(c: Called) -> int:
    """Copy a small part of an array, which would keep all of it; other copies are not needed."""
    return c.apart(c.node(c["self"]))


def _reshape(c: Called) -> int:
    x = c.node(c["self"])
    if c.dtype_of(x) == c.dtype:
        return c.reshape(x, c.shape)
    same = c["self"].element_size() == c.output.element_size()  # `view` with a dtype
    return c.add(Along(() if same else (len(c.shape) - 1,), Bits(c.output.dtype)), (x,))


def _permute(c: Called) -> int:
    n = len(c.shape)
    return c.permute(c.node(c["self"]), [axis % n for axis in c["dims"]])


def _transpose(c: Called) -> int:
    axes = list(range(len(c.shape)))
    if not axes:
        return c.node(c["self"])
    a, b = (0, len(axes) - 1) if c.name == "t" else (c["dim0"] % len(axes), c["dim1"] % len(axes))
    axes[a], axes[b] = axes[b], axes[a]
    return c.permute(c.node(c["self"]), axes)


def _expand(c: Called) -> int:
    x = c.node(c["self"])
    lead = (1,) * (len(c.shape) - len(c.shape_of(x)))
    return c.expand(c.reshape(x, (*lead, *c.shape_of(x))), c.shape)


def _repeat(c: Called) -> int:
    x = c.node(c["self"])
    x = c.reshape(x, ((1,) * (len(c.shape) - len(c.shape_of(x))) + c.shape_of(x)))
    for axis, times in enumerate(c["repeats"]):
        n = c.shape_of(x)[axis]
        if times == 0:
            return c.whole()
        if times > 1 and n > 1:
            x = c.concat([x] * times, axis)
    return c.expand(x, c.shape)


def _slice(c: Called) -> int:
    axis, start = c["dim"] % len(c.shape), c["start"] or 0
    x = c.node(c["self"])
    n = c.shape_of(x)[axis]
    start = max(0, start + n) if start < 0 else min(start, n)
    return c.slice(x, axis, start, c.shape[axis], c["step"] or 1)


def _select(c: Called) -> int:
    x = c.node(c["self"])
    shape = c.shape_of(x)
    axis = c["dim"] % len(shape)
    index = c["index"] % shape[axis]
    half = c.half(x, axis, index)
    return c.reshape(c.slice(x, axis, index, 1), c.shape) if half is None else half


def _split(c: Called) -> int:
    x = c.node(c["self"])
    axis = c["dim"] % len(c.shape)
    sizes = [tuple(part.shape)[axis] for part in c.entry.outputs]
    return c.slice(x, axis, sum(sizes[: c.part]), sizes[c.part])


def _unbind(c: Called) -> int:
    x = c.node(c["self"])
    return c.reshape(c.slice(x, c["dim"] % len(c.shape_of(x)), c.part, 1), c.shape)


def _cat(c: Called) -> int:
    parts = [x for x in c["tensors"] if x.numel()]
    axis = c["dim"] % len(c.shape)
    return c.concat([c.cast(c.node(x), c.dtype) for x in parts], axis)


def _stack(c: Called) -> int:
    axis = c["dim"] % len(c.shape)
    one = (*c.shape[:axis], 1, *c.shape[axis + 1 :])
    return c.concat([c.reshape(c.cast(c.node(x), c.dtype), one) for x in c["tensors"]], axis)


def _flip(c: Called) -> int:
    n = len(c.shape)
    axes = {axis % n for axis in c["dims"]}
    return _turned(c, c.node(c["self"]), axes)


def _turned(c: Called, x: int, axes: Container[int]) -> int:
    """Turn axes round, which copies."""
    starts = tuple(size - 1 if d in axes else 0 for d, size in enumerate(c.shape))
    steps = tuple(-1 if d in axes else 1 for d in range(len(c.shape)))
    return c.add(Slice(starts, steps, copied=True), (x,))


def _roll(c: Called) -> int:
    x = c.node(c["self"])
    axes: Sequence[int] = c["dims"]
    flat = not axes
    if flat:
        x, axes = c.reshape(x, (math.prod(c.shape),)), [0]
    for axis, shift in zip(axes, c["shifts"], strict=True):
        axis %= len(c.shape_of(x))
        n = c.shape_of(x)[axis]
        cut = n and -shift % n
        if cut:
            x = c.concat([c.slice(x, axis, cut, n - cut), c.slice(x, axis, 0, cut)], axis)
    return c.reshape(x, c.shape)


def _rotate(c: Called) -> int:
    """Quarter turns: two axes change places, and one of them is turned round."""
    x, n = c.node(c["self"]), len(c.shape)
    times, (a, b) = c["k"] % 4, (axis % n for axis in c["dims"])
    if times % 2:
        order = list(range(n))
        order[a], order[b] = b, a
        x = c.permute(x, order)
    turned = {0: set[int](), 1: {a}, 2: {a, b}, 3: {b}}[times]
    return _turned(c, x, turned) if turned else x


def _shuffle(c: Called) -> int:
    """Pixels out of channels: (…, C r r, H, W) to (…, C, H r, W r)."""
    x, r = c.node(c["self"]), c["upscale_factor"]
    *lead, channels, height, width = c.shape_of(x)
    n = len(lead)
    x = c.reshape(x, (*lead, channels // (r * r), r, r, height, width))
    x = c.permute(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return c.reshape(x, c.shape)


def _unshuffle(c: Called) -> int:
    """Pixels into channels: (…, C, H r, W r) to (…, C r r, H, W)."""
    x, r = c.node(c["self"]), c["downscale_factor"]
    *lead, channels, height, width = c.shape_of(x)
    n = len(lead)
    x = c.reshape(x, (*lead, channels, height // r, r, width // r, r))
    x = c.permute(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return c.reshape(x, c.shape)


def _channel_shuffle(c: Called) -> int:
    x, groups = c.node(c["self"]), c["groups"]
    batch, channels, *rest = c.shape
    x = c.reshape(x, (batch, groups, channels // groups, *rest))
    return c.reshape(c.permute(x, (0, 2, 1, *range(3, len(rest) + 3))), c.shape)


def _unfold(c: Called) -> int:
    """Windows along an axis, which may overlap; their cells become the last axis."""
    x = c.node(c["self"])
    shape = c.shape_of(x)
    axis, size, step = c["dimension"] % max(1, len(shape)), c["size"], c["step"]
    count = c.shape[axis]
    return _windows(c, x, axis, count, size, step)


def _windows(c: Called, x: int, axis: int, count: int, size: int, step: int) -> int:
    shape = c.shape_of(x)
    made = (*shape[:axis], count, size, *shape[axis + 1 :])
    if size == step and count * size == shape[axis]:
        x = c.reshape(x, made)
    else:
        x = c.add(Windows(axis, size, step), (x,), made, c.dtype_of(x))
    order = [d for d in range(len(shape) + 1) if d != axis + 1]
    return c.permute(x, (*order, axis + 1))


def _as_strided(c: Called) -> int:
    """Windows of the last axis, as a Fourier transform of short pieces takes them; any other is not understood."""
    given: Tensor = c["self"]
    sizes, strides = list(c["size"]), list(c["stride"])
    shape, at = tuple(given.shape), given.storage_offset()
    offset = int((at if c["storage_offset"] is None else c["storage_offset"]) - at)
    windows = len(sizes) == len(shape) + 1 and given.is_contiguous() and not offset
    if windows and sizes[:-2] == list(shape[:-1]) and strides[-1] == 1:
        lead = [given.stride(d) for d in range(len(shape) - 1)]
        lengths_fit = (sizes[-2] - 1) * strides[-2] + sizes[-1] <= shape[-1]
        if lengths_fit and all(n == 1 or a == b for n, a, b in zip(sizes, strides, lead, strict=False)):
            return _windows(c, c.node(given), len(shape) - 1, sizes[-2], sizes[-1], strides[-2])
    if sizes == list(shape) and strides == list(given.stride()) and not offset:
        return c.node(given)
    if at or not _lies_alone(given):
        message = "aten.as_strided reads memory beside the cells of the view that it is given"
        raise CannotFollow(message)
    return c.add(Whole(c.name, Strided(given.stride(), tuple(sizes), tuple(strides), offset)), (c.node(given),))


def _lies_alone(x: Tensor) -> bool:
    """Whether the memory of a tensor holds each of its cells once, and nothing else."""
    reach = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True)) + 1
    lies = sorted((stride, n) for n, stride in zip(x.shape, x.stride(), strict=True) if n > 1)
    step = 1
    for stride, n in lies:
        if stride != step:
            return False
        step *= n
    return reach * x.element_size() == x.untyped_storage().nbytes()


def _select_scatter(c: Called) -> int:
    x, axis = c.node(c["self"]), c["dim"] % len(c.shape)
    one = (*c.shape[:axis], 1, *c.shape[axis + 1 :])
    part = c.reshape(c.cast(c.node(c["src"]), c.dtype), one)
    return c.write(x, part, axis, c["index"] % c.shape[axis])


def _slice_scatter(c: Called) -> int:
    x, axis, n = c.node(c["self"]), c["dim"] % len(c.shape), c.shape[c["dim"]]
    start, step = c["start"] or 0, c["step"] or 1
    start = max(0, start + n) if start < 0 else min(start, n)
    part = c.cast(c.node(c["src"]), c.dtype)
    return c.write(x, part, axis, start, step) if math.prod(c.shape_of(part)) else x


def _half(c: Called) -> int:
    return c.add(Pointwise(Half(c.name)), (c.node(c["self"]),))


def _as_complex(c: Called) -> int:
    """Put pairs of numbers together, wherever they lie."""
    x, axis = c.node(c["self"]), len(c.shape)
    halves = [c.reshape(c.slice(x, axis, part, 1), c.shape) for part in (0, 1)]
    return c.cell("complex", halves, dtype=c.dtype)


def _as_real(c: Called) -> int:
    """Lay the two parts of complex numbers beside each other."""
    x, one = c.node(c["self"]), (*c.shape[:-1], 1)
    parts = [c.add(Pointwise(Half(name)), (x,), c.shape[:-1]) for name in ("real", "imag")]
    return c.concat([c.reshape(part, one) for part in parts], len(c.shape) - 1)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("alias", "detach", "contiguous", "lift", "lift_fresh", "lift_fresh_copy"), _alias),
    "clone": _clone,
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "view_copy"), _reshape),
    **dict.fromkeys(("squeeze", "unsqueeze", "_reshape_copy", "flatten", "unflatten"), _reshape),
    "permute": _permute,
    **dict.fromkeys(("transpose", "t"), _transpose),
    "expand": _expand,
    "repeat": _repeat,
    "slice": _slice,
    "select": _select,
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "tensor_split"), _split),
    "unbind": _unbind,
    "cat": _cat,
    "stack": _stack,
    "flip": _flip,
    "roll": _roll,
    "rot90": _rotate,
    "pixel_shuffle": _shuffle,
    "pixel_unshuffle": _unshuffle,
    "channel_shuffle": _channel_shuffle,
    "unfold": _unfold,
    "as_strided": _as_strided,
    "view_as_complex": _as_complex,
    "view_as_real": _as_real,
    "real": _half,
    "imag": _half,
    "select_scatter": _select_scatter,
    "slice_scatter": _slice_scatter,
}
