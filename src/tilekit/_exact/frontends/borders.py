"""
Borders that are written or put on bit by bit, as one padding.

``mx.pad(mode="edge")``, for one, writes an array into zeros, then cuts slices out of that and writes them beside;
``jnp.pad`` puts slices before and after. Each step is known by the cell of the source that every cell of an axis comes
from; when all are known, the chain is one padding or one taking of cells, and what it was made of is read by nobody.
"""

from collections.abc import Sequence

from tilekit._exact.frontends.building import Building, Cells, Origin
from tilekit._exact.ops import Expand, Pad, PadMode, Reshape, Scatter, Slice

__all__ = ["concatenated", "origin", "written"]

MODES: tuple[PadMode, ...] = ("replicate", "reflect", "circular")


def origin(b: Building, index: int) -> Origin:
    """Give where a node's cells come from: itself, where it is no slice and nothing was noted."""
    if index in b.origins:
        return b.origins[index]
    node = b.nodes[index]
    if isinstance(node.op, Slice):
        before = origin(b, node.inputs[0])
        rows = zip(before.axes, node.op.starts, node.op.steps, node.shape, strict=True)
        return Origin(before.source, tuple(_every(cells, start, step, n) for cells, start, step, n in rows))
    if isinstance(node.op, Expand) and len(b.shape(node.inputs[0])) == len(node.shape):
        before = origin(b, node.inputs[0])
        rows_ = zip(before.axes, node.shape, strict=True)
        return Origin(before.source, tuple(cells * (n // len(cells)) for cells, n in rows_))
    repeated = _repeated(b, index)
    if repeated is not None:
        before = origin(b, repeated)
        counts = zip(before.axes, b.shape(repeated), node.shape, strict=True)
        return Origin(before.source, tuple(cells * (n // m) for cells, m, n in counts))
    return Origin(index, tuple(tuple(range(n)) for n in node.shape))


def _repeated(b: Building, index: int) -> int | None:
    """Give what a node repeats along axes of one cell, as ``mx.repeat`` does: reshape, broadcast, reshape."""
    wide = _below(b, index, Reshape)
    inner = None if wide is None else _below(b, wide, Expand)
    narrow = None if inner is None else _below(b, inner, Reshape)
    if wide is None or inner is None or narrow is None or len(b.shape(narrow)) != len(b.shape(index)):
        return None
    made = _growth(b.shape(narrow), b.shape(index))
    return narrow if made is not None and made == _growth(b.shape(inner), b.shape(wide)) else None


def _below(b: Building, index: int, kind: type) -> int | None:
    return b.nodes[index].inputs[0] if isinstance(b.op(index), kind) else None


def _growth(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[int, bool]] | None:
    """Give the axes of several cells, and whether they had one; None where an axis changed otherwise."""
    if len(old) != len(new) or any(m not in {1, n} for m, n in zip(old, new, strict=True)):
        return None
    return [(n, m == 1) for m, n in zip(old, new, strict=True) if n > 1]


def _every(cells: Cells, start: int, step: int, n: int) -> Cells:
    return tuple(cells[start + i * step] for i in range(n))


def written(b: Building, base: int, part: int, starts: Sequence[int]) -> int | None:
    """Give one node for an array with another written into it, where a padding is what that is; None elsewhere."""
    value = b.number(base)
    shape = b.shape(base)
    if value is not None:
        return _padded(b, base, part, starts, value)
    if base not in b.origins:
        return None
    under, over = origin(b, base), origin(b, part)
    partial = [axis for axis, n in enumerate(b.shape(part)) if n != shape[axis]]
    if under.source != over.source or len(partial) != 1:
        return None
    axis = partial[0]
    if any(under.axes[d] != over.axes[d] for d in range(len(shape)) if d != axis):
        return None
    cells = under.axes[axis]
    end = starts[axis] + len(over.axes[axis])
    axes = list(under.axes)
    axes[axis] = (*cells[: starts[axis]], *over.axes[axis], *cells[end:])
    made = Origin(under.source, tuple(axes))
    return _made(b, made) if made.complete else None if made == under else _noted(b, base, part, starts, made)


def _padded(b: Building, base: int, part: int, starts: Sequence[int], value: float) -> int | None:
    """Give an array of one number with another written into it: a padding."""
    node, shape = b.nodes[part], b.shape(base)
    after = tuple(n - start - m for n, start, m in zip(shape, starts, node.shape, strict=True))
    if node.dtype != b.nodes[base].dtype:
        return None
    made = b.add(Pad(tuple(starts), after, value=value), (part,), shape, node.dtype)
    rows = zip(node.shape, starts, after, strict=True)
    b.origins[made] = Origin(part, tuple((*[None] * low, *range(n), *[None] * high) for n, low, high in rows))
    return made


def _noted(b: Building, base: int, part: int, starts: Sequence[int], made: Origin) -> int:
    index = b.add(Scatter(tuple(starts)), (base, part), b.shape(base), b.nodes[base].dtype)
    b.origins[index] = made
    return index


def concatenated(b: Building, inputs: Sequence[int], axis: int) -> int | None:
    """Give one padding for slices of one array put around it; None where they are no such."""
    origins = [origin(b, index) for index in inputs]
    whole = [index for index, o in zip(inputs, origins, strict=True) if o.source == index]
    if len(whole) != 1 or any(o.source != whole[0] or not o.complete for o in origins):
        return None
    others = [[cells for d, cells in enumerate(o.axes) if d != axis] for o in origins]
    if any(other != others[0] for other in others):
        return None
    axes = list(origins[0].axes)
    axes[axis] = tuple(cell for o in origins for cell in o.axes[axis])
    return _as_padding(b, Origin(whole[0], tuple(axes)))


def _made(b: Building, made: Origin) -> int:
    padding = _as_padding(b, made)
    index = made.source if padding is None else padding
    if padding is None:
        for axis, cells in enumerate(made.axes):
            index = b.take(index, axis, [cell for cell in cells if cell is not None])
    b.origins[index] = made
    return index


def _as_padding(b: Building, made: Origin) -> int | None:
    node = b.nodes[made.source]
    before, after = [], []
    for cells, n in zip(made.axes, node.shape, strict=True):
        rows = range(len(cells) - n + 1)
        low = next((i for i in rows if cells[i] == 0 and cells[i + n - 1] == n - 1), None)
        if low is None or cells[low : low + n] != tuple(range(n)):
            return None
        before.append(low)
        after.append(len(cells) - n - low)
    for mode in MODES:
        op = Pad(tuple(before), tuple(after), mode)
        if _gives(op, made, node.shape):
            return b.add(op, (made.source,), [len(cells) for cells in made.axes], node.dtype)
    return None


def _gives(op: Pad, made: Origin, shape: tuple[int, ...]) -> bool:
    """Whether a padding adds what an array has before and after the cells of its source, which it has in order."""
    rows = zip(made.axes, op.before, shape, strict=True)
    ends = ((cells, low, n, (*range(low), *range(low + n, len(cells)))) for cells, low, n in rows)
    return all(cells[i] == op.source(i - low, n) for cells, low, n, places in ends for i in places)
