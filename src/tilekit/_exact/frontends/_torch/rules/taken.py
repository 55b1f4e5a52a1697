"""Cells that numbers point at: known ones, or such as an array holds that is made on the way."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tilekit._exact.frontends._torch.called import Called, Rule
from tilekit._exact.frontends._torch.calls import Aten, Filled, Slot
from tilekit._exact.ops import Along, Fill, Gather, Pick, Take

__all__ = ["RULES"]

_MASKS = {torch.bool, torch.uint8}
_MOST = 64
"""Rows that are written one by one."""


def _index_select(c: Called) -> int:
    taken = _taken(c, c.node(c["self"]), c["dim"] % max(1, len(c.shape)), c["index"], from_end=False)
    return c.whole() if taken is None else taken


def _embedding(c: Called) -> int:
    call, inputs = c.call()
    return c.add(Gather(0, call), inputs) if len(inputs) == 2 else c.whole()


def _taken(c: Called, x: int, axis: int, index: Tensor, *, from_end: bool = True) -> int | None:
    shape = c.shape_of(x)
    cells = _cells(c, index, shape[axis], from_end=from_end)
    if cells is None:
        return None
    if cells == tuple(range(shape[axis])):
        return x
    return c.add(Take(axis, cells), (x,), (*shape[:axis], len(cells), *shape[axis + 1 :]), c.dtype_of(x))


def _cells(c: Called, index: Tensor, n: int, *, from_end: bool) -> tuple[int, ...] | None:
    """Give the cells of an axis that are meant; None where they are not known, or torch's own call refuses one."""
    numbers = c.numbers(index)
    if numbers is None or not numbers.numel():
        return None
    cells = [int(i) for i in numbers.flatten().tolist()]
    if min(cells) < (-n if from_end else 0) or max(cells) >= n:
        return None
    return tuple(i % n for i in cells)


def _index(c: Called) -> int:
    """Cells by known numbers along one axis, or along axes that go independently of one another."""
    given = list(c["indices"])
    used = [d for d, index in enumerate(given) if index is not None]
    if used == [0] and given[0].dtype not in _MASKS and c.numbers(given[0]) is None:
        return _embedding(c)
    if any(given[d].dtype in _MASKS for d in used) or not _grid(given, used):
        return c.whole()
    x = c.node(c["self"])
    for d in used:
        taken = _taken(c, x, d, given[d])
        if taken is None:
            return c.whole()
        x = taken
    return c.reshape(x, c.shape)


def _grid(given: Sequence[Tensor | None], used: Sequence[int]) -> bool:
    """Whether the axes of the result follow one another as the axes that are indexed do."""
    if len(used) == 1:
        return True
    if not used or list(used) != list(range(used[0], used[0] + len(used))):
        return False
    shapes = [tuple(index.shape) for index in given if index is not None]
    rank = max(len(shape) for shape in shapes)
    for place, shape in enumerate(shapes):
        shape = (1,) * (rank - len(shape)) + shape
        if rank != len(used) or any(n != 1 for axis, n in enumerate(shape) if axis != place):
            return False
    return True


def _gather(c: Called) -> int:
    """Cells of one axis, anywhere along it, and of the same place along all others."""
    call, inputs = c.call()
    if len(inputs) != 2 or call.args[:3:2] != (Slot(0), Slot(1)):
        return c.whole()
    x, index = inputs
    axis = c["dim"] % max(1, len(c.shape))
    for d, n in enumerate(c.shape):
        x = x if d == axis else c.slice(x, d, 0, n)
    return c.add(Pick((axis,), (tuple(range(len(c.shape))),), call), (x, index))


def _samples(c: Called) -> int:
    """Cells of pictures between which an array of places points."""
    call, inputs = c.call()
    if call.args[:2] != (Slot(0), Slot(1)):
        return c.whole()
    axes = tuple(range(2, len(c.shape)))
    return c.add(Pick(axes, ((0, *axes, None),), call), inputs)


def _scatter(c: Called) -> int:
    """Numbers put to cells of one axis that an array points at, at the same place along all others."""
    call, inputs = c.call()
    axis = c["dim"] % max(1, len(c.shape))
    shapes = [c.shape_of(i) for i in inputs]
    apart = [tuple(n for d, n in enumerate(shape) if d != axis) for shape in shapes]
    if not c.shape or call.args[0] != Slot(0) or any(shape != apart[0] for shape in apart):
        return c.whole()
    return c.add(Along((axis,), call, beside=True), inputs)


def _put(c: Called) -> int:
    """One number wherever a mask says so; or rows of one axis that are known."""
    given, values = list(c["indices"]), c["values"]
    used = [d for d, index in enumerate(given) if index is not None]
    if len(used) != 1 or c["accumulate"]:
        return c.whole()
    axis, index = used[0], given[used[0]]
    if index.dtype == torch.bool:
        if values.numel() != 1:
            return c.whole()
        mask = c.reshape(c.node(index), (*index.shape, *(1,) * (len(c.shape) - axis - index.ndim)))
        value = c.reshape(c.cast(c.node(values), c.dtype), ())
        return c.cell("where.self", (mask, value, c.node(c["self"])), dtype=c.dtype)
    if index.ndim != 1 or index.dtype in _MASKS:
        return c.whole()
    return _rows(c, axis, index, values, from_end=True)


def _put_rows(c: Called) -> int:
    """Rows of one axis that are known, written over."""
    names = {a.name for a in c.entry.op._schema.arguments}
    values = c["source" if "source" in names else "value"]
    if c["index"].ndim != 1 or not c.shape:
        return c.whole()
    return _rows(c, c["dim"] % len(c.shape), c["index"], values, from_end=c.name == "index_fill")


def _rows(c: Called, axis: int, index: Tensor, values: Any, *, from_end: bool) -> int:
    cells = _cells(c, index, c.shape[axis], from_end=from_end)
    if cells is None or len(cells) > _MOST:
        return c.whole()
    rows = (*c.shape[:axis], len(cells), *c.shape[axis + 1 :])
    if isinstance(values, Tensor):
        value = c.cast(c.node(values), c.dtype)
        value = c.expand(c.reshape(value, (*(1,) * (len(rows) - values.ndim), *values.shape)), rows)
    else:
        value = c.add(Fill(Filled(values, c.output.dtype, c.output.device)), (), rows)
    made = c.node(c["self"])
    for at, cell in enumerate(cells):
        made = c.write(made, c.slice(value, axis, at, 1), axis, cell)
    return made


def _looked_up(c: Called) -> int:
    """Cell by cell, with another array that each cell is looked up in."""
    call, inputs = c.call()
    known = call.args[:1] == (Slot(0),) and c.shape_of(inputs[0]) == c.shape
    return c.add(Along((), call), inputs) if known else c.whole()


def _searched(c: Called) -> int:
    """Cell by cell, in a row of numbers that comes first."""
    call, inputs = c.call()
    if call.args != (Slot(0), Slot(1)) or len(c.shape_of(inputs[0])) != 1 or any(k == "sorter" for k, _ in call.kwargs):
        return c.whole()
    return c.add(Along((), Aten(call.name, (Slot(1), Slot(0)), call.kwargs)), inputs[::-1])


_SCATTERS = ("scatter", "scatter_add", "scatter_reduce")
RULES: dict[str, Rule] = {
    "index_select": _index_select,
    "index": _index,
    "embedding": _embedding,
    "gather": _gather,
    **dict.fromkeys(("grid_sampler_2d", "grid_sampler_3d"), _samples),
    **dict.fromkeys(_SCATTERS, _scatter),
    "index_put": _put,
    **dict.fromkeys(("index_copy", "index_fill"), _put_rows),
    **dict.fromkeys(("bucketize", "isin"), _looked_up),
    "searchsorted": _searched,
}
