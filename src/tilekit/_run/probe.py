"""
Change one latent of a random input, and find where the result of a function changes.

Two kinds of change are made. A finite one, small and large, shows what matters in the precision at hand; NaN shows
every cell that enters a result, however small its weight. Results are compared for equality, without a tolerance: a
value that does not depend on the changed cell is computed from the same numbers in the same order.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilekit._errors import BackendError, HaloError, TilekitError
from tilekit._plan.geometry import Direction, Geometry
from tilekit._plan.layout import Layout
from tilekit._plan.plan import plan
from tilekit._plan.spans import Interval
from tilekit._run.checks import check_sizes
from tilekit.backends import Array, Backend, backend_of
from tilekit.backends._base import ArrayFunction

__all__ = ["CALLS", "Base", "Probe"]

Numbers = np.ndarray[Any, Any]

AMPLITUDES = (1.0, 1000.0)  # of the change; the large one shows statistics over many cells, which dilute it
PLACES = (0, None, -1)  # of the latent that is changed, along every axis: the first, the middle, the last
CALLS = 3 + len(PLACES) * (2 * len(AMPLITUDES) + 1)  # two inputs, one of them twice; each with each change, and NaN
# Of the largest result, by the bytes of a number: what rounding in another order gives in deep networks, and no more.
TOLERANCES = {8: 1e-9, 4: 1e-4, 2: 3e-2}


@dataclass
class Base:
    """An input and its result."""

    x: Numbers
    y: Numbers


class Probe:
    """
    A function, with random inputs to change.

    Parameters
    ----------
    fn, shape, geometry, like, seed
        As for `measure_halo`, but `like` is given.
    told : callable
        Called after each call of the function.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        fn: ArrayFunction,
        shape: tuple[int, ...],
        geometry: Geometry,
        like: Array,
        seed: int,
        told: Callable[[], object],
    ) -> None:
        self._fn = fn
        self._told = told
        self._geometry = geometry
        self._backend: Backend = backend_of(like)
        self.like = like
        random = np.random.default_rng(seed)
        x = random.standard_normal(shape).astype(np.float32)
        y = self.run(x)
        self.direction, self.layout = self._recognised(shape, y.shape)
        self.cells = [spans[-1].stop for spans in self.layout.spans]
        if not np.array_equal(y, self.run(x), equal_nan=True):
            msg = "the function gave two results for one input; switch off its noise or dropout"
            raise HaloError(msg)
        other = random.standard_normal(shape).astype(np.float32)
        self.bases = [Base(x, y), Base(other, self.run(other))]
        self._random = random

    @property
    def tolerance(self) -> float:
        """What rounding may change, over the largest result."""
        return TOLERANCES[self._backend.itemsize(self.like)]

    def another(self, shape: tuple[int, ...]) -> tuple[Layout, Base]:
        """Run the function once more, on an input of another shape."""
        x = self._random.standard_normal(shape).astype(np.float32)
        y = self.run(x)
        layout = plan(shape, None, geometry=self._geometry, direction=self.direction)
        check_sizes(layout, y.shape)
        return layout, Base(x, y)

    def reach(self) -> list[Interval | None]:
        """Latents before and after, for each axis; None where all of it is seen."""
        pairs = [[0, 0] for _ in self.cells]
        for at in PLACES:
            cell = [n // 2 if at is None else at % n for n in self.cells]
            for changed in self._changed(cell):
                for pair, own, affected in zip(pairs, cell, changed, strict=True):
                    if affected is not None:
                        pair[0] = max(pair[0], affected[1] - own)
                        pair[1] = max(pair[1], own - affected[0])
        return [None if max(pair) >= n - 1 else (pair[0], pair[1]) for pair, n in zip(pairs, self.cells, strict=True)]

    def _changed(self, cell: list[int]) -> list[list[Interval | None]]:
        """For every kind of change at a latent the first and last latent of each axis whose result differs."""
        where = self._where(cell)
        extents = []
        for base in self.bases:
            for amplitude in AMPLITUDES:
                x = base.x.copy()
                x[where] += amplitude * self._random.choice([-1.0, 1.0], x[where].shape).astype(np.float32)
                extents.append(self._extents(self.run(x) != base.y))
        structure = self._of_nan(where)
        # NaN times zero is NaN: a masked sum over everything looks global. It counts only where it stays local.
        whole = [(0, n - 1) for n in self.cells]
        return extents if structure == whole else [*extents, structure]

    def _of_nan(self, where: tuple[slice, ...]) -> list[Interval | None]:
        """Where NaN appears; nowhere if the function refuses it."""
        x = self.bases[0].x.copy()
        x[where] = math.nan
        try:
            return self._extents(np.isnan(self.run(x)))
        except Exception:  # it accepted numbers before: this error is how it refuses NaN
            return [None] * len(self.cells)

    def _where(self, cell: list[int]) -> tuple[slice, ...]:
        """Cells of the input that belong to one latent."""
        if self.direction == "decode":
            return self._geometry.region([(i, i + 1) for i in cell])
        laws = [axis.law for axis in self._geometry.axes]
        ends = [(law.length(i) if i else 0, law.length(i + 1)) for law, i in zip(laws, cell, strict=True)]
        return self._geometry.region(ends)

    def _extents(self, mask: Numbers) -> list[Interval | None]:
        """First and last latent of each axis with a mark in it."""
        extents: list[Interval | None] = []
        for axis in self._geometry.axes:
            others = tuple(i for i in range(mask.ndim) if i != axis.position)
            marks = np.flatnonzero(mask.any(axis=others))
            if marks.size and self.direction == "decode":
                ends = np.array([axis.law.length(n + 1) for n in range(self.cells[len(extents)])])
                marks = np.searchsorted(ends, marks, side="right")
            extents.append((int(marks[0]), int(marks[-1])) if marks.size else None)
        return extents

    def _recognised(self, shape: tuple[int, ...], result: tuple[int, ...]) -> tuple[Direction, Layout]:
        """Whether the sizes are those of decoding or of encoding."""
        refusals: list[TilekitError] = []
        for direction in ("decode", "encode"):
            try:
                layout = plan(shape, None, geometry=self._geometry, direction=direction)
                check_sizes(layout, result)
            except TilekitError as error:
                refusals.append(error)
            else:
                return layout.direction, layout
        raise refusals[0]

    def run(self, x: Numbers) -> Numbers:
        """Call the function with an array of its library, and give the numbers of its result."""
        with np.errstate(all="ignore"):  # a large change or NaN may overflow inside the function
            result = self._fn(self._backend.from_numpy(x, self.like))
        if result is None or backend_of(result) is not self._backend:
            msg = f"the function returned {type(result).__qualname__}, expected an array of {self._backend.name}"
            raise BackendError(msg)
        self._backend.synchronize(result)
        numbers: Numbers = np.array(self._backend.to_numpy(result))  # a copy: the function may use its memory again
        self._told()
        return numbers
