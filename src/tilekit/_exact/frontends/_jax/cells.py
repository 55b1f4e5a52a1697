"""Primitives that take cells by number and write them, where the numbers are known."""

from collections.abc import Sequence
from typing import Any

from jax import lax

from tilekit._exact.frontends._jax.builder import Builder
from tilekit._exact.frontends._jax.calls import Rows
from tilekit._exact.frontends.borders import written
from tilekit._exact.ops import Gather, Scatter, Slice

__all__ = ["dynamic_slice", "dynamic_update_slice", "gather", "scatter"]


def dynamic_slice(b: Builder, e: Any, inputs: Sequence[int]) -> int | None:
    """Lower a slice that begins where numbers say, if they are known."""
    starts = _starts(b, inputs[1:], b.shape(inputs[0]), e.shape)
    if starts is None:
        return None
    if e.shape == b.shape(inputs[0]):
        return inputs[0]
    return b.add(Slice(starts, (1,) * len(starts)), inputs[:1], e.shape, e.dtype)


def dynamic_update_slice(b: Builder, e: Any, inputs: Sequence[int]) -> int | None:
    """Lower a part that is written where numbers say, if they are known."""
    base, part = inputs[:2]
    starts = _starts(b, inputs[2:], b.shape(base), b.shape(part))
    return None if starts is None else _written(b, e, base, part, starts)


def scatter(b: Builder, e: Any, inputs: Sequence[int]) -> int | None:
    """Lower one part that is written where known numbers say."""
    base, index, part = inputs
    numbers, shape = e.parameters["dimension_numbers"], b.shape(base)
    if len(b.shape(index)) != 1 or numbers.operand_batching_dims or not b.static(index):
        return None
    kept = iter(b.shape(part))
    sizes = [1 if axis in numbers.inserted_window_dims else next(kept) for axis in range(len(shape))]
    starts = [0] * len(shape)
    for axis, start in zip(numbers.scatter_dims_to_operand_dims, b.known_array(index).tolist(), strict=True):
        starts[axis] = int(start)
    if any(start < 0 or start + n > m for start, n, m in zip(starts, sizes, shape, strict=True)):
        return None
    return _written(b, e, base, b.reshape(part, sizes), tuple(starts))


def _written(b: Builder, e: Any, base: int, part: int, starts: tuple[int, ...]) -> int:
    if b.shape(part) == b.shape(base):
        return part
    bordered = written(b, base, part, starts)
    return b.add(Scatter(starts), (base, part), e.shape, e.dtype) if bordered is None else bordered


def _starts(b: Builder, given: Sequence[int], shape: Sequence[int], part: Sequence[int]) -> tuple[int, ...] | None:
    """Give the numbers, clamped as JAX clamps them."""
    if not all(b.static(index) for index in given):
        return None
    numbers = [int(b.known_array(index)) for index in given]
    return tuple(min(max(0, start), n - m) for start, n, m in zip(numbers, shape, part, strict=True))


def gather(b: Builder, e: Any, inputs: Sequence[int]) -> int | None:
    """Lower cells of one axis by number, or a part that begins where numbers say."""
    source, index = inputs
    numbers, sizes = e.parameters["dimension_numbers"], e.parameters["slice_sizes"]
    shape = b.shape(source)
    if numbers.operand_batching_dims:
        return None
    if len(b.shape(index)) == 1:
        return _part(b, e, inputs)
    axes = numbers.start_index_map
    others = [n for axis, n in enumerate(shape) if axis not in axes]
    if len(axes) != 1 or numbers.collapsed_slice_dims != axes or [*sizes[: axes[0]], *sizes[axes[0] + 1 :]] != others:
        return None
    axis, lead = int(axes[0]), b.shape(index)[:-1]
    made = _taken(b, source, axis, index) if b.static(index) else None
    if made is not None:  # the axes of the indices in the place of the axis
        made = b.reshape(made, (*shape[:axis], *lead, *shape[axis + 1 :]))
        order = [*range(axis, axis + len(lead)), *range(axis), *range(axis + len(lead), len(b.shape(made)))]
        made = b.permute(made, order)
    else:
        mode = "fill" if e.parameters["mode"] == lax.GatherScatterMode.FILL_OR_DROP else "clip"
        if mode == "fill" and e.parameters["fill_value"] is not None:
            return None
        op = Gather(axis, Rows(axis, mode))
        made = b.add(op, (source, b.reshape(index, lead)), (*lead, *shape[:axis], *shape[axis + 1 :]), e.dtype)
    return _offset(b, made, len(lead), numbers.offset_dims)


def _taken(b: Builder, source: int, axis: int, index: int) -> int | None:
    """Take cells by known numbers; None where some lie outside, which JAX fills."""
    cells = [int(cell) for cell in b.known_array(index).reshape(-1)]
    inside = all(0 <= cell < b.shape(source)[axis] for cell in cells)
    return b.take(source, axis, cells) if inside and cells else None


def _offset(b: Builder, made: int, lead: int, offset: Sequence[int]) -> int:
    """Put the axes of the indices, which come first, where the primitive has them."""
    rank = len(b.shape(made))
    batch = [axis for axis in range(rank) if axis not in offset]
    source = {**dict(zip(batch, range(lead), strict=True)), **dict(zip(offset, range(lead, rank), strict=True))}
    return b.permute(made, [source[axis] for axis in range(rank)])


def _part(b: Builder, e: Any, inputs: Sequence[int]) -> int | None:
    """Lower a single part."""
    source, index = inputs
    if not b.static(index):
        return None
    numbers, sizes, shape = e.parameters["dimension_numbers"], e.parameters["slice_sizes"], b.shape(source)
    starts = [0] * len(shape)
    for axis, start in zip(numbers.start_index_map, b.known_array(index).tolist(), strict=True):
        if not 0 <= start <= shape[axis] - sizes[axis]:
            return None
        starts[axis] = int(start)
    part = b.add(Slice(tuple(starts), (1,) * len(shape)), (source,), sizes, e.dtype)
    return b.reshape(part, e.shape)
