"""Choose a tiling for a budget."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from tilekit._errors import PlanError
from tilekit._plan.cut import AxisTiling, cut
from tilekit._plan.forecast import BLEND_ITEMSIZE, Costs
from tilekit._plan.geometry import Axis, Geometry
from tilekit._plan.layout import Layout, checked_shape
from tilekit._plan.spans import MOST_TILES, checked_integer, split

__all__ = ["fit"]


def fit(
    shape: Sequence[int], geometry: Geometry, costs: Costs, *, memory_bytes: int, overlap_cells: int
) -> tuple[AxisTiling, ...]:
    """Try tile sizes, the least redundant work first, until the forecast fits; see `Tiling.fit`."""
    shape = checked_shape(shape, geometry)
    overlap_cells, memory_bytes = checked_integer(overlap_cells), checked_integer(memory_bytes)
    whole = Layout(geometry, shape, cut(geometry, shape, ()))
    if costs.engine_bytes(whole) + costs.decoder_bytes(whole) <= memory_bytes:
        return ()
    if costs.least_bytes(whole) > memory_bytes:
        msg = (
            f"{geometry.name} {shape}: the output alone takes {costs.least_bytes(whole)} bytes, more than memory_bytes="
            f"{memory_bytes}; stream the result or raise memory_bytes"
        )
        raise PlanError(msg)
    columns = [_choices(axis, shape[axis.position], overlap_cells) for axis in geometry.axes]
    rows = [row for row in product(*columns) if 1 < math.prod(c.tiles for c in row) <= MOST_TILES]
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


class _Choice(NamedTuple):
    """One way to cut an axis."""

    work: float  # output cells of all tiles, over those of the axis
    tiles: int
    request: AxisTiling | None  # None leaves the axis whole
    largest: int  # output cells of the largest tile, the first and the last
    first: int
    last: int
    block: int  # output cells that are final after the first tile
    waiting: int  # output cells of the first tile that wait for the second


Row = tuple[_Choice, ...]


def _requests(row: Row) -> tuple[AxisTiling, ...]:
    return tuple(choice.request for choice in row if choice.request is not None)


def _layout(row: Row, geometry: Geometry, shape: tuple[int, ...]) -> Layout:
    return Layout(geometry, shape, cut(geometry, shape, _requests(row)))


def _least(row: Row, geometry: Geometry, shape: tuple[int, ...], costs: Costs) -> int:
    """Bytes that a row of choices needs at least, without a walk: the output or first block, strips, the decode."""
    batch = 1 if geometry.batch is None else shape[geometry.batch]
    numbers = batch * (1 if geometry.channel is None else costs.channels)
    across = math.prod(a.law.length(shape[a.position]) for a in geometry.axes[1:])
    largest = math.prod(choice.largest for choice in row)
    if costs.streaming:  # when the last tile of the first slab comes
        result = row[0].first * math.prod(choice.last for choice in row[1:])
        engine = (row[0].block * costs.itemsize + row[0].waiting * BLEND_ITEMSIZE) * across + result * costs.itemsize
    else:
        cells = geometry.axes[0].law.length(shape[geometry.axes[0].position]) * across
        engine = (cells + (largest if len(_requests(row)) else 0)) * costs.itemsize
    return numbers * engine + largest * batch * costs.decoder_bytes_per_cell


def _choices(axis: Axis, cells: int, overlap: int) -> list[_Choice]:
    """Ways to cut one axis, one for each number of tiles: the smallest size of that number, with the least work."""
    whole, factor = axis.law.length(cells), axis.law.factor
    choices = [_Choice(1.0, 1, None, whole, whole, whole, whole, 0)]
    for size in _sizes(cells, overlap):
        spans = split(cells, size, overlap, causal=axis.law.causal)
        outs = [axis.law.map(s) for s in spans]
        lengths, block = [len(s) for s in outs], outs[1].start
        request = AxisTiling(axis.name, size * factor, None, overlap * factor)
        cells_of_tiles = (max(lengths), lengths[0], lengths[-1], block, max(0, lengths[0] - block - 1))
        choices.append(_Choice(sum(lengths) / whole, len(spans), request, *cells_of_tiles))
    return choices


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
