"""One strategy for each kind of operation: a node, the shapes of its inputs, and what the whole must be by NumPy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tilekit._exact.boxes import Box, Shape
from tilekit._exact.graph import Node
from tilekit._exact.ops import (
    Along,
    Concat,
    Conv,
    Expand,
    Gather,
    MatMul,
    Moments,
    Normalize,
    Op,
    Pad,
    PadMode,
    Permute,
    Pointwise,
    Pool,
    Reduce,
    Resample,
    Reshape,
    Scatter,
    Slice,
    Take,
    Whole,
    Windows,
)

Draw = Callable[[st.SearchStrategy[Any]], Any]
Plain = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """A node, what it reads, and its whole output by other means (None: none are known here)."""

    node: Node
    shapes: tuple[Shape, ...]
    plain: Plain | None


def case(op: Op, shape: Sequence[int], shapes: Sequence[Shape], plain: Plain | None = None) -> Case:
    inputs = tuple(range(len(shapes)))
    return Case(Node(len(shapes), op, inputs, tuple(int(n) for n in shape), "float32"), tuple(shapes), plain)


def shapes(min_dims: int = 1, max_dims: int = 4, most: int = 6) -> st.SearchStrategy[Shape]:
    return st.lists(st.integers(1, most), min_size=min_dims, max_size=max_dims).map(tuple)


def boxes(draw: Draw, shape: Shape) -> Box:
    intervals = []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        intervals.append((start, draw(st.integers(start + 1, n))))
    return tuple(intervals)


@st.composite
def pointwise(draw: Draw) -> Case:
    shape = draw(shapes())
    other = tuple(n if draw(st.booleans()) else 1 for n in shape[draw(st.integers(0, len(shape) - 1)) :])
    return case(Pointwise(lambda arrays: arrays[0] * 2 + arrays[1]), shape, [shape, other], lambda a, b: a * 2 + b)


@st.composite
def expand(draw: Draw) -> Case:
    shape = draw(shapes())
    source = tuple(n if draw(st.booleans()) else 1 for n in shape[draw(st.integers(0, len(shape) - 1)) :])
    return case(Expand(), shape, [source], lambda a: np.broadcast_to(a, shape))


@st.composite
def reshape(draw: Draw) -> Case:
    factors = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))

    def merged() -> Shape:
        out = [1]
        for n in factors:
            if draw(st.booleans()):
                out.append(n)
            else:
                out[-1] *= n
        return tuple(out)

    old, new = merged(), merged()
    return case(Reshape(), new, [old], lambda a: a.reshape(new))


@st.composite
def permute(draw: Draw) -> Case:
    source = draw(shapes())
    axes = tuple(draw(st.permutations(range(len(source)))))
    return case(Permute(axes), [source[axis] for axis in axes], [source], lambda a: a.transpose(axes))


@st.composite
def cut(draw: Draw) -> Case:
    source = draw(shapes())
    starts, steps, shape = [], [], []
    for n in source:
        start, step = draw(st.integers(0, n - 1)), draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        most = (n - 1 - start) // step + 1 if step > 0 else start // -step + 1
        starts.append(start)
        steps.append(step)
        shape.append(draw(st.integers(1, most)))
    picks = [[a + i * s for i in range(n)] for a, s, n in zip(starts, steps, shape, strict=True)]
    return case(Slice(tuple(starts), tuple(steps), draw(st.booleans())), shape, [source], lambda a: a[np.ix_(*picks)])


@st.composite
def concat(draw: Draw) -> Case:
    shape = draw(shapes())
    axis = draw(st.integers(0, len(shape) - 1))
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    sources = [(*shape[:axis], n, *shape[axis + 1 :]) for n in lengths]
    whole = (*shape[:axis], sum(lengths), *shape[axis + 1 :])
    return case(Concat(axis), whole, sources, lambda *arrays: np.concatenate(arrays, axis))


@st.composite
def scatter(draw: Draw) -> Case:
    shape = draw(shapes())
    part = tuple(draw(st.integers(1, n)) for n in shape)
    starts = tuple(draw(st.integers(0, n - m)) for n, m in zip(shape, part, strict=True))

    def plain(a: Any, b: Any) -> Any:
        out = a.copy()
        out[tuple(slice(at, at + n) for at, n in zip(starts, part, strict=True))] = b
        return out

    return case(Scatter(starts), shape, [shape, part], plain)


@st.composite
def pad(draw: Draw) -> Case:
    modes: dict[PadMode, Any] = {"constant": "constant", "replicate": "edge", "reflect": "reflect", "circular": "wrap"}
    mode = draw(st.sampled_from(list(modes)))
    source = tuple(draw(st.integers(2, 5)) for _ in range(draw(st.integers(1, 3))))
    most = [4 if mode == "replicate" else n - 1 for n in source]
    before, after = (tuple(draw(st.integers(0, m)) for m in most) for _ in range(2))
    if mode == "constant":
        before = tuple(draw(st.sampled_from([b, -1])) for b in before)
    shape = tuple(n + b + a for n, b, a in zip(source, before, after, strict=True))

    def plain(a: Any) -> Any:
        a = a[tuple(slice(max(0, -b), None) for b in before)]
        widths = [(max(0, b), c) for b, c in zip(before, after, strict=True)]
        return np.pad(a, widths, modes[mode], **({"constant_values": 0.5} if mode == "constant" else {}))

    return case(Pad(before, after, mode, 0.5), shape, [source], plain)


@st.composite
def take(draw: Draw) -> Case:
    source = draw(shapes())
    axis = draw(st.integers(0, len(source) - 1))
    indices = tuple(draw(st.lists(st.integers(0, source[axis] - 1), min_size=1, max_size=7)))
    shape = (*source[:axis], len(indices), *source[axis + 1 :])
    return case(Take(axis, indices), shape, [source], lambda a: np.take(a, indices, axis))


@st.composite
def windowed(draw: Draw) -> Case:
    source, axis = draw(shapes(3, 3)), draw(st.integers(0, 2))
    size, hop, count = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    source = (*source[:axis], (count - 1) * hop + size + draw(st.integers(0, 2)), *source[axis + 1 :])
    rows = np.arange(count)[:, None] * hop + np.arange(size)
    made = (*source[:axis], count, size, *source[axis + 1 :])
    return case(Windows(axis, size, hop), made, [source], lambda a: np.take(a, rows, axis))


@st.composite
def resample(draw: Draw) -> Case:
    source = draw(shapes())
    rows: list[Any] = []
    for n in source:
        cells = st.tuples(st.integers(0, n - 1), st.sampled_from([1.0, 0.25, -0.5]))
        row = st.lists(cells, min_size=1, max_size=3).map(tuple)
        rows.append(draw(st.none() | st.lists(row, min_size=1, max_size=8).map(tuple)))

    def plain(a: Any) -> Any:
        for axis, taps in enumerate(rows):
            if taps is not None:
                a = np.stack([sum(np.take(a, c, axis) * w for c, w in taken) for taken in taps], axis)
        return a

    shape = tuple(n if taps is None else len(taps) for n, taps in zip(source, rows, strict=True))
    return case(Resample(tuple(rows)), shape, [source], plain)


@st.composite
def conv(draw: Draw) -> Case:
    dims, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2]))
    transposed = draw(st.booleans())

    def ints(low: int, high: int) -> Shape:
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel, dilation, cells = ints(1, 3), ints(1, 2), ints(1, 6)
    stride = ints(1, 1) if transposed else ints(1, 3)
    apart = ints(1, 4) if transposed else ints(1, 1)
    before, after = ints(0, 3), ints(0, 3)
    spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    wide = [(n - 1) * g + 1 + b + a for n, g, b, a in zip(cells, apart, before, after, strict=True)]
    out = [(n - k) // s + 1 for n, k, s in zip(wide, spread, stride, strict=True)]
    if min(w - k for w, k in zip(wide, spread, strict=True)) < 0:
        other: Case = draw(conv())  # the kernel does not fit: another
        return other
    share_in, share_out, batch = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    channels_in, channels_out = share_in * groups, share_out * groups
    weight = (channels_in, share_out, *kernel) if transposed else (channels_out, share_in, *kernel)
    op = Conv(
        tuple(range(2, 2 + dims)), 1, kernel, stride, before, after, dilation, apart, groups, share_in, transposed
    )
    inputs = [(batch, channels_in, *cells), weight]
    inputs += [(channels_out,)] if draw(st.booleans()) else []
    return case(op, (batch, channels_out, *out), inputs)


@st.composite
def pool(draw: Draw) -> Case:
    source = tuple(draw(st.integers(3, 7)) for _ in range(3))
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    before, after = draw(st.integers(0, kernel - 1)), draw(st.integers(0, kernel - 1))
    n = (before + source[1] + after - kernel) // stride + 1

    def call(arrays: Sequence[Any]) -> Any:
        x = arrays[0]
        n = (x.shape[1] - kernel) // stride + 1
        total = x[:, 0 : (n - 1) * stride + 1 : stride, :]
        for tap in range(1, kernel):
            total = total + x[:, tap : tap + (n - 1) * stride + 1 : stride, :]
        return total

    return case(Pool((1,), (kernel,), (stride,), (1,), call, (before,), 2.0), (source[0], n, source[2]), [source])


@st.composite
def reduced(draw: Draw) -> Case:
    source = draw(shapes(2, 4))
    axis, keep = draw(st.integers(0, len(source) - 1)), draw(st.booleans())
    shape = (*source[:axis], *([1] if keep else []), *source[axis + 1 :])

    def call(arrays: Sequence[Any]) -> Any:
        x = arrays[0]
        total = x[(slice(None),) * axis + (slice(0, 1), ...)]
        for i in range(1, x.shape[axis]):
            total = total + x[(slice(None),) * axis + (slice(i, i + 1), ...)]
        return total if keep else total[(slice(None),) * axis + (0, ...)]

    return case(Reduce((axis,), keep, "sum", call), shape, [source], lambda a: a.sum(axis, keepdims=keep))


@st.composite
def moments(draw: Draw) -> Case:
    groups, share, dims = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(3, 5))
    channel = draw(st.integers(1, dims - 1))
    batch = (0,) if dims == 3 or channel == dims - 1 or draw(st.booleans()) else (0, dims - 1)
    source = tuple(groups * share if axis == channel else draw(st.integers(1, 4)) for axis in range(dims))

    def plain(x: Any) -> Any:
        x = np.moveaxis(x.astype(np.float64), (*batch, channel), range(len(batch) + 1))
        x = x.reshape(*x.shape[: len(batch)], groups, -1)
        return np.stack([x.mean(-1), x.var(-1)], -1)

    shape = (*(source[axis] for axis in batch), groups, 2)
    return case(Moments(groups, batch, channel), shape, [source], plain)


@st.composite
def normalize(draw: Draw) -> Case:
    groups, share, dims = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(3, 5))
    channel = draw(st.integers(1, dims - 1))
    batch = (0,) if dims == 3 or channel == dims - 1 or draw(st.booleans()) else (0, dims - 1)
    source = tuple(groups * share if axis == channel else draw(st.integers(1, 4)) for axis in range(dims))
    weight, bias = draw(st.booleans()), draw(st.booleans())
    inputs = [source, (*(source[axis] for axis in batch), groups, 2), *[(groups * share,)] * (weight + bias)]

    def plain(x: Any, stats: Any, *affine: Any) -> Any:
        wide = [n if axis in batch else groups if axis == channel else 1 for axis, n in enumerate(source)]
        order = np.argsort([*batch, channel])
        mean, variance = (
            np.repeat(stats[..., i].transpose(order).reshape(wide), share, channel).astype(np.float64) for i in (0, 1)
        )
        y = (x - mean) / np.sqrt(variance + 1e-3)
        shape = [-1 if axis == channel else 1 for axis in range(dims)]
        y = y * affine[0].reshape(shape) if weight else y
        return y + affine[-1].reshape(shape) if bias else y

    return case(Normalize(groups, 1e-3, batch, channel, weight, bias), source, inputs, plain)


@st.composite
def along(draw: Draw) -> Case:
    shape = draw(shapes())
    axis = draw(st.integers(0, len(shape) - 1))

    def call(arrays: Sequence[Any]) -> Any:
        x = arrays[0]
        total = x[(slice(None),) * axis + (slice(0, 1), ...)]
        for i in range(1, x.shape[axis]):
            total = total + x[(slice(None),) * axis + (slice(i, i + 1), ...)]
        return x - total

    return case(Along((axis,), call), shape, [shape], lambda a: a - a.sum(axis, keepdims=True))


@st.composite
def matmul(draw: Draw) -> Case:
    lead, (m, k, n) = draw(shapes(0, 2)), (draw(st.integers(1, 5)) for _ in range(3))
    left = tuple(d if draw(st.booleans()) else 1 for d in lead)
    right = tuple(1 if n == d and draw(st.booleans()) else d for n, d in zip(left, lead, strict=True))
    whole = tuple(max(p, q) for p, q in zip(left, right, strict=True))
    op = MatMul(lambda arrays: arrays[0] @ arrays[1])
    return case(op, (*whole, m, n), [(*left, m, k), (*right, k, n)], lambda a, b: a @ b)


@st.composite
def gather(draw: Draw) -> Case:
    source, picks = draw(shapes(1, 3)), draw(shapes(1, 2))
    axis = draw(st.integers(0, len(source) - 1))
    shape = (*picks, *source[:axis], *source[axis + 1 :])

    def call(arrays: Sequence[Any]) -> Any:
        """Read the source and the indices, in words that all libraries share."""
        x, indices = arrays
        first = x[(slice(None),) * axis + (0, ...)]
        return first * indices[(..., *(None,) * first.ndim)]

    return case(Gather(axis, call), shape, [source, picks])


@st.composite
def whole(draw: Draw) -> Case:
    shape = draw(shapes())
    return case(Whole("thing", lambda arrays: arrays[0] * arrays[0]), shape, [shape], lambda a: a * a)


KINDS: dict[str, Callable[[], st.SearchStrategy[Case]]] = {
    kind.__name__: kind
    for kind in (
        pointwise,
        expand,
        reshape,
        permute,
        cut,
        concat,
        scatter,
        pad,
        take,
        windowed,
        resample,
        conv,
        pool,
        reduced,
        moments,
        normalize,
        along,
        matmul,
        gather,
        whole,
    )
}
