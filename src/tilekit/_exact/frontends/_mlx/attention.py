"""
Scaled dot-product attention, which MLX takes apart where it is not one kernel: products, a mask, a softmax.

Attention that a network writes out itself (product, scale, softmax, product) is one operation as well, made of the same
calls for some rows at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tilekit._exact.frontends._mlx.builder import Builder
from tilekit._exact.frontends._mlx.calls import Attend, AttendByHand, Mx, Ramp
from tilekit._exact.frontends.rewrite import Rewrite
from tilekit._exact.graph import Node
from tilekit._exact.ops import Along, Attention, Fill, MatMul, Pointwise, Reshape

__all__ = ["attention"]

SOFTMAX = Mx("softmax", (), (("axis", -1), ("precise", True)))


@dataclass(frozen=True, slots=True)
class Found:
    """What attends to what."""

    query: int
    transposed_key: int
    value: int
    call: Attend | AttendByHand
    mask: int | None = None


def attention(builder: Builder) -> dict[int, Rewrite]:
    """Find it."""
    rewrites: dict[int, Rewrite] = {}
    for node in builder.nodes:
        found = _found(builder, node)
        if found is not None:
            rewrites[node.index] = _rewrite(node, found)
    return rewrites


def _inputs(builder: Builder, index: int, name: str) -> tuple[int, ...] | None:
    op = builder.op(index)
    if isinstance(op, (Pointwise, MatMul, Along)) and isinstance(op.call, Mx) and op.call.name == name:
        return builder.nodes[index].inputs
    return None


def _found(builder: Builder, node: Node) -> Found | None:
    product = _inputs(builder, node.index, "matmul")
    op = builder.op(product[0]) if product else None
    weights = _inputs(builder, product[0], "softmax") if product else None
    if product is None or weights is None or not isinstance(op, Along) or op.axes != (len(node.shape) - 1,):
        return None
    found = _one_call(builder, node, weights[0], product[1]) if op.call == SOFTMAX else None
    if found is None:
        found = _written_out(builder, op, weights[0], product[1])
    return found if found is not None and _fits(builder, node, found) else None


def _one_call(builder: Builder, node: Node, scores: int, value: int) -> Found | None:
    """Find what ``mx.fast.scaled_dot_product_attention`` becomes."""
    masked = _masked(builder, scores)
    scored = _inputs(builder, masked[0], "matmul") if masked else None
    scaled = _scaled(builder, scored[0]) if scored else None
    if masked is None or scored is None or scaled is None:
        return None
    query, scale = scaled
    call = Attend(scale, masked[2], node.shape[-2])
    return Found(query, scored[1], value, call, masked[1])


def _written_out(builder: Builder, softmax: Along, scores: int, value: int) -> Found | None:
    """Find a product, a number that scales it, a softmax and a product."""
    scale: tuple[str, float] | None = None
    for name in ("multiply", "divide"):
        scaled = _inputs(builder, scores, name)
        if scaled is not None:
            inner, number = scaled if builder.static(scaled[1]) or name == "divide" else scaled[::-1]
            if builder.shape(number) or not builder.static(number):
                return None
            factor: Any = builder.numbers(number).item()
            scores, scale = inner, (name, float(factor))
            break
    scored = _inputs(builder, scores, "matmul")
    if scored is None or not isinstance(softmax.call, Mx):
        return None
    return Found(scored[0], scored[1], value, AttendByHand(scale, softmax.call))


def _masked(builder: Builder, index: int) -> tuple[int, int | None, bool] | None:
    """Give the scores before their mask, the mask, and whether it lets every row see the cells up to its own."""
    chosen = _inputs(builder, index, "where")
    if chosen is not None:
        mask, scores, other = chosen
        number = builder.number(other)
        if number is None or number > -6e4:  # the least number of float16 is -65504
            return None
        rows, cells = builder.shape(index)[-2:]
        return (scores, None, True) if _lower_triangle(builder, mask, rows, cells) else (scores, mask, False)
    added = _inputs(builder, index, "add")
    if added is not None:
        for scores, mask in (added, added[::-1]):
            if _inputs(builder, scores, "matmul") is not None:
                return scores, mask, False
        return None
    return index, None, False


def _lower_triangle(builder: Builder, mask: int, rows: int, cells: int) -> bool:
    """Whether a mask is true up to the diagonal that ends in the last corner."""
    compared = _inputs(builder, builder.unexpanded(mask), "greater_equal")
    if compared is None:
        return False
    (a, down), (b, across) = (_ramp(builder, index) for index in compared)
    return (
        a == Ramp(float(cells - rows), float(cells), 1.0, "int32")
        and b == Ramp(0.0, float(cells), 1.0, "int32")
        and down == (rows, 1)
        and across in {(1, cells), (cells,)}
    )


def _ramp(builder: Builder, index: int) -> tuple[object, tuple[int, ...]]:
    """Give the range that a node is a shape of, and that shape."""
    shape = builder.shape(builder.unexpanded(index))
    index = builder.unexpanded(index)
    while isinstance(builder.op(index), Reshape):
        index = builder.nodes[index].inputs[0]
    op = builder.op(index)
    return (op.call if isinstance(op, Fill) else None), shape


def _scaled(builder: Builder, index: int) -> tuple[int, float] | None:
    """Give the query and its scale; heads may have been split after they were scaled."""
    node = builder.nodes[index]
    inner = node.inputs[0] if isinstance(node.op, Reshape) else index
    product = _inputs(builder, inner, "multiply")
    for query, scale in () if product is None else (product, product[::-1]):
        number = builder.number(scale)
        if number is not None and builder.shape(query) == builder.shape(inner):
            return query, number
    return None


def _fits(builder: Builder, node: Node, found: Found) -> bool:
    """Whether query, key and value have the batch and the heads of one attention, and the mask fits them all."""
    shapes = [builder.shape(index) for index in (found.query, builder.unexpanded(found.transposed_key))]
    query, key = shapes
    value = builder.shape(builder.unexpanded(found.value))
    dims = len(node.shape)
    if dims not in {3, 4, 5} or len(key) != dims or len(value) != dims or key[:-2] != value[:-2]:
        return False
    if isinstance(found.call, AttendByHand):
        return dims < 5 and query[:-2] == key[:-2]
    if dims == 5 and key[2] != 1:
        return False
    mask = () if found.mask is None else builder.shape(found.mask)
    fits = len(mask) == 0 or (len(mask) >= 2 and mask[-1] == key[-1] and (dims == 4 or len(mask) == 2))
    return fits and len(query) == 4 and query[0] == key[0] and query[1] % key[1] == 0


def _rewrite(node: Node, found: Found) -> Rewrite:
    def rewrite(b: Builder, place: Mapping[int, int]) -> int:
        key = b.unexpanded(place[found.transposed_key])
        axes = len(b.shape(key))
        key = b.permute(key, (*range(axes - 2), axes - 1, axes - 2))
        query, key, value = (
            _four_axes(b, index) for index in (place[found.query], key, b.unexpanded(place[found.value]))
        )
        masks = () if found.mask is None else (place[found.mask],)
        shape = (*b.shape(query)[:3], b.shape(value)[3])
        causal = isinstance(found.call, Attend) and found.call.causal
        made = b.add(Attention(causal, found.call), (query, key, value, *masks), shape, node.dtype)
        return b.reshape(made, node.shape)

    return rewrite


def _four_axes(b: Builder, index: int) -> int:
    """Leave out the axis over which heads share keys, or add that of the heads."""
    shape = b.shape(index)
    if len(shape) == 3:
        return b.reshape(index, (shape[0], 1, *shape[1:]))
    return index if len(shape) == 4 else b.reshape(index, (*shape[:2], *shape[3:]))
