"""What the kernels of PyTorch take for themselves while they make a box, in bytes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch

from tilekit._exact.boxes import Box, Shape, cells, extent
from tilekit._exact.chain import Chain
from tilekit._exact.ghosts import in_order
from tilekit._exact.kernels._convolve import crops_of, evened, paddings
from tilekit._exact.kernels._jobs import Job, Laid
from tilekit._exact.kernels._torch_layout import lies
from tilekit._exact.kernels._torch_measured import measured
from tilekit._exact.ops import (
    Along,
    Attention,
    Conv,
    Gather,
    Local,
    MatMul,
    Moments,
    Normalize,
    Pick,
    Pointwise,
    Pool,
    Reduce,
    Resample,
    Whole,
)
from tilekit.backends.torch_onednn import onednn_dtypes

__all__ = ["CALLS", "SMALL", "Frugal", "at_once", "chain_pieces", "even_parts", "heavy", "in_turn"]
__all__ += ["moment_pieces", "pieces", "plain_scratch", "pool_pieces", "scratch", "small_pieces", "times_of"]

SMALL = 1 << 16
"""Cells up to which square distances are summed in float64."""
LARGE = 1 << 13
"""Cells above which a box is made in pieces."""
PIECES = 8
CACHED = 1 << 16
"""Cells of a piece of a large array: what is made of it on the way stays in the cache of a processor."""
TURNED = 4
"""How many times the cells of a strip a weight must have for the strip to be put into the weight's order."""
SUMS, MOMENTS = 12, 40
"""Bytes for each group of what is summed beside the distances, and of its moments before they are rounded."""
CALLS = (Along, Attention, Gather, MatMul, Pick, Pool, Reduce, Whole)
"""Kinds that call what the front end handed in, which may make more than it gives."""
_SIZES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@runtime_checkable
class Frugal(Protocol):
    """A call that takes less for itself on a processor than torch does in a plain call."""

    @property
    def plain(self) -> Callable[..., Any]:
        """Torch's own call."""

    def __call__(self, arrays: Sequence[torch.Tensor]) -> torch.Tensor:
        """Call it."""

    def scratch(self, made: Shape, size: int) -> int:
        """Count the bytes beside what is made, in numbers of `size` bytes."""


def scratch(job: Job[Any], device: torch.device, more: int = 0) -> int:
    """Count the bytes beside what is made and what is given, and say how what is made lies."""
    taken = _taken(job, device)
    if isinstance(taken, Laid):
        return taken
    return Laid.of(taken + more, lies(job, keeps=device.type != "cpu" or _onednn(job)))


def _taken(job: Job[Any], device: torch.device) -> int:  # one for each kind
    size, op = _SIZES.get(job.dtype, 4), job.op
    if isinstance(op, Conv):
        return _convolved(job, size, device) if job.boxes[0] is not None else 0
    if isinstance(op, Pointwise) and isinstance(op.call, Chain):
        return _chained(op.call, job.box, size, device)
    if isinstance(op, CALLS) or _windowed(op):
        return _called(job, size, device) if job.given else 0
    if isinstance(op, Normalize):
        return _rounded(job, device) if size < 4 else 0
    if isinstance(op, Moments) and job.boxes[0] is not None:
        return _averaged(job, job.boxes[0], size, device)
    return _resampled(job, size) if isinstance(op, Resample) else 0


def _averaged(job: Job[Moments], read: Box, size: int, device: torch.device) -> int:
    """Count the distances from a mean, a piece of them at a time; none where half precisions are read as they are."""
    op, n = job.op, cells(read)
    rows = op.groups * math.prod(extent(read)[axis] for axis in op.batch_axes)
    lies = job.given[0] if job.given else None
    half = size < 4 or (lies is not None and _SIZES.get(lies[0], 4) < 4)
    if half and device.type == "cpu" and lies is not None and in_turn(op, extent(read), lies[1]):
        parted = even_parts(n // rows)
        if parted:
            return MOMENTS * rows * parted
    apart = n * max(size, 4) // moment_pieces(n, n // rows, half=half)
    return max(apart + SUMS * rows, MOMENTS * rows)


def _called(job: Job[Any], size: int, device: torch.device) -> int:
    if isinstance(job.op, Along | MatMul) and isinstance(job.op.call, Frugal):
        return job.op.call.scratch(job.extent, size) if device.type == "cpu" else plain_scratch(job, device)
    return _pooled(job, size, device) if isinstance(job.op, Pool) else measured(job, device)


def plain_scratch(job: Job[Any], device: torch.device) -> int:
    """Count what torch's own calls make beside what they give; its norms and paddings take nothing."""
    op = job.op
    if isinstance(op, Along | MatMul) and isinstance(op.call, Frugal):
        job = replace(job, op=replace(op, call=op.call.plain))
    return measured(job, device) if (isinstance(op, CALLS) or _windowed(op)) and job.given else 0


def _windowed(op: Any) -> bool:
    """Whether windows are taken or put back by a call of torch; other layers say themselves what they take."""
    return isinstance(op, Local) and getattr(op.call, "windowed", False)


def _pooled(job: Job[Pool], size: int, device: torch.device) -> int:
    """Count what torch's call takes; where something is thought of around, of the largest piece, with its copy."""
    pads, given = job.op.pads(job.box, job.shapes[0]), job.boxes[0]
    assert given is not None  # windows always read something
    if not any(before or after for before, after in pads):
        return measured(job, device)
    wide = [before + n + after for n, (before, after) in zip(extent(given), pads, strict=True)]
    made = list(job.extent)
    axis, count = pool_pieces(job.op, wide)
    wide[axis], made[axis] = -(-wide[axis] // count), -(-made[axis] // count)
    strides = tuple(math.prod(wide[axis + 1 :]) for axis in range(len(wide)))
    box, read = (tuple((0, n) for n in shape) for shape in (made, wide))
    piece = replace(job, box=box, boxes=(read,), given=((job.dtype, strides),))
    return math.prod(wide) * size + measured(piece, device) + (math.prod(made) * size if count > 1 else 0)


def pool_pieces(op: Pool, wide: Sequence[int]) -> tuple[int, int]:
    """Give the axis along which windows over a padded copy are made in pieces, and in how many."""
    axis = max((a for a in range(len(wide)) if a not in op.axes), key=lambda a: wide[a])
    return axis, pieces(math.prod(wide), wide[axis])


def _chained(chain: Chain, box: Box, size: int, device: torch.device) -> int:
    """Count what is made on the way to a result, of the largest piece where there are several, and that piece."""
    whole = chain.scratch(box)
    count = chain_pieces(whole, extent(box), device)
    if count == 1:
        return whole
    most = 0
    for axis, (start, stop) in enumerate(box):
        if stop - start >= count:
            piece = (*box[:axis], (start, start - (start - stop) // count), *box[axis + 1 :])
            most = max(most, chain.scratch(piece) + cells(piece) * size)
    return most


def chain_pieces(scratch: int, made: Shape, device: torch.device) -> int:
    """Say in how many pieces operations cell by cell are made, where arrays are made on the way to the result."""
    n, longest = math.prod(made), max(made, default=1)
    if not scratch:
        return 1
    return small_pieces(n, longest) if device.type == "cpu" else pieces(n, longest)


def small_pieces(cells: int, longest: int) -> int:
    """Say in how many pieces a large box is made on a processor, so that a piece stays in its cache."""
    return min(longest, max(PIECES, cells // CACHED)) if cells > LARGE else 1


def at_once(op: Normalize, dtype: str, given: str, shape: Shape, strides: Shape) -> bool:
    """Say whether a processor scales half precisions in one call of torch, which makes nothing wider on the way."""
    order = op.batch_axes == tuple(range(op.channel_axis)) and given == dtype
    return order and all(
        n == 1 or stride == math.prod(shape[axis + 1 :])
        for axis, (n, stride) in enumerate(zip(shape, strides, strict=True))
    )


def in_turn(op: Moments, shape: Shape, strides: Shape) -> bool:
    """Say whether the cells of each group lie one after the other, and the groups too."""
    order = op.batch_axes == tuple(range(op.channel_axis))
    return order and in_order(shape, strides)


def even_parts(cells: int) -> int:
    """
    Say in how many equal parts the moments of half precisions are taken, by a call that adds in float32.

    Parts are short enough for that to lose nothing; 0 where no number of them is.
    """
    least = max(1, -(-cells // SMALL))
    return next((n for n in range(least, PIECES * least + 1) if cells % n == 0), 0)


def _rounded(job: Job[Normalize], device: torch.device) -> int:
    """Count the result before it is rounded, or a piece of it."""
    lies = job.given[0] if job.given else None
    if device.type == "cpu" and lies is not None and at_once(job.op, job.dtype, lies[0], job.extent, lies[1]):
        return 0
    aside = (*job.op.batch_axes, job.op.channel_axis)
    rest = [n for axis, n in enumerate(job.extent) if axis not in aside]
    n = cells(job.box)
    return n * 4 // pieces(n, max(rest, default=1))


def pieces(cells: int, longest: int) -> int:
    """Say in how many pieces along its longest axis a large box is made, so that copies in between stay small."""
    return min(longest, PIECES) if cells > LARGE else 1


def moment_pieces(cells: int, longest: int, *, half: bool) -> int:
    """Say the same of the distances from a mean: their copy should be no more than a norm's result is beside it."""
    if half:
        return max(min(2, longest), pieces(cells, longest))
    return pieces(cells, longest) if cells > SMALL else 1


def _resampled(job: Job[Resample], size: int) -> int:
    """Count what is repeated and what is weighed, one axis after the other, and the weights."""
    given = job.boxes[0]
    assert given is not None  # a resampling always reads something
    times = [1 if taps is None else times_of(job, axis, given) for axis, taps in enumerate(job.op.taps)]
    if all(times):
        return 0
    shape = [n * max(1, k) for n, k in zip(extent(given), times, strict=True)]
    copied = math.prod(shape) * size if any(k > 1 for k in times) else 0
    taps = [(0, True) if k else _row(job, axis) for axis, k in enumerate(times)]
    wide = max(size, 4) if any(not plain for _, plain in taps) else size
    there = most = math.prod(shape) * wide if wide > size else 0
    for axis, (count, _) in enumerate(taps):
        if count:
            shape[axis] = job.extent[axis]
            step = math.prod(shape) * wide
            most = max(most, there + step * min(count, 2))
            there = step
    free = [n for n, taken in zip(job.extent, job.op.taps, strict=True) if taken is None]
    made, count = cells(job.box) * size, pieces(cells(job.box), max(free, default=1))
    most = max(most, there + made) if wide > size else most
    rows = sum(n * (8 + wide) * count for (count, _), n in zip(taps, job.extent, strict=True) if count > 1)
    return copied + rows + (max(0, most - made) if count == 1 else -(-most // count))


def times_of(job: Job[Resample], axis: int, given: Box) -> int:
    """Give how often each cell given is repeated, if it is just that; else 0."""
    taps, (start, stop) = job.op.taps[axis], job.box[axis]
    assert taps is not None  # only such axes ask
    count, rest = divmod(stop - start, given[axis][1] - given[axis][0])
    if rest:
        return 0
    first = given[axis][0]
    if job.op.times(axis) == count and start == first * count:  # mostly, and strips of many rows are asked for often
        return count
    plain = all(taps[i] == ((first + (i - start) // count, 1.0),) for i in range(start, stop))
    return count if plain else 0


def _row(job: Job[Resample], axis: int) -> tuple[int, bool]:
    """Give how many cells one of the output reads along an axis, and whether each is one cell as it is."""
    taps = job.op.taps[axis]
    if taps is None:
        return 0, True
    rows = taps[slice(*job.box[axis])]
    count = max(len(row) for row in rows)
    return count, count == 1 and all(row[0][1] == 1 for row in rows)


def _spread(job: Job[Conv], pads: Sequence[tuple[int, int]], size: int) -> int:
    """Count what a transposed convolution makes before it is cut to the box, and the box before a bias is added."""
    crops = crops_of(job.op, pads)
    if not crops.needed:
        return 0
    shape = list(job.extent)
    for axis, rest in zip(job.op.axes, crops.rest, strict=True):
        shape[axis] += sum(rest)
    made = math.prod(shape)
    return max(made, math.prod(job.extent) if crops.lacking else 0) * size


def heavy(weight: int, given: int, made: int) -> bool:
    """Say whether a weight has so many cells more than what goes in and out that these are better turned than it."""
    return weight >= TURNED * (given + made)


def _convolved(job: Job[Conv], size: int, device: torch.device) -> int:
    """Count a padded copy, and where oneDNN is asked those of a small strip in the order of its weight."""
    op, padded, lies, given = job.op, _padded(job, size), job.given[0] if job.given else None, job.boxes[0]
    if lies is None or given is None or op.transposed or lies[1][op.channel_axis] != 1:
        return padded
    if device.type != "cpu" or not _onednn(job):
        return padded
    source, made = padded // size or cells(given), cells(job.box)
    weight = math.prod(op.kernel) * op.channels * job.extent[op.channel_axis]
    if not heavy(weight, source, source // extent(given)[op.channel_axis] * job.extent[op.channel_axis]):
        return padded
    return source * size + max(padded - made * size, made * size)


def _onednn(job: Job[Any]) -> bool:
    """Say whether this processor has convolutions of oneDNN for a dtype: not every one has those of half precisions."""
    return getattr(torch, job.dtype, None) in onednn_dtypes()


def _padded(job: Job[Conv], size: int) -> int:
    """Count a copy of the input with the zeros that torch cannot add on its own: more at one end than at the other."""
    op, pads, given = job.op, paddings(job), job.boxes[0]
    assert given is not None  # asked only where something is read
    if op.transposed:
        return _spread(job, pads, size)
    pads = evened(op, pads)
    stretched = any(n != 1 for n in op.input_dilation)
    merged = [min(before, after) for before, after in pads]
    if not stretched and all(before == after for before, after in pads):
        return 0
    shape: Shape = extent(given)
    wide = list(shape)
    for axis, apart, (before, after), both in zip(op.axes, op.input_dilation, pads, merged, strict=True):
        wide[axis] = (shape[axis] - 1) * apart + 1 + before + after - 2 * both
    return math.prod(wide) * size * (2 if stretched else 1)
