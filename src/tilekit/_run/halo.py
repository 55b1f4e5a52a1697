"""
Measure how far a function sees: change one latent, and find where the result changes.

Two kinds of change are made. A finite one, small and large, shows what matters in the precision at hand; NaN shows
every cell that enters a result, however small its weight. Results are compared for equality, without a tolerance: a
value that does not depend on the changed cell is computed from the same numbers in the same order.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilekit._errors import BackendError, HaloError, TilekitError
from tilekit._plan.boxes import boxes
from tilekit._plan.geometry import Direction, Geometry
from tilekit._plan.layout import Layout, Tile
from tilekit._plan.plan import plan
from tilekit._plan.spans import Interval, Span
from tilekit._run.checks import check_sizes
from tilekit.backends import Array, Backend, backend_of
from tilekit.backends._base import ArrayFunction

__all__ = ["Halo", "measure_halo"]

Halo = dict[str, Interval | None]
Numbers = np.ndarray[Any, Any]

AMPLITUDES = (1.0, 1000.0)  # of the change; the large one shows statistics over many cells, which dilute it
# Of the largest result, by the bytes of a number: what rounding in another order gives in deep networks, and no more.
TOLERANCES = {8: 1e-9, 4: 1e-4, 2: 3e-2}


def measure_halo(
    fn: ArrayFunction, shape: Sequence[int], *, geometry: Geometry, like: Array | None = None, seed: int = 0
) -> Halo:
    """
    Measure the reach of a decoder or encoder by impulses.

    Parameters
    ----------
    fn : callable
        The decoder or encoder; the sizes of its result tell which. It must give the same result for the same input.
    shape : sequence of int
        Shape of the input to try, each axis longer than the reach to one side. An axis that turns out too short is
        tried once more at twice its length.
    geometry : Geometry
        The axes.
    like : array, optional
        An array of the library, dtype and device that `fn` takes. If left out, float32 arrays of the imported
        libraries are tried.
    seed : int
        Of the random input.

    Returns
    -------
    dict of str to (before, after) or None
        For each axis how many **latents** before and after its own a cell of the result depends on; None for an axis
        along which it depends on all of them. The ``halo`` argument of `decode_tiled` with ``blend="crop"``.

    Raises
    ------
    HaloError
        If the function sees everything along every axis (normalisation over the whole, attention), gives other results
        for the same input, or depends on where a tile lies.
    TileShapeError
        If the sizes of its result are neither those of decoding nor of encoding with this geometry.
    BackendError
        If the function accepts arrays of no imported library.

    Examples
    --------
    >>> from tilekit import SD_IMAGE
    >>> from tilekit.testing import local_decoder
    >>> measure_halo(local_decoder(SD_IMAGE, [(2, 1), (0, 3)]), (1, 4, 9, 9), geometry=SD_IMAGE)
    {'height': (2, 1), 'width': (0, 3)}
    """
    probe = _probe(fn, tuple(shape), geometry, like, seed)
    reach = probe.reach()
    short = [i for i, pair in enumerate(reach) if pair is None]
    if short:
        longer = list(probe.layout.shape)
        for i in short:
            axis = geometry.axes[i]
            cells = 2 * probe.layout.spans[i][-1].stop
            longer[axis.position] = cells if probe.direction == "decode" else axis.law.length(cells)
        probe = _probe(fn, tuple(longer), geometry, probe.like, seed)
        reach = probe.reach()
    if all(pair is None for pair in reach):
        sizes = ", ".join(f"{n} {a.name}" for a, n in zip(geometry.axes, probe.cells, strict=True))
        msg = (
            f"a change of one latent is seen in the whole result of {sizes}: the function has global parts (a"
            " normalisation over the whole, attention), so that no crop of it is exact; use"
            " tilekit.adapters or blended tiles, or a larger shape if its reach is longer than this"
        )
        raise HaloError(msg)
    probe.verify(reach)
    return {axis.name: pair for axis, pair in zip(geometry.axes, reach, strict=True)}


def _probe(fn: ArrayFunction, shape: tuple[int, ...], geometry: Geometry, like: Array | None, seed: int) -> "_Probe":
    """Find a library whose arrays the function takes, and the direction in which it works."""
    if like is not None:
        return _Probe(fn, shape, geometry, like, seed)
    failures = []
    for example in _examples(fn):
        try:
            return _Probe(fn, shape, geometry, example, seed)
        except TilekitError as error:
            if not isinstance(error, BackendError):
                raise
            failures.append(f"{backend_of(example).name}: {error}")
        except Exception as error:  # whatever a function raises when it gets a foreign array
            failures.append(f"{backend_of(example).name}: {type(error).__name__}: {error}")
    msg = f"the function accepts arrays of no imported library; give an array as like=. {'; '.join(failures)}"
    raise BackendError(msg)


def _examples(fn: ArrayFunction) -> list[Array]:
    """Arrays of the imported libraries, that of the function's own class first."""
    makers: dict[str, Callable[[], Array]] = {
        "torch": lambda: sys.modules["torch"].zeros(1),
        "mlx": lambda: sys.modules["mlx.core"].zeros(1),
        "numpy": lambda: np.zeros(1, np.float32),
        "jax": lambda: sys.modules["jax.numpy"].zeros(1),
        "array_api_strict": lambda: sys.modules["array_api_strict"].zeros(1),
    }
    needed = {"mlx": "mlx.core", "jax": "jax.numpy"}
    own = {kind.__module__.partition(".")[0] for kind in type(getattr(fn, "__self__", fn)).__mro__}
    names = sorted(makers, key=lambda name: (name not in own, name != "numpy"))
    return [makers[name]() for name in names if needed.get(name, name) in sys.modules]


@dataclass
class _Base:
    """An input and its result."""

    x: Numbers
    y: Numbers


class _Probe:
    """A function, with random inputs to change."""

    def __init__(self, fn: ArrayFunction, shape: tuple[int, ...], geometry: Geometry, like: Array, seed: int) -> None:
        self._fn = fn
        self._geometry = geometry
        self._backend: Backend = backend_of(like)
        self.like = like
        random = np.random.default_rng(seed)
        x = random.standard_normal(shape).astype(np.float32)
        y = self._run(x)
        self.direction, self.layout = self._recognised(shape, y.shape)
        self.cells = [spans[-1].stop for spans in self.layout.spans]
        if not np.array_equal(y, self._run(x), equal_nan=True):
            msg = "the function gave two results for one input; switch off its noise or dropout"
            raise HaloError(msg)
        other = random.standard_normal(shape).astype(np.float32)
        self._bases = [_Base(x, y), _Base(other, self._run(other))]
        self._random = random

    def reach(self) -> list[Interval | None]:
        """Latents before and after, for each axis; None where all of it is seen."""
        pairs = [[0, 0] for _ in self.cells]
        for at in (0, None, -1):
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
        for base in self._bases:
            for amplitude in AMPLITUDES:
                x = base.x.copy()
                x[where] += amplitude * self._random.choice([-1.0, 1.0], x[where].shape).astype(np.float32)
                extents.append(self._extents(self._run(x) != base.y))
        structure = self._of_nan(where)
        # NaN times zero is NaN: a masked sum over everything looks global. It counts only where it stays local.
        whole = [(0, n - 1) for n in self.cells]
        return extents if structure == whole else [*extents, structure]

    def _of_nan(self, where: tuple[slice, ...]) -> list[Interval | None]:
        """Where NaN appears; nowhere if the function refuses it."""
        x = self._bases[0].x.copy()
        x[where] = math.nan
        try:
            return self._extents(np.isnan(self._run(x)))
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

    def verify(self, reach: list[Interval | None]) -> None:
        """Compare the middle of a crop with the same cells of the whole, for every axis long enough to be cut."""
        spans: list[tuple[Span, ...]] = []
        for n, pair in zip(self.cells, reach, strict=True):
            cuttable = pair is not None and n >= sum(pair) + 4
            spans.append((Span(0, n // 2), Span(n // 2, n)) if cuttable else (Span(0, n),))
        halo = tuple((0, 0) if pair is None else pair for pair in reach)
        cut = Layout(self._geometry, self.layout.shape, tuple(spans), self.direction, halo)
        base = self._bases[0]
        scale = float(np.abs(base.y[np.isfinite(base.y)]).max(initial=0.0))
        tolerance = TOLERANCES[self._backend.itemsize(self.like)]
        for tile in (cut.tiles[0], cut.tiles[-1]):
            kept, expected = self._core(cut, tile, base)
            worst = float(np.abs(kept - expected).max())
            if not worst <= tolerance * scale:
                msg = (
                    f"a crop with the measured reach {reach} differs from the whole by {worst:.2g} (the result is of"
                    f" size {scale:.2g}): the function depends on where a tile lies or how large it is"
                )
                raise HaloError(msg)

    def _core(self, cut: Layout, tile: Tile, base: _Base) -> tuple[Numbers, Numbers]:
        """The cells that a tile keeps, from its crop and from the whole."""
        (box,) = boxes(cut, tile)
        region = self._geometry.region
        return self._run(base.x[region(tile.src)])[region(box.src)], base.y[region(box.dst)]

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

    def _run(self, x: Numbers) -> Numbers:
        """Call the function with an array of its library, and give the numbers of its result."""
        with np.errstate(all="ignore"):  # a large change or NaN may overflow inside the function
            result = self._fn(self._backend.from_numpy(x, self.like))
        if result is None or backend_of(result) is not self._backend:
            msg = f"the function returned {type(result).__qualname__}, expected an array of {self._backend.name}"
            raise BackendError(msg)
        self._backend.synchronize(result)
        numbers: Numbers = np.array(self._backend.to_numpy(result))  # a copy: the function may use its memory again
        return numbers
