"""Cutting one axis into overlapping spans, and the mask of one span. Integers and floats only."""

from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral
from operator import index
from typing import SupportsIndex, TypeGuard

from tilekit._errors import PlanError

__all__ = [
    "MOST_TILES",
    "Interval",
    "Span",
    "check_tiles",
    "checked_integer",
    "is_integer",
    "split",
    "split_by_count",
    "split_uniform",
    "trapezoid_mask",
    "uniform_count",
]

Interval = tuple[int, int]  # first cell and the cell after the last


MOST_TILES = 250_000  # of a plan; each takes about a kilobyte and 20 microseconds


def is_integer(value: object) -> TypeGuard[SupportsIndex]:
    """Whether a value is an integer, of Python or of NumPy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def checked_integer(value: object) -> int:
    """Give an integer back as one of Python; refuse anything else."""
    if not is_integer(value):
        msg = f"expected an integer, got {value!r}"
        raise PlanError(msg)
    return index(value)


def check_tiles(count: int) -> None:
    """Refuse a number of tiles beyond the limit, before any is made."""
    if count > MOST_TILES:
        msg = f"a plan has at most {MOST_TILES} tiles, this one would have {count}; make the tiles larger"
        raise PlanError(msg)


@dataclass(frozen=True, slots=True)
class Span:
    """
    One interval of one axis with the lengths of its fades, in cells of that axis.

    Parameters
    ----------
    start, stop : int
        First cell and the cell after the last.
    left_ramp, right_ramp : int
        Cells over which the span fades in and out; 0 where it begins or ends abruptly.

    Examples
    --------
    >>> len(Span(4, 13, 4, 0))
    9
    """

    start: int
    stop: int
    left_ramp: int = 0
    right_ramp: int = 0

    def __len__(self) -> int:
        return self.stop - self.start


def split(
    length: int, size: int, overlap: int, *, causal: bool = False, min_size: int | None = None
) -> tuple[Span, ...]:
    """
    Cut an axis into spans of a given size; the last one may be shorter.

    Parameters
    ----------
    length : int
        Cells of the axis.
    size : int
        Cells of one span, before the causal adjustment.
    overlap : int
        Cells shared by neighbours, ``0 <= overlap < size``.
    causal : bool, keyword-only
        Start every span but the first one cell earlier, with a left ramp one longer. A decoder that turns n cells
        into 1 + f(n-1) gives its first cell one frame only, so a later span has to read one cell more.
    min_size : int, keyword-only, optional
        If the last span is shorter than this, it grows leftward, and the ramp of its neighbour widens; at most `size`.
        An axis shorter than this stays whole.

    Returns
    -------
    tuple of Span
        In order; together they cover ``[0, length)``.

    Raises
    ------
    PlanError
        If a number is out of range.

    Notes
    -----
    Source: the interval tables of Lightricks/LTX-2 1.0.0 and 1.2.0 (``split_by_size``, ``split_temporal_causal``).

    Examples
    --------
    >>> [(s.start, s.stop) for s in split(24, 16, 2)]
    [(0, 16), (14, 24)]
    >>> split(13, 8, 3, causal=True)[1]
    Span(start=4, stop=13, left_ramp=4, right_ramp=0)
    """
    _check(length, overlap, min_size)
    if size < 1:
        msg = f"tile size must be at least 1 cell, got {size}"
        raise PlanError(msg)
    _check_overlap(overlap, size)
    if length <= size or length < (min_size or 0):
        return (Span(0, length),)
    _check_least(min_size, size)
    step = size - overlap
    count = -((overlap - length) // step)  # ceil((length - overlap) / step)
    check_tiles(count)
    spans = [Span(i * step, i * step + size, overlap, overlap) for i in range(count)]
    return _finished(spans, length, causal, min_size)


def split_by_count(
    length: int, count: int, overlap: int = 0, *, causal: bool = False, min_size: int | None = None
) -> tuple[Span, ...]:
    """
    Cut an axis into a given number of spans whose sizes differ by one cell at most.

    Parameters
    ----------
    length : int
        Cells of the axis.
    count : int
        Number of spans, at most `length`.
    overlap : int
        Cells shared by neighbours; smaller than the size that results.
    causal, min_size
        As in `split`.

    Returns
    -------
    tuple of Span
        In order, the larger ones first; together they cover ``[0, length)``.

    Raises
    ------
    PlanError
        If a number is out of range, or the overlap is not smaller than the spans.

    Notes
    -----
    Source: the interval tables of Lightricks/LTX-2 1.2.0 (``split_by_count``).

    Examples
    --------
    >>> [(s.start, s.stop) for s in split_by_count(16, 4, 2)]
    [(0, 6), (4, 10), (8, 13), (11, 16)]
    """
    _check(length, overlap, min_size)
    if not 1 <= count <= length:
        msg = f"tile count must be between 1 and the {length} cells of the axis, got {count}"
        raise PlanError(msg)
    if count == 1:
        return (Span(0, length),)
    size, extra = divmod(length + overlap * (count - 1), count)
    if overlap >= size:
        msg = f"overlap must be smaller than the tiles, got overlap={overlap} with {count} tiles of {size} cells"
        raise PlanError(msg)
    _check_least(min_size, size + (extra == count - 1))
    check_tiles(count)
    spans, start = [], 0
    for i in range(count):
        stop = start + size + (i < extra)
        spans.append(Span(start, stop, overlap, overlap))
        start = stop - overlap
    return _finished(spans, length, causal, min_size)


def uniform_count(length: int, size: int, overlap: int, *, causal: bool = False) -> int:
    """Fewest spans of one size that cover an axis and are no larger than those of `split`, which checks the numbers."""
    split(length, size, overlap, causal=causal)
    most, shared = size + causal, overlap + causal
    return 1 if length <= most else -((shared - length) // (most - shared))


def split_uniform(length: int, count: int, overlap: int, *, causal: bool = False) -> tuple[Span, ...]:
    """
    Cut an axis into `count` spans of one and the same size, spread evenly.

    Neighbours share at least `overlap` cells (one more where `causal`), some of them one or a few cells more.

    Examples
    --------
    >>> [(s.start, s.stop) for s in split_uniform(22, 2, 4)]
    [(0, 13), (9, 22)]
    """
    _check(length, overlap, None)
    if not 1 <= count <= length:
        msg = f"tile count must be between 1 and the {length} cells of the axis, got {count}"
        raise PlanError(msg)
    if count == 1:
        return (Span(0, length),)
    check_tiles(count)
    shared = overlap + causal
    size = -(-(length + (count - 1) * shared) // count)
    _check_overlap(shared, size)
    starts = [i * (length - size) // (count - 1) for i in range(count)]
    if len(set(starts)) < count:  # two spans would be the same
        msg = f"{length} cells are too few for {count} different tiles of {size} cells; lower the count or the overlap"
        raise PlanError(msg)
    overlaps = [0, *(a + size - b for a, b in pairwise(starts)), 0]
    return tuple(
        Span(start, start + size, left, right - (causal and right > 0))
        for start, left, right in zip(starts, overlaps, overlaps[1:], strict=False)
    )


def trapezoid_mask(length: int, left_ramp: int, right_ramp: int, *, left_starts_from_0: bool = False) -> list[float]:
    """
    Weights of one span: a linear rise, ones, a linear fall.

    Parameters
    ----------
    length : int
        Cells of the span.
    left_ramp, right_ramp : int
        Cells of the rise and the fall. A ramp longer than the span counts as long as the span; where both meet their
        product stands.
    left_starts_from_0 : bool, keyword-only
        The rise is 0, 1/l, 2/l, … instead of 1/(l+1), 2/(l+1), …; for axes whose spans read one cell of context.

    Returns
    -------
    list of float, length `length`
        Weights between 0 and 1.

    Raises
    ------
    PlanError
        If the length is not positive or a ramp is negative.

    Notes
    -----
    Source: Lightricks/LTX-2, ``compute_trapezoidal_mask_1d``.

    Examples
    --------
    >>> trapezoid_mask(5, 0, 3)
    [1.0, 1.0, 0.75, 0.5, 0.25]
    >>> trapezoid_mask(4, 2, 0, left_starts_from_0=True)
    [0.0, 0.5, 1.0, 1.0]
    """
    if length < 1 or left_ramp < 0 or right_ramp < 0:
        msg = f"a mask needs a length above 0 and ramps of at least 0, got {length}, {left_ramp} and {right_ramp}"
        raise PlanError(msg)
    left, right = min(left_ramp, length), min(right_ramp, length)
    mask = [1.0] * length
    for i in range(left):
        mask[i] = i / left if left_starts_from_0 else (i + 1) / (left + 1)
    for i in range(right):
        mask[length - 1 - i] *= (i + 1) / (right + 1)
    return mask


def _check(length: int, overlap: int, min_size: int | None) -> None:
    if length < 1:
        msg = f"an axis needs at least 1 cell, got {length}"
        raise PlanError(msg)
    if overlap < 0:
        msg = f"overlap must be at least 0 cells, got {overlap}"
        raise PlanError(msg)
    if min_size is not None and min_size < 1:
        msg = f"min_size must be at least 1 cell, got {min_size}"
        raise PlanError(msg)


def _check_overlap(overlap: int, size: int) -> None:
    if not 0 <= overlap < size:
        msg = f"overlap must be at least 0 and smaller than the tile size, got overlap={overlap} with size={size}"
        raise PlanError(msg)


def _check_least(min_size: int | None, size: int) -> None:
    """Only the last span grows, so no other may be below the least size."""
    if min_size is not None and min_size > size:
        msg = f"min_size must be at most the tile size, got min_size={min_size} with tiles of {size} cells; lower it"
        raise PlanError(msg)


def _finished(spans: list[Span], length: int, causal: bool, min_size: int | None) -> tuple[Span, ...]:
    """Close the ends of the axis, grow a short last span, and apply the causal adjustment."""
    spans[0] = replace(spans[0], left_ramp=0)
    spans[-1] = replace(spans[-1], stop=length, right_ramp=0)
    if min_size is not None and len(spans[-1]) < min_size:
        spans = _grown(spans, length, min_size)
    if causal:
        spans[1:] = [replace(s, start=s.start - 1, left_ramp=s.left_ramp + 1) for s in spans[1:]]
    return tuple(spans)


def _grown(spans: list[Span], length: int, min_size: int) -> list[Span]:
    before, last = spans[-2], spans[-1]
    start = length - min_size  # behind the start of the neighbour, as that is at least as long and ends earlier
    shared = before.stop - start
    return [*spans[:-2], replace(before, right_ramp=shared), replace(last, start=start, left_ramp=shared)]
