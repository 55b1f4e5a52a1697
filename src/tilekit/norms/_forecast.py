"""Expected peak memory of a plan, by following every array from its creation to its release. Integers only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tilekit.norms._bands import BAND_ELEMENTS
from tilekit.norms._phases import Offload, Phase, TileIndex, channels_through
from tilekit.norms._tasks import Add, Apply, Norm, Shortcut, Store, Task

Segments = Callable[[Phase], Sequence[tuple[int, int]]]


@dataclass(slots=True)
class _TileBytes:
    """Arrays of one tile: sizes in bytes by name; one array may be value and residual at once."""

    value: int
    channels: int
    bytes_of: dict[int, int]
    residuals: list[tuple[int, int]] = field(default_factory=list)  # (array, channels)

    def copy(self) -> _TileBytes:
        return _TileBytes(self.value, self.channels, dict(self.bytes_of), list(self.residuals))

    def total(self) -> int:
        return sum(self.bytes_of.values())


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    The memory of one run.

    Attributes
    ----------
    tasks : sequence of Task
        The network.
    shape : tuple of int
        Of the input.
    axes : tuple of int
        Positions of the tiled axes.
    channel_axis : int
        Position of the channels.
    itemsize : int
        Bytes of one value.
    """

    tasks: Sequence[Task]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    channel_axis: int
    itemsize: int
    met: list[int] = field(default_factory=list, compare=False)
    """Bytes of the arrays that were counted; `largest` empties it."""

    def largest(self) -> int:
        """Give the elements of the largest array that was counted since the last time."""
        most = max(self.met, default=0) // self.itemsize
        self.met.clear()
        return most

    def peak(self, phases: Sequence[Phase], segments: Segments, offload: Offload | None) -> int:
        """Give the most bytes held at once."""
        channels = channels_through(self.tasks, self.shape[self.channel_axis])
        most = 0
        for phase in phases:
            source = self._size(channels[phase.first], phase.lengths(phase.first))
            result = self._size(channels[phase.last], phase.lengths(phase.last)) if len(phase.tiles) > 1 else 0
            most = max([most, *self._phase(phase, segments(phase), channels, source, result, offload)])
        return most

    def _phase(  # noqa: PLR0913, PLR0917  # the sizes around a phase
        self,
        phase: Phase,
        segments: Sequence[tuple[int, int]],
        channels: Sequence[int],
        source: int,
        result: int,
        offload: Offload | None,
    ) -> Iterator[int]:
        waiting: dict[TileIndex, _TileBytes] = {}
        known: dict[object, tuple[int, _TileBytes]] = {}
        for first, last in segments:
            base = source if first == phase.first else 0
            base += result if last == phase.last else 0
            resting = 0 if offload else sum(tile.total() for tile in waiting.values())
            for index in phase.tiles:
                start = waiting.get(index) or _TileBytes(0, channels[first], {0: 0})
                sizes = tuple(tuple(b - a for a, b in phase.span(index, k)) for k in range(first, last + 1))
                key = (first, sizes, start.total())
                if key not in known:
                    known[key] = self._walk(start, sizes, first, last)
                most, end = known[key]
                # A first slice is a view of the source, or lies within what the walk counts.
                yield base + resting - (0 if offload else start.total()) + most
                resting += 0 if offload or last == phase.last else end.total() - start.total()
                waiting[index] = end
        if not segments:
            yield source

    def _walk(
        self, start: _TileBytes, sizes: Sequence[tuple[int, ...]], first: int, last: int
    ) -> tuple[int, _TileBytes]:
        """Run one tile through the tasks [first, last) in bytes; give the most at once and the state at the end."""
        tile, held, most = start.copy(), set(start.bytes_of), start.total()
        for k in range(first, last):
            most = max(most, self._step(tile, self.tasks[k], sizes[k - first], sizes[k + 1 - first]))
            alive = held | {tile.value} | {array for array, _ in tile.residuals}
            tile.bytes_of = {array: n for array, n in tile.bytes_of.items() if array in alive}
        # At the end the tile is reduced, or checked, in float32 and in bands.
        values = tile.bytes_of[tile.value] // self.itemsize
        most = max(most, tile.total() + 4 * min(values, BAND_ELEMENTS) * (1 if self.itemsize >= 4 else 2))
        alive = {tile.value} | {array for array, _ in tile.residuals}
        tile.bytes_of = {array: n for array, n in tile.bytes_of.items() if array in alive}
        return most, tile

    def _step(self, tile: _TileBytes, task: Task, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        scratch = 0
        if isinstance(task, Store):
            tile.residuals.append((tile.value, tile.channels))
        elif isinstance(task, Shortcut):
            _, channels = tile.residuals.pop()
            channels = task.channels or channels
            tile.residuals.append((self._new(tile, channels, before), channels))
        elif isinstance(task, Norm):
            scratch = 0 if self.itemsize >= 4 else 2 * self._size(tile.channels, before) * 4 // self.itemsize
            tile.value = self._new(tile, tile.channels, before)
        else:
            if isinstance(task, Apply):
                after = tuple(task.along(a).length(n) for a, n in enumerate(before))
                tile.channels = task.channels or tile.channels
            tile.value = self._new(tile, tile.channels, after)
            if isinstance(task, Add):
                tile.residuals.pop()
        return tile.total() + scratch

    def _new(self, tile: _TileBytes, channels: int, lengths: tuple[int, ...]) -> int:
        name = max(tile.bytes_of) + 1
        tile.bytes_of[name] = self._size(channels, lengths)
        return name

    def _size(self, channels: int, lengths: Sequence[int]) -> int:
        rest = [n for a, n in enumerate(self.shape) if a not in {*self.axes, self.channel_axis}]
        self.met.append(self.itemsize * channels * math.prod(lengths) * math.prod(rest))
        return self.met[-1]
