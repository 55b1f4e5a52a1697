"""One function, with the statistics of the whole, with estimates of them, or in tiles by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf, prod
from typing import Any

import numpy as np

from tilekit._errors import InputError, PlanError
from tilekit._exact.forecast import forecast
from tilekit._exact.program import Program, program_of
from tilekit._exact.stages import plain
from tilekit._exact.trace import trace
from tilekit._progress import Progress
from tilekit.backends import Array, backend_of
from tilekit.backends.arrays import to_host
from tilekit.backends.kinds import empty_like
from tilekit.backends.limits import Limits, limits_of, refuse_large
from tilekit.norms._alone import Alone
from tilekit.norms._engine import Cut, Estimated, Sized, plain_bytes, too_large
from tilekit.norms._plans import NormMode, Offload, QueuePlan
from tilekit.norms._sizes import TileSizes, pieces_of, sizes_of

__all__ = ["Modes"]

KEPT = 4
"""Functions with plans that are kept, the newest."""


class Modes:
    """
    A function in the three ways in which group norms may take their statistics.

    Parameters
    ----------
    function : callable
        As `tilekit.exact` takes it.
    axes : tuple of int
        Positions of the axes that may be cut.
    names : tuple of str
        Their names.
    channel_axis : int
        Position of the channels.
    """

    def __init__(self, function: Any, axes: Sequence[int], names: Sequence[str], channel_axis: int) -> None:
        if len(axes) != len(names):
            msg = f"names: got {tuple(names)} for {len(axes)} axes at {tuple(axes)}; give one name for each axis"
            raise PlanError(msg)
        self.function = function
        self.axes = tuple(axes)
        self.names = tuple(names)
        self.channel_axis = channel_axis
        self._kept: dict[Any, Sized] = {}

    def run(  # noqa: PLR0913
        self,
        x: Array,
        tile: TileSizes | None,
        norm: NormMode,
        offload: Offload | None,
        progress: Progress,
        *,
        colour_fix: bool = True,
    ) -> Array:
        """Evaluate the function."""
        sizes = self._checked(tile, norm, offload)
        refuse_large(x)
        self._check(x)
        if norm == "tile":
            alone = self._alone(x, sizes)
            self._refuse_tile(x, alone)
            return alone.made(self.function, x, progress)
        return self._exact(sizes, norm, offload, colour_fix=colour_fix).made(x, progress)

    def plan(
        self,
        x: Array,
        tile: TileSizes | None,
        norm: NormMode,
        offload: Offload | None,
        *,
        colour_fix: bool = True,
    ) -> QueuePlan:
        """Say what `run` will do with an array of this shape; its cells are not read."""
        sizes = self._checked(tile, norm, offload)
        if norm == "tile":
            return self._plan_alone(x, sizes, offload)
        function = self._exact(sizes, norm, offload, colour_fix=colour_fix)
        held = function._plan(x, stream=False)
        peak, largest = held.plan.peak_bytes, _largest(held.program)
        small = function.estimate(x) if isinstance(function, Estimated) else None
        if small is not None:
            peak = max(peak, plain_bytes(small, x))
            elements, work = _largest(program_of(small.graph, plain(small.graph)))
            largest = max(largest[0], elements), max(largest[1], work)
        tiles = max(len(stage.steps) for stage in held.program.stages)
        return QueuePlan(
            held.plan.shape,
            held.plan.out_shape,
            norm,
            offload,
            tiles,
            peak,
            *largest,
            held.plan.rows,
            str(held.plan),
        )

    def fit(  # noqa: PLR0913
        self,
        x: Array,
        memory_bytes: int,
        norm: NormMode,
        offload: Offload | None,
        *,
        step: int = 64,
        most_elements: float = inf,
        most_work: float = inf,
    ) -> int | None:
        """Find the largest square tile whose plan stays within a budget; None if the array fits whole."""
        least: tuple[int, int | None] | None = None
        for size, plan in self._plans(x, norm, offload, step):
            if plan.largest_elements > most_elements or plan.largest_work > most_work:
                continue
            if plan.peak_bytes <= memory_bytes:
                return size
            least = min(least or (plan.peak_bytes, size), (plan.peak_bytes, size), key=lambda pair: pair[0])
        if least is None:
            work = f" and calls of at most {most_work:.0f} multiply-adds" if most_work < inf else ""
            msg = f"no tile has arrays of at most {most_elements:.0f} elements{work}; make the input smaller"
            raise PlanError(msg)
        msg = (
            f"no tile fits {memory_bytes} bytes; the least is {least[0]} bytes with tile={least[1]}; "
            "raise the budget, offload to the host or to disk, or use norm='fast'"
        )
        raise PlanError(msg)

    def _plans(
        self, x: Array, norm: NormMode, offload: Offload | None, step: int
    ) -> Iterator[tuple[int | None, QueuePlan]]:
        """Give the sizes of tiles from the largest down, those alone that make other pieces than the last."""
        plan = self.plan(x, None, norm, offload)
        yield None, plan
        finest = [max(plan.shape[axis], plan.out_shape[axis]) for axis in self.axes]
        last = 1
        for size in range((max(finest) - 1) // step * step, 0, -step):
            pieces = pieces_of(finest, [size] * len(finest))
            if pieces != last or norm == "tile":
                last = pieces
                yield size, self.plan(x, size, norm, offload)

    def _checked(self, tile: TileSizes | None, norm: NormMode, offload: Offload | None) -> tuple[int | None, ...]:
        _check_choice("norm", norm, ("exact", "fast", "tile"))
        _check_choice("offload", offload, (None, "host", "disk"))
        return sizes_of(tile, self.names)

    def _exact(
        self, sizes: tuple[int | None, ...], norm: NormMode, offload: Offload | None, *, colour_fix: bool
    ) -> Sized:
        key = (sizes, norm, offload, colour_fix)
        if key not in self._kept:
            kind = Estimated if norm == "fast" else Sized
            self._kept[key] = kind(self.function, Cut(self.axes, sizes, self.channel_axis, colour_fix), offload)
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return self._kept[key]

    def _alone(self, x: Array, sizes: tuple[int | None, ...]) -> Alone:
        graph = trace(self.function, x).graph
        return Alone(
            [int(n) for n in x.shape],
            graph.nodes[graph.output].shape,
            axes=self.axes,
            names=self.names,
            sizes=sizes,
            channel_axis=self.channel_axis,
        )

    def _plan_alone(self, x: Array, sizes: tuple[int | None, ...], offload: Offload | None) -> QueuePlan:
        traced = trace(self.function, x)
        source, output = traced.graph.nodes[traced.graph.input], traced.graph.nodes[traced.graph.output]
        alone = self._alone(x, sizes)
        tile = trace(self.function, empty_like(x, alone.tile_shape))
        elements, work = _largest(program_of(tile.graph, plain(tile.graph)))
        peak = plain_bytes(tile, x) + (output.nbytes if alone.plan.n_tiles > 1 else 0)
        return QueuePlan(
            source.shape,
            output.shape,
            "tile",
            offload,
            alone.plan.n_tiles,
            peak,
            max(prod(output.shape), elements),
            work,
            table=str(alone.plan),
        )

    def _refuse_tile(self, x: Array, alone: Alone) -> None:
        """Refuse a tile that the device gets wrong inside."""
        limits = limits_of(x)
        if limits.any:
            graph = trace(self.function, empty_like(x, alone.tile_shape)).graph
            counted = forecast(program_of(graph, plain(graph)), limits=limits)
            if counted.over > 1:
                raise PlanError(too_large(counted.worst))

    def _check(self, x: Array) -> None:
        """Refuse input that cannot be normalised, before any work is done."""
        xp = backend_of(x).namespace(x)
        if bool(xp.isfinite(xp.sum(x))):  # without a mask of the whole input; a sum that overflows proves nothing
            return
        invalid = np.asarray(to_host(~xp.isfinite(x)))
        if invalid.any():
            cell = tuple(int(i) for i in np.unravel_index(int(invalid.argmax()), invalid.shape))
            where = ", ".join(f"{name} {cell[axis]}" for axis, name in zip(self.axes, self.names, strict=True))
            msg = f"input: NaN or infinity at {where} (index {cell}); no part of it can be normalised"
            raise InputError(msg)


def _largest(program: Program) -> tuple[int, int]:
    """Count the elements of the largest array, the input among them, and the multiply-adds of the heaviest call."""
    given = prod(program.graph.nodes[program.graph.input].shape)
    largest = dict(forecast(program, limits=Limits(elements=1)).largest)
    return max(given, largest["elements"]), largest["work"]


def _check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        msg = f"{name}: got {value!r}, allowed are {', '.join(map(repr, allowed))}"
        raise PlanError(msg)
