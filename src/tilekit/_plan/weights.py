"""
Blending weights of one axis, normalised once, in float64, for any number of tiles over a cell.

An axis falls apart into segments over which the same tiles contribute. Where one tile alone contributes its weight is
one and nothing need be multiplied; elsewhere the masks are divided by their sum. The product of the axes' weights then
sums to one everywhere, so that neither a buffer of weights nor a final division is needed.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from tilekit._errors import PlanError
from tilekit._plan.spans import Span

__all__ = ["MOST_WEIGHTS", "Segment", "segments"]

MOST_WEIGHTS = 8_000_000  # numbers along one axis, in memory as Python's floats

Ramp = tuple[int, int, int, int]  # start, stop, left ramp, right ramp


@dataclass(frozen=True, slots=True)
class Segment:
    """
    A piece of an axis, in output cells, and the tiles that contribute to it.

    `weights` has one row for each tile; None where there is only one tile.
    """

    start: int
    stop: int
    tiles: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...] | None


@lru_cache(maxsize=64)
def segments(spans: tuple[Span, ...], left_starts_from_0: bool) -> tuple[Segment, ...]:
    """
    Cut an axis where its set of contributing tiles changes, and normalise the weights.

    `spans` are the tiles of the axis in **output** cells. The segments come in order, without gaps; a cell to which no
    tile gives weight is refused, and so are too many weights.
    """
    # The first cell of a rise from zero carries no weight: a tile without weight must not count as a contributor.
    support = [s.start + (left_starts_from_0 and s.left_ramp > 0) for s in spans]
    cuts = sorted({*support, *(s.stop for s in spans)})
    if cuts[0] != 0:
        msg = f"cells 0 to {cuts[0] - 1} have no weight from any tile"
        raise PlanError(msg)
    seen: dict[tuple[tuple[Ramp, ...], int], tuple[tuple[float, ...], ...]] = {}
    pieces, numbers = [], 0
    for start, stop, tiles in _contributors(spans, support, cuts):
        numbers += len(tiles)
        weights = None
        if len(tiles) > 1:
            covering = [spans[i] for i in tiles]
            ramps = tuple((s.start - start, s.stop - start, s.left_ramp, s.right_ramp) for s in covering)
            if (ramps, stop - start) not in seen:
                numbers += len(tiles) * (stop - start)
                _check_numbers(numbers)
                seen[ramps, stop - start] = _normalised(ramps, stop - start, left_starts_from_0)
            weights = seen[ramps, stop - start]
        _check_numbers(numbers)
        pieces.append(Segment(start, stop, tiles, weights))
    return tuple(pieces)


def _check_numbers(numbers: int) -> None:
    if numbers > MOST_WEIGHTS:
        msg = f"the overlaps of one axis have more than {MOST_WEIGHTS} weights; make them shorter or the tiles larger"
        raise PlanError(msg)


def _contributors(
    spans: Sequence[Span], support: Sequence[int], cuts: Sequence[int]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Between every two cuts the tiles that contribute: one pass, as spans end in order."""
    coming = deque(sorted(range(len(spans)), key=support.__getitem__))
    there: list[int] = []
    for start, stop in pairwise(cuts):
        while coming and support[coming[0]] <= start:
            insort(there, coming.popleft())
        there = [i for i in there if spans[i].stop >= stop]
        if not there:
            msg = f"cells {start} to {stop - 1} have no weight from any tile"
            raise PlanError(msg)
        yield start, stop, tuple(there)


@lru_cache(maxsize=1024)
def _normalised(ramps: tuple[Ramp, ...], length: int, from_0: bool) -> tuple[tuple[float, ...], ...]:
    """Masks of several tiles over the cells 0 to `length`, divided by their sum; the same for all equal overlaps."""
    masks = [[_mask(ramp, cell, from_0) for cell in range(length)] for ramp in ramps]
    sums = [sum(column) for column in zip(*masks, strict=True)]
    return tuple(tuple(m / s for m, s in zip(mask, sums, strict=True)) for mask in masks)


def _mask(ramp: Ramp, cell: int, from_0: bool) -> float:
    """Value of a trapezoid at one cell."""
    start, stop, left, right = ramp
    value, i, j = 1.0, cell - start, stop - 1 - cell
    if i < left:
        value = i / left if from_0 else (i + 1) / (left + 1)
    if j < right:
        value *= (j + 1) / (right + 1)
    return value
