"""Choose a tiling for a budget."""

import math
from itertools import product

from tilekit._errors import PlanError
from tilekit._plan.cut import AxisTiling, cut
from tilekit._plan.forecast import peak_bytes
from tilekit._plan.geometry import Axis, Geometry
from tilekit._plan.layout import Layout, checked_shape
from tilekit._plan.spans import split

__all__ = ["fit"]


def fit(  # noqa: PLR0913
    shape: tuple[int, ...],
    *,
    geometry: Geometry,
    memory_bytes: int,
    channels: int = 3,
    itemsize: int = 4,
    decoder_bytes_per_cell: int = 0,
    tile_batch_size: int = 1,
    overlap_cells: int = 2,
    streaming: bool = False,
) -> tuple[AxisTiling, ...]:
    """
    Try tile sizes, the least redundant work first, until the forecast fits; see `Tiling.fit`.

    Raises
    ------
    PlanError
        If no tiling fits.
    """
    shape = checked_shape(shape, geometry)
    batch = 1 if geometry.batch is None else shape[geometry.batch]

    def needed(axes: tuple[AxisTiling, ...]) -> int:
        layout = Layout(geometry, shape, cut(geometry, shape, axes))
        largest = max(math.prod(b - a for a, b in tile.dst) for tile in layout.tiles)
        held = peak_bytes(layout, channels, itemsize, tile_batch_size, streaming)
        return held + decoder_bytes_per_cell * largest * batch * min(tile_batch_size, len(layout.tiles))

    least = needed(())
    if least <= memory_bytes:
        return ()
    columns = [_choices(axis, shape[axis.position], overlap_cells) for axis in geometry.axes]
    rows = sorted(product(*columns), key=lambda row: (math.prod(c[0] for c in row), math.prod(c[1] for c in row)))
    for row in rows:
        axes = tuple(c[2] for c in row if c[2] is not None)
        if axes and math.prod(c[3] for c in row) * batch * decoder_bytes_per_cell <= memory_bytes:
            need = needed(axes)
            least = min(least, need)
            if need <= memory_bytes:
                return axes
    msg = (
        f"{geometry.name} {shape}: no tiling fits into {memory_bytes} bytes, the least found needs {least};"
        " raise memory_bytes, lower overlap_cells or stream the result"
    )
    raise PlanError(msg)


Choice = tuple[float, int, AxisTiling | None, int]


def _choices(axis: Axis, cells: int, overlap: int) -> list[Choice]:
    """Ways to cut one axis, one for each number of tiles: work factor, tiles, request, cells of the largest tile."""
    whole = axis.law.length(cells)
    by_count: dict[int, Choice] = {1: (1.0, 1, None, whole)}
    for size in range(cells - 1, overlap, -1):
        spans = split(cells, size, overlap, causal=axis.law.causal)
        lengths = [len(axis.law.map(s)) for s in spans]
        factor = axis.law.factor
        row = AxisTiling(axis.name, size * factor, None, overlap * factor)
        choice = (sum(lengths) / whole, len(spans), row, max(lengths))
        # Of the sizes with equally many tiles the smallest does the least work; sizes come in falling order.
        by_count[len(spans)] = min(by_count.get(len(spans), choice), choice, key=lambda c: (c[0], c[3]))
    return list(by_count.values())
