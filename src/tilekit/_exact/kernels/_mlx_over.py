"""
Over which input MLX writes on a processor: one that nobody else reads, as large as the result, without gaps.

Operations cell by cell that follow one another are made a few rows at a time, into the result or over such an input:
so they take no more than what `mx.compile` makes of them, which holds none of the arrays between.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from tilekit._exact.boxes import Interval, Shape, extent
from tilekit._exact.chain import Chain, Writable
from tilekit._exact.ghosts import in_order
from tilekit._exact.graph import cell_bytes
from tilekit._exact.kernels._jobs import FREE, Job, Laid
from tilekit._exact.ops import Along, Normalize, Pad, Pointwise, Scatter, Take

__all__ = ["SPARE", "over", "pieced", "pieces"]

SPARE = 1 << 14
"""Bytes by which memory may be larger than what MLX writes to it."""
LEAST = 1 << 14
"""Bytes of the smallest piece of a chain: it takes as long to ask for as to make."""
PIECES = 128
"""In how many a chain is made at most: what one takes is little beside the result then."""
_COPIED = {"sort", "partition"}
"""What MLX makes in the place of a copy."""


def pieces(job: Job[Any], chain: Chain) -> tuple[int, int]:
    """Give the axis along which a chain is made piece by piece, and how many; one where that saves nothing."""
    shape = job.extent
    count = min(PIECES, math.prod(shape) * cell_bytes(job.dtype) // LEAST)
    if count < 2 or _straight(job, chain):
        return 0, 1
    axis = next((axis for axis, n in enumerate(shape) if n >= count), max(range(len(shape)), key=shape.__getitem__))
    return axis, min(count, shape[axis])


def _straight(job: Job[Any], chain: Chain) -> bool:
    """Whether all of a chain goes into the memory of its first result: each operation reads one large array, once."""
    large = {i for i, box in enumerate(job.boxes) if box is not None and extent(box) == job.extent}
    again = any(set(link.sources) - set(link.done) for link in chain.links[:-1])
    return not again and large <= set(chain.links[0].done) and len(large) < 2 and not chain.scratch(job.box)


def pieced(interval: Interval, count: int) -> Iterator[Interval]:
    """Give the rows of the pieces."""
    first, last = interval
    n = last - first
    for i in range(count):
        yield first + i * n // count, first + (i + 1) * n // count


def over(job: Job[Any], taken: int) -> int:
    """
    Add to what a kernel takes for itself how the result lies, and over which input.

    A plain call is thought to do the same: whether `mx.compile` has a hand in it does not show.
    """
    place = _PLACES.get(type(job.op)) if job.given else None
    return taken if place is None else place(job, taken)


def _cell_by_cell(job: Job[Any], taken: int) -> int:
    if isinstance(job.op.call, Chain):
        return _chain(job, job.op.call)
    if not _known(job.op.call):
        return taken
    lies = _dense(job)
    fit = [i for i in _fitting(job) if lies is not None or in_order(job.extent, _strides(job, i))]
    return Laid.of(taken, lies, fit[0] if fit else None)


def _chain(job: Job[Any], chain: Chain) -> int:
    """Count what a piece of a chain takes and the piece itself, or the whole chain."""
    axis, count = pieces(job, chain)
    rows = max(pieced(job.box[axis], count), key=lambda rows: rows[1] - rows[0]) if job.box else (0, 1)
    piece = (*job.box[:axis], rows, *job.box[axis + 1 :])
    taken = chain.scratch(piece) + math.prod(extent(piece)) * cell_bytes(job.dtype)
    fit = _fitting(job)
    if count == 1:
        taken = chain.scratch(job.box, _freed(job))
        straight = _straight(job, chain) and _known(chain.links[0].call)
        fit = [i for i in fit if straight and in_order(job.extent, _strides(job, i))]
    return Laid.of(taken, None, fit[0] if fit else None)


def _freed(job: Job[Any]) -> dict[int, int]:
    """Give the bytes of inputs that are free."""
    rows = enumerate(zip(job.boxes, job.given, job.holds, strict=True))
    return {
        i: math.prod(extent(box)) * cell_bytes(row[0])
        for i, (box, row, holds) in rows
        if box is not None and row is not None and holds == FREE
    }


def _along(job: Job[Any], taken: int) -> int:
    name = getattr(job.op.call, "name", "")
    lies = _strides(job, 0)
    if name not in {"softmax", *_COPIED} or not _gapless(job.extent, lies) or (name == "softmax" and lies[-1] != 1):
        return taken
    return Laid.of(taken, lies, next(iter(_fitting(job)), None))


def _first(job: Job[Any], taken: int) -> int:
    return Laid.of(taken, None, 0) if 0 in _fitting(job) and in_order(job.extent, _strides(job, 0)) else taken


def _by_number(job: Job[Any], taken: int) -> int:
    """Say how cells lie that MLX takes by number: those of the axis that is taken stand farthest apart."""
    given = job.boxes[0]
    if given is None or getattr(job.op, "mode", "") == "constant":
        return taken
    axes = [job.op.axis] if isinstance(job.op, Take) else range(len(given))
    order = list(range(len(given)))
    for axis in axes:
        if isinstance(job.op, Take) or extent(given)[axis] != job.extent[axis]:
            order = [axis, *(other for other in order if other != axis)]
    strides, step = [0] * len(order), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= job.extent[axis]
    return Laid.of(taken, tuple(strides))


_PLACES: dict[type, Callable[[Job[Any], int], int]] = {
    Along: _along,
    Normalize: _first,
    Pad: _by_number,
    Pointwise: _cell_by_cell,
    Scatter: _first,
    Take: _by_number,
}


def _known(call: Any) -> bool:
    """Whether a call is one of MLX, whose result shares no memory."""
    return isinstance(call, Writable) and call.fresh()


def _fitting(job: Job[Any]) -> list[int]:
    """Give the inputs that are free, as large as the result, and of cells as large."""
    found = []
    for i, (box, row) in enumerate(zip(job.boxes, job.given, strict=True)):
        same = box is not None and row is not None and extent(box) == job.extent
        if (
            same
            and row is not None
            and cell_bytes(row[0]) == cell_bytes(job.dtype)
            and job.holds
            and job.holds[i] == FREE
        ):
            found.append(i)
    return found


def _strides(job: Job[Any], i: int) -> Shape:
    row = job.given[i]
    assert row is not None  # only asked for what is given
    return row[1]


def _dense(job: Job[Any]) -> Shape | None:
    """Give how a result lies that MLX makes cell by cell in memory without gaps; None where it makes it in order."""
    lies = None
    for i, row in enumerate(job.given):
        box = job.boxes[i]
        if row is None or box is None or math.prod(extent(box)) == 1:
            continue
        if extent(box) != job.extent or not _gapless(job.extent, row[1]) or lies not in {None, row[1]}:
            return None
        lies = row[1]
    return lies


def _gapless(shape: Shape, strides: Shape) -> bool:
    step = 1
    for stride, n in sorted((stride, n) for n, stride in zip(shape, strides, strict=True) if n != 1):
        if stride != step:
            return False
        step *= n
    return True
