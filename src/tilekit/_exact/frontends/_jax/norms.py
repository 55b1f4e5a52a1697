"""
Sums of norms over many cells: the mean and the mean square of an array, or of its distances, from one reading.

A norm is a sum, and a sum of squares, of the array itself or of its distances from the mean of the first. Both become
moments; what is done with them stays arithmetic, which JAX compiles into one operation.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jax import lax

from tilekit._exact.frontends._jax.builder import Builder
from tilekit._exact.frontends._jax.calls import Bound, bound
from tilekit._exact.frontends.rewrite import Rewrite
from tilekit._exact.graph import Node
from tilekit._exact.ops import Moments, Pointwise, Reduce, Reshape, Slice

__all__ = ["norms"]


NARROW = ("bfloat16", "float16", "float32")
"""What moments, which are float32, are wide enough for."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sums over the same cells."""

    first: Node
    second: Node
    centred: bool
    """Whether the second is that of squares of distances from the mean, not of squares."""


def norms(b: Builder) -> dict[int, Rewrite]:
    """Find them."""
    rewrites: dict[int, Rewrite] = {}
    sums = {(node.inputs[0], node.op.axes): node for node in b.nodes if _is_sum(node) and isinstance(node.op, Reduce)}
    for node in b.nodes:
        pair = _pair(b, sums, node)
        if pair is not None and not _per_position(b, pair.first) and pair.first.index not in rewrites:
            taken: list[int] = []
            rewrites[pair.first.index] = _rewrite(pair, taken, 0)
            rewrites[pair.second.index] = _rewrite(pair, taken, 1)
    return rewrites


def _is_sum(node: Node) -> bool:
    return isinstance(node.op, Reduce) and node.op.how == "sum"


def _called(b: Builder, index: int, *names: str) -> tuple[int, ...] | None:
    """Give the inputs of arithmetic of one of these names."""
    op = b.op(index)
    found = isinstance(op, Pointwise) and isinstance(op.call, Bound) and op.call.name in names
    return b.nodes[index].inputs if found else None


def _pair(b: Builder, sums: Mapping[tuple[int, tuple[int, ...]], Node], second: Node) -> Pair | None:
    if not _is_sum(second) or second.index not in b.live or not isinstance(second.op, Reduce):
        return None
    squared = _squared(b, second.inputs[0])
    if squared is None or b.nodes[squared].dtype not in NARROW:
        return None
    first = sums.get((squared, second.op.axes))
    if first is not None:
        return Pair(first, second, centred=False)
    difference = _called(b, squared, "sub")
    if difference is None:
        return None
    first = sums.get((difference[0], second.op.axes))
    return Pair(first, second, centred=True) if first is not None and _is_mean(b, difference[1], first) else None


def _squared(b: Builder, index: int) -> int | None:
    """Give what is squared."""
    found = _called(b, index, "square", "mul", "integer_pow")
    if found is None:
        return None
    op = b.op(index)
    call = op.call if isinstance(op, Pointwise) else None
    if isinstance(call, Bound) and call.name == "integer_pow":
        return found[0] if call.parameters["y"] == 2 else None
    return found[0] if len(set(found)) == 1 and not b.op(index).call.literals else None  # type: ignore[attr-defined]


def _per_position(b: Builder, node: Node) -> bool:
    """Whether the channels of each position are summed: short sums, along which nothing is cut."""
    source = node.inputs[0]
    axes, shape = node.op.axes, b.shape(source)  # type: ignore[attr-defined]
    if axes != (len(shape) - 1,):
        return axes == (1,) and len(shape) > 3
    while isinstance(b.op(source), Pointwise) and len(b.nodes[source].inputs) == 1:
        source = b.nodes[source].inputs[0]
    merged = isinstance(b.op(source), Reshape) and shape[-1] > b.shape(b.nodes[source].inputs[0])[-1]
    return not merged  # the last axis may be all cells of a group


def _is_mean(b: Builder, index: int, first: Node) -> bool:
    """Whether a node is a sum divided by the number of its cells, whatever its shape."""
    number = 1.0
    while index != first.index:
        op, found = b.op(b.unexpanded(index)), _called(b, b.unexpanded(index), "div", "mul")
        if isinstance(op, Reshape) or b.unexpanded(index) != index:
            index = b.nodes[b.unexpanded(index)].inputs[0] if isinstance(op, Reshape) else b.unexpanded(index)
            continue
        factor = b.number(found[1]) if found is not None and len(found) == 2 else None
        if found is None or not factor:
            return False
        number *= factor if _called(b, index, "mul") else 1 / factor
        index = found[0]
    return math.isclose(number * _cells(b, first), 1, rel_tol=1e-3)


def _cells(b: Builder, node: Node) -> int:
    return math.prod(b.shape(node.inputs[0])) // max(1, math.prod(node.shape))


def _rewrite(pair: Pair, taken: list[int], which: int) -> Rewrite:
    """Make one of the two sums from the moments."""

    def rewrite(b: Builder, place: Mapping[int, int]) -> int:
        source = place[pair.first.inputs[0]]
        if not taken:
            taken.append(_moments(b, source, pair))
        node = pair.second if which else pair.first
        mean, variance = (_one(b, taken[0], i, node) for i in (0, 1))
        value = mean
        if which and pair.centred:
            value = variance
        elif which:
            square = _arithmetic(b, lax.mul_p, mean, mean, node)
            value = _arithmetic(b, lax.add_p, variance, square, node)
        total = b.times(value, math.prod(b.shape(source)) // max(1, math.prod(node.shape)))
        if node.dtype == "float32":
            return total
        parameters = {"new_dtype": node.dtype, "weak_type": False, "sharding": None}
        convert = bound(lax.convert_element_type_p, parameters, spread=True)
        return b.pointwise(convert, [total], node.shape, node.dtype)

    return rewrite


def _moments(b: Builder, source: int, pair: Pair) -> int:
    shape = b.shape(source)
    axes = pair.first.op.axes  # type: ignore[attr-defined]
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    channel = kept[-1] if kept else axes[0]
    groups = shape[channel] if kept else 1
    batch = tuple(kept[:-1])
    op = Moments(groups, batch, channel)
    return b.add(op, (source,), (*(shape[axis] for axis in batch), groups, 2), "float32")


def _one(b: Builder, moments: int, which: int, node: Node) -> int:
    shape = b.shape(moments)
    starts = (*(0 for _ in shape[:-1]), which)
    one = b.add(Slice(starts, (1,) * len(shape)), (moments,), (*shape[:-1], 1), "float32")
    return b.reshape(one, node.shape)


def _arithmetic(b: Builder, primitive: object, left: int, right: int, node: Node) -> int:
    return b.pointwise(bound(primitive, {}, spread=True), [left, right], node.shape, "float32")
