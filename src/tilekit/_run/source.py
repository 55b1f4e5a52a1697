"""Where the input of a run comes from: an array in memory, or anything of which parts can be read."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tilekit._errors import BackendError, InputError
from tilekit._plan.geometry import Direction
from tilekit._plan.layout import Tile
from tilekit._plan.plan import Plan
from tilekit._run.checks import check_input, place_of
from tilekit._run.sizes import Sizes
from tilekit.backends import Array, Backend, backend_of
from tilekit.backends.limits import refuse_large

__all__ = ["ArraySource", "LazySource", "Source", "source_of"]


class Source(Protocol):
    """What a run asks of its input."""

    shape: tuple[int, ...]
    backend: Backend  # of the tiles that are read

    @property
    def expected(self) -> Backend | None:
        """Backend that results must have; None where the first result decides."""

    def tiles_together(self, sizes: Sizes, wanted: int) -> int:
        """Give how many tiles may share a call; refuse what is too large for the device, if that is known."""

    def check(self, plan: Plan) -> None:
        """Refuse what must not be processed, before the first call."""

    def read(self, plan: Plan, tile: Tile) -> Array:
        """Read a tile."""


class ArraySource:
    """
    An array of a known library.

    Parameters
    ----------
    array : array
        Never written to by a decode: tiles of latents are copies, which cost next to nothing beside their results.
    direction : {"decode", "encode"}
        Which way; tiles of an encode are views, as copies of pixels would show.
    """

    def __init__(self, array: Array, direction: Direction) -> None:
        self.backend = backend_of(array)
        if obstacle := self.backend.obstacle(array):
            msg = f"cannot {direction} {obstacle}"
            raise BackendError(msg)
        self.shape = tuple(array.shape)
        self._array = array
        self._copies = direction == "decode"

    @property
    def expected(self) -> Backend | None:
        """Give the library of the array."""
        return self.backend

    def tiles_together(self, sizes: Sizes, wanted: int) -> int:
        """Ask for the limits of the device of the array."""
        refuse_large(self._array)
        return sizes.tiles_together(wanted, self._array)

    def check(self, plan: Plan) -> None:
        """Refuse NaN, and name the first tile that has one."""
        check_input(plan, self.backend, self._array)

    def read(self, plan: Plan, tile: Tile) -> Array:
        """Slice a tile."""
        part = self._array[plan.geometry.region(tile.src)]
        return self.backend.copy(part) if self._copies else part


class LazySource:
    """
    Anything with `shape`, `dtype` and slices: a file of zarr or HDF5, a dask array, a `numpy.memmap`.

    Tiles are read when they are needed, and become NumPy arrays then; NaN is looked for in each.

    Parameters
    ----------
    source : object
        What is read.
    """

    def __init__(self, source: Any) -> None:
        self.backend = backend_of(np.empty(0))
        self.shape = tuple(int(n) for n in source.shape)
        self._source = source

    @property
    def expected(self) -> Backend | None:
        """Give None: the function may return arrays of any library."""
        return None

    def tiles_together(self, sizes: Sizes, wanted: int) -> int:
        """Give as many as are wanted: on which device they will be is not known."""
        return wanted

    def check(self, plan: Plan) -> None:
        """Read nothing beforehand."""

    def read(self, plan: Plan, tile: Tile) -> Array:
        """Read a tile, and refuse NaN in it."""
        part = np.array(self._source[plan.geometry.region(tile.src)])
        if part.dtype == object or part.shape != tuple(_read_shape(plan, tile)):
            msg = f"tile {tile.index}: slices of {_name(self._source)} gave {part.dtype} of shape {part.shape}"
            raise BackendError(msg)
        if self.backend.is_floating(part) and self.backend.has_nan(part):
            msg = f"tile {tile.index}: the input has NaN in {place_of(plan, tile)}; the tiles before it were read"
            raise InputError(msg)
        return part


def source_of(source: Any, direction: Direction) -> Source:
    """Give the source that an argument stands for; refuse what is neither an array nor can be sliced."""
    if isinstance(source, np.memmap):
        return LazySource(source)
    try:
        backend_of(source)
    except BackendError:
        if not _is_lazy(source):
            raise
    else:
        return ArraySource(source, direction)
    if any(hasattr(source, name) for name in ("todense", "nnz")):
        msg = f"cannot {direction} {_name(source)}: it is sparse; give a dense array, such as .todense()"
        raise BackendError(msg)
    return LazySource(source)


def _is_lazy(source: Any) -> bool:
    """Whether something of no known library has a shape, a dtype and slices."""
    return all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__"))


def _read_shape(plan: Plan, tile: Tile) -> Sequence[int]:
    sizes = list(plan.shape)
    for axis, (start, stop) in zip(plan.geometry.axes, tile.src, strict=True):
        sizes[axis.position] = stop - start
    return sizes


def _name(source: Any) -> str:
    return f"{type(source).__module__}.{type(source).__qualname__}"
