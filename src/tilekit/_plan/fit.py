"""Choose a tiling for a budget."""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from tilekit._errors import PlanError
from tilekit._plan.cut import AxisTiling, cut
from tilekit._plan.forecast import Costs
from tilekit._plan.geometry import Axis, Geometry
from tilekit._plan.layout import Layout, checked_shape
from tilekit._plan.spans import split

__all__ = ["fit"]


def fit(
    shape: Sequence[int], geometry: Geometry, costs: Costs, *, memory_bytes: int, overlap_cells: int
) -> tuple[AxisTiling, ...]:
    """Try tile sizes, the least redundant work first, until the forecast fits; see `Tiling.fit`."""
    shape = checked_shape(shape, geometry)
    batch = 1 if geometry.batch is None else shape[geometry.batch]

    def peak(axes: tuple[AxisTiling, ...]) -> int:
        layout = Layout(geometry, shape, cut(geometry, shape, axes))
        return costs.engine_bytes(layout) + costs.decoder_bytes(layout)

    least = peak(())
    if least <= memory_bytes:
        return ()
    columns = [_choices(axis, shape[axis.position], overlap_cells) for axis in geometry.axes]
    rows = sorted(product(*columns), key=lambda row: (math.prod(c.work for c in row), math.prod(c.tiles for c in row)))
    for row in rows:
        axes = tuple(c.request for c in row if c.request is not None)
        decoder = math.prod(c.largest for c in row) * batch * costs.decoder_bytes_per_cell
        if axes and decoder <= memory_bytes:
            needed = peak(axes)
            least = min(least, needed)
            if needed <= memory_bytes:
                return axes
    msg = (
        f"{geometry.name} {shape}: no tiling fits into {memory_bytes} bytes, the least found needs {least};"
        " raise memory_bytes, lower overlap_cells or stream the result"
    )
    raise PlanError(msg)


class _Choice(NamedTuple):
    """One way to cut an axis."""

    work: float  # output cells of all tiles, over those of the axis
    tiles: int
    request: AxisTiling | None  # None leaves the axis whole
    largest: int  # output cells of the largest tile


def _choices(axis: Axis, cells: int, overlap: int) -> list[_Choice]:
    """Ways to cut one axis, one for each number of tiles."""
    whole, factor = axis.law.length(cells), axis.law.factor
    by_count = {1: _Choice(1.0, 1, None, whole)}
    for size in range(cells - 1, overlap, -1):
        spans = split(cells, size, overlap, causal=axis.law.causal)
        lengths = [len(axis.law.map(s)) for s in spans]
        request = AxisTiling(axis.name, size * factor, None, overlap * factor)
        choice = _Choice(sum(lengths) / whole, len(spans), request, max(lengths))
        # Of the sizes with equally many tiles the smallest does the least work; sizes come in falling order.
        by_count[len(spans)] = min(by_count.get(len(spans), choice), choice, key=lambda c: (c.work, c.largest))
    return list(by_count.values())
