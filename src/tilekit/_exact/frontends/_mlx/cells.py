"""Primitives that take cells by number and write them: indices, slices that are written, views by strides."""

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from tilekit._exact.boxes import Shape
from tilekit._exact.frontends._mlx.builder import Builder, Pooling
from tilekit._exact.frontends._mlx.calls import GatherCells, Inside, MaskCells, Mx, ScatterCells, Strided
from tilekit._exact.frontends._mlx.record import Primitive, Unsupported
from tilekit._exact.frontends.borders import written
from tilekit._exact.ops import Expand, Fill, Gather, Reshape, Scatter, Slice, Whole, Windows

__all__ = [
    "dynamic_slice",
    "dynamic_slice_update",
    "gather",
    "gather_axis",
    "masked",
    "scatter",
    "scatter_axis",
    "slice_update",
    "strided",
]


def gather(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    """Lower an indexing by arrays: cells of each axis in turn where the indices are known and form a grid."""
    axes, sizes = tuple(p.arguments[0]), tuple(p.arguments[1])
    source, *indices = inputs
    shape, out = b.shape(source), p.outputs[0]
    if any(sizes[axis] != (1 if axis in axes else n) for axis, n in enumerate(shape)):
        raise Unsupported(p.name, f"with the arguments {p.arguments}")
    if all(b.static(index) for index in indices):
        made = _grid(b, source, axes, [b.numbers(index) for index in indices], out.shape)
        if made is not None:
            return made
    several = [(axis, index) for axis, index in zip(axes, indices, strict=True) if shape[axis] > 1]
    if len(several) == 1:
        axis, index = several[0]
        rest = (*shape[:axis], *shape[axis + 1 :])
        op = Gather(axis, GatherCells((axis,), keepdims=False))
        return b.reshape(b.add(op, (source, index), (*b.shape(index), *rest), out.dtype), out.shape)
    return b.add(Whole("Gather", GatherCells(axes, keepdims=True)), inputs, out.shape, out.dtype)


def _grid(b: Builder, source: int, axes: Sequence[int], indices: Sequence[mx.array], shape: Shape) -> int | None:
    """Give cells by one axis of indices for one axis of the source each; None where the indices are no such grid."""
    lead = tuple(indices[0].shape)
    varied: dict[int, int] = {}  # axis of the indices -> axis of the source
    made = source
    for axis, index in zip(axes, indices, strict=True):
        along = [d for d in range(len(lead)) if lead[d] > 1 and bool(mx.any(index != mx.take(index, mx.array([0]), d)))]
        if len(along) > 1 or (along and along[0] in varied):
            return None
        if along:
            varied[along[0]] = axis
        rows = index[tuple(slice(None) if d in along else slice(0, 1) for d in range(len(lead)))].reshape(-1)
        made = b.take(made, axis, _integers(rows))
    order = [*varied.values(), *(axis for axis in range(len(b.shape(source))) if axis not in varied.values())]
    order = [*(varied[d] for d in sorted(varied)), *order[len(varied) :]]
    kept = [n if d in varied else 1 for d, n in enumerate(lead)]
    rest = [1 if axis in axes else n for axis, n in enumerate(b.shape(source))]
    return b.expand(b.reshape(b.permute(made, order), (*kept, *rest)), shape)


def _integers(numbers: mx.array) -> list[int]:
    flat: Any = numbers.reshape(-1).tolist()
    return [int(number) for number in flat]


def gather_axis(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    """Lower cells of one axis by an index for each cell of the output."""
    axis, out = int(p.arguments[0]), p.outputs[0]
    index = inputs[1]
    others = [n for d, n in enumerate(out.shape) if d != axis]
    if b.static(index) and others == [n for d, n in enumerate(b.shape(inputs[0])) if d != axis]:
        numbers = b.numbers(index)
        rows = mx.moveaxis(numbers, axis, 0).reshape((out.shape[axis], -1))
        if not bool(mx.any(rows != rows[:, :1])):
            return b.take(inputs[0], axis, _integers(rows[:, 0]))
    call = Mx("take_along_axis", (), (("axis", axis),))
    return b.add(Whole("GatherAxis", call), inputs, out.shape, out.dtype)


_AXIS_WAYS = ("add", None)  # the same along one axis
_WAYS = ("maximum", "minimum", "add", "multiply", None)  # by the number that MLX gives to the reduction


def scatter(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    """Lower a writing by arrays of indices."""
    axes = tuple(p.arguments[1])
    base, *indices, updates = inputs
    lead = b.shape(indices[0]) if indices else ()
    rest = [1 if axis in axes else n for axis, n in enumerate(b.shape(base))]
    if not indices or b.shape(updates) != (*lead, *rest):
        raise Unsupported(p.name, f"with the arguments {p.arguments}")
    out = p.outputs[0]
    return b.add(Whole("Scatter", ScatterCells(axes, _WAYS[int(p.arguments[0])])), inputs, out.shape, out.dtype)


def scatter_axis(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    """Lower a writing along one axis by an index for each cell that is written."""
    how, axis = p.arguments
    if _AXIS_WAYS[int(how)] is not None:
        raise Unsupported(p.name, "that adds")
    call = Mx("put_along_axis", (), (("axis", int(axis)),))
    return b.add(Whole("ScatterAxis", call), inputs, p.outputs[0].shape, p.outputs[0].dtype)


def masked(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    """Lower a writing where a mask is true: of one number cell by cell, of several as a whole."""
    out, (base, mask, given) = p.outputs[0], inputs
    one = _one_cell(b, given)
    if one is not None:
        return b.pointwise(Mx("where"), (mask, b.reshape(one, ()), base), out.shape, out.dtype)
    return b.add(Whole("MaskedScatter", MaskCells()), inputs, out.shape, out.dtype)


def _one_cell(b: Builder, index: int) -> int | None:
    """Give the one cell that an array repeats."""
    while math.prod(b.shape(index)) != 1:
        if not isinstance(b.op(index), Expand | Reshape):
            return None
        index = b.nodes[index].inputs[0]
    return index


def slice_update(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    """Lower a slice that is written, or combined with what is there: any box of it reads a box of both."""
    how, starts, _, steps = p.arguments
    base, part = inputs
    starts, steps = list(starts), list(steps)
    for axis, n in enumerate(b.shape(part)):
        if steps[axis] < 0:  # the same cells from the other end
            starts[axis] += (n - 1) * steps[axis]
            steps[axis] = -steps[axis]
            part = b.take(part, axis, range(n - 1, -1, -1))
    return _updated(b, (base, part), _WAYS[int(how)], starts, steps)


def _updated(b: Builder, inputs: tuple[int, int], name: str | None, starts: Sequence[int], steps: Sequence[int]) -> int:
    base, part = inputs
    out = b.nodes[base]
    if name is None and all(step == 1 for step in steps):
        bordered = written(b, base, part, starts)
        if bordered is not None:
            return bordered
        return b.add(Scatter(tuple(starts)), inputs, out.shape, out.dtype)
    given, counts = part, b.shape(part)
    for axis, n in enumerate(out.shape):
        cells = [min(max(0, (i - starts[axis]) // steps[axis]), counts[axis] - 1) for i in range(n)]
        given = b.take(given, axis, cells)
    value = given if name is None else b.pointwise(Mx(name), (base, given), out.shape, out.dtype)
    inside = b.add(Fill(Inside(tuple(starts), tuple(steps), counts)), (), out.shape, "bool")
    return b.pointwise(Mx("where"), (inside, value, base), out.shape, out.dtype)


def dynamic_slice(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    """Lower a slice that begins where an array says, if its numbers are known; else all is read."""
    axes, out = tuple(int(axis) for axis in p.arguments[0]), p.outputs[0]
    if not b.static(inputs[1]):
        call = Mx("slice", (axes, out.shape))
        return b.add(Whole("DynamicSlice", call), inputs, out.shape, out.dtype)
    starts = _starts(b, p, b.shape(inputs[0]), inputs[1], out.shape)
    return b.add(Slice(starts, (1,) * len(starts)), inputs[:1], out.shape, out.dtype)


def dynamic_slice_update(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    """Lower a slice that is written where an array says, if its numbers are known; else all is made."""
    axes, out, (base, part, start) = tuple(int(axis) for axis in p.arguments[0]), p.outputs[0], inputs
    if not b.static(start):
        call = Mx("slice_update", (axes,))
        return b.add(Whole("DynamicSliceUpdate", call), inputs, out.shape, out.dtype)
    starts = _starts(b, p, out.shape, start, b.shape(part))
    return _updated(b, (base, part), None, starts, (1,) * len(starts))


def _starts(b: Builder, p: Primitive, whole: Shape, index: int, part: Shape) -> tuple[int, ...]:
    """Give the first cells of a part, which must lie inside: MLX does not look."""
    starts = [0] * len(whole)
    for axis, start in zip(p.arguments[0], _integers(b.numbers(index)), strict=True):
        starts[axis] = start
    if any(start < 0 or start + n > m for start, n, m in zip(starts, part, whole, strict=True)):
        raise Unsupported(p.name, f"from {tuple(starts)} on, outside of the shape {whole}")
    return tuple(starts)


def strided(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    """Lower a view by strides: windows along axes of the array whose cells they step over, else as a whole."""
    shape, strides, offset = tuple(p.arguments[0]), tuple(p.arguments[1]), int(p.arguments[2])
    out, source = p.outputs[0], inputs[0]
    node = b.nodes[source]
    if isinstance(node.op, Reshape):  # MLX flattens before; strides are those of the array before that
        source = node.inputs[0]
    placed = _placed(b.shape(source), shape, strides) if offset == 0 else None
    if placed is None:
        return b.add(Whole("AsStrided", Strided(shape, strides, offset)), inputs, out.shape, out.dtype)
    made = _windows(b, source, shape, placed)
    view = _from_windows(b, source, shape, placed)
    if made is not None:
        b.windows[view] = made
    return view


Placed = list[list[tuple[int, int]]]  # for each axis of the source: (axis of the view, step in cells)


def _placed(source: Shape, shape: Shape, strides: Sequence[int]) -> Placed | None:
    """Say which axes of the view step along which axis of the source; None where they leave it."""
    steps = [math.prod(source[axis + 1 :]) for axis in range(len(source))]
    placed: Placed = [[] for _ in source]
    for d, (n, stride) in enumerate(zip(shape, strides, strict=True)):
        if n == 1:
            continue
        axis = next((a for a in range(len(source)) if source[a] > 1 and stride and stride % steps[a] == 0), None)
        if axis is None:
            return None
        placed[axis].append((d, stride // steps[axis]))
    reach = [sum((shape[d] - 1) * step for d, step in row) for row in placed]
    return placed if all(most < n for most, n in zip(reach, source, strict=True)) else None


def _from_windows(b: Builder, source: int, shape: Shape, placed: Placed) -> int:
    """Take windows, or the cells of each axis by number, split them, and put the axes in order."""
    made, axis = source, 0
    order = [d for row in placed for d, _ in row]
    sizes = [shape[d] for d in order]
    for row in placed:
        if len(row) == 2 and row[1][1] == 1 and row[0][1] != shape[row[1][0]]:
            (run, hop), (inner, _) = row
            before, after = b.shape(made)[:axis], b.shape(made)[axis + 1 :]
            window = Windows(axis, shape[inner], hop)
            made = b.add(window, (made,), (*before, shape[run], shape[inner], *after), b.nodes[made].dtype)
            axis += 2
            continue
        cells = [0]
        for d, step in row:
            cells = [cell + i * step for cell in cells for i in range(shape[d])]
        made, axis = b.take(made, axis, cells), axis + 1
    split = b.reshape(made, sizes)
    where = sorted(range(len(order)), key=lambda i: order[i])
    return b.reshape(b.permute(split, where), shape)


def _windows(b: Builder, source: int, shape: Shape, placed: Placed) -> Pooling | None:
    """Describe a view with one axis that runs and at most one inner axis for each axis of the source."""
    axes: list[int] = []
    rows: list[tuple[int, int, int]] = []
    inner: list[int] = []
    pooled = []
    for axis, row in enumerate(placed):
        if len(row) > 2:
            return None
        if len(row) == 2:
            (run, stride), (window, dilation) = row
            axes.append(axis)
            rows.append((shape[window], stride, dilation))
            inner.append(window)
            pooled.append(shape[run])
        else:
            if any(step != 1 or shape[d] != b.shape(source)[axis] for d, step in row):
                return None
            pooled.append(b.shape(source)[axis])
    if not axes or [n for d, n in enumerate(shape) if d not in inner and n > 1] != [n for n in pooled if n > 1]:
        return None
    kernel, strides, dilations = (tuple(column) for column in zip(*rows, strict=True))
    return Pooling(source, tuple(axes), kernel, strides, dilations, tuple(sorted(inner)), tuple(pooled))
