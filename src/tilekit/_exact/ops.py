"""
The kinds of operation and their box rules: which box of each input makes a box of the output.

Every kind is a small frozen class. Two rules, of integers alone, are all that the planner asks:

``grow(box, shape, inputs)``
    the box that is made where this one is wanted: whole channels of a convolution, whole rows of a softmax.
``need(box, shape, inputs)``
    for a box that has grown, the box of each input, in order; None where an input is not read at all.

`shape` is that of the output, `inputs` are those of what is read. How a kind computes is written in `kernels`. Where an
operation is a call of the library itself (an exponential, a sort), the front end hands in a `call`: hashable, called
with the list of arrays.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, Protocol

from tilekit._exact.boxes import Box, Interval, Shape, full

__all__ = [
    "Along",
    "Attention",
    "Concat",
    "Constant",
    "Conv",
    "Expand",
    "Fill",
    "Gather",
    "Input",
    "Local",
    "MatMul",
    "Moments",
    "Normalize",
    "Op",
    "Pad",
    "Permute",
    "Pointwise",
    "Pool",
    "Reached",
    "Reduce",
    "Resample",
    "Reshape",
    "Scatter",
    "Slice",
    "Take",
    "Whole",
    "broadcast",
]

Call = Callable[..., Any]
KNOWN = 256
"""Axes of resampling whose reach is remembered."""
PadMode = Literal["constant", "replicate", "reflect", "circular"]
Needs = tuple[Box | None, ...]


@dataclass(frozen=True, slots=True)
class Op:
    """One kind of operation; this one is the base of all."""

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        """Give the box that is made where `box` is wanted."""
        del shape, inputs
        return box

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        """Give the box of each input that makes `box`, which has grown."""
        raise NotImplementedError

    def work(self, shape: Shape, inputs: Sequence[Shape]) -> int:
        """Count the multiply-adds for one cell of the output; 0 where the cost is that of touching it."""
        del shape, inputs
        return 0


@dataclass(frozen=True, slots=True)
class Input(Op):
    """The array that the function is called with."""

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return ()


@dataclass(frozen=True, slots=True)
class Constant(Op):
    """A captured array, by the key under which the front end finds it when it is used."""

    key: Hashable

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return ()


@dataclass(frozen=True, slots=True)
class Fill(Op):
    """
    Numbers that depend on their place alone: a constant, a range, a mask of zeros.

    ``call(box)`` makes a box of them.
    """

    call: Call

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return ()


@dataclass(frozen=True, slots=True)
class Pointwise(Op):
    """Cell by cell, with the inputs broadcast to the output as NumPy does."""

    call: Call

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return tuple(broadcast(box, source) for source in inputs)


@dataclass(frozen=True, slots=True)
class Expand(Op):
    """Axes of one cell, or new axes in front, repeated to the output's shape."""

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return (broadcast(box, inputs[0]),)


@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """The same cells, in the same order, under another shape: split, merged, added and removed axes."""

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        return _reshaped(inputs[0], shape, box)[1]

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return (_reshaped(inputs[0], shape, box)[0],)


@dataclass(frozen=True, slots=True)
class Permute(Op):
    """Axes in another order: axis `i` of the output is axis ``axes[i]`` of the input."""

    axes: tuple[int, ...]

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        source = dict(zip(self.axes, box, strict=True))
        return (tuple(source[axis] for axis in range(len(box))),)


@dataclass(frozen=True, slots=True)
class Slice(Op):
    """Every `steps[d]`-th cell from `starts[d]` on, for each axis; negative steps run backwards."""

    starts: tuple[int, ...]
    steps: tuple[int, ...]

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        return (tuple(_sliced(*row) for row in zip(box, self.starts, self.steps, strict=True)),)


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """Arrays one after the other along an existing axis."""

    axis: int

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        start, stop = box[self.axis]
        needs: list[Box | None] = []
        at = 0
        for source in inputs:
            first, last = max(start, at), min(stop, at + source[self.axis])
            needs.append(_with(box, self.axis, (first - at, last - at)) if first < last else None)
            at += source[self.axis]
        return tuple(needs)


@dataclass(frozen=True, slots=True)
class Scatter(Op):
    """The first input with the second written over the part of it that begins at `starts`."""

    starts: tuple[int, ...]

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        written = tuple((at, at + n) for at, n in zip(self.starts, inputs[1], strict=True))
        shared = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, written, strict=True))
        if any(start >= stop for start, stop in shared):
            return (box, None)
        part = tuple((a - at, b - at) for (a, b), at in zip(shared, self.starts, strict=True))
        return (None if shared == box else box, part)


@dataclass(frozen=True, slots=True)
class Pad(Op):
    """Cells added around an array (or cut off, where negative); the second input, if any, is the value."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: PadMode = "constant"
    value: float = 0.0

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        value = tuple(full(source) for source in inputs[1:])
        rows = zip(box, self.before, inputs[0], strict=True)
        source = tuple(self._interval(interval, before, n) for interval, before, n in rows)
        return (None if any(start >= stop for start, stop in source) else source, *value)

    def _interval(self, interval: Interval, before: int, n: int) -> Interval:
        start, stop = interval[0] - before, interval[1] - before
        if self.mode == "constant" or (start >= 0 and stop <= n):
            return max(0, start), min(n, stop)
        read = [self.source(i, n) for i in (*range(start, min(0, stop)), *range(max(start, n), stop))]
        if start < n and stop > 0:
            read += [max(0, start), min(n, stop) - 1]
        return min(read), max(read) + 1

    def source(self, i: int, n: int) -> int:
        """Give the cell of an axis of `n` cells that is copied to place `i`, which may lie outside."""
        if self.mode == "replicate":
            return min(max(i, 0), n - 1)
        if self.mode == "circular":
            return i % n
        period = max(1, 2 * (n - 1))
        i %= period
        return min(i, period - i)


@dataclass(frozen=True, slots=True)
class Take(Op):
    """Cells of one axis by known indices; the output has the indices along that axis."""

    axis: int
    indices: tuple[int, ...]

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        start, stop = box[self.axis]
        read = self.indices[start:stop]
        return (_with(box, self.axis, (min(read), max(read) + 1)),)


@dataclass(frozen=True, slots=True)
class Gather(Op):
    """
    Cells of one axis by indices that are an array themselves: an embedding, a table, indices that are weights.

    The output has the axes of the indices first, then those of the source without `axis`. The source is read whole
    along `axis`; any other axis is cut. ``call(arrays)`` of the source and the indices.
    """

    axis: int
    call: Call

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        lead = len(inputs[1])
        kept = list(box[lead:])
        kept.insert(self.axis, (0, inputs[0][self.axis]))
        return (tuple(kept), box[:lead])


Taps = tuple[tuple[tuple[int, float], ...], ...]


class _Reach:
    """The cells that each cell of an axis reads, counted once: they are asked for in every step."""

    _known: ClassVar[dict[int, "_Reach"]] = {}

    def __init__(self, taps: Taps) -> None:
        self.taps = taps
        self._low = [min(cell for cell, _ in row) for row in taps]
        self._high = [max(cell for cell, _ in row) + 1 for row in taps]
        self._ordered = all(a <= b for rows in (self._low, self._high) for a, b in pairwise(rows))

    @classmethod
    def of(cls, taps: Taps) -> "_Reach":
        """Give the one that was made for these taps, which it keeps alive as long as it is known."""
        known = cls._known.get(id(taps))
        if known is None or known.taps is not taps:
            if len(cls._known) > KNOWN:
                cls._known.clear()
            known = cls._known[id(taps)] = cls(taps)
        return known

    def read(self, start: int, stop: int) -> Interval:
        """Give what an interval of the output reads."""
        if self._ordered:
            return self._low[start], self._high[stop - 1]
        return min(self._low[start:stop]), max(self._high[start:stop])


@dataclass(frozen=True, slots=True)
class Resample(Op):
    """
    Larger or smaller along some axes by known weights: nearest, linear, cubic.

    `taps` gives for each axis None, or for each cell of the output the pairs (cell of the input, weight) that
    are summed.
    """

    taps: tuple[Taps | None, ...]

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        source = []
        for (start, stop), taps in zip(box, self.taps, strict=True):
            if taps is None:
                source.append((start, stop))
                continue
            reach = _Reach.of(taps)
            source.append(reach.read(start, stop))
        return (tuple(source),)


@dataclass(frozen=True, slots=True)
class Conv(Op):
    """
    A convolution of any number of axes, also transposed, with zeros around.

    Inputs: x, weight, and bias if there is one. Everything is said for the axes of `axes` in order. A transposed
    convolution is one over an input whose cells stand `input_dilation` apart, with the kernel flipped; `kernel` and
    `channels` (in the sum of one output cell) are known beforehand, so that the layout of the weight is the front
    end's.

    Source of the formula: the direct and the transposed convolution as described in V. Dumoulin and F. Visin, "A guide
    to convolution arithmetic for deep learning", 2016.
    """

    axes: tuple[int, ...]
    channel_axis: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...]
    input_dilation: tuple[int, ...]
    groups: int
    channels: int
    transposed: bool = False
    """Whether the library's own transposed convolution is meant (and its layout of the weight)."""

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        return _with(box, self.channel_axis, (0, shape[self.channel_axis]))

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        weights = tuple(full(source) for source in inputs[1:])
        read = _with(box, self.channel_axis, (0, inputs[0][self.channel_axis]))
        for d, axis in enumerate(self.axes):
            interval = self.window(d, box[axis], inputs[0][axis])[0]
            if interval[0] >= interval[1]:
                return (None, *weights)  # only padding, or between the cells of a stretched input
            read = _with(read, axis, interval)
        return (read, *weights)

    def window(self, d: int, interval: Interval, n: int) -> tuple[Interval, int, int]:
        """
        Give what an interval of the output reads along axis ``axes[d]`` of `n` cells, and the zeros before and after.

        The zeros count cells of the stretched input.
        """
        spread, apart = (self.kernel[d] - 1) * self.dilation[d] + 1, self.input_dilation[d]
        start = interval[0] * self.stride[d] - self.before[d]
        stop = (interval[1] - 1) * self.stride[d] - self.before[d] + spread
        first = -(-max(start, 0) // apart)
        last = (min(stop, (n - 1) * apart + 1) - 1) // apart + 1
        return (first, last), first * apart - start, stop - ((last - 1) * apart + 1)

    def work(self, shape: Shape, inputs: Sequence[Shape]) -> int:
        return max(1, self.channels * math.prod(self.kernel) // math.prod(self.input_dilation))


@dataclass(frozen=True, slots=True)
class Pool(Op):
    """A window that slides over some axes: the mean or the largest. ``call(arrays)`` is without padding."""

    axes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    call: Call

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        read = box
        for d, axis in enumerate(self.axes):
            start, stop = box[axis]
            spread = (self.kernel[d] - 1) * self.dilation[d] + 1
            read = _with(read, axis, (start * self.stride[d], (stop - 1) * self.stride[d] + spread))
        return (read,)


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

    Softmax, a norm per position, a sort, a Fourier transform. Other inputs (weights) are needed whole.
    """

    axes: tuple[int, ...]
    call: Call

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        return tuple((0, n) if axis in self.axes else box[axis] for axis, n in enumerate(shape))

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        source = tuple((0, n) if axis in self.axes else box[axis] for axis, n in enumerate(inputs[0]))
        return (source, *(full(other) for other in inputs[1:]))


class Reached(Protocol):
    """Which cells of the input some cells of the output depend on, along one axis."""

    def need(self, wanted: Interval, cells: int, /) -> Interval:
        """Give the cells of the input, of `cells`, that `wanted` depends on."""

    def first(self, start: int, /) -> int:
        """Give the first cell of the output for an input that begins at `start`."""


@dataclass(frozen=True, slots=True)
class Local(Op):
    """
    A layer handed in as a call of one array, which pads as it would the whole, with its reach along `axes`.

    Where a box ends within the whole, that padding is wrong and spoils the outermost cells; they are cut off. Axes that
    are not named are there as a whole.
    """

    axes: tuple[int, ...]
    reaches: tuple[Reached, ...]
    call: Call
    cost: int = 0
    """Multiply-adds for one cell of the output."""

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        return tuple(box[axis] if axis in self.axes else (0, n) for axis, n in enumerate(shape))

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        source = list(full(inputs[0]))
        for axis, reach in zip(self.axes, self.reaches, strict=True):
            source[axis] = reach.need(box[axis], inputs[0][axis])
        return (tuple(source),)

    def work(self, shape: Shape, inputs: Sequence[Shape]) -> int:
        return self.cost


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
        return 2 * inputs[1][2]


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


def _with(box: Box, axis: int, interval: Interval) -> Box:
    return (*box[:axis], interval, *box[axis + 1 :])


def broadcast(box: Box, source: Shape) -> Box:
    """Give the box of a smaller array that is broadcast to where `box` stands."""
    lead = len(box) - len(source)
    return tuple([(0, 1) if n == 1 else interval for n, interval in zip(source, box[lead:], strict=True)])


def _sliced(interval: Interval, start: int, step: int) -> Interval:
    first, last = start + interval[0] * step, start + (interval[1] - 1) * step
    return min(first, last), max(first, last) + 1


def _reshaped(old: Shape, new: Shape, box: Box) -> tuple[Box, Box]:
    """Give the box of the old shape that holds `box` of the new one, and the box of the new shape that it makes."""
    source, made = list(full(old)), list(box)
    for before, after in _runs(old, new):
        _reshape_run(old, new, box, before, after, source, made)
    return tuple(source), tuple(made)


def _runs(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Split the axes of two shapes into the shortest runs of as many cells; axes of 1 are left out."""
    left, right = ([axis for axis, n in enumerate(shape) if n != 1] for shape in (old, new))
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        before, after = [left[i]], [right[j]]
        p, q = old[left[i]], new[right[j]]
        i, j = i + 1, j + 1
        while p != q:
            if p < q:
                before.append(left[i])
                p, i = p * old[left[i]], i + 1
            else:
                after.append(right[j])
                q, j = q * new[right[j]], j + 1
        runs.append((before, after))
    return runs


def _reshape_run(  # noqa: PLR0913, PLR0917
    old: Shape, new: Shape, box: Box, before: list[int], after: list[int], source: list[Interval], made: list[Interval]
) -> None:
    """Write the intervals of one run: a box of merged or split axes is cut along the first of them alone."""
    while before and after and old[before[0]] == new[after[0]]:
        source[before[0]] = box[after[0]]
        before, after = before[1:], after[1:]
    if not before or not after:
        return
    inner_old, inner_new = (math.prod(s[a] for a in axes[1:]) for s, axes in ((old, before), (new, after)))
    block = math.lcm(inner_old, inner_new)
    total = math.prod(new[axis] for axis in after)
    # cells of the run, first and last, in the order in which they lie
    start = stop = 0
    for axis in after:
        start, stop = start * new[axis] + box[axis][0], stop * new[axis] + box[axis][1] - 1
    start, stop = start // block * block, min(total, -(-(stop + 1) // block) * block)
    source[before[0]] = (start // inner_old, stop // inner_old)
    made[after[0]] = (start // inner_new, stop // inner_new)
    for axis in after[1:]:
        made[axis] = (0, new[axis])
