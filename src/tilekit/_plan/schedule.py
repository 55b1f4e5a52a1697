"""In which order tiles are run, which of them share a call, and how much of the result is final after each call."""

from collections.abc import Iterator
from dataclasses import dataclass

from tilekit._errors import PlanError
from tilekit._plan.layout import Layout, Tile
from tilekit._plan.spans import checked_integer, is_integer

__all__ = ["Call", "checked_batch_size", "schedule"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the function: its tiles, all of one shape, and the output cells of the first axis final after it."""

    tiles: tuple[Tile, ...]
    final: int


def checked_batch_size(layout: Layout, tile_batch_size: object) -> int:
    """Give a batch size back, or refuse it."""
    if not is_integer(tile_batch_size) or checked_integer(tile_batch_size) < 1:
        msg = f"tile_batch_size must be an integer of at least 1, got {tile_batch_size!r}"
        raise PlanError(msg)
    size = checked_integer(tile_batch_size)
    if size > 1 and layout.geometry.batch is None:
        msg = f"{layout.geometry.name} has no batch axis to put {size} tiles on; use tile_batch_size=1"
        raise PlanError(msg)
    return size


def schedule(layout: Layout, tile_batch_size: int, *, by_slab: bool) -> Iterator[Call]:
    """
    Batch tiles of one shape as soon as there are enough of them; only the last call of a shape may be partly full.

    With `by_slab` no tile waits for one of a later slab, so that slabs are finished one after the other.
    """
    size = checked_batch_size(layout, tile_batch_size)
    unfinished = [layout.n_tiles // layout.slabs] * layout.slabs
    unseen = list(unfinished)
    waiting: dict[tuple[int, ...], list[Tile]] = {}
    first = 0  # slab that is not finished

    def call(tiles: list[Tile]) -> Call:
        nonlocal first
        for tile in tiles:
            unfinished[tile.index[0]] -= 1
        while first < layout.slabs and not unfinished[first]:
            first += 1
        return Call(tuple(tiles), layout.slab_starts[first] if first < layout.slabs else layout.out_sizes[0])

    for tile in layout.iter_tiles():
        group = waiting.setdefault(tile.shape, [])
        group.append(tile)
        unseen[tile.index[0]] -= 1
        if len(group) == size:
            yield call(waiting.pop(tile.shape))
        if by_slab and not unseen[tile.index[0]]:
            yield from (call(group) for group in waiting.values())
            waiting.clear()
    yield from (call(group) for group in waiting.values())
