"""The plan of a task queue: which tasks run whole and which in tiles, and where the tiles lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from typing import Literal

from tilekit._errors import PlanError
from tilekit._plan.spans import Interval
from tilekit.norms._intervals import AxisTiles, lengths_along, tiles_along
from tilekit.norms._tasks import Apply, Attention, Task, depths

NormMode = Literal["exact", "fast", "tile"]
Offload = Literal["host", "disk"]
TileIndex = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """
    Consecutive tasks that run on the same tiles; a phase with one tile runs whole.

    Attributes
    ----------
    first, last : int
        The first task and the one after the last.
    axes : tuple of AxisTiles
        The tiles along each axis.
    """

    first: int
    last: int
    axes: tuple[AxisTiles, ...]

    @property
    def tiles(self) -> tuple[TileIndex, ...]:
        """Index of every tile, last axis fastest."""
        return tuple(product(*(range(axis.count) for axis in self.axes)))

    def span(self, tile: TileIndex, task: int) -> tuple[Interval, ...]:
        """Give the cells that a tile holds before a task."""
        return tuple(axis.spans[task - self.first][i] for axis, i in zip(self.axes, tile, strict=True))

    def core(self, tile: TileIndex, task: int) -> tuple[Interval, ...]:
        """Give the cells of a tile that no other tile counts, before a task."""
        return tuple(axis.cores[task - self.first][i] for axis, i in zip(self.axes, tile, strict=True))

    def lengths(self, task: int) -> tuple[int, ...]:
        """Give the cells of the whole axes before a task."""
        return tuple(axis.lengths[task - self.first] for axis in self.axes)

    def estimated_until(self, *, colour_fix: bool) -> int:
        """Give the first task whose norms are not estimated: with the colour fix, the first downsampling."""
        for k in range(self.first, self.last):
            before, after = self.lengths(k), self.lengths(k + 1)
            if colour_fix and any(2 * b < a + 2 for a, b in zip(before, after, strict=True)):
                return k
        return self.last

    def work_factor(self) -> float:
        """Cells computed, over those of the untiled network: the mean of that ratio over all tasks."""
        levels = range(len(self.axes[0].lengths) - 1)
        factors = [math.prod(axis.work_factor(k) for axis in self.axes) for k in levels]
        return sum(factors) / max(1, len(factors))


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """
    What `TaskQueue.run` will do, and the memory it will take.

    Attributes
    ----------
    shape : tuple of int
        Of the input.
    out_shape : tuple of int
        Of the result.
    norm : {"exact", "fast", "tile"}
        Which statistics a norm uses.
    offload : {"host", "disk"} or None
        Where tiles are kept between two norms; None keeps them on the device.
    phases : tuple of Phase
        In order.
    peak_bytes : int
        Expected peak memory of the arrays on the device: waiting tiles, residuals, the current tile and the result;
        without weights and without the scratch memory of the framework's convolutions.
    largest_elements : int
        Elements of the largest of these arrays; see `tilekit.backends.limits`.
    """

    shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    norm: NormMode
    offload: Offload | None
    phases: tuple[Phase, ...]
    peak_bytes: int = 0
    largest_elements: int = 0

    @property
    def tiles(self) -> int:
        """Number of tiles in the phase that has most."""
        return max(len(phase.tiles) for phase in self.phases)

    def __str__(self) -> str:
        lines = [f"{self.shape} -> {self.out_shape}, norm={self.norm!r}, offload={self.offload!r}"]
        for phase in self.phases:
            counts = " x ".join(f"{axis.count} {axis.name} (halo {axis.halo})" for axis in phase.axes)
            work = phase.work_factor()
            lines.append(f"  tasks {phase.first}-{phase.last - 1}: tiles {counts}, {work:.2f} times the cells")
        return "\n".join([*lines, f"  peak {self.peak_bytes / 2**20:.0f} MiB"])

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        return f"<pre>{escape(str(self))}</pre>"


def channels_through(tasks: Sequence[Task], channels: int) -> list[int]:
    """Give the number of channels before each task and after the last."""
    counts = [channels]
    for task in tasks:
        changed = task.channels if isinstance(task, Apply) else None
        counts.append(changed or counts[-1])
    return counts


def tile_counts(lengths: Sequence[Sequence[int]], tile: Sequence[int | None]) -> list[int]:
    """Count the tiles of each axis: as few as are no larger than `tile` where the axis is finest."""
    return [1 if size is None else -(-max(axis) // size) for axis, size in zip(lengths, tile, strict=True)]


def whole_phase(tasks: Sequence[Task], first: int, last: int, cells: Sequence[int], names: Sequence[str]) -> Phase:
    """Make a phase with one tile."""
    part = tasks[first:last]
    return Phase(first, last, tuple(tiles_along(part, a, cells[a], 1, names[a]) for a in range(len(names))))


def tiled_phase(  # noqa: PLR0913, PLR0917  # what a phase is made of
    tasks: Sequence[Task], first: int, last: int, cells: Sequence[int], names: Sequence[str], counts: Sequence[int]
) -> Phase:
    """Make a phase with tiles; refuse tiles that are smaller than the halo they need."""
    part = tasks[first:last]
    axes = tuple(tiles_along(part, a, cells[a], counts[a], names[a]) for a in range(len(names)))
    for axis in axes:
        small = axis.below_reach()
        if small is not None:
            msg = (
                f"{axis.name}: a tile of {small[0]} cells is smaller than the reach of the network, "
                f"{small[1]} cells to a side; make the tiles at least that large"
            )
            raise PlanError(msg)
    return Phase(first, last, axes)


def tiled_ranges(tasks: Sequence[Task], lengths: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """
    List the ranges of tasks that can run in tiles while all others run whole, the shortest first.

    A range reaches to one end of the network, holds no attention, cuts no residual connection, and begins before an
    upsampling (or behind an attention) or ends after a downsampling, so that what stays whole is coarse.
    """
    n, depth = len(tasks), depths(tasks)
    sizes = [math.prod(axis[k] for axis in lengths) for k in range(n + 1)]
    starts = [
        k
        for k in range(n)
        if not depth[k] and (k == 0 or sizes[k + 1] > sizes[k] or isinstance(tasks[k - 1], Attention))
    ]
    ends = [k for k in range(1, n + 1) if not depth[k] and (k == n or sizes[k] < sizes[k - 1])]
    ranges = [(a, b) for a in starts for b in ends if a < b and (a == 0 or b == n)]
    without_attention = [(a, b) for a, b in ranges if not any(isinstance(task, Attention) for task in tasks[a:b])]
    # The finest part must be among those that are tiled.
    finest = max(range(n + 1), key=lambda k: sizes[k])
    return sorted((r for r in without_attention if r[0] <= finest <= r[1]), key=lambda r: r[1] - r[0])


def phases_of(
    tasks: Sequence[Task],
    tiled: tuple[int, int],
    cells: Sequence[int],
    names: Sequence[str],
    tile: Sequence[int | None],
) -> tuple[Phase, ...]:
    """Lay out the whole phase before, the tiled one, and the whole phase after."""
    lengths = [lengths_along(tasks, axis, n) for axis, n in enumerate(cells)]
    first, last = tiled
    phases = []
    if first:
        phases.append(whole_phase(tasks, 0, first, cells, names))
    inner = [axis[first : last + 1] for axis in lengths]
    counts = tile_counts(lengths, tile)
    phases.append(tiled_phase(tasks, first, last, [axis[0] for axis in inner], names, counts))
    if last < len(tasks):
        phases.append(whole_phase(tasks, last, len(tasks), [axis[last] for axis in lengths], names))
    return tuple(phases)
