"""The size of a tile, as users give it. Integers only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilekit._errors import PlanError

__all__ = ["TileSizes", "pieces_of", "sizes_of", "tile_along"]

TileSizes = int | Sequence[int | None]


def sizes_of(tile: TileSizes | None, names: Sequence[str]) -> tuple[int | None, ...]:
    """Read the size of a tile along each axis."""
    sizes = (tile,) * len(names) if tile is None or isinstance(tile, int) else tuple(tile)
    if len(sizes) != len(names):
        msg = f"tile: got {len(sizes)} sizes {sizes}, expected one for each of {', '.join(names)}"
        raise PlanError(msg)
    for size, name in zip(sizes, names, strict=True):
        if size is not None and (type(size) is not int or size < 1):
            msg = f"{name}: tile size must be a positive number of cells or None, got {size!r}"
            raise PlanError(msg)
    return sizes


def pieces_of(finest: Sequence[int], sizes: Sequence[int | None]) -> int:
    """Count the pieces of as many cells as a tile has."""
    shares = [1 if size is None else max(1, n / size) for n, size in zip(finest, sizes, strict=True)]
    return math.ceil(math.prod(shares) - 1e-9)


def tile_along(n: int, finest: int, size: int | None) -> int:
    """Give the cells of a tile along an axis of `n`, whose finest array has `finest`."""
    return n if size is None else max(1, min(n, size * n // finest))
