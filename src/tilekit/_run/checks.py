"""Checks of the input before any call, and of the result of every call."""

from collections.abc import Callable
from math import prod

from tilekit._errors import BackendError, InputError, TileShapeError
from tilekit._plan.layout import Tile
from tilekit._plan.plan import Plan
from tilekit._run.sizes import Sizes
from tilekit.backends import Array, Backend, backend_of
from tilekit.backends.flat import refuse_flat

__all__ = ["ResultCheck", "check_input", "check_sizes"]


def check_input(plan: Plan, backend: Backend, array: Array) -> None:
    """Refuse NaN before anything is decoded, and name the first tile that has one."""
    if not backend.is_floating(array):
        return
    first = plan.geometry.axes[0].position
    starts = [tile.src[0][0] for tile in plan.tiles if not any(tile.index[1:])]
    for start, stop in zip(starts, [*starts[1:], plan.shape[first]], strict=True):  # slab by slab: no mask of the whole
        if start < stop and backend.has_nan(array[(slice(None),) * first + (slice(start, stop), ...)]):
            _refuse_nan(plan, backend, array)


def _refuse_nan(plan: Plan, backend: Backend, array: Array) -> None:
    for tile in plan.tiles:
        if backend.has_nan(array[plan.geometry.region(tile.src)]):
            msg = f"tile {tile.index}: the input has NaN in {place_of(plan, tile)}; nothing was {plan.direction}d"
            raise InputError(msg)


def place_of(plan: Plan, tile: Tile) -> str:
    """Name the cells that a tile reads."""
    named = zip(plan.geometry.axes, tile.src, strict=True)
    return ", ".join(f"{axis.name} {start} to {stop - 1}" for axis, (start, stop) in named)


def check_sizes(plan: Plan, shape: tuple[int, ...]) -> None:
    """Refuse the shape of a whole result if the geometry does not give it."""
    sizes = {axis.position: size for axis, size in zip(plan.geometry.axes, plan.out_sizes, strict=True)}
    if len(shape) != plan.geometry.ndim or any(shape[position] != size for position, size in sizes.items()):
        named = ", ".join(f"{axis.name} {size}" for axis, size in zip(plan.geometry.axes, plan.out_sizes, strict=True))
        msg = f"{plan.direction} returned shape {shape}, {plan.geometry.name} expects {named} for input {plan.shape}"
        raise TileShapeError(msg)


class ResultCheck:
    """Check the result of every call against the plan and against the first result."""

    def __init__(self, plan: Plan, backend: Backend | None, sizes: Sizes) -> None:
        self._plan = plan
        self._sizes = sizes
        self._backend = backend  # None until the first result where the input was read lazily
        self._first: Array | None = None
        batch = plan.geometry.batch
        self._batch = 1 if batch is None else plan.shape[batch]

    def __call__(self, tiles: tuple[Tile, ...], result: Array) -> None:
        """Refuse a result of another library, shape, dtype or device than expected."""
        where = f"tile {tiles[0].index}" + (f" and {len(tiles) - 1} more" if len(tiles) > 1 else "")
        prefix = f"{where}: {self._plan.direction} returned"
        self._backend = self._checked_kind(prefix, result)
        self._check_shape(prefix, tiles, tuple(result.shape))
        if self._first is None:
            self._first = self.backend.empty((0,), result.dtype, result)  # not a view: it would keep the tile alive
            self._channels = self._channels_of(result)
            self._sizes.check_result(self._channels, len(tiles), result)
        elif result.dtype != self._first.dtype or not self.backend.same_device(result, self._first):
            msg = f"{prefix} {_dtype_and_device(result)}, the tiles before it were {_dtype_and_device(self._first)}"
            raise BackendError(msg)

    @property
    def backend(self) -> Backend:
        """Backend of the results, known after the first."""
        assert self._backend is not None
        return self._backend

    def check_numbers(self, tiles: tuple[Tile, ...], result: Array) -> None:
        """
        Refuse NaN, and name the tile.

        One cell in every half of a latent is looked at on each axis, of an encode every cell: NaN from anywhere but
        the last layers of a decoder spreads further than that, and a look at every cell would show in the time.
        """
        if not self.backend.is_floating(result):
            return
        sample = self._sample(result)
        if self.backend.has_nan(sample):
            which = self._first_with_nan(tiles, sample)
            msg = f"tile {which.index}: {self._plan.direction} returned NaN; in float16, try bfloat16 or float32"
            raise InputError(msg)

    def check_varies(self, tiles: tuple[Tile, ...], result: Array, given: Callable[[], Array]) -> None:
        """
        Refuse one number everywhere where the input varies, on devices that are known to give zeros without a word.

        Looked for in a sample; all of the result and the input are looked at only if that is suspicious.
        """
        what = f"tile {tiles[0].index}: {self._plan.direction} returned"
        refuse_flat(result, given, what, "make tiles smaller")

    def _sample(self, result: Array) -> Array:
        steps = [1] * self._plan.geometry.ndim
        if self._plan.direction == "decode":
            for axis in self._plan.geometry.axes:
                steps[axis.position] = max(1, axis.law.factor // 2)
        return result[tuple(slice(None, None, step) for step in steps)]

    def _first_with_nan(self, tiles: tuple[Tile, ...], sample: Array) -> Tile:
        batch = self._plan.geometry.batch
        for i, tile in enumerate(tiles):
            if batch is not None:
                own = slice(i * self._batch, (i + 1) * self._batch)
                if not self.backend.has_nan(sample[(slice(None),) * batch + (own, ...)]):
                    continue
            return tile
        raise AssertionError

    def _checked_kind(self, prefix: str, result: Array) -> Backend:
        if result is None:
            msg = f"{prefix} None, expected an array"
            raise BackendError(msg)
        try:
            backend = backend_of(result)
        except BackendError as error:
            msg = f"{prefix} something that is not an array: {error}"
            raise BackendError(msg) from None
        if self._backend is not None and backend is not self._backend:
            msg = f"{prefix} an array of {backend.name}, the input is one of {self._backend.name}; convert one of them"
            raise BackendError(msg)
        if obstacle := backend.obstacle(result):
            msg = f"{prefix} {obstacle}"
            raise BackendError(msg)
        if self._plan.halo is None and not backend.is_floating(result):  # cores are copied, whatever they hold
            msg = f"{prefix} dtype {getattr(result, 'dtype', type(result))}, expected floating-point numbers"
            raise BackendError(msg)
        return backend

    def _check_shape(self, prefix: str, tiles: tuple[Tile, ...], shape: tuple[int, ...]) -> None:
        geometry = self._plan.geometry
        sizes: list[int | None] = [None] * geometry.ndim
        for axis, (start, stop) in zip(geometry.axes, tiles[0].dst, strict=True):
            sizes[axis.position] = stop - start
        if geometry.batch is not None:
            sizes[geometry.batch] = self._batch * len(tiles)
        if geometry.channel is not None and self._first is not None:
            sizes[geometry.channel] = self._channels
        fits = len(shape) == len(sizes) and all(w in (None, s) for w, s in zip(sizes, shape, strict=True))
        if not fits or prod(shape) == 0:
            expected = ", ".join("channels" if n is None else str(n) for n in sizes)
            msg = (
                f"{prefix} shape {shape}, the plan expects ({expected}); is {geometry.name} the geometry of the model?"
            )
            raise TileShapeError(msg)

    def _channels_of(self, result: Array) -> int | None:
        channel = self._plan.geometry.channel
        return None if channel is None else int(result.shape[channel])


def _dtype_and_device(x: Array) -> str:
    return f"{x.dtype} on {getattr(x, 'device', 'its device')}"
