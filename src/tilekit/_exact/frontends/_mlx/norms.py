"""
Norms over many cells, which MLX takes apart into two sums: the moments, and what is done with them.

A sum of squares of the distances from the mean becomes one reading of the array together with the sum before it. Where
the rest is a group normalisation as well, it is one operation, on the array before it was split into groups.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx

from tilekit._exact.boxes import Shape
from tilekit._exact.frontends._mlx.axes import Axes, Part, viewed
from tilekit._exact.frontends._mlx.builder import Builder
from tilekit._exact.frontends._mlx.calls import Mx
from tilekit._exact.frontends.rewrite import Rewrite, users
from tilekit._exact.graph import Node
from tilekit._exact.ops import Moments, Normalize, Op, Permute, Pointwise, Reduce, Reshape, Slice

__all__ = ["norms"]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sums of one array, and the moments of its source that they come from."""

    first: Node
    second: Node
    difference: int
    """The array less its mean."""
    source: int
    views: tuple[tuple[Op, Shape], ...]
    """From the source to what is summed."""
    moments: Moments
    order: tuple[Part, ...]
    """The parts of the axes that the moments have, in their order."""
    wanted: tuple[Part, ...]
    """The same parts in the order of the sums."""


def norms(builder: Builder) -> dict[int, Rewrite]:
    """Find them."""
    readers = users(builder)
    rewrites: dict[int, Rewrite] = {}
    for node in builder.nodes:
        pairs = _pairs(builder, node)
        if not pairs:
            continue
        ends = [_normalized(builder, readers, pair) for pair in pairs]
        best = next((i for i, end in enumerate(ends) if end is not None), 0)
        pair, last = pairs[best], ends[best]
        taken: dict[int, int] = {}
        rewrites[pair.first.index] = _sum(pair, taken, 0)
        rewrites[pair.second.index] = _sum(pair, taken, 1)
        if last is not None:
            index, rewrite = last
            rewrites[index] = rewrite
    return rewrites


def _called(builder: Builder, index: int, *names: str) -> tuple[str, tuple[int, ...]] | None:
    """Give the name and inputs of cell-by-cell arithmetic of one of these names."""
    op = builder.op(index)
    if isinstance(op, Pointwise) and isinstance(op.call, Mx) and op.call.name in names:
        return op.call.name, builder.nodes[index].inputs
    return None


def _pairs(builder: Builder, second: Node) -> list[Pair]:
    """Give the pair that a sum is the second of, once for every array that the moments may be taken on."""
    if not (isinstance(second.op, Reduce) and second.op.how == "sum"):
        return []
    square = _called(builder, second.inputs[0], "square")
    difference = _called(builder, square[1][0], "subtract") if square else None
    if square is None or difference is None:
        return []
    array, mean = difference[1]
    first = _mean_of(builder, mean)
    if first is None or first.inputs != (array,) or first.op != second.op:
        return []
    return _described(builder, first, second, square[1][0])


def _mean_of(builder: Builder, mean: int) -> Node | None:
    """Give the sum that a mean is."""
    mean = builder.unexpanded(mean)
    scaled = _called(builder, mean, "multiply", "divide")
    if scaled is None:
        return None
    name, (a, b) = scaled
    number = builder.number(b)
    if number is None and name == "multiply":
        a, number = b, builder.number(a)
    node = builder.nodes[a]
    if number is None or not isinstance(node.op, Reduce) or not number:
        return None
    cells = math.prod(builder.shape(node.inputs[0])[axis] for axis in node.op.axes)
    return node if math.isclose(cells * number if name == "multiply" else cells / number, 1, rel_tol=1e-2) else None


def _described(builder: Builder, first: Node, second: Node, difference: int) -> list[Pair]:
    """Give the arrays in the chain of views that the moments can be taken on, the first first."""
    assert isinstance(first.op, Reduce)
    chain: list[tuple[int, tuple[tuple[Op, Shape], ...]]] = []
    at = first.inputs[0]
    views: tuple[tuple[Op, Shape], ...] = ()
    while True:
        chain.append((at, views))
        node = builder.nodes[at]
        if isinstance(node.op, (Reshape, Permute)):
            views = ((node.op, node.shape), *views)
        elif not _called(builder, at, "astype") or node.dtype != "float32":
            break
        at = node.inputs[0]
    pairs: list[Pair] = []
    for source, views in reversed(chain):
        shape = builder.shape(source)
        axes = viewed(shape, views)
        found = axes and _moments(shape, axes, first.op.axes)
        if found and builder.nodes[source].dtype in {"float32", "bfloat16", "float16"}:
            moments, order, wanted = found
            pairs.append(Pair(first, second, difference, source, views, moments, order, wanted))
    return pairs


def _moments(
    shape: Shape, axes: Axes, reduced: tuple[int, ...]
) -> tuple[Moments, tuple[Part, ...], tuple[Part, ...]] | None:
    """Give the moments of a source of which `reduced` axes of a view are summed; None where they are no such."""
    summed = {part for axis in reduced for part in axes[axis]}
    wanted = tuple(part for axis, parts in enumerate(axes) if axis not in reduced for part in parts)
    batch: list[int] = []
    mixed: list[int] = []
    order: list[Part] = []
    groups: list[Part] = []
    for axis in range(len(shape)):
        parts = sorted(part for part in (*summed, *wanted) if part.place[0] == axis)
        kept = [part for part in parts if part not in summed]
        if len(kept) == len(parts):
            batch.append(axis)
            order += kept
        elif kept and parts[: len(kept)] == kept and not mixed:
            mixed.append(axis)
            groups = kept
        elif kept:
            return None
    if not mixed and batch and batch[-1] == len(shape) - 1:  # every channel is a group
        mixed.append(batch.pop())
        groups = [part for part in order if part.place[0] == mixed[0]]
        order = order[: len(order) - len(groups)]
    rest = [axis for axis in range(len(shape)) if axis not in batch]
    if rest == [len(shape) - 1] and not mixed:
        return None  # a norm of each position: its sums are short, and nothing is cut along them
    channel = mixed[0] if mixed else rest[-1]
    moments = Moments(math.prod(part.size for part in groups), tuple(batch), channel)
    return moments, (*order, *groups), wanted


def _sum(pair: Pair, taken: dict[int, int], which: int) -> Rewrite:
    """Make one of the two sums from the moments."""

    def rewrite(b: Builder, place: Mapping[int, int]) -> int:
        moments = _added(b, place, pair, taken)
        shape = b.shape(moments)
        starts = (*(0 for _ in shape[:-1]), which)
        one = b.add(Slice(starts, (1,) * len(shape)), (moments,), (*shape[:-1], 1), "float32")
        split = b.reshape(one, [part.size for part in pair.order])
        placed = b.permute(split, [pair.order.index(part) for part in pair.wanted])
        node = pair.second if which else pair.first
        mean = b.reshape(placed, node.shape)
        cells = math.prod(b.shape(place[pair.source])) // max(1, math.prod(node.shape))
        total = b.pointwise(Mx("multiply", (float(cells),)), (mean,), node.shape, "float32")
        return total if node.dtype == "float32" else _cast(b, total, node.dtype)

    return rewrite


def _added(b: Builder, place: Mapping[int, int], pair: Pair, taken: dict[int, int]) -> int:
    """Add the moments, once for both sums."""
    if 0 not in taken:
        source = place[pair.source]
        batch = tuple(b.shape(source)[axis] for axis in pair.moments.batch_axes)
        taken[0] = b.add(pair.moments, (source,), (*batch, pair.moments.groups, 2), "float32")
    return taken[0]


def _cast(b: Builder, index: int, dtype: str) -> int:
    node = b.nodes[index]
    return (
        index if node.dtype == dtype else b.pointwise(Mx("astype", (getattr(mx, dtype),)), (index,), node.shape, dtype)
    )


def _normalized(builder: Builder, readers: list[list[int]], pair: Pair) -> tuple[int, Rewrite] | None:
    """Find the end of a group normalisation whose moments are a pair's."""
    scaled = _scaled(builder, readers, pair)
    if scaled is None:
        return None
    at, epsilon = scaled
    end = _back(builder, readers, at, pair)
    if end is None:
        return None
    index, weight, bias = _affine(builder, readers, end, pair)
    op = Normalize(
        groups=pair.moments.groups,
        epsilon=epsilon,
        batch_axes=pair.moments.batch_axes,
        channel_axis=pair.moments.channel_axis,
        weight=weight is not None,
        bias=bias is not None,
    )

    def rewrite(b: Builder, place: Mapping[int, int]) -> int:
        moments = _added(b, place, pair, {})
        affine = [place[i] for i in (weight, bias) if i is not None]
        node = builder.nodes[index]
        return b.add(op, (place[pair.source], moments, *affine), node.shape, node.dtype)

    return index, rewrite


def _scaled(builder: Builder, readers: list[list[int]], pair: Pair) -> tuple[int, float] | None:
    """Find the distances from the mean divided by the standard deviation, and what is added to the variance."""
    for reader in readers[pair.difference]:
        found = _called(builder, reader, "multiply", "divide")
        if found is None:
            continue
        name, (a, b) = found
        other = b if a == pair.difference else a
        epsilon = _epsilon(builder, other, "rsqrt" if name == "multiply" else "sqrt", pair)
        if epsilon is not None:
            return reader, epsilon
    return None


def _epsilon(builder: Builder, index: int, root: str, pair: Pair) -> float | None:
    """Give what is added to the variance under a root."""
    found = _called(builder, builder.unexpanded(index), root)
    added = _called(builder, found[1][0], "add") if found else None
    if added is None:
        return None
    for variance, number in (added[1], added[1][::-1]):
        epsilon = builder.number(number)
        if epsilon is not None and _mean_of(builder, variance) == pair.second:
            return epsilon
    return None


def _back(builder: Builder, readers: list[list[int]], at: int, pair: Pair) -> int | None:
    """Follow views until the array lies as its source does."""
    views, shape = list(pair.views), builder.shape(pair.source)
    while True:
        axes = viewed(shape, views)
        if axes is None:
            return None
        places = [part.place for parts in axes for part in parts]
        if builder.shape(at) == shape and places == sorted(places):
            return at
        if len(readers[at]) != 1:
            return None
        node = builder.nodes[readers[at][0]]
        if isinstance(node.op, (Reshape, Permute)):
            views.append((node.op, node.shape))
        elif not _called(builder, node.index, "astype"):
            return None
        at = node.index


def _affine(builder: Builder, readers: list[list[int]], at: int, pair: Pair) -> tuple[int, int | None, int | None]:
    """Take the weight and the bias of each channel along, where they follow."""
    after, weight = _by_channel(builder, readers, at, "multiply", pair)
    end, bias = _by_channel(builder, readers, after, "add", pair)
    return end, weight, bias


def _by_channel(builder: Builder, readers: list[list[int]], at: int, name: str, pair: Pair) -> tuple[int, int | None]:
    channel = pair.moments.channel_axis
    start = at
    while len(readers[at]) == 1 and _called(builder, readers[at][0], "astype"):
        at = readers[at][0]
    if len(readers[at]) != 1 or channel != len(builder.shape(at)) - 1:
        return start, None
    found = _called(builder, readers[at][0], name)
    if found is None:
        return start, None
    a, b = found[1]
    other = builder.unexpanded(b if a == at else a)
    if a == b or builder.shape(other) != builder.shape(at)[channel:]:
        return start, None
    return readers[at][0], other
