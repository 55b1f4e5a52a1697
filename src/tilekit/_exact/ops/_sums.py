"""Cells that are made from whole axes: sums, statistics, products of matrices, attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tilekit._exact.boxes import Box, Interval, Shape, full
from tilekit._exact.ops._base import Call, Needs, Op, broadcast

__all__ = ["Along", "Attention", "MatMul", "Moments", "Normalize", "Reduce", "Whole"]


@dataclass(frozen=True, slots=True)
class Reduce(Op):
    """
    Many cells to one along `axes`, which stay with one cell (`keepdims`) or go.

    `how` says whether parts can be put together: sum, max and min can, any other (None) cannot. A mean is a sum and a
    division, made so by the front end.
    """

    axes: tuple[int, ...]
    keepdims: bool
    how: Literal["sum", "max", "min"] | None
    call: Call

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        kept = iter(box)
        source: list[Interval] = []
        for axis, n in enumerate(inputs[0]):
            if axis in self.axes:
                source.append((0, n))
                if self.keepdims:
                    next(kept)
            else:
                source.append(next(kept))
        return (tuple(source),)


@dataclass(frozen=True, slots=True)
class Moments(Op):
    """
    Count-weighted mean and variance of groups of channels over all other axes but the batch, in float32.

    The output has the axes of the batch in the order of `batch_axes`, then (groups, 2): the mean, and the variance (the
    mean square distance). Frames that are normalised one by one are axes of the batch. Parts are put together by Chan's
    formula, so an input that is never there as a whole has exact moments.

    Source: T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979.
    """

    groups: int
    batch_axes: tuple[int, ...]
    channel_axis: int

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        return (*box[: len(self.batch_axes)], *((0, n) for n in shape[len(self.batch_axes) :]))

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        source = list(full(inputs[0]))
        for interval, axis in zip(box, self.batch_axes, strict=False):
            source[axis] = interval
        return (tuple(source),)


@dataclass(frozen=True, slots=True)
class Normalize(Op):
    """Inputs x, moments, and weight and bias where there are such: the rest of a group normalisation, cell by cell."""

    groups: int
    epsilon: float
    batch_axes: tuple[int, ...]
    channel_axis: int
    weight: bool
    bias: bool

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        batch = tuple(box[axis] for axis in self.batch_axes)
        moments = (*batch, *full(inputs[1][len(batch) :]))
        return (box, moments, *(full(source) for source in inputs[2:]))


@dataclass(frozen=True, slots=True)
class Along(Op):
    """
    A call that needs the first input whole along `axes` and is cell by cell over the others.

    Softmax, a norm per position, a sort, a Fourier transform. Other inputs (weights) are needed whole, or go `beside`
    the first: whole along the same axes, as what is scattered.
    """

    axes: tuple[int, ...]
    call: Call
    beside: bool = False

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        return tuple((0, n) if axis in self.axes else box[axis] for axis, n in enumerate(shape))

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return (
            self._along(box, inputs[0]),
            *(self._along(box, other) if self.beside else full(other) for other in inputs[1:]),
        )

    def _along(self, box: Box, source: Shape) -> Box:
        return tuple((0, n) if axis in self.axes else box[axis] for axis, n in enumerate(source))


@dataclass(frozen=True, slots=True)
class MatMul(Op):
    """Rows of the first input times columns of the second; leading axes are broadcast. A third input is added."""

    call: Call

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        left, right = inputs[0], inputs[1]
        batch = box[:-2]
        rows = (*broadcast(batch, left[:-2]), box[-2], (0, left[-1]))
        columns = (*broadcast(batch, right[:-2]), (0, right[-2]), box[-1])
        return (rows, columns, *(broadcast(box, other) for other in inputs[2:]))

    def work(self, shape: Shape, inputs: Sequence[Shape]) -> int:
        return inputs[0][-1]


@dataclass(frozen=True, slots=True)
class Attention(Op):
    """
    Scaled dot-product attention: inputs query, key, value (batch, heads, cells, channels), and a mask if there is one.

    Rows of the query are cut; keys and values are read whole, of the heads and batch that are wanted. `causal` lets row
    i see the cells up to i. ``call(arrays, rows)`` gets the interval of rows, for the mask that this makes.
    """

    causal: bool
    call: Call

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        share = inputs[0][1] // inputs[1][1]  # heads of queries to one head of keys
        start, stop = box[1]
        heads = (start // share * share, -(-stop // share) * share)
        return (box[0], heads, box[2], (0, shape[3]))

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        query, key, value = inputs[:3]
        share = query[1] // key[1]
        heads = (box[1][0] // share, box[1][1] // share)
        others = tuple((box[0], heads, (0, source[2]), (0, source[3])) for source in (key, value))
        masks = tuple(
            (*broadcast(box[:2], mask[:-2]), box[2] if mask[-2] > 1 else (0, 1), (0, mask[-1])) for mask in inputs[3:]
        )
        return ((box[0], box[1], box[2], (0, query[3])), *others, *masks)

    def work(self, shape: Shape, inputs: Sequence[Shape]) -> int:
        query, keys, value = inputs[:3]
        return keys[2] * (query[3] + value[3]) // value[3]


@dataclass(frozen=True, slots=True)
class Whole(Op):
    """An operation that is not understood: it reads and makes everything. Exact, but nothing is saved."""

    label: str
    """The library's name for it, for the plan's table."""
    call: Call

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        return full(shape)

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return tuple(full(source) for source in inputs)
