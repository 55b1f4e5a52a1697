"""Scaled dot-product attention, which MLX takes apart where it is not one kernel: products, a mask, a softmax."""

from collections.abc import Mapping
from dataclasses import dataclass

from tilekit._exact.frontends._mlx.builder import Builder
from tilekit._exact.frontends._mlx.calls import Attend, Mx, Ramp
from tilekit._exact.frontends._mlx.rewrite import Rewrite
from tilekit._exact.graph import Node
from tilekit._exact.ops import Along, Attention, Fill, MatMul, Permute, Pointwise, Reshape

__all__ = ["attention"]


@dataclass(frozen=True, slots=True)
class Found:
    """What attends to what."""

    query: int
    key: int
    value: int
    scale: float
    mask: int | None = None
    causal: bool = False


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
    if product is None or len(node.shape) not in {4, 5}:
        return None
    weights = _inputs(builder, product[0], "softmax")
    op = builder.op(product[0])
    if weights is None or not isinstance(op, Along) or op.call != Mx("softmax", (), (("axis", -1), ("precise", True))):
        return None
    masked = _masked(builder, weights[0])
    if masked is None:
        return None
    scores, mask, causal = masked
    scored = _inputs(builder, scores, "matmul")
    scaled = _scaled(builder, scored[0]) if scored else None
    key = _transposed(builder, scored[1]) if scored else None
    if scaled is None or key is None:
        return None
    found = Found(scaled[0], key, product[1], scaled[1], mask, causal)
    return found if _fits(builder, node, found) else None


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


def _transposed(builder: Builder, index: int) -> int | None:
    node = builder.nodes[builder.unexpanded(index)]
    n = len(node.shape)
    if isinstance(node.op, Permute) and node.op.axes == (*range(n - 2), n - 1, n - 2):
        return node.inputs[0]
    return None


def _fits(builder: Builder, node: Node, found: Found) -> bool:
    """Whether query, key and value have the batch and the heads of one attention, and the mask fits them all."""
    query, key, value = (builder.shape(index) for index in (found.query, found.key, builder.unexpanded(found.value)))
    if len(node.shape) == 5 and not (len(key) == len(value) == 5 and key[2] == value[2] == 1):
        return False
    heads = key[1] if len(key) == len(node.shape) == len(value) else 0
    mask = () if found.mask is None else builder.shape(found.mask)
    fits = len(mask) == 0 or (len(mask) >= 2 and mask[-1] == key[-2] and (len(node.shape) == 4 or len(mask) == 2))
    same = len(query) == 4 and query[0] == key[0] == value[0] and heads == value[1]
    return fits and same and heads > 0 and query[1] % heads == 0


def _rewrite(node: Node, found: Found) -> Rewrite:
    def rewrite(b: Builder, place: Mapping[int, int]) -> int:
        query = place[found.query]
        key, value = (_four_axes(b, b.unexpanded(place[index])) for index in (found.key, found.value))
        masks = () if found.mask is None else (place[found.mask],)
        shape = (*b.shape(query)[:3], b.shape(value)[3])
        call = Attend(found.scale, found.causal, shape[2])
        made = b.add(Attention(found.causal, call), (query, key, value, *masks), shape, node.dtype)
        return b.reshape(made, node.shape)

    return rewrite


def _four_axes(b: Builder, index: int) -> int:
    """Leave out the axis over which heads share keys."""
    shape = b.shape(index)
    return index if len(shape) == 4 else b.reshape(index, (*shape[:2], *shape[3:]))
