"""Choose a tiling for a budget."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from tilekit._errors import PlanError
from tilekit._plan.cut import AxisTiling, cut
from tilekit._plan.forecast import BLEND_ITEMSIZE, Costs
from tilekit._plan.geometry import Axis, Geometry
from tilekit._plan.layout import Layout, checked_shape
from tilekit._plan.spans import MOST_TILES, Span, checked_integer, split

__all__ = ["fit"]


def fit(  # noqa: PLR0913  a budget has this many facts
    shape: Sequence[int],
    geometry: Geometry,
    costs: Costs,
    *,
    memory_bytes: int,
    overlap_cells: int,
    most_elements: float = math.inf,
    most_work: float = math.inf,
) -> tuple[AxisTiling, ...]:
    """Try tile sizes, the least redundant work first, until the forecast fits; see `Tiling.fit`."""
    shape = checked_shape(shape, geometry)
    overlap_cells, memory_bytes = checked_integer(overlap_cells), checked_integer(memory_bytes)
    whole = Layout(geometry, shape, cut(geometry, shape, ()))
    small = costs.largest_elements(whole.largest_output, whole) <= most_elements
    small = small and costs.largest_work(whole.largest_output, whole) <= most_work
    if small and costs.engine_bytes(whole) + costs.decoder_bytes(whole) <= memory_bytes:
        return ()
    if costs.least_bytes(whole) > memory_bytes:
        msg = (
            f"{geometry.name} {shape}: the output alone takes {costs.least_bytes(whole)} bytes, more than memory_bytes="
            f"{memory_bytes}; stream the result or raise memory_bytes"
        )
        raise PlanError(msg)
    columns = [_choices(axis, shape[axis.position], overlap_cells) for axis in geometry.axes]
    rows = [row for row in product(*columns) if 1 < math.prod(c.tiles for c in row) <= MOST_TILES]
    if not small:
        rows = _small(rows, whole, most_elements, "most_elements", costs.largest_elements)
        rows = _small(rows, whole, most_work, "most_work", costs.largest_work)
    rows.sort(key=lambda row: (math.prod(c.work for c in row), math.prod(c.tiles for c in row)))
    for row in rows:
        if _least(row, geometry, shape, costs) <= memory_bytes:
            layout = _layout(row, geometry, shape)
            left = memory_bytes - costs.decoder_bytes(layout)
            if left >= 0 and costs.engine_bytes(layout, at_most=left) <= left:
                return _requests(row)
    least = min([_least(row, geometry, shape, costs) for row in rows], default=costs.least_bytes(whole))
    msg = (
        f"{geometry.name} {shape}: no tiling fits into {memory_bytes} bytes, even the smallest tiles need more than"
        f" {least}; raise memory_bytes, lower overlap_cells or stream the result"
    )
    raise PlanError(msg)


def _small(
    rows: list["Row"], whole: Layout, most: float, name: str, size_of: Callable[[int, Layout], int]
) -> list["Row"]:
    """Leave out tiles of which an array, or an operation, would be too large."""
    if most == math.inf:
        return rows
    sizes = [size_of(math.prod(choice.largest for choice in row), whole) for row in rows]
    small = [row for row, size in zip(rows, sizes, strict=True) if size <= most]
    if not small:
        least = min(sizes, default=size_of(whole.largest_output, whole))
        msg = (
            f"{whole.geometry.name} {whole.shape}: even the smallest tiles have {_SIZED[name]} of {least}, more than "
            f"{name}={most}; lower overlap_cells or the batch"
        )
        raise PlanError(msg)
    return small


_SIZED = {"most_elements": "arrays (in elements)", "most_work": "an operation (in multiply-adds)"}


class _Slab(NamedTuple):
    """Output cells along an axis, while the run is at one of its tiles."""

    block: int  # final in a stream after the tile
    length: int  # of the tile
    came: int  # of the tile before, which wait for this one
    waiting: int  # of this tile, which wait for the next one


class _Choice(NamedTuple):
    """One way to cut an axis."""

    work: float  # output cells of all tiles, over those of the axis
    tiles: int
    request: AxisTiling | None  # None leaves the axis whole
    largest: int  # output cells of the largest tile, the first and the last
    first: int
    last: int
    slabs: frozenset[_Slab]  # of its tiles, where those of other axes come in between; many are alike


Row = tuple[_Choice, ...]


def _requests(row: Row) -> tuple[AxisTiling, ...]:
    return tuple(choice.request for choice in row if choice.request is not None)


def _layout(row: Row, geometry: Geometry, shape: tuple[int, ...]) -> Layout:
    return Layout(geometry, shape, cut(geometry, shape, _requests(row)))


def _least(row: Row, geometry: Geometry, shape: tuple[int, ...], costs: Costs) -> int:
    """
    Bytes that a row of choices needs at least, without a walk: the output or a block, strips, a result, the decode.

    Tiles come row by row, so that strips of the first axis that is cut wait along all of the others.
    """
    batch = 1 if geometry.batch is None else shape[geometry.batch]
    numbers = batch * (1 if geometry.channel is None else costs.channels)
    sizes = [axis.law.length(shape[axis.position]) for axis in geometry.axes]
    largest = math.prod(choice.largest for choice in row)
    cut = 0 if costs.streaming else next(i for i, choice in enumerate(row) if choice.request is not None)
    others = row[:cut] + row[cut + 1 :]
    first, last = math.prod(c.first for c in others), math.prod(c.last for c in others)
    across = math.prod(sizes) // sizes[cut]
    if costs.streaming:
        engine = max(
            slab.block * across * costs.itemsize + _of_slab(slab, costs.itemsize, across, first, last)
            for slab in row[cut].slabs
        )
    else:
        held = largest * costs.itemsize
        if costs.itemsize < BLEND_ITEMSIZE and costs.tile_batch_size == 1:  # wider ones are added in the output itself
            held = max(held, *(_of_slab(slab, costs.itemsize, across, first, last) for slab in row[cut].slabs))
        engine = math.prod(sizes) * costs.itemsize + held
    return numbers * engine + largest * batch * costs.decoder_bytes_per_cell


def _of_slab(slab: _Slab, itemsize: int, across: int, first: int, last: int) -> int:
    """Bytes of strips and a result at the first and at the last tile of a slab, at least."""
    begin = slab.came * (across - first) * BLEND_ITEMSIZE + slab.length * first * itemsize
    end = slab.waiting * across * BLEND_ITEMSIZE + slab.length * last * itemsize
    return max(begin, end)


def _choices(axis: Axis, cells: int, overlap: int) -> list[_Choice]:
    """Ways to cut one axis, one for each number of tiles: the smallest size of that number, with the least work."""
    whole, factor = axis.law.length(cells), axis.law.factor
    choices = [_Choice(1.0, 1, None, whole, whole, whole, frozenset([_Slab(whole, whole, 0, 0)]))]
    for size in _sizes(cells, overlap):
        spans = split(cells, size, overlap, causal=axis.law.causal)
        outs = [axis.law.map(s) for s in spans]
        lengths = [len(s) for s in outs]
        request = AxisTiling(axis.name, size * factor, None, overlap * factor)
        ends = (max(lengths), lengths[0], lengths[-1])
        choices.append(_Choice(sum(lengths) / whole, len(spans), request, *ends, _slabs(outs, causal=axis.law.causal)))
    return choices


def _slabs(outs: Sequence[Span], *, causal: bool) -> frozenset[_Slab]:
    """Give what the tiles of an axis are as slabs; see `segments` for cells without weight."""
    starts = [*(s.start + (causal and s.left_ramp > 0) for s in outs), outs[-1].stop]
    waiting = [0, *(max(0, s.stop - start) for s, start in zip(outs, starts[1:], strict=True))]
    return frozenset(
        _Slab(starts[k + 1] - starts[k], len(span), waiting[k], waiting[k + 1]) for k, span in enumerate(outs)
    )


def _sizes(cells: int, overlap: int) -> Iterator[int]:
    """Sizes of which the next smaller one gives more tiles, in falling order."""
    moved, count = cells - overlap, 2
    while moved > 0:
        step = -(-moved // count)
        if step >= moved or -(-moved // step) > MOST_TILES:
            return
        yield overlap + step
        if step == 1:
            return
        count = -(-moved // (step - 1))
