"""Cells that are made from a neighbourhood: convolutions, pools, resampling, layers with a reach."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol

from tilekit._exact.boxes import Box, Interval, Shape, full
from tilekit._exact.ops._base import Call, Needs, Op, with_interval

__all__ = ["Conv", "Local", "Pool", "Reached", "Resample", "Taps", "Windows"]

KNOWN = 256
"""Axes of resampling whose reach is remembered."""
Taps = tuple[tuple[tuple[int, float], ...], ...]


class _Reach:
    """The cells that each cell of an axis reads, counted once: they are asked for in every step."""

    _known: ClassVar[dict[int, "_Reach"]] = {}

    def __init__(self, taps: Taps) -> None:
        self.taps = taps
        self._low = [min(cell for cell, _ in row) for row in taps]
        self._high = [max(cell for cell, _ in row) + 1 for row in taps]
        self._ordered = all(a <= b for rows in (self._low, self._high) for a, b in pairwise(rows))
        count = sum(row == ((0, 1.0),) for row in taps)
        plain = bool(count) and all(row == ((cell // count, 1.0),) for cell, row in enumerate(taps))
        self.times = count if plain else 0
        """How often each cell of the input follows itself, where the output is just that; else 0."""

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

    def times(self, axis: int) -> int:
        """Give how often each cell of the input follows itself along an axis, if all of the output is just that."""
        taps = self.taps[axis]
        return 1 if taps is None else _Reach.of(taps).times


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
    precision: str = ""
    """What a library that can be asked is told about the precision of its products."""

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        return with_interval(box, self.channel_axis, (0, shape[self.channel_axis]))

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        weights = tuple(full(source) for source in inputs[1:])
        read = with_interval(box, self.channel_axis, (0, inputs[0][self.channel_axis]))
        for d, axis in enumerate(self.axes):
            interval = self.window(d, box[axis], inputs[0][axis])[0]
            if interval[0] >= interval[1]:
                return (None, *weights)  # only padding, or between the cells of a stretched input
            read = with_interval(read, axis, interval)
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
    """
    A window that slides over some axes: the mean or the largest. ``call(arrays)`` is without padding.

    `before` says how many cells of `value` are thought of before the first of each axis, as many as windows need after
    the last; they are never there beside the whole array.
    """

    axes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    call: Call
    before: tuple[int, ...] = ()
    value: float = 0.0

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        read = box
        for d, axis in enumerate(self.axes):
            start, stop = self._window(d, box[axis])
            read = with_interval(read, axis, (max(start, 0), min(stop, inputs[0][axis])))
        return (read,)

    def pads(self, box: Box, source: Shape) -> tuple[Interval, ...]:
        """Give the cells of `value` before and after what a box reads, for each axis of the array."""
        pads = [(0, 0)] * len(box)
        for d, axis in enumerate(self.axes):
            start, stop = self._window(d, box[axis])
            pads[axis] = max(-start, 0), max(stop - source[axis], 0)
        return tuple(pads)

    def _window(self, d: int, interval: Interval) -> Interval:
        before = self.before[d] if self.before else 0
        spread = (self.kernel[d] - 1) * self.dilation[d] + 1
        return interval[0] * self.stride[d] - before, (interval[1] - 1) * self.stride[d] - before + spread


@dataclass(frozen=True, slots=True)
class Windows(Op):
    """
    Windows of an axis, `hop` cells apart, which may overlap; the `size` cells of each are a new axis after it.

    Nothing is copied: a product with a short filter reads them as they lie.
    """

    axis: int
    size: int
    hop: int

    def grow(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Box:
        return with_interval(box, self.axis + 1, (0, self.size))

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        start, stop = box[self.axis]
        read = with_interval(box, self.axis, (start * self.hop, (stop - 1) * self.hop + self.size))
        return ((*read[: self.axis + 1], *read[self.axis + 2 :]),)


class Reached(Protocol):
    """Which cells of the input some cells of the output depend on, along one axis."""

    def length(self, cells: int, /) -> int:
        """Give how many cells the layer makes of so many."""

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
