"""One phase of a run: all tiles through a segment of the tasks, then the next segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tilekit._errors import InputError, TileShapeError
from tilekit._plan.spans import Interval
from tilekit.backends import Array, backend_of
from tilekit.norms._arrays import check_same_kind, is_finite, trim_memory
from tilekit.norms._phases import Offload, Phase, TileIndex
from tilekit.norms._shelf import Shelf, TileState
from tilekit.norms._stats import GroupStats, group_norm
from tilekit.norms._tasks import Add, Apply, Attention, Norm, Shortcut, Store, Task


class PhaseRun:
    """
    Run the tasks of one phase over its tiles.

    Parameters
    ----------
    tasks : sequence of Task
        The whole network.
    axes : sequence of int
        Positions of the axes that are tiled.
    channel_axis : int
        Position of the channels.
    phase : Phase
        Which tasks, and where the tiles lie.
    known : mapping of int to GroupStats
        Statistics that are known beforehand, by the position of their norm. A norm whose statistics are neither known
        nor merged from all tiles uses those of the core of its tile.

    Attributes
    ----------
    own : dict of int to GroupStats
        The statistics that the last tile took from its own core.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        axes: Sequence[int],
        channel_axis: int,
        phase: Phase,
        known: Mapping[int, GroupStats] | None = None,
    ) -> None:
        self._tasks, self._axes, self._channel_axis, self._phase = tasks, axes, channel_axis, phase
        self._merged = dict(known or {})
        self.own: dict[int, GroupStats] = {}

    def __call__(
        self,
        source: list[Array],
        segments: Sequence[tuple[int, int]],
        offload: Offload | None,
        report: Callable[[], object],
    ) -> Array:
        """
        Run every segment, over all tiles before the next one begins.

        `source` holds the input alone. It is emptied once every tile is cut from it, so that the input does not stay
        alive.
        """
        phase, order, out = self._phase, list(self._phase.tiles), None
        with Shelf(offload) as shelf:
            for first, last in segments:
                stats: dict[TileIndex, GroupStats] = {}
                for tile in order:
                    start = self._cut_out(source[0], tile) if source else shelf.take(tile)
                    state = self._advance(start.copy(), tile, first, last)
                    if last == phase.last:
                        out = self._write(out, tile, state.value, start, first)
                    else:
                        stats[tile] = self._stats(state.value, tile, last, start, first)
                        shelf.put(tile, state, stay=tile == order[-1])
                    del start, state
                    trim_memory()
                    report()
                source.clear()
                if stats:
                    # In the order of the tiles, so that the result does not depend on the order of work.
                    self._merged[last] = GroupStats.merged(stats[tile] for tile in phase.tiles)
                order.reverse()  # the last tile in is the first out: it need not move
        return out

    def _cut_out(self, source: Array, tile: TileIndex) -> TileState:
        phase = self._phase
        whole = tuple((0, n) for n in phase.lengths(phase.first))
        return TileState(self._crop(source, whole, phase.span(tile, phase.first)), [])

    def _advance(self, state: TileState, tile: TileIndex, first: int, last: int, *, watch: bool = False) -> TileState:
        """Run the tasks [first, last); with `watch` raise at the first that gives NaN or infinity."""
        for k in range(first, last):
            self._step(state, tile, k)
            if watch and not is_finite(state.residuals[-1][0] if self._is_shortcut(k) else state.value):
                self._refuse(tile, f"task {self._tasks[k].name!r} gave NaN or infinity")
        backend = backend_of(state.value)
        for array in (state.value, *(array for array, _ in state.residuals)):
            backend.synchronize(array)
        return state

    def _is_shortcut(self, k: int) -> bool:
        return isinstance(self._tasks[k], Shortcut)

    def _step(self, state: TileState, tile: TileIndex, k: int) -> None:
        task = self._tasks[k]
        cells = self._phase.span(tile, k)
        if isinstance(task, Norm):
            stats = self._merged.get(k) or self._own_stats(state, tile, k)
            with _noted(f"tile {tile}: task {task.name!r}"):
                state.value = group_norm(
                    state.value, stats, task.weight, task.bias, task.eps, channel_axis=self._channel_axis
                )
        elif isinstance(task, Apply):
            state.value = self._apply(task, state.value, tile, k)
        elif isinstance(task, Attention):
            state.value = self._call(task, state.value, tile, tuple(state.value.shape[a] for a in self._axes))
        elif isinstance(task, Store):
            state.residuals.append((state.value, cells))
        else:
            stored, at = state.residuals.pop()
            if isinstance(task, Shortcut):
                # A cell-to-cell layer; only the cells that will be added are computed.
                end = self._end_of(k)
                stored, at = self._crop(stored, at, self._phase.span(tile, end)), self._phase.span(tile, end)
                sizes = tuple(b - a for a, b in at)
                state.residuals.append((self._call(task, stored, tile, sizes), at))
            else:
                state.value = self._add(task, state.value, self._crop(stored, at, cells), tile)

    def _end_of(self, k: int) -> int:
        """Find the Add that ends the residual connection open at task k."""
        depth = 1
        while depth:
            k += 1
            depth += isinstance(self._tasks[k], Store) - isinstance(self._tasks[k], Add)
        return k

    def _add(self, task: Add, value: Array, stored: Array, tile: TileIndex) -> Array:
        check_same_kind(stored, value, f"tile {tile}: task {task.name!r}: the residual", dtype=True)
        shape = tuple(value.shape)
        if tuple(stored.shape) != shape:
            msg = f"tile {tile}: task {task.name!r}: the residual has shape {tuple(stored.shape)}, expected {shape}"
            raise TileShapeError(msg)
        total = stored + value
        return total if task.divisor == 1.0 else total / task.divisor

    def _apply(self, task: Apply, value: Array, tile: TileIndex, k: int) -> Array:
        held, wanted = self._phase.span(tile, k), self._phase.span(tile, k + 1)
        reaches = [task.along(i) for i in range(len(held))]
        firsts = [reach.first(start) for reach, (start, _) in zip(reaches, held, strict=True)]
        sizes = tuple(reach.length(stop - start) for reach, (start, stop) in zip(reaches, held, strict=True))
        value = self._call(task, value, tile, sizes)
        made = tuple((start, start + n) for start, n in zip(firsts, sizes, strict=True))
        return self._crop(value, made, wanted)

    def _call(self, task: Apply | Attention | Shortcut, value: Array, tile: TileIndex, sizes: tuple[int, ...]) -> Array:
        """Call a layer and check what it gives."""
        where = f"tile {tile}: task {task.name!r}"
        with _noted(where):
            result = task.fn(value)
        check_same_kind(result, value, where, dtype=True)
        expected = list(value.shape)
        for axis, size in zip(self._axes, sizes, strict=True):
            expected[axis] = size
        channels = None if isinstance(task, Attention) else task.channels
        expected[self._channel_axis] = channels or expected[self._channel_axis]
        if tuple(result.shape) != tuple(expected):
            msg = f"{where} gave shape {tuple(result.shape)}, expected {tuple(expected)}; is its reach declared right?"
            raise TileShapeError(msg)
        return result

    def _crop(self, x: Array, held: Sequence[Interval], wanted: Sequence[Interval]) -> Array:
        if tuple(held) == tuple(wanted):
            return x
        region = [slice(None)] * x.ndim
        for axis, (start, _), (low, high) in zip(self._axes, held, wanted, strict=True):
            region[axis] = slice(low - start, high - start)
        return x[tuple(region)]

    def _core(self, value: Array, tile: TileIndex, k: int) -> Array:
        return self._crop(value, self._phase.span(tile, k), self._phase.core(tile, k))

    def _own_stats(self, state: TileState, tile: TileIndex, k: int) -> GroupStats:
        stats = self._stats(state.value, tile, k, state, k)
        self.own[k] = stats
        return stats

    def _stats(self, value: Array, tile: TileIndex, k: int, start: TileState, first: int) -> GroupStats:
        """Reduce the core before the norm k; where that is not finite, find the task since `first` that is to blame."""
        task = self._tasks[k]
        assert isinstance(task, Norm)
        stats = GroupStats.of(self._core(value, tile, k), task.groups, channel_axis=self._channel_axis)
        if not stats.is_finite:
            self._blame(tile, start, first, k)
            self._refuse(tile, f"task {task.name!r}: the values are too large for statistics in float32")
        return stats

    def _write(self, out: Array | None, tile: TileIndex, value: Array, start: TileState, first: int) -> Array:
        """Put the core of a finished tile where it belongs in the result."""
        phase = self._phase
        if not is_finite(value):
            self._blame(tile, start, first, phase.last)
        if len(phase.tiles) == 1:
            return value
        backend = backend_of(value)
        if out is None:
            shape = list(value.shape)
            for axis, n in zip(self._axes, phase.lengths(phase.last), strict=True):
                shape[axis] = n
            out = backend.empty(shape, value.dtype, value)
        region, source = [slice(None)] * value.ndim, [slice(None)] * value.ndim
        spans, cores = phase.span(tile, phase.last), phase.core(tile, phase.last)
        for axis, (start_, _), (low, high) in zip(self._axes, spans, cores, strict=True):
            region[axis], source[axis] = slice(low, high), slice(low - start_, high - start_)
        return backend.put(out, tuple(region), value, tuple(source))

    def _blame(self, tile: TileIndex, start: TileState, first: int, last: int) -> None:
        """Run the tasks once more, one by one, and raise at the first that gives NaN or infinity."""
        self._advance(start.copy(), tile, first, last, watch=True)

    def _refuse(self, tile: TileIndex, what: str) -> None:
        msg = f"tile {tile}: {what}; stopped, as its statistics would reach every tile"
        raise InputError(msg)


@contextmanager
def _noted(where: str) -> Iterator[None]:
    """Add to an error where it was raised."""
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise
