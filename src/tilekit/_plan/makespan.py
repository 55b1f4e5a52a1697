"""How long several devices take for the calls of a plan, in cells of pixels; integers alone."""

from heapq import heapreplace
from math import prod

from tilekit._errors import PlanError
from tilekit._plan.layout import Layout
from tilekit._plan.schedule import Call, schedule
from tilekit._plan.spans import checked_integer, is_integer

__all__ = ["makespan"]


def makespan(layout: Layout, devices: int, tile_batch_size: int = 1, *, streaming: bool = False) -> float:
    """
    Forecast the time that devices take, over that of one device that does the whole in one piece.

    Parameters
    ----------
    layout : Layout
        The tiles.
    devices : int
        How many, all as fast; each takes the next call of the plan as soon as it is free.
    tile_batch_size : int
        Most tiles of one call.
    streaming : bool
        Whether tiles wait only for others of their slab.

    Returns
    -------
    float
        1.0 for one device without overlap; the speedup is one over it. A tile costs the cells of its pixel side, and
        nothing else costs anything. Results are taken in the order of the plan, twice the devices in flight.

    Raises
    ------
    PlanError
        If `devices` is no integer of at least 1.
    """
    if not is_integer(devices) or checked_integer(devices) < 1:
        msg = f"devices must be an integer of at least 1, got {devices!r}"
        raise PlanError(msg)
    count = checked_integer(devices)
    free, taken = [0] * count, list[int]()
    for number, call in enumerate(schedule(layout, tile_batch_size, by_slab=streaming)):
        ready = taken[number - 2 * count] if number >= 2 * count else 0
        done = max(free[0], ready) + _cost(layout, call)
        heapreplace(free, done)
        taken.append(max(done, taken[-1] if taken else 0))
    sizes = (
        layout.out_sizes if layout.direction == "decode" else [layout.shape[a.position] for a in layout.geometry.axes]
    )
    return taken[-1] / prod(sizes)


def _cost(layout: Layout, call: Call) -> int:
    """Count the cells of the pixel side of all tiles of a call."""
    sides = [tile.dst if layout.direction == "decode" else tile.src for tile in call.tiles]
    return sum(prod(stop - start for start, stop in side) for side in sides)
