"""Where each tile lies before each task, along one axis. Integers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tilekit._errors import PlanError
from tilekit._plan.spans import Interval
from tilekit.norms._tasks import Add, Apply, Store, Task


@dataclass(frozen=True, slots=True)
class AxisTiles:
    """
    The tiles of one axis through a sequence of tasks.

    A level is the state before a task; the last level is the result.

    Attributes
    ----------
    name : str
        Of the axis, for error messages.
    lengths : tuple of int
        Cells of the whole axis, at each level.
    spans : tuple of tuple of (start, stop)
        The cells that a tile holds, by level and tile: its core and what remains of its halo.
    cores : tuple of tuple of (start, stop)
        The cells that are counted and kept, by level and tile: they cover the axis once.
    """

    name: str
    lengths: tuple[int, ...]
    spans: tuple[tuple[Interval, ...], ...]
    cores: tuple[tuple[Interval, ...], ...]

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.cores[0])

    @property
    def longest(self) -> int:
        """The most cells with which a tile begins."""
        return max(stop - start for start, stop in self.spans[0])

    def work_factor(self, level: int) -> float:
        """Give the cells of all tiles over those of the axis."""
        return sum(stop - start for start, stop in self.spans[level]) / self.lengths[level]

    @property
    def halo(self) -> int:
        """The widest halo with which a tile begins, in cells of the first level."""
        return self._halo(0)

    def below_reach(self) -> tuple[int, int] | None:
        """Find where a tile has more halo than core: (cells of the core, cells of the halo), as cells of the result."""
        finest = max(self.lengths)
        for level, (length, cores) in enumerate(zip(self.lengths, self.cores, strict=True)):
            smallest, halo = min(stop - start for start, stop in cores), self._halo(level)
            if smallest < max(1, halo):
                return smallest * finest // length, -(-halo * finest // length)
        return None

    def _halo(self, level: int) -> int:
        ends = zip(self.spans[level], self.cores[level], strict=True)
        return max(max(core[0] - span[0], span[1] - core[1]) for span, core in ends)


def lengths_along(tasks: Sequence[Task], axis: int, cells: int) -> list[int]:
    """Follow the length of an axis through the tasks."""
    lengths = [cells]
    for task in tasks:
        lengths.append(task.along(axis).length(lengths[-1]) if isinstance(task, Apply) else lengths[-1])
    return lengths


def tiles_along(tasks: Sequence[Task], axis: int, cells: int, count: int, name: str) -> AxisTiles:
    """Place `count` tiles along an axis: from the cores of the result back to what each tile must begin with."""
    lengths = lengths_along(tasks, axis, cells)
    coarse = min(lengths)
    if count > coarse:
        msg = f"{name}: {count} tiles, but the axis has only {coarse} cells at its coarsest; make the tiles larger"
        raise PlanError(msg)
    # Cut where the axis is coarsest, so that tiles of a fine axis begin on whole cells of the coarse one.
    cuts = [(i * coarse // count) * lengths[-1] // coarse for i in range(count)] + [lengths[-1]]
    wanted = list(pairwise(cuts))
    spans, cores = [tuple(wanted)], [tuple(wanted)]
    stored: list[tuple[list[Interval], int]] = []
    for k in range(len(tasks) - 1, -1, -1):
        task = tasks[k]
        if isinstance(task, Apply):
            wanted = [task.along(axis).need(cells, lengths[k]) for cells in wanted]
        elif isinstance(task, Add):
            stored.append((wanted, lengths[k]))
        elif isinstance(task, Store):
            kept, length = stored.pop()
            if length != lengths[k]:
                msg = f"task {task.name!r}: {name} has {lengths[k]} cells here and {length} where the residual is added"
                raise PlanError(msg)
            wanted = [_hull(cells, needed) for cells, needed in zip(wanted, kept, strict=True)]
        core = _cores(wanted, lengths[k])
        wanted = [_hull(cells, counted) for cells, counted in zip(wanted, core, strict=True)]
        spans.append(tuple(wanted))
        cores.append(tuple(core))
    return AxisTiles(name, tuple(lengths), tuple(reversed(spans)), tuple(reversed(cores)))


def _cores(spans: Sequence[Interval], length: int) -> list[Interval]:
    """Divide an axis among overlapping tiles: each border lies in the middle of what two of them share."""
    middles = [(left[1] + right[0]) // 2 for left, right in pairwise(spans)]
    return list(zip([0, *middles], [*middles, length], strict=True))


def _hull(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])
