"""Where the pieces of one tile's result go: boxes over which the same tiles contribute. Integers only."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

from tilekit._plan.layout import Layout, Tile
from tilekit._plan.spans import Interval

__all__ = ["Box", "Ledger", "boxes"]


@dataclass(frozen=True, slots=True)
class Box:
    """
    A piece of a tile's result.

    Parameters
    ----------
    key : tuple of int
        Segment of each axis; tiles that share the piece agree in it.
    dst : tuple of (start, stop)
        Its place in the whole output.
    src : tuple of (start, stop)
        Its place in the tile's result.
    weights : tuple of (tuple of float or None)
        The tile's weights along each axis; None where it contributes alone.
    sharers : int
        How many tiles contribute; 1 for a core, which is copied.
    """

    key: tuple[int, ...]
    dst: tuple[Interval, ...]
    src: tuple[Interval, ...]
    weights: tuple[tuple[float, ...] | None, ...]
    sharers: int


def boxes(layout: Layout, tile: Tile) -> Iterator[Box]:
    """Cut the result of a tile at the segments of its axes."""
    columns = []
    for number, index in enumerate(tile.index):
        rows, offset = [], tile.dst[number][0]
        for key in layout.segments_of_tiles[number][index]:
            segment = layout.segments[number][key]
            weights = None if segment.weights is None else segment.weights[segment.tiles.index(index)]
            intervals = ((segment.start, segment.stop), (segment.start - offset, segment.stop - offset))
            rows.append((key, *intervals, weights, len(segment.tiles)))
        columns.append(rows)
    for row in product(*columns):
        yield Box(
            tuple(r[0] for r in row),
            tuple(r[1] for r in row),
            tuple(r[2] for r in row),
            tuple(r[3] for r in row),
            prod(r[4] for r in row),
        )


class Ledger:
    """How many tiles have contributed to each shared box so far."""

    def __init__(self) -> None:
        self._done: dict[tuple[int, ...], int] = {}

    def count(self, box: Box) -> tuple[bool, bool]:
        """Count one contribution: whether it is the first, and whether it is the last."""
        done = self._done.pop(box.key, 0) + 1
        last = done == box.sharers
        if not last:
            self._done[box.key] = done
        return done == 1, last
