"""A network as a sequence of tasks, run over tiles that merge their statistics at every norm."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, pairwise
from math import inf, prod

import numpy as np

from tilekit._errors import InputError, PlanError
from tilekit._progress import Progress, progress_of
from tilekit.backends import Array, backend_of, canary
from tilekit.backends.limits import limits_of, refuse_large, said_of
from tilekit.norms._arrays import to_host
from tilekit.norms._estimate import subsample
from tilekit.norms._forecast import Forecast
from tilekit.norms._intervals import lengths_along
from tilekit.norms._phase_run import PhaseRun
from tilekit.norms._phases import (
    NormMode,
    Offload,
    Phase,
    QueuePlan,
    channels_through,
    phases_of,
    tiled_ranges,
    whole_phase,
)
from tilekit.norms._stats import GroupStats, check_groups
from tilekit.norms._tasks import Norm, Task, check_tasks, depths

TileSizes = int | Sequence[int | None]


class TaskQueue:
    """
    A network as a sequence of tasks, run over tiles in lockstep from norm to norm.

    The coarse part of the network runs whole, and attention with it. The fine part runs in tiles. Each tile carries a
    halo, just wide enough that the cells it contributes are exact; the halo shrinks as the layers consume it. At every
    norm all tiles wait: the statistics of their cores, where each cell counts once, are merged, and every tile is
    normalised with those of the whole array. So the result equals that of the untiled network up to rounding, and one
    or two arrays of the finest stage are held instead of four.

    Parameters
    ----------
    tasks : sequence of Task
        `Apply`, `Norm`, `Store`, `Shortcut`, `Add` and `Attention`, in order.
    axes : tuple of int
        Positions of the axes that may be tiled.
    names : tuple of str
        Their names, used in error messages.
    channel_axis : int
        Position of the channels.

    Raises
    ------
    PlanError
        If a residual connection is not closed, or names and axes differ in number.

    Examples
    --------
    >>> import numpy as np
    >>> from tilekit.norms import Apply, Norm, TaskQueue
    >>> queue = TaskQueue([Norm("norm", 1, None, None, 1e-6), Apply("relu", lambda x: np.maximum(x, 0))], axes=(2, 3))
    >>> x = np.random.default_rng(0).normal(size=(1, 2, 64, 64)).astype(np.float32)
    >>> bool(np.allclose(queue.run(x, tile=16), queue.run(x, tile=None), atol=1e-6))
    True
    >>> queue.plan(x.shape, tile=16).tiles
    16
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        axes: Sequence[int] = (2, 3),
        names: Sequence[str] = ("height", "width"),
        channel_axis: int = 1,
    ) -> None:
        check_tasks(tasks)
        if len(axes) != len(names):
            msg = f"names: got {tuple(names)} for {len(axes)} axes at {tuple(axes)}; give one name for each axis"
            raise PlanError(msg)
        self.tasks = tuple(tasks)
        self.axes = tuple(axes)
        self.names = tuple(names)
        self.channel_axis = channel_axis

    def plan(  # noqa: PLR0913  # independent choices, by keyword
        self,
        shape: Sequence[int],
        *,
        tile: TileSizes | None,
        norm: NormMode = "exact",
        offload: Offload | None = None,
        itemsize: int = 4,
        colour_fix: bool = True,
    ) -> QueuePlan:
        """
        Plan `run` for an array of this shape, without computing anything.

        Parameters
        ----------
        shape : sequence of int
            Shape of the input, in the layout of the tasks.
        tile : int, sequence of int or None, or None
            Largest tile along each axis, in cells where the network is finest (pixels of an image); None for an axis
            that is not tiled.
        norm : {"exact", "fast", "tile"}
            See `run`.
        offload : {"host", "disk"} or None
            See `run`.
        itemsize : int
            Bytes of one value.
        colour_fix : bool
            See `run`.

        Returns
        -------
        QueuePlan
            Printable. The part that runs in tiles is the one with the lowest expected peak memory; among those within
            5 % of it, the shortest.

        Raises
        ------
        PlanError
            If the tiles are smaller than the reach of the network, outnumber its coarsest cells, or are not positive.
        """
        shape = tuple(int(n) for n in shape)
        sizes = self._sizes(tile)
        _check_choice("norm", norm, ("exact", "fast", "tile"))
        _check_choice("offload", offload, (None, "host", "disk"))
        cells = [shape[a] for a in self.axes]
        lengths = [lengths_along(self.tasks, axis, n) for axis, n in enumerate(cells)]
        _check_lengths(lengths, self.names)
        forecast = Forecast(self.tasks, shape, self.axes, self.channel_axis, itemsize)
        ranges = tiled_ranges(self.tasks, lengths)
        if not ranges:
            msg = "attention runs where the network is finest, so no part of it can run in tiles"
            raise PlanError(msg)
        plans, refusals = [], []
        for tiled in ranges:
            try:
                phases = phases_of(self.tasks, tiled, cells, self.names, sizes)
            except PlanError as error:
                refusals.append(error)
                continue
            peak = forecast.peak(phases, lambda phase: self._segments(phase, norm, colour_fix=colour_fix), offload)
            plans.append((peak, phases, forecast.largest()))
        if not plans:
            raise refusals[0]  # of the shortest range, which asks least of the tiles
        least = min(peak for peak, *_ in plans)
        peak, phases, largest = next(plan for plan in plans if plan[0] <= 1.05 * least)
        return QueuePlan(shape, self._out_shape(shape, lengths), norm, offload, phases, peak, largest)

    def fit(  # noqa: PLR0913  # independent choices, by keyword
        self,
        shape: Sequence[int],
        *,
        memory_bytes: int,
        norm: NormMode = "exact",
        offload: Offload | None = None,
        itemsize: int = 4,
        step: int = 64,
        most_elements: float = inf,
    ) -> int | None:
        """
        Find the largest square tile whose expected peak memory fits a budget; larger tiles repeat less work.

        Parameters
        ----------
        shape : sequence of int
            Shape of the input.
        memory_bytes : int
            Budget for arrays; see `QueuePlan.peak_bytes` for what it leaves out.
        norm, offload, itemsize
            As in `plan`.
        step : int
            The sizes tried are multiples of it.
        most_elements : float
            Most elements of an array, where a device gets larger ones wrong: see `tilekit.backends.limits`.

        Returns
        -------
        int or None
            Side of the tile in cells; None if the array fits untiled.

        Raises
        ------
        PlanError
            If no size fits; the text gives the smallest budget that does.
        """
        cells = [int(shape[a]) for a in self.axes]
        finest = max(max(lengths_along(self.tasks, axis, n)) for axis, n in enumerate(cells))
        sizes: list[int | None] = [None, *range((finest - 1) // step * step, 0, -step)]
        least: tuple[int, int | None] | None = None
        for size in sizes:
            try:
                plan = self.plan(shape, tile=size, norm=norm, offload=offload, itemsize=itemsize)
            except PlanError:
                continue
            if plan.largest_elements > most_elements:
                continue
            if plan.peak_bytes <= memory_bytes:
                return size
            least = min(least or (plan.peak_bytes, size), (plan.peak_bytes, size), key=lambda pair: pair[0])
        if least is None and most_elements < inf:
            msg = f"no tile has arrays of at most {int(most_elements)} elements; make the input smaller"
            raise PlanError(msg)
        least = least or (0, None)
        msg = (
            f"no tile fits {memory_bytes} bytes; the least is {least[0]} bytes with tile={least[1]}; "
            "raise the budget, offload to the host or to disk, or use norm='fast'"
        )
        raise PlanError(msg)

    def run(  # noqa: PLR0913  # independent choices, by keyword
        self,
        x: Array,
        *,
        tile: TileSizes | None,
        norm: NormMode = "exact",
        offload: Offload | None = None,
        progress: Progress = None,
        colour_fix: bool = True,
    ) -> Array:
        """
        Run the network.

        Parameters
        ----------
        x : array
            The input, in the layout of the tasks.
        tile : int, sequence of int or None, or None
            The most cells of a tile along each axis where the network is finest; None for an axis that is not tiled.
        norm : {"exact", "fast", "tile"}
            Which statistics a norm uses: those of the whole array; an estimate of them, from a copy of the input that
            is subsampled to the size of a tile and keeps its distribution; or those of the tile itself. With the last
            two every tile runs from end to end on its own.
        offload : {"host", "disk"} or None
            Where tiles are kept between norms: on the device (None), in host memory, or in temporary files.
        progress : bool, callable or None
            True shows a bar; a callable gets (done, total), where each tile counts once between two norms. Raise an
            error in it to cancel.
        colour_fix : bool
            With ``norm="fast"``: keep the norms behind the first downsampling exact. Without it an encoder shifts
            colours.

        Returns
        -------
        array
            The result, of the library, device and dtype of `x`.

        Raises
        ------
        PlanError
            See `plan`; also if groups do not divide channels.
        InputError
            If NaN or infinity occurs; the text names the tile and the task.
        BackendError
            If a task changes dtype, device or library.
        TileShapeError
            If a task returns another shape than its reach says.
        """
        itemsize = backend_of(x).itemsize(x)
        plan = self.plan(x.shape, tile=tile, norm=norm, offload=offload, itemsize=itemsize, colour_fix=colour_fix)
        _check_largest(x, plan)
        self._check(x)
        rounds = [self._segments(phase, norm, colour_fix=colour_fix) for phase in plan.phases]
        total = sum(len(phase.tiles) * len(segments) for phase, segments in zip(plan.phases, rounds, strict=True))
        held, done = [x], count(1)
        del x
        with progress_of(progress, total, "norms") as report:
            for phase, segments in zip(plan.phases, rounds, strict=True):
                fast = norm == "fast" and len(phase.tiles) > 1
                estimates = self._estimate(held[0], phase, colour_fix=colour_fix) if fast else {}
                run = PhaseRun(self.tasks, self.axes, self.channel_axis, phase, estimates)
                held.append(run(held, segments, offload, lambda: report(next(done))))
        return held[0]

    def _sizes(self, tile: TileSizes | None) -> tuple[int | None, ...]:
        sizes = (tile,) * len(self.axes) if tile is None or isinstance(tile, int) else tuple(tile)
        if len(sizes) != len(self.axes):
            msg = f"tile: got {len(sizes)} sizes {sizes}, expected one for each of {', '.join(self.names)}"
            raise PlanError(msg)
        for size, name in zip(sizes, self.names, strict=True):
            if size is not None and (type(size) is not int or size < 1):
                msg = f"{name}: tile size must be a positive number of cells or None, got {size!r}"
                raise PlanError(msg)
        return sizes

    def _segments(self, phase: Phase, norm: NormMode, *, colour_fix: bool) -> list[tuple[int, int]]:
        """Split the tasks of a phase at the norms where tiles must wait for one another."""
        if len(phase.tiles) == 1 or norm == "tile":
            return [(phase.first, phase.last)]
        norms = [k for k in range(phase.first, phase.last) if isinstance(self.tasks[k], Norm)]
        if norm == "fast":
            norms = [k for k in norms if k >= phase.estimated_until(colour_fix=colour_fix)]
        borders = [phase.first, *norms, phase.last]
        return list(pairwise(borders))

    def _estimate(self, x: Array, phase: Phase, *, colour_fix: bool) -> dict[int, GroupStats]:
        """Run the tasks up to the last estimated norm on a subsampled copy of the input."""
        until = phase.estimated_until(colour_fix=colour_fix)
        norms = [k for k in range(phase.first, until) if isinstance(self.tasks[k], Norm)]
        if not norms:
            return {}
        small = subsample(x, self.axes, self.channel_axis, [axis.longest for axis in phase.axes])
        cells = [int(small.shape[a]) for a in self.axes]
        depth = depths(self.tasks)
        end = next(k for k in range(until, len(depth)) if depth[k] == 0)
        whole = whole_phase(self.tasks, phase.first, end, cells, self.names)
        run = PhaseRun(self.tasks, self.axes, self.channel_axis, whole)
        run([small], [(whole.first, whole.last)], None, lambda: None)
        return run.own

    def _check(self, x: Array) -> None:
        """Refuse input that cannot be normalised, before any work is done."""
        channels = channels_through(self.tasks, int(x.shape[self.channel_axis]))
        for task, width in zip(self.tasks, channels[:-1], strict=True):
            if isinstance(task, Norm):
                check_groups(width, task.groups, f"task {task.name!r}: ")
        xp = backend_of(x).namespace(x)
        invalid = np.asarray(to_host(~xp.isfinite(x)))
        if invalid.any():
            cell = tuple(int(i) for i in np.unravel_index(int(invalid.argmax()), invalid.shape))
            where = ", ".join(f"{name} {cell[axis]}" for axis, name in zip(self.axes, self.names, strict=True))
            msg = f"input: NaN or infinity at {where} (index {cell}); no part of it can be normalised"
            raise InputError(msg)

    def _out_shape(self, shape: tuple[int, ...], lengths: Sequence[Sequence[int]]) -> tuple[int, ...]:
        out = list(shape)
        out[self.channel_axis] = channels_through(self.tasks, shape[self.channel_axis])[-1]
        for axis, along in zip(self.axes, lengths, strict=True):
            out[axis] = along[-1]
        return tuple(out)


def _check_largest(x: Array, plan: QueuePlan) -> None:
    """Refuse arrays that the device gets wrong, and ask it whether it is right at all."""
    refuse_large(x)
    limits = limits_of(x)
    most = min(limits.elements, limits.convolution)
    if plan.largest_elements > most:
        msg = (
            f"tile: an array would have {plan.largest_elements} elements, {said_of(x, most)}; take a smaller tile: "
            f"fit(..., most_elements={int(most)}) finds one"
        )
        raise PlanError(msg)
    work = canary.WORK_PER_NUMBER * prod(x.shape)
    canary.check(x, canary.Sizes(plan.largest_elements, plan.largest_elements, work=work))


def _check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        msg = f"{name}: got {value!r}, allowed are {', '.join(map(repr, allowed))}"
        raise PlanError(msg)


def _check_lengths(lengths: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    for along, name in zip(lengths, names, strict=True):
        if min(along) < 1:
            msg = f"{name}: {along[0]} cells are too few for the network; nothing is left after downsampling"
            raise PlanError(msg)
