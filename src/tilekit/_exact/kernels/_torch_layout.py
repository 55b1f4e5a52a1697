"""How what the kernels of PyTorch make lies in memory: its calls keep the order of what they are given."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tilekit._exact.boxes import Shape, extent
from tilekit._exact.chain import Chain
from tilekit._exact.ghosts import contiguous, in_order
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Concat, Conv, Normalize, Pointwise, broadcast

__all__ = ["lies"]

Lying = tuple[Shape, Shape]
"""A shape, and strides in cells."""


def lies(job: Job[Any], *, keeps: bool = True) -> Shape | None:
    """
    Give the strides of what a kernel makes, in cells; None where it lies in order, or where nobody knows.

    `keeps` says whether convolutions over frames keep the order of channels that lie together: torch's own do not.
    """
    if (
        not job.given
        or (job.boxes[0] is None and not isinstance(job.op, Concat))
        or all(row is None or _plain(box, row[1]) for box, row in zip(job.boxes, job.given, strict=True))
    ):
        return None
    op = job.op
    if isinstance(op, Pointwise):
        made = _chained(op.call, job) if isinstance(op.call, Chain) else _together(job.extent, _given(job))
    elif isinstance(op, Normalize):
        made = _together(job.extent, _given(job)[:1])
    elif isinstance(op, Concat):
        last = len(job.extent) in {4, 5} and all(_channels_last(*row) for row in _given(job))
        made = _dense(job.extent, (1, *range(len(job.extent) - 1, 1, -1), 0)) if last else contiguous(job.extent)
    elif isinstance(op, Conv):
        made = _convolved(op, job, keeps or len(op.axes) < 3)
    else:
        return None
    return None if in_order(job.extent, made) else made


def _plain(box: Any, strides: Shape) -> bool:
    """Say whether an array's axes lie in order, with gaps or without: what is made of it does so too."""
    least = 0
    for (start, stop), stride in zip(reversed(box), reversed(strides), strict=True):
        if stop - start > 1:
            if stride < least:
                return False
            least = stride
    return True


def _given(job: Job[Any]) -> list[Lying]:
    rows = zip(job.boxes, job.given, strict=True)
    return [(extent(box), row[1]) for box, row in rows if box is not None and row is not None]


def _chained(chain: Chain, job: Job[Any]) -> Shape:
    """Follow the links: what writes to an array keeps its layout."""
    held: list[Lying] = [
        (job.extent, (0,) * len(job.extent)) if box is None or row is None else (extent(box), row[1])
        for box, row in zip(job.boxes, job.given, strict=True)
    ]
    for link in chain.links:
        shape = extent(broadcast(job.box, link.shape))
        rows = [held[source] for source in link.sources]
        held.append(rows[0] if link.writes else (shape, _together(shape, rows)))
    return held[-1][1]


def _together(shape: Shape, given: Sequence[Lying]) -> Shape:
    """Lay out a result cell by cell: densely, its axes in the order of the first array that says which one is inner."""
    n = len(shape)
    rows = [
        (0,) * (n - len(own))
        + tuple(
            0 if k == 1 and m != 1 else s
            for k, s, m in zip(own, strides, shape[-len(own) :] if own else (), strict=True)
        )
        for own, strides in given
    ]
    order = list(range(n))[::-1]
    for i in range(1, n):
        at = i
        for j in range(i - 1, -1, -1):
            turn = _inner(order[j], order[at], shape, rows)
            if turn > 0:
                order[j], order[at] = order[at], order[j]
                at = j
            elif turn < 0:
                break
    return _dense(shape, tuple(order))


def _inner(first: int, second: int, shape: Shape, rows: Sequence[Shape]) -> int:
    """Say which of two axes is the inner one: -1 the first, 1 the second, 0 where no array says."""
    for strides in rows:
        a, b = strides[first], strides[second]
        if a and b:
            if a != b:
                return -1 if a < b else 1
            if shape[first] > shape[second]:
                return 1
    return 0


@lru_cache(1 << 12)
def _dense(shape: Shape, order: tuple[int, ...]) -> Shape:
    """Give strides without gaps, for axes from the innermost on."""
    strides, step = [0] * len(shape), 1
    for axis in order:
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def _convolved(op: Conv, job: Job[Any], keeps: bool) -> Shape:
    """Give the layout of a convolution: its channels lie together where those of its input or its weight do."""
    n = len(job.extent)
    lead = tuple(axis for axis in range(n) if axis not in op.axes and axis != op.channel_axis)
    order = (*lead, op.channel_axis, *op.axes)
    made = tuple(job.extent[axis] for axis in order)
    rows = _given(job)
    turned = [(tuple(rows[0][0][axis] for axis in order), tuple(rows[0][1][axis] for axis in order)), *rows[1:2]]
    inner = list(range(n - 1, 1, -1))
    last = keeps and any(_channels_last(shape, strides) for shape, strides in turned)
    strides = _dense(made, (1, *inner, 0) if last else (*inner, 1, 0))
    return tuple(strides[order.index(axis)] for axis in range(n))


def _channels_last(shape: Shape, strides: Shape) -> bool:
    """Say whether torch takes an array's channels to lie together."""
    inner = [axis for axis in range(len(shape) - 1, 1, -1) if shape[axis] > 1]
    if len(shape) < 3 or shape[1] == 1 or not strides[1] or not inner:
        return False
    least = 0
    for axis in (1, *inner, *((0,) if shape[0] > 1 else ())):
        if strides[axis] < least:
            return False
        least = strides[axis] * shape[axis]
    return True
