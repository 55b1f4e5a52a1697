"""Cells in another order or at another place: reshaped, cut, put together, padded, taken by number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tilekit._exact.boxes import Box, Interval, Shape, full
from tilekit._exact.ops._base import Call, Needs, Op, broadcast, with_interval

__all__ = ["Concat", "Expand", "Gather", "Pad", "PadMode", "Permute", "Pick", "Reshape", "Scatter", "Slice", "Take"]

PadMode = Literal["constant", "replicate", "reflect", "circular"]


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
    copied: bool = False
    """Whether the cells lie in memory of their own, so that what they are taken from may go."""

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
            needs.append(with_interval(box, self.axis, (first - at, last - at)) if first < last else None)
            at += source[self.axis]
        return tuple(needs)


@dataclass(frozen=True, slots=True)
class Scatter(Op):
    """
    The first input with the second written over the part of it that begins at `starts`.

    With `steps` the second goes to every so many cells of each axis.
    """

    starts: tuple[int, ...]
    steps: tuple[int, ...] = ()

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        steps = self.steps or (1,) * len(box)
        rows = zip(box, self.starts, steps, inputs[1], strict=True)
        part = tuple((max(0, -((at - a) // k)), min(n, -((at - b) // k))) for (a, b), at, k, n in rows)
        if any(start >= stop for start, stop in part):
            return (box, None)
        whole = all(stop - start == b - a for (start, stop), (a, b) in zip(part, box, strict=True))
        return (None if whole else box, part)


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
        return (with_interval(box, self.axis, (min(read), max(read) + 1)),)


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


@dataclass(frozen=True, slots=True)
class Pick(Op):
    """
    Cells of the first input, anywhere along `axes`, that the others point at: by number, or places between cells.

    Along other axes of the first input the output goes with it. `places` gives for each axis of each other input the
    axis of the output that goes along with it; None where it is read whole.
    """

    axes: tuple[int, ...]
    places: tuple[tuple[int | None, ...], ...]
    call: Call

    def need(self, box: Box, shape: Shape, inputs: Sequence[Shape]) -> Needs:
        source = tuple((0, n) if axis in self.axes else box[axis] for axis, n in enumerate(inputs[0]))
        rows = zip(self.places, inputs[1:], strict=True)
        pointers = (
            tuple((0, n) if axis is None else box[axis] for axis, n in zip(axes, other, strict=True))
            for axes, other in rows
        )
        return (source, *pointers)


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
