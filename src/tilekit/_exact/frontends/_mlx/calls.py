"""The calls of MLX that a graph's operations make: hashable, equal where they do the same, arrays handed in later."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import mlx.core as mx

from tilekit._exact.boxes import Box, Interval, Shape, extent
from tilekit._exact.kernels._mlx_scratch import SCORES

__all__ = [
    "Attend",
    "AttendByHand",
    "Filled",
    "GatherCells",
    "Inside",
    "MaskCells",
    "Mx",
    "PlainCall",
    "PoolWindow",
    "Ramp",
    "ScatterCells",
    "Strided",
]


@dataclass(frozen=True, slots=True)
class Mx:
    """A function of ``mlx.core`` by its name, with its other arguments; `part` of what it gives, if that is several."""

    name: str
    arguments: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()
    order: tuple[int, ...] | None = None
    part: int | None = None

    def __call__(self, arrays: Sequence[mx.array]) -> mx.array:
        """Call it."""
        given = arrays if self.order is None else [arrays[i] for i in self.order]
        function: Any = mx
        for step in self.name.split("."):
            function = getattr(function, step)
        made = function(*given, *self.arguments, **dict(self.keywords))
        result: mx.array = made if self.part is None else made[self.part]
        return result

    def fresh(self) -> bool:
        """Whether what it gives shares no memory with what it is given."""
        return self.name not in {"view", "divmod"}

    def writing(self) -> "Mx | None":
        """Give itself: MLX computes in the memory of an array that nobody reads any more."""
        return self if self.fresh() else None

    def symmetric(self) -> bool:
        """Whether two arrays may change places."""
        return self.name in {"add", "multiply"} and not (self.arguments or self.order)


@dataclass(frozen=True, slots=True)
class PlainCall:
    """The user's own function, called on the whole input."""

    function: Any

    def __call__(self, arrays: Sequence[mx.array]) -> mx.array:
        """Call it."""
        made: mx.array = self.function(arrays[0])
        return made


@dataclass(frozen=True, slots=True)
class Ramp:
    """The numbers of ``mx.arange``."""

    start: float
    stop: float
    step: float
    dtype: str

    def __call__(self, box: Box) -> mx.array:
        """Make some of them, each as the whole range has it."""
        ((first, last),) = box
        return mx.arange(self.start, self.stop, self.step, dtype=getattr(mx, self.dtype))[first:last]


@dataclass(frozen=True, slots=True)
class Filled:
    """One number everywhere."""

    even: ClassVar[bool] = True
    """Whether all boxes are alike."""
    value: float
    dtype: str

    def __call__(self, box: Box) -> mx.array:
        """Make a box: a single cell, seen in every place."""
        return mx.broadcast_to(mx.array(self.value, dtype=getattr(mx, self.dtype)), extent(box))


@dataclass(frozen=True, slots=True)
class Inside:
    """True where every axis `d` is at one of `counts[d]` places from ``starts[d]`` on, ``steps[d]`` apart."""

    starts: tuple[int, ...]
    steps: tuple[int, ...]
    counts: tuple[int, ...]

    def __call__(self, box: Box) -> mx.array:
        """Make a box."""
        inside = mx.array(True)
        rows = zip(box, self.starts, self.steps, self.counts, strict=True)
        for axis, ((first, last), start, step, count) in enumerate(rows):
            at = mx.arange(first, last)
            held = (at >= start) & (at < start + step * count) & ((at - start) % step == 0)
            inside = inside & held.reshape(tuple(-1 if d == axis else 1 for d in range(len(box))))
        return mx.broadcast_to(inside, extent(box))


@dataclass(frozen=True, slots=True)
class Attend:
    """Scaled dot-product attention of some rows of the query, by MLX's own function."""

    scale: float
    causal: bool
    rows: int
    """Rows of the whole query, which end where the keys end."""

    def __call__(self, arrays: Sequence[mx.array], rows: Interval) -> mx.array:
        """Attend; a causal mask is made for these rows."""
        query, key, value, *masks = arrays
        if mx.default_device().type == mx.gpu:
            return self._some(query, key, value, masks, rows)

        def some(first: int, last: int) -> mx.array:
            cut = [mask if mask.shape[-2] == 1 else mask[..., first:last, :] for mask in masks]
            return self._some(query[:, :, first:last], key, value, cut, (rows[0] + first, rows[0] + last))

        return _row_by_row(query, key, some)

    def _some(
        self, query: mx.array, key: mx.array, value: mx.array, masks: Sequence[mx.array], rows: Interval
    ) -> mx.array:
        mask = masks[0] if masks else None
        if self.causal:
            last = key.shape[2] - self.rows
            mask = mx.arange(rows[0] + last, rows[1] + last)[:, None] >= mx.arange(key.shape[2])
        return mx.fast.scaled_dot_product_attention(query, key, value, scale=self.scale, mask=mask)


@dataclass(frozen=True, slots=True)
class AttendByHand:
    """Attention that a network writes out: the same calls for some rows."""

    scale: tuple[str, float] | None
    """The function that scales the scores, and its number."""
    softmax: Mx

    def __call__(self, arrays: Sequence[mx.array], rows: Interval) -> mx.array:
        """Attend."""
        del rows
        query, key, value = arrays
        columns = mx.swapaxes(key, -1, -2)

        def some(first: int, last: int) -> mx.array:
            scores = query[:, :, first:last] @ columns
            if self.scale is not None:
                scores = getattr(mx, self.scale[0])(scores, self.scale[1])
            return self.softmax([scores]) @ value

        return _row_by_row(query, key, some)


def _row_by_row(query: mx.array, key: mx.array, some: Callable[[int, int], mx.array]) -> mx.array:
    """Attend with few enough rows at a time that their scores take no more than `SCORES`."""
    n = query.shape[2]
    most = max(1, SCORES // (math.prod(query.shape[:2]) * key.shape[2] * query.dtype.size))
    if n <= most:
        return some(0, n)
    parts = []
    for first in range(0, n, most):
        parts.append(some(first, min(n, first + most)))
        mx.eval(parts[-1])
    return mx.concatenate(parts, axis=2)


@dataclass(frozen=True, slots=True)
class GatherCells:
    """
    Cells of some axes by arrays of indices of one shape.

    The output has their shape, then the axes of the source, those in `axes` with one cell (`keepdims`) or without them.
    """

    axes: tuple[int, ...]
    keepdims: bool

    def __call__(self, arrays: Sequence[mx.array]) -> mx.array:
        """Take them, by one index for all axes together."""
        source, *indices = arrays
        rest = [axis for axis in range(source.ndim) if axis not in self.axes]
        cells = mx.transpose(source, (*self.axes, *rest)).reshape((-1, *(source.shape[axis] for axis in rest)))
        place = _joint(indices, [source.shape[axis] for axis in self.axes])
        sizes = [1 if axis in self.axes else n for axis, n in enumerate(source.shape)]
        kept = sizes if self.keepdims else [source.shape[axis] for axis in rest]
        return mx.take(cells, place.reshape(-1), axis=0).reshape((*place.shape, *kept))


def _joint(indices: Sequence[mx.array], sizes: Sequence[int]) -> mx.array:
    """Give the index into merged axes; negative indices count from the end."""
    place = mx.array(0, dtype=mx.int64)
    for index, n in zip(indices, sizes, strict=True):
        index = index.astype(mx.int64)
        place = place * n + mx.where(index < 0, index + n, index)
    return place


@dataclass(frozen=True, slots=True)
class ScatterCells:
    """Cells of some axes by arrays of indices of one shape, written, or added to, with the rest of the axes whole."""

    axes: tuple[int, ...]
    how: str | None
    """`add`, `multiply`, `maximum`, `minimum`; None writes."""

    def __call__(self, arrays: Sequence[mx.array]) -> mx.array:
        """Write into a copy."""
        base, *indices, updates = arrays
        rest = [axis for axis in range(base.ndim) if axis not in self.axes]
        order = (*self.axes, *rest)
        cells = mx.transpose(base, order)
        kept = tuple(base.shape[axis] for axis in rest)
        given = updates.reshape((*indices[0].shape, *kept))
        place = tuple(indices)
        if self.how is None:
            cells = mx.array(cells)
            cells[place] = given
        else:
            cells = getattr(cells.at[place], self.how)(given)
        back = sorted(range(base.ndim), key=lambda i: order[i])
        return mx.transpose(cells, back)


@dataclass(frozen=True, slots=True)
class MaskCells:
    """Cells where a mask is true, written from the cells of another array in order; the first axis is a batch."""

    def __call__(self, arrays: Sequence[mx.array]) -> mx.array:
        """Write into a copy."""
        base, mask, given = arrays
        flat = mask.reshape((mask.shape[0], -1))
        place = mx.maximum(mx.cumsum(flat.astype(mx.int32), axis=1) - 1, 0)
        values = mx.take_along_axis(given, place, axis=1)
        return mx.where(flat, values, base.reshape(flat.shape)).reshape(base.shape)


@dataclass(frozen=True, slots=True)
class Strided:
    """A view by strides of a flat array; only as a whole."""

    shape: Shape
    strides: tuple[int, ...]
    offset: int

    def __call__(self, arrays: Sequence[mx.array]) -> mx.array:
        """Take the view of a copy whose cells lie in order."""
        flat = mx.contiguous(arrays[0])
        return mx.as_strided(flat, self.shape, self.strides, self.offset)


@dataclass(frozen=True, slots=True)
class PoolWindow:
    """The sum, the largest or another reduction of windows along some axes, without padding."""

    name: str
    axes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    def __call__(self, arrays: Sequence[mx.array]) -> mx.array:
        """Take the windows as a view, and reduce them."""
        x = mx.contiguous(arrays[0])
        steps = [math.prod(x.shape[axis + 1 :]) for axis in range(x.ndim)]
        shape, strides = list(x.shape), list(steps)
        for axis, kernel, stride, dilation in zip(self.axes, self.kernel, self.stride, self.dilation, strict=True):
            shape[axis] = (x.shape[axis] - (kernel - 1) * dilation - 1) // stride + 1
            strides[axis] = steps[axis] * stride
        inner = [steps[axis] * dilation for axis, dilation in zip(self.axes, self.dilation, strict=True)]
        # before channels that are last: Metal reduces such windows as they lie, and copies others into one array
        at = x.ndim if x.ndim - 1 in self.axes else x.ndim - 1
        shape[at:at], strides[at:at] = self.kernel, inner
        windows = mx.as_strided(x, shape, strides)
        made: mx.array = getattr(mx, self.name)(windows, axis=tuple(range(at, at + len(self.kernel))))
        return made
