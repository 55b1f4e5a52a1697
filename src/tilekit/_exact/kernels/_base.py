"""
How each kind of operation makes a box of its output, with the array API alone.

A library with a faster way, or with gaps, gets a subclass. The small methods of `Library` (`cut`, `concat`, `put`, ...)
are all that the kernels use of a library's indexing and layout.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tilekit._exact.boxes import Box, Interval, Shape, contains, within
from tilekit._exact.graph import Node
from tilekit._exact.kernels._convolve import convolve
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.kernels._library import Arrays, Library
from tilekit._exact.kernels._scratch import scratch
from tilekit._exact.kernels._statistics import MomentsPart, group_moments, merge_moments
from tilekit._exact.ops import (
    Along,
    Attention,
    Concat,
    Conv,
    Expand,
    Fill,
    Gather,
    Local,
    MatMul,
    Moments,
    Normalize,
    Pad,
    Permute,
    Pick,
    Pointwise,
    Pool,
    Reduce,
    Resample,
    Reshape,
    Scatter,
    Slice,
    Take,
    Whole,
    Windows,
)
from tilekit.backends import Array, Backend

__all__ = ["Arrays", "Kernels"]


class Kernels(Library):
    """
    Every kind of operation over one array library.

    Parameters
    ----------
    backend : Backend
        Of the arrays.
    like : array
        An array of the library, on the device where results belong.
    """

    def __init__(self, backend: Backend, like: Array) -> None:
        super().__init__(backend, like)
        self._methods: dict[type, Callable[..., Array]] = {
            Along: self.call,
            Attention: self.attention,
            Concat: self.join,
            Conv: self.conv,
            Expand: self.expand,
            Fill: self.fill,
            Gather: self.call,
            Local: self.local,
            MatMul: self.call,
            Moments: self.moments,
            Normalize: self.normalize,
            Pad: self.pad,
            Permute: self.permuted,
            Pick: self.call,
            Pointwise: self.call,
            Pool: self.pool,
            Reduce: self.call,
            Resample: self.resample,
            Reshape: self.reshaped,
            Scatter: self.scatter,
            Slice: self.sliced,
            Take: self.taken,
            Whole: self.call,
            Windows: self.windows,
        }

    def run(
        self, node: Node, shapes: tuple[Shape, ...], box: Box, boxes: tuple[Box | None, ...], arrays: Arrays
    ) -> Array:
        """
        Make a box of a node.

        Parameters
        ----------
        node : Node
            What to do.
        shapes : tuple of shape
            Of its whole inputs.
        box : Box
            What to make; ``node.op.grow`` gives it back unchanged.
        boxes : tuple of Box or None
            What ``node.op.need`` asks for.
        arrays : sequence of array or None
            With just these extents; None where the box is None. A list may be emptied: a library that computes late
            writes to the memory of what nobody holds any more.

        Returns
        -------
        array
            Of the extent of `box`, in the dtype of the node. It may share memory with an input, and is not written to.
        """
        return self._methods[type(node.op)](Job(node.op, node.shape, shapes, box, boxes, node.dtype), arrays)

    # the kinds ------------------------------------------------------------------------------------------------------

    def call(self, job: Job[Any], arrays: Arrays) -> Array:
        """Call what the front end handed in."""
        return job.op.call(arrays)

    def fill(self, job: Job[Fill], arrays: Arrays) -> Array:
        """Make numbers that depend on their place alone."""
        return job.op.call(job.box)

    def attention(self, job: Job[Attention], arrays: Arrays) -> Array:
        """Let some rows of the query look."""
        return job.op.call(arrays, job.box[2])

    def pool(self, job: Job[Pool], arrays: Arrays) -> Array:
        """Let a window slide over what is given, and over what is thought of around it."""
        x = arrays[0]
        pads = job.op.pads(job.box, job.shapes[0])
        if any(before or after for before, after in pads):
            shape = tuple(before + n + after for n, (before, after) in zip(x.shape, pads, strict=True))
            placed = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, pads, strict=True))
            x = self.put(self.full(shape, job.op.value, job.dtype), placed, x)
        return job.op.call([x])

    def local(self, job: Job[Local], arrays: Arrays) -> Array:
        """Run a layer that pads on its own, and cut off what its padding spoiled."""
        made, given = job.op.call(arrays), self._given(job, 0)
        region = [slice(None)] * len(job.box)
        for axis, reach in zip(job.op.axes, job.op.reaches, strict=True):
            first = reach.first(given[axis][0])
            region[axis] = slice(job.box[axis][0] - first, job.box[axis][1] - first)
        return self.cut(made, tuple(region))

    def expand(self, job: Job[Expand], arrays: Arrays) -> Array:
        """Repeat without copying, where the library can."""
        return self.broadcast(arrays[0], job.extent)

    def reshaped(self, job: Job[Reshape], arrays: Arrays) -> Array:
        """Split and merge axes."""
        return self.reshape(arrays[0], job.extent)

    def permuted(self, job: Job[Permute], arrays: Arrays) -> Array:
        """Put the axes into another order."""
        return self.permute(arrays[0], job.op.axes)

    def sliced(self, job: Job[Slice], arrays: Arrays) -> Array:
        """Take every so many cells."""
        steps = job.op.steps
        backwards = tuple(axis for axis, step in enumerate(steps) if step < 0)
        x = self.flip(arrays[0], backwards) if backwards else arrays[0]
        if any(abs(step) != 1 for step in steps):
            x = self.cut(x, tuple(slice(None, None, abs(s)) for s in steps))
        return self.copy(x) if job.op.copied and not self.owns(x) else x

    def join(self, job: Job[Concat], arrays: Arrays) -> Array:
        """Put arrays one after the other."""
        return self.concat([x for x in arrays if x is not None], job.op.axis)

    def scatter(self, job: Job[Scatter], arrays: Arrays) -> Array:
        """Write one array over a part of another."""
        base, part = arrays
        if part is None or base is None:
            return part if base is None else base
        return self.put(self.copy(base), self._written(job), part)

    def _written(self, job: Job[Scatter]) -> tuple[slice, ...]:
        """Give where in the box is written."""
        given = job.boxes[1]
        assert given is not None  # `need` gives the box of what is given
        steps = job.op.steps or (1,) * len(given)
        rows = zip(given, job.op.starts, steps, job.box, strict=True)
        return tuple(
            slice(at + start * k - first, at + (stop - 1) * k + 1 - first, k)
            for (start, stop), at, k, (first, _) in rows
        )

    def pad(self, job: Job[Pad], arrays: Arrays) -> Array:
        """Add cells around, or cut some off."""
        if job.op.mode == "constant":
            return self._pad_constant(job, arrays)
        x, given = arrays[0], job.boxes[0]
        assert given is not None  # a copied border always reads something
        for axis, (start, stop) in enumerate(job.box):
            n, before = job.shapes[0][axis], job.op.before[axis]
            indices = [job.op.source(i - before, n) - given[axis][0] for i in range(start, stop)]
            if indices != list(range(x.shape[axis])):
                x = self.take(x, indices, axis)
        return x

    def _pad_constant(self, job: Job[Pad], arrays: Arrays) -> Array:
        x, given = arrays[0], job.boxes[0]
        value = job.op.value if len(arrays) == 1 else arrays[1]
        if given is None:
            return self.full(job.extent, value, job.dtype)
        placed = tuple((start + n, stop + n) for (start, stop), n in zip(given, job.op.before, strict=True))
        if contains(placed, job.box):
            return x
        return self.put(self.full(job.extent, value, job.dtype), within(job.box, placed), x)

    def taken(self, job: Job[Take], arrays: Arrays) -> Array:
        """Take cells of one axis by number."""
        axis, (start, stop) = job.op.axis, job.box[job.op.axis]
        first = self._given(job, 0)[axis][0]
        return self.take(arrays[0], [i - first for i in job.op.indices[start:stop]], axis)

    def windows(self, job: Job[Windows], arrays: Arrays) -> Array:
        """Give windows that may overlap."""
        axis, size, hop = job.op.axis, job.op.size, job.op.hop
        cells = [i * hop + j for i in range(job.extent[axis]) for j in range(size)]
        return self.reshape(self.take(arrays[0], cells, axis), job.extent)

    def resample(self, job: Job[Resample], arrays: Arrays) -> Array:
        """Sum cells with known weights, one axis after the other, in float32 at least."""
        x, given = arrays[0], self._given(job, 0)
        taps = [None if t is None else t[start:stop] for t, (start, stop) in zip(job.op.taps, job.box, strict=True)]
        blends = any(len(row) != 1 or row[0][1] != 1 for rows in taps if rows is not None for row in rows)
        x = self.widen(x) if blends else x
        for axis, rows in enumerate(taps):
            if rows is not None:
                x = self._weigh(x, axis, rows, given[axis][0])
        return self.cast(x, job.dtype)

    def _weigh(self, x: Array, axis: int, rows: Sequence[Sequence[tuple[int, float]]], first: int) -> Array:
        """Give the weighted sums of an axis, one tap of all rows after the other."""
        total = None
        for i in range(max(len(row) for row in rows)):
            pairs = [row[i] if i < len(row) else (row[0][0], 0.0) for row in rows]
            part = self.take(x, [cell - first for cell, _ in pairs], axis)
            if any(weight != 1 for _, weight in pairs):
                shape = tuple(len(rows) if d == axis else 1 for d in range(x.ndim))
                part = part * self.weights([weight for _, weight in pairs], shape, x)
            total = part if total is None else total + part
        return total

    def conv(self, job: Job[Conv], arrays: Arrays) -> Array:
        """Convolve; sums in float32 at least."""
        x, *given = arrays
        weight, *bias = (self._narrowed(w, job) for w in given)
        if x is None:
            made = self.full(job.extent, 0.0, job.dtype)
        else:
            made = convolve(self, job, self.widen(x), self.widen(weight))
        if bias:
            shape = tuple(-1 if axis == job.op.channel_axis else 1 for axis in range(len(job.box)))
            made = made + self.reshape(self.widen(bias[0]), shape)
        return self.cast(made, job.dtype)

    # statistics -----------------------------------------------------------------------------------------------------

    def moments(self, job: Job[Moments], arrays: Arrays) -> Array:
        """Take the moments of groups of channels of an array that is there as a whole."""
        return self.cast(self.finish(job.op, self.part(job.op, arrays[0])), job.dtype)

    def normalize(self, job: Job[Normalize], arrays: Arrays) -> Array:
        """Subtract the mean, divide by the standard deviation, scale and shift; in float32 at least."""
        op = job.op
        x, moments, *given = arrays
        affine = [self._narrowed(w, job) for w in given]
        share = job.shapes[0][op.channel_axis] // op.groups
        moments = self.widen(moments)
        mean, variance = moments[..., 0], moments[..., 1]
        scale = 1 / self.xp.sqrt(variance + op.epsilon)
        wide = self.widen(x) - self._spread(mean, job, share)  # fresh, so what follows may write to it
        channels = job.box[op.channel_axis]
        scale = self._spread(scale, job, share)
        if op.weight:
            scale = scale * self._per_channel(affine[0], channels, job)
        wide *= scale
        if op.bias:
            wide += self._per_channel(affine[-1], channels, job)
        return self.cast(wide, job.dtype)

    def _spread(self, values: Array, job: Job[Normalize], share: int) -> Array:
        """Give (batch axes..., groups) one value for each channel of the box, in the axes of x."""
        op, xp = job.op, self.xp
        start, stop = job.box[op.channel_axis]
        lead = len(op.batch_axes)
        first, last = start // share, -(-stop // share)
        values = values[(..., slice(first, last))]
        kept = tuple(values.shape[:lead])
        values = self.broadcast(self.reshape(values, (*kept, last - first, 1)), (*kept, last - first, share))
        values = self.reshape(values, (*kept, (last - first) * share))
        values = values[(..., slice(start - first * share, stop - first * share))]
        places = {axis: d for d, axis in enumerate(op.batch_axes)} | {op.channel_axis: lead}
        order = tuple(places[axis] for axis in sorted(places))
        values = xp.permute_dims(values, order) if order != tuple(range(lead + 1)) else values
        return self.reshape(values, tuple(n if axis in places else 1 for axis, n in enumerate(job.extent)))

    def _narrowed(self, weight: Array, job: Job[Any]) -> Array:
        """Give a weight in float32 where it is wider than sums should be, which it would make wider too."""
        narrow = job.dtype in {"float32", "bfloat16", "float16"} and self.dtype_name(weight) == "float64"
        return self.cast(weight, "float32") if narrow else weight

    def _per_channel(self, values: Array, channels: Interval, job: Job[Normalize]) -> Array:
        shape = tuple(-1 if axis == job.op.channel_axis else 1 for axis in range(len(job.box)))
        return self.reshape(self.widen(values)[channels[0] : channels[1]], shape)

    def part(self, op: Moments | Reduce, x: Array) -> Any:
        """Take what one box gives to a statistic."""
        return group_moments(self.xp, op, self.widen(x)) if isinstance(op, Moments) else op.call([x])

    def merge(self, op: Moments | Reduce, a: Any, b: Any) -> Any:
        """Put what two boxes gave together."""
        if isinstance(op, Moments):
            return merge_moments(a, b)
        if op.how == "sum":
            return self.widen(a) + self.widen(b)
        return (self.xp.maximum if op.how == "max" else self.xp.minimum)(a, b)

    def finish(self, op: Moments | Reduce, part: Any) -> Array:
        """Give the statistic; the dtype may be wider than that of its node."""
        if not isinstance(part, MomentsPart):
            return part
        return self.xp.stack([part.mean, part.squares / part.count], axis=-1)

    # around them ---------------------------------------------------------------------------------------------------

    def computing(self) -> AbstractContextManager[object]:
        """Give what surrounds the operations of a step, such as the library's way not to keep gradients."""
        return nullcontext()

    def scratch(self, job: Job[Any]) -> int:
        """Count the bytes that a kernel takes for itself, beside what it makes and what it is given."""
        return scratch(job)

    def plain_scratch(self, job: Job[Any]) -> int:
        """Count the bytes that the library takes for itself where a plain call does the same."""
        return scratch(job)

    def _given(self, job: Job[Any], i: int) -> Box:
        box = job.boxes[i]
        assert box is not None  # only kinds that always read this input ask
        return box
