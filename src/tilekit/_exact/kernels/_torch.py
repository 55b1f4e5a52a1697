"""What PyTorch does faster than by the array API alone, or otherwise."""

import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tilekit._exact.boxes import Box
from tilekit._exact.chain import Chain
from tilekit._exact.ghosts import overlaps
from tilekit._exact.kernels._base import Arrays, Kernels
from tilekit._exact.kernels._convolve import goes_by_frames
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.kernels._torch_conv import convolve
from tilekit._exact.kernels._torch_moments import is_half, moments_part
from tilekit._exact.kernels._torch_pads import padded, pooled
from tilekit._exact.kernels._torch_scratch import (
    at_once,
    chain_pieces,
    pieces,
    plain_scratch,
    scratch,
    times_of,
)
from tilekit._exact.ops import Conv, Moments, Normalize, Pad, Pointwise, Pool, Reduce, Resample, Windows
from tilekit.backends import Backend
from tilekit.backends.limits import limits_of

__all__ = ["TorchKernels"]

Taken = tuple[Tensor, Tensor | None]
Taps = tuple[list[int], list[float] | None]


class TorchKernels(Kernels):
    """
    Every kind of operation over tensors.

    Parameters
    ----------
    backend : Backend
        Of torch.
    like : tensor
        On the device where results belong.
    """

    device: torch.device

    def __init__(self, backend: Backend, like: Tensor) -> None:
        super().__init__(backend, like)
        self._limits = limits_of(like)
        self._taken: dict[tuple[int, int], tuple[Resample, list[Taps]]] = {}
        self._methods[Pointwise] = self.pointwise

    def is_finite(self, x: Tensor) -> bool:
        """Whether no NaN and no infinity is in a tensor; torch sums no floats of 8 bits."""
        return super().is_finite(x if x.itemsize > 1 else x.to(torch.bfloat16))

    def pointwise(self, job: Job[Pointwise], arrays: Arrays) -> Tensor:
        """Go cell by cell; what makes arrays on the way, such as wider copies, goes piece by piece."""
        call = job.op.call
        count = chain_pieces(call.scratch(job.box), job.extent, self.device) if isinstance(call, Chain) else 1
        if count == 1:
            whole: Tensor = call(arrays)
            return whole
        like = next((x for x in arrays if x.shape == job.extent and 0 not in x.stride()), None)
        dtype = self.dtype(job.dtype)
        made = (
            torch.empty(job.extent, dtype=dtype, device=self.device)
            if like is None
            else torch.empty_like(like, dtype=dtype)
        )
        axis = max((a for a, n in enumerate(job.extent) if n >= count), key=made.stride)
        given = zip(*(_parts(x, axis - made.ndim, count) for x in arrays), strict=True)
        for out, part in zip(made.tensor_split(count, axis), given, strict=True):
            out.copy_(call(part))
        return made

    def conv(self, job: Job[Conv], arrays: Arrays) -> Tensor:
        """Convolve by torch's own call, in the dtype of the network."""
        x, weight, *rest = arrays
        bias = rest[0] if rest else None
        n = len(job.extent)
        if x is None:
            shape = tuple(-1 if axis == job.op.channel_axis else 1 for axis in range(n))
            value: Tensor = self.full((1,) * n, 0, job.dtype) if bias is None else bias.reshape(shape)
            return value.to(self.dtype(job.dtype)).expand(job.extent)
        axes = (*(a for a in range(n) if a not in job.op.axes and a != job.op.channel_axis), job.op.channel_axis)
        order = (*axes, *job.op.axes)
        if order == tuple(range(n)):
            return convolve(job, x, weight, bias)
        made = convolve(job, x.permute(order), weight, bias)
        return made.permute([order.index(axis) for axis in range(n)])

    def pad(self, job: Job[Pad], arrays: Arrays) -> Tensor:
        """Pad by torch's own call where the cells that it copies are at hand, which is nearly always."""
        made = padded(job, arrays[0]) if len(arrays) == 1 and arrays[0] is not None else None
        return cast("Tensor", super().pad(job, arrays)) if made is None else made

    def pool(self, job: Job[Pool], arrays: Arrays) -> Tensor:
        """Let a window slide, and pad in pieces where torch cannot."""
        return pooled(job, arrays[0])

    def windows(self, job: Job[Windows], arrays: Arrays) -> Tensor:
        """Give windows as a view."""
        x: Tensor = arrays[0]
        return x.unfold(job.op.axis, job.op.size, job.op.hop).movedim(-1, job.op.axis + 1)

    def normalize(self, job: Job[Normalize], arrays: Arrays) -> Tensor:
        """Scale and shift each channel in one pass; half precisions are rounded once, at the end."""
        op = job.op
        x, moments, *affine = arrays
        share = job.shapes[0][op.channel_axis] // op.groups
        mean, variance = moments[..., 0], moments[..., 1]
        scale = self._spread(torch.rsqrt(variance + op.epsilon), job, share)
        mean = self._spread(mean, job, share)
        channels = job.box[op.channel_axis]
        if op.weight:
            scale = scale * self._per_channel(affine[0], channels, job)
        shift = -mean * scale
        if op.bias:
            shift = shift + self._per_channel(affine[-1], channels, job)
        scale = scale.to(shift.dtype)
        if x.device.type == "cpu" and is_half(x) and shift.dtype == torch.float32:
            given = self.dtype_name(x)
            if at_once(op, job.dtype, given, tuple(x.shape), x.stride()):
                return _scaled(x, scale, shift, op.channel_axis + 1)
        rest = [axis for axis in range(x.ndim) if axis not in op.batch_axes and axis != op.channel_axis]
        axis = max(rest, key=lambda axis: x.shape[axis], default=0)
        count = pieces(x.numel(), x.shape[axis] if rest else 1)
        if shift.dtype == x.dtype or count == 1:
            return self.cast(torch.addcmul(shift, x, scale), job.dtype)
        made = torch.empty_like(x)
        for part, out in zip(x.tensor_split(count, axis), made.tensor_split(count, axis), strict=True):
            out.copy_(torch.addcmul(shift, part, scale))
        return made

    def _spread(self, values: Tensor, job: Job[Normalize], share: int) -> Tensor:
        """Give one value for each channel: in one call where all channels and axes stand as they mostly do."""
        op, channels = job.op, job.op.channel_axis
        if op.batch_axes != tuple(range(channels)) or job.box[channels] != (0, job.shapes[0][channels]):
            held: Tensor = super()._spread(values, job, share)
            return held
        each = values if share == 1 else values.repeat_interleave(share, -1)
        return each.reshape(*each.shape, *(1,) * (len(job.box) - channels - 1))

    def part(self, op: Moments | Reduce, x: Tensor) -> Any:
        """Take what one box gives to a statistic: in two passes, and put together in float64 where there is any."""
        if not isinstance(op, Moments):
            return super().part(op, x)
        return moments_part(op, x)

    def resample(self, job: Job[Resample], arrays: Arrays) -> Tensor:
        """Sum cells with known weights; whole multiples of the nearest cell are one copy for all axes."""
        x, given = arrays[0], self._given(job, 0)
        times = [1] * x.ndim
        blended = []
        for axis, taps in enumerate(job.op.taps):
            if taps is not None:
                times[axis] = times_of(job, axis, given)
                blended += [] if times[axis] else [axis]
        x = _repeated(x, [max(1, n) for n in times])
        if not blended:
            return x
        free = [axis for axis, taps in enumerate(job.op.taps) if taps is None]
        axis = max(free, key=lambda axis: x.shape[axis], default=0)
        count = pieces(math.prod(job.extent), x.shape[axis] if free else 1)
        if count == 1:
            return self._blended(job, x, blended)
        made = x.new_empty(job.extent)
        for part, out in zip(x.tensor_split(count, axis), made.tensor_split(count, axis), strict=True):
            out.copy_(self._blended(job, part, blended))
        return made

    def _blended(self, job: Job[Resample], x: Tensor, axes: Sequence[int]) -> Tensor:
        """Sum cells along some axes, in float32 at least."""
        given = self._given(job, 0)
        rows = {axis: self._rows(job, axis, given) for axis in axes}
        x = self.widen(x) if any(w is not None for taps in rows.values() for _, w in taps) else x
        for axis in axes:
            x = _weigh(x, axis, rows[axis])
        return self.cast(x, job.dtype)

    def _rows(self, job: Job[Resample], axis: int, given: Box) -> list[Taken]:
        """Give indices and weights of an axis, tap by tap; kept as numbers, so that no tensors stay from strips."""
        known = self._taken.get((id(job.op), axis))
        if known is None or known[0] is not job.op:
            known = self._taken[id(job.op), axis] = job.op, _taps(job.op, axis)
        wide = torch.float64 if job.dtype == "float64" else torch.float32
        rows, first = slice(*job.box[axis]), given[axis][0]
        shape = tuple(-1 if d == axis else 1 for d in range(len(job.box)))
        made: list[Taken] = []
        for cells, weights in known[1]:
            places = torch.tensor(cells[rows], device=self.device).sub_(first)
            some = None if weights is None else torch.tensor(weights[rows], dtype=wide, device=self.device)
            made.append((places, None if some is None else some.view(shape)))
        return made

    def scratch(self, job: Job[Any]) -> int:
        """Count padded copies, wide copies of half precisions, and what attention puts in order."""
        framed = isinstance(job.op, Conv) and goes_by_frames(job.op, self._limits)
        return scratch(job, self.device, 8 * math.prod(job.extent) if framed else 0)

    def plain_scratch(self, job: Job[Any]) -> int:
        """Count what calls make beside what they give; torch's own norms and paddings take nothing."""
        return plain_scratch(job, self.device)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Keep no gradients; what autocast converts is in the graph already."""
        before = torch.is_grad_enabled()
        try:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                yield
        finally:
            torch._C._set_grad_enabled(before)  # where the user interrupts torch just when it would put that back

    # what is used of the library ------------------------------------------------------------------------------------

    def take(self, x: Tensor, indices: Sequence[int], axis: int) -> Tensor:
        """Take cells of one axis by number; those in a row are a view."""
        if indices and list(indices) == list(range(indices[0], indices[0] + len(indices))):
            return x.narrow(axis, indices[0], len(indices))
        return x.index_select(axis, torch.tensor(list(indices), device=x.device))

    def cut(self, x: Tensor, region: tuple[slice, ...]) -> Tensor:
        """Cut a region out, without copying."""
        for axis, part in enumerate(region):
            if part.step not in {None, 1}:
                return x[region]
            start = part.start or 0
            stop = x.shape[axis] if part.stop is None else part.stop
            if start or stop != x.shape[axis]:
                x = x.narrow(axis, start, stop - start)
        return x

    def copy(self, x: Tensor) -> Tensor:
        """Give the same cells in memory of their own."""
        return x.clone()

    def layout(self, x: Tensor) -> Hashable:
        """Give the strides, where cells do not lie in order."""
        return None if x.is_contiguous() else x.stride()

    def owns(self, x: Tensor) -> bool:
        """Whether a tensor keeps no more memory alive than its cells take."""
        return x.untyped_storage().nbytes() <= x.numel() * x.element_size()

    def handed(self, x: Tensor) -> Tensor:
        """Give a tensor that may be written to: one cell that is seen in many places is copied to each."""
        return x.clone() if overlaps(tuple(x.shape), x.stride()) else x

    def put(self, out: Tensor, region: tuple[slice, ...], part: Tensor) -> Tensor:
        """Write a part, and give the tensor back."""
        self.cut(out, region).copy_(part)
        return out

    def concat(self, arrays: Arrays, axis: int) -> Tensor:
        """Put tensors one after the other; one is given back as it is."""
        return arrays[0] if len(arrays) == 1 else torch.cat(list(arrays), axis)

    def dtype_name(self, x: Tensor) -> str:
        """Give the name of a tensor's dtype."""
        return _NAMES.get(x.dtype) or _NAMES.setdefault(x.dtype, str(x.dtype).removeprefix("torch."))

    def widen(self, x: Tensor) -> Tensor:
        """Convert half precisions to float32; what is as wide or wider, and integers, stay as they are."""
        return x.float() if is_half(x) else x

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """Convert to a dtype by its name; the tensor itself where it has it."""
        return x.to(getattr(torch, dtype))


def _parts(x: Tensor, axis: int, count: int) -> Sequence[Tensor]:
    """Cut an array that is broadcast into as many parts as the result, along one of its axes, counted from the last."""
    return (x,) * count if -axis > x.ndim or x.shape[axis] == 1 else x.tensor_split(count, axis)


_NAMES: dict[torch.dtype, str] = {}


def _scaled(x: Tensor, scale: Tensor, shift: Tensor, lead: int) -> Tensor:
    """Scale and shift each channel of each sample, in float32, by the call that takes half precisions as they are."""
    count = math.prod(x.shape[:lead])
    weight, bias = (v.expand(*x.shape[:lead], *(1,) * (x.ndim - lead)).reshape(count) for v in (scale, shift))
    mean, variance = torch.zeros(count), torch.ones(count)
    made = F.batch_norm(x.reshape(1, count, -1), mean, variance, weight, bias, eps=0.0)
    return made.reshape(x.shape)


def _taps(op: Resample, axis: int) -> list[Taps]:
    """Give the cells that the whole axis reads, and their weights unless all are 1, tap by tap."""
    taps = op.taps[axis]
    assert taps is not None  # only such axes ask
    made: list[Taps] = []
    for i in range(max(len(row) for row in taps)):
        pairs = [row[i] if i < len(row) else (row[0][0], 0.0) for row in taps]
        plain = all(weight == 1 for _, weight in pairs)
        made.append(([cell for cell, _ in pairs], None if plain else [weight for _, weight in pairs]))
    return made


def _repeated(x: Tensor, times: Sequence[int]) -> Tensor:
    if all(n == 1 for n in times):
        return x
    between = [n for pair in ((size, 1) for size in x.shape) for n in pair]
    wide = [n for pair in zip(x.shape, times, strict=True) for n in pair]
    return x.reshape(between).expand(wide).reshape([n * k for n, k in zip(x.shape, times, strict=True)])


def _weigh(x: Tensor, axis: int, rows: Sequence[Taken]) -> Tensor:
    """Give the weighted sums of an axis, one tap of all rows after the other."""
    total: Tensor | None = None
    for cells, weights in rows:
        part = x.index_select(axis, cells)
        if weights is None:
            total = part if total is None else total.add_(part)
        elif total is None:
            total = part.mul_(weights)
        else:
            total.addcmul_(part, weights)
        del part  # it would be there beside the next one
    assert total is not None  # there is a tap
    return total
