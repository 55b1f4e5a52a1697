"""Choose a tiling for a budget."""

import math
from itertools import product

from tilekit._errors import PlanError
from tilekit._geometry import Axis, Geometry
from tilekit._plan import plan
from tilekit._spans import split
from tilekit._tiling import AxisTiling, Tiling

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
) -> Tiling:
    """
    Try tile sizes, the least redundant work first, until the forecast fits; see `Tiling.fit`.

    Raises
    ------
    PlanError
        If no tiling fits.
    """
    whole = plan(shape, None, geometry=geometry)
    batch = 1 if geometry.batch is None else shape[geometry.batch]

    def needed(tiling: Tiling | None) -> int:
        made = whole if tiling is None else plan(shape, tiling, geometry=geometry)
        most = max(math.prod(b - a for a, b in tile.dst) for tile in made.tiles)
        held = made.peak_bytes(
            channels=channels, itemsize=itemsize, tile_batch_size=tile_batch_size, streaming=streaming
        )
        together = min(tile_batch_size, len(made.tiles))
        return held + decoder_bytes_per_cell * most * batch * together

    least = needed(None)
    if least <= memory_bytes:
        return Tiling()
    columns = [_choices(axis, shape[axis.position], overlap_cells) for axis in geometry.axes]
    rows = sorted(product(*columns), key=lambda row: (math.prod(c[0] for c in row), math.prod(c[1] for c in row)))
    for row in rows:
        cut = tuple(c[2] for c in row if c[2] is not None)
        tiling = Tiling.from_axes(cut)
        if cut and math.prod(c[3] for c in row) * batch * decoder_bytes_per_cell <= memory_bytes:
            need = needed(tiling)
            least = min(least, need)
            if need <= memory_bytes:
                return tiling
    msg = (
        f"{geometry.name} {shape}: no tiling fits into {memory_bytes} bytes, the least found needs {least};"
        " raise memory_bytes, lower overlap_cells or stream the result"
    )
    raise PlanError(msg)


Choice = tuple[float, int, AxisTiling | None, int]


def _choices(axis: Axis, cells: int, overlap: int) -> list[Choice]:
    """Ways to cut one axis, one for each number of tiles: work factor, tiles, request, cells of the largest tile."""
    whole = axis.law.length(cells)
    found: dict[int, Choice] = {1: (1.0, 1, None, whole)}
    for size in range(cells - 1, overlap, -1):
        spans = split(cells, size, overlap, causal=axis.law.causal)
        lengths = [len(axis.law.map(s)) for s in spans]
        factor = axis.law.factor
        row = AxisTiling(axis.name, size * factor, None, overlap * factor)
        choice = (sum(lengths) / whole, len(spans), row, max(lengths))
        # Of the sizes with equally many tiles the smallest does the least work; sizes come in falling order.
        found[len(spans)] = min(found.get(len(spans), choice), choice, key=lambda c: (c[0], c[3]))
    return list(found.values())
