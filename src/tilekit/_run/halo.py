"""
Measure how far a function sees, and try what was measured: crops with that reach must equal the whole.

Crops are tried at the size that was measured and, axis by axis, at half as much again: some functions are local only
while their input is small.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from tilekit._errors import BackendError, HaloError, TilekitError
from tilekit._plan.boxes import boxes
from tilekit._plan.geometry import Geometry
from tilekit._plan.layout import Layout
from tilekit._plan.spans import Interval, Span
from tilekit._progress import Progress, progress_of
from tilekit._run.probe import CALLS, Base, Probe
from tilekit.backends import Array, backend_of
from tilekit.backends._base import ArrayFunction

__all__ = ["Halo", "measure_halo"]

Halo = dict[str, Interval | None]


def measure_halo(  # noqa: PLR0913
    fn: ArrayFunction,
    shape: Sequence[int],
    *,
    geometry: Geometry,
    like: Array | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Halo:
    """
    Measure the reach of a decoder or encoder by impulses, and try it on crops of inputs of two sizes.

    Parameters
    ----------
    fn : callable
        The decoder or encoder; the sizes of its result tell which. It must give the same result for the same input.
        It is called 18 times to measure (36 where an axis turns out too short), then 2 times, and up to 4 times for
        each axis, to try the reach on crops.
    shape : sequence of int
        Shape of the input to try, each axis longer than the reach to one side. An axis that turns out too short is
        tried once more at twice its length. Every axis is tried once at one and a half times its length.
    geometry : Geometry
        The axes.
    like : array, optional
        An array of the library, dtype and device that `fn` takes. If left out, float32 arrays of the imported
        libraries are tried.
    seed : int
        Of the random input.
    progress : bool or callable, optional
        True shows bars (tqdm); a callable gets (done, total), the numbers of calls. Measuring and trying are counted
        one after the other.

    Returns
    -------
    dict of str to (before, after) or None
        For each axis how many **latents** before and after its own a cell of the result depends on; None for an axis
        along which it depends on all of them. The ``halo`` argument of `decode_tiled` with ``blend="crop"``.

    Raises
    ------
    HaloError
        If the function sees everything along every axis (normalisation over the whole, attention), gives other results
        for the same input, or depends on where a tile lies or on the size of the input.
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
    call = _Call(fn, geometry, seed, progress)
    probe, reach = call.measured(tuple(shape), like)
    short = [i for i, pair in enumerate(reach) if pair is None]
    if short:
        longer = tuple(2 * n if i in short else n for i, n in enumerate(probe.cells))
        probe, reach = call.measured(_shape_of(probe, geometry, longer), probe.like)
    if all(pair is None for pair in reach):
        sizes = ", ".join(f"{n} {a.name}" for a, n in zip(geometry.axes, probe.cells, strict=True))
        msg = (
            f"a change of one latent is seen in the whole result of {sizes}: the function has global parts (a"
            " normalisation over the whole, attention), so that no crop of it is exact; use"
            " tilekit.adapters or blended tiles, or a larger shape if its reach is longer than this"
        )
        raise HaloError(msg)
    call.tried(probe, reach)
    return {axis.name: pair for axis, pair in zip(geometry.axes, reach, strict=True)}


def _shape_of(probe: Probe, geometry: Geometry, cells: Sequence[int]) -> tuple[int, ...]:
    """Give the shape of an input of so many latents along each axis."""
    shape = list(probe.layout.shape)
    for axis, n in zip(geometry.axes, cells, strict=True):
        shape[axis.position] = n if probe.direction == "decode" else axis.law.length(n)
    return tuple(shape)


class _Call:
    """What one call of `measure_halo` was given, and how many calls of the function were made of those foretold."""

    def __init__(self, fn: ArrayFunction, geometry: Geometry, seed: int, progress: Progress) -> None:
        self._fn = fn
        self._geometry = geometry
        self._seed = seed
        self._progress = progress
        self._report: Callable[[int], object] = lambda done: None
        self._done = 0

    @contextmanager
    def _counted(self, total: int, label: str) -> Iterator[None]:
        """Count the calls made in the block."""
        with progress_of(self._progress, total, label, unit="call") as self._report:
            self._done = 0
            self._report(0)
            yield

    def _told(self) -> None:
        self._done += 1
        self._report(self._done)

    def measured(self, shape: tuple[int, ...], like: Array | None) -> tuple[Probe, list[Interval | None]]:
        """Measure the reach with an input of this shape."""
        with self._counted(CALLS, "measure"):
            probe = self._probe(shape, like)
            return probe, probe.reach()

    def _probe(self, shape: tuple[int, ...], like: Array | None) -> Probe:
        """Find a library whose arrays the function takes, and the direction in which it works."""
        if like is not None:
            return Probe(self._fn, shape, self._geometry, like, self._seed, self._told)
        failures = []
        for example in _examples(self._fn):
            try:
                return Probe(self._fn, shape, self._geometry, example, self._seed, self._told)
            except TilekitError as error:
                if not isinstance(error, BackendError):
                    raise
                failures.append(f"{backend_of(example).name}: {error}")
            except Exception as error:  # whatever a function raises when it gets a foreign array
                failures.append(f"{backend_of(example).name}: {type(error).__name__}: {error}")
        msg = f"the function accepts arrays of no imported library; give an array as like=. {'; '.join(failures)}"
        raise BackendError(msg)

    def tried(self, probe: Probe, reach: list[Interval | None]) -> None:
        """Compare the middle of crops with the same cells of the whole, also of longer inputs."""
        cells = probe.cells
        halves = [2 if pair is not None and n >= sum(pair) + 4 else 1 for n, pair in zip(cells, reach, strict=True)]
        local = [i for i, pair in enumerate(reach) if pair is not None]
        with self._counted(2 + 4 * len(local), "try"):
            self._compare(probe, reach, probe.layout, probe.bases[0], halves)
            for i in local:
                longer = [n + (n // 2 + 1) * (i == k) for k, n in enumerate(cells)]
                layout, base = probe.another(_shape_of(probe, self._geometry, longer))
                self._compare(probe, reach, layout, base, [3 if i == k else 1 for k in range(len(cells))])

    def _compare(
        self, probe: Probe, reach: list[Interval | None], layout: Layout, base: Base, counts: Sequence[int]
    ) -> None:
        """Cut an input into so many crops along each axis; try the first, the last and one between."""
        ends = [spans[-1].stop for spans in layout.spans]
        spans = tuple(
            tuple(Span(n * k // count, n * (k + 1) // count) for k in range(count))
            for n, count in zip(ends, counts, strict=True)
        )
        halo = tuple((0, 0) if pair is None else pair for pair in reach)
        cut = Layout(self._geometry, layout.shape, spans, probe.direction, halo)
        scale = float(np.abs(base.y[np.isfinite(base.y)]).max(initial=0.0))
        chosen = [cut.tiles[0], cut.tiles[-1]] if max(counts) < 3 else cut.tiles
        for tile in chosen:
            (box,) = boxes(cut, tile)
            region = self._geometry.region
            kept, expected = probe.run(base.x[region(tile.src)])[region(box.src)], base.y[region(box.dst)]
            worst = float(np.abs(kept - expected).max())
            if not worst <= probe.tolerance * scale:
                sizes = ", ".join(f"{n} {a.name}" for a, n in zip(self._geometry.axes, ends, strict=True))
                msg = (
                    f"a crop with the measured reach {reach} differs from the whole of {sizes} by {worst:.2g} (the"
                    f" result is of size {scale:.2g}): the function depends on where a tile lies or how large it is"
                )
                raise HaloError(msg)


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
