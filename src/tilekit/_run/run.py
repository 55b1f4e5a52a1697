"""Run a plan: slice the input, call the function, check and blend the results, hand out finished blocks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from tilekit._errors import BackendError, PlanError
from tilekit._plan.config import TilingConfig
from tilekit._plan.geometry import Direction, Geometry
from tilekit._plan.layout import Tile
from tilekit._plan.plan import Plan, plan
from tilekit._plan.presets import LTX2_VIDEO
from tilekit._plan.schedule import Call, checked_batch_size, schedule
from tilekit._plan.spans import Interval
from tilekit._plan.tiling import Tiling
from tilekit._progress import Progress, progress_of
from tilekit._run.calls import Executor, Workers
from tilekit._run.canvas import Canvas
from tilekit._run.checks import ResultCheck
from tilekit._run.sizes import Sizes
from tilekit._run.source import Source, source_of
from tilekit.backends import Array
from tilekit.backends._base import ArrayFunction

__all__ = ["decode_tiled", "encode_tiled", "stream_tiled"]

Callback = Callable[[Array, int], object]
Blend = Literal["linear", "crop"]


def decode_tiled(  # noqa: PLR0913
    decode: ArrayFunction,
    latents: Array,
    tiling: Tiling | TilingConfig | None = None,
    *,
    geometry: Geometry = LTX2_VIDEO,
    tile_batch_size: int = 1,
    blend: Blend = "linear",
    halo: Mapping[str, Interval | None] | None = None,
    on_frames_ready: Callback | None = None,
    progress: Progress = None,
    executor: Executor | None = None,
    in_flight: int | None = None,
) -> Array:
    """
    Decode in tiles and blend them into one array.

    Parameters
    ----------
    decode : callable
        Maps a tile (b, C, f, h, w) to (b, C', F, H, W), or the axes that the geometry names. Its batch is that of the
        input times the number of tiles of the call.
    latents : array, shape (B, C, f, h, w)
        Never written to: `decode` gets copies. Or anything with ``shape``, ``dtype`` and slices, such as a dataset of
        zarr or h5py, a dask array or a `numpy.memmap`: its tiles are read when they are needed and come to `decode` as
        NumPy arrays, and what that returns may be of any library.
    tiling : Tiling, TilingConfig or None
        Tile sizes and overlaps in pixel-side units; None decodes all at once.
    geometry : Geometry
        The axes of the autoencoder.
    tile_batch_size : int
        Most tiles of one call, whatever the batch of the input; tiles of one shape share calls.
    blend : {"linear", "crop"}
        How tiles meet. ``"crop"`` reads every tile with the halo and keeps its core: equal to the whole for a function
        that sees no further.
    halo : mapping of str to (before, after) or None, optional
        With ``blend="crop"`` the reach of the function in latents, from `measure_halo`; tile sizes are then those of
        the cores, and overlaps are not used.
    on_frames_ready : callable, optional
        Called with (frames, start) as soon as no later tile can change these frames: every piece of the first axis
        once, in order. Tiles are then batched only within their slab. The frames are a view of the result where the
        library has views: what is written into them is in the result, and changes no other frames.
    progress : bool or callable, optional
        True shows a bar (tqdm); a callable gets (done, total), the numbers of tiles.
    executor : Executor, optional
        Computes the tiles: a `concurrent.futures.ThreadPoolExecutor` or ``ProcessPoolExecutor``, or what behaves like
        one (Dask's ``client.get_executor(pure=False)``, mpi4py's). Results are blended in the order of the plan, so
        they equal those without one bit for bit.
    in_flight : int, optional
        The most calls under way or waiting for their turn; by default twice the workers, where the executor says how
        many, else the calls of the first block.

    Returns
    -------
    array, shape (B, C', F, H, W)
        With the library, device and dtype of the results of `decode`; blended in float32.

    Raises
    ------
    PlanError
        If the shape, the tiling, the geometry and the halo do not fit together.
    InputError
        If the latents have NaN; raised before `decode` is called.
    TileShapeError
        If `decode` returns another shape than the geometry says.
    BackendError
        If `decode` returns anything but a floating-point array of the library of the latents.

    Examples
    --------
    >>> import numpy as np
    >>> from tilekit import SD_IMAGE
    >>> def decode(z):
    ...     return z[:, :3].repeat(8, axis=2).repeat(8, axis=3)
    >>> decode_tiled(decode, np.ones((1, 4, 64, 96)), Tiling(width=(256, 64)), geometry=SD_IMAGE).shape
    (1, 3, 512, 768)
    """
    source, planned = _planned("decode", latents, tiling, geometry, blend, halo)
    return _Run(decode, source, planned, tile_batch_size, progress, Workers(executor, in_flight)).whole(on_frames_ready)


def encode_tiled(  # noqa: PLR0913
    encode: ArrayFunction,
    video: Array,
    tiling: Tiling | TilingConfig | None = None,
    *,
    geometry: Geometry = LTX2_VIDEO,
    tile_batch_size: int = 1,
    blend: Blend = "linear",
    halo: Mapping[str, Interval | None] | None = None,
    progress: Progress = None,
    executor: Executor | None = None,
    in_flight: int | None = None,
) -> Array:
    """
    Encode in tiles and blend the latents into one array.

    Parameters
    ----------
    encode : callable
        Maps a tile (b, C', F, H, W) to (b, C, f, h, w).
    video : array, shape (B, C', F, H, W)
        Or an image or sound, as the geometry says; sizes on its grid (frames 1 + 8k, sides multiples of 32 for LTX-2).
        Or anything with ``shape``, ``dtype`` and slices, as for `decode_tiled`. The tiles of an array are views of it:
        `encode` must not write to them.
    tiling, geometry, tile_batch_size, blend, halo, progress, executor, in_flight
        As for `decode_tiled`; sizes in pixel-side units.

    Returns
    -------
    array, shape (B, C, f, h, w)
        With the library, device and dtype of the results of `encode`; blended in float32.

    Raises
    ------
    PlanError, InputError, TileShapeError, BackendError
        As for `decode_tiled`.

    Examples
    --------
    >>> import numpy as np
    >>> from tilekit import SD_IMAGE
    >>> def encode(x):
    ...     return x[:, :, ::8, ::8]
    >>> encode_tiled(encode, np.ones((1, 3, 512, 768)), Tiling(width=(256, 64)), geometry=SD_IMAGE).shape
    (1, 3, 64, 96)
    """
    source, planned = _planned("encode", video, tiling, geometry, blend, halo)
    return _Run(encode, source, planned, tile_batch_size, progress, Workers(executor, in_flight)).whole(None)


def stream_tiled(  # noqa: PLR0913
    decode: ArrayFunction,
    latents: Array,
    tiling: Tiling | TilingConfig | None = None,
    *,
    geometry: Geometry = LTX2_VIDEO,
    tile_batch_size: int = 1,
    blend: Blend = "linear",
    halo: Mapping[str, Interval | None] | None = None,
    start: int = 0,
    progress: Progress = None,
    executor: Executor | None = None,
    in_flight: int | None = None,
) -> Iterator[tuple[int, Array]]:
    """
    Decode in tiles and hand out each block of finished output once, in order.

    At most one slab (the tiles of one span of the first axis) and its overlap with the next are held. Arguments are
    checked when the function is called; tiles are decoded as the iterator advances. Dropping the iterator stops the
    decode.

    Parameters
    ----------
    decode, latents, tiling, geometry, blend, halo, progress, executor, in_flight
        As for `decode_tiled`.
    tile_batch_size : int
        Most tiles of one call. Tiles are batched only within their slab.
    start : int
        The first output cell of the block to begin with, as an earlier run gave it, or the end of the output. The
        blocks from there on are those of the whole run, bit for bit; tiles before it are computed only where they
        overlap it. See `Kept`.

    Yields
    ------
    start : int
        First output cell (frame, row, sample) of the block.
    block : array, shape (B, C', n, H, W)
        Not used by tilekit afterwards: change it as you like.

    Raises
    ------
    PlanError, InputError, TileShapeError, BackendError
        As for `decode_tiled`; also if no block begins at `start`.

    Examples
    --------
    >>> import numpy as np
    >>> from tilekit import OOBLECK_AUDIO
    >>> def decode(z):
    ...     return z[:, :2].repeat(2048, axis=2)
    >>> stream = stream_tiled(decode, np.ones((1, 64, 20)), Tiling(time=(8 * 2048, 2 * 2048)), geometry=OOBLECK_AUDIO)
    >>> [(start // 2048, block.shape[2] // 2048) for start, block in stream]
    [(0, 6), (6, 6), (12, 8)]
    """
    source, planned = _planned("decode", latents, tiling, geometry, blend, halo)
    return _Run(
        decode, source, planned, tile_batch_size, progress, Workers(executor, in_flight), streaming=True
    ).blocks(start)


def _planned(  # noqa: PLR0913, PLR0917
    direction: Direction,
    array: Array,
    tiling: Tiling | TilingConfig | None,
    geometry: Geometry,
    blend: Blend,
    halo: Mapping[str, Interval | None] | None,
) -> tuple[Source, Plan]:
    """Check the arguments of a public function, and make its plan."""
    if blend not in ("linear", "crop"):
        msg = f'blend must be "linear" or "crop", got {blend!r}'
        raise PlanError(msg)
    if (blend == "crop") != (halo is not None):
        msg = f'blend="crop" and a halo go together, got blend={blend!r} and halo={halo}; see tilekit.measure_halo'
        raise PlanError(msg)
    source = source_of(array, direction)
    return source, plan(source.shape, tiling, geometry=geometry, direction=direction, halo=halo)


class _Run:
    """The state of one call of a public function."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        function: Any,
        source: Source,
        plan: Plan,
        tile_batch_size: int,
        progress: Progress,
        workers: Workers,
        *,
        streaming: bool = False,
    ) -> None:
        if not callable(function):
            msg = f"{plan.direction} must be callable, got {type(function).__qualname__}"
            raise BackendError(msg)
        self._plan = plan
        sizes = Sizes(plan, streaming=streaming)
        self._size = source.tiles_together(sizes, checked_batch_size(self._plan, tile_batch_size))
        source.check(plan)
        self._function = function
        self._source = source
        self._progress = progress
        workers.check()
        self._workers = workers
        self._check = ResultCheck(self._plan, source.expected, sizes)

    def whole(self, callback: Callback | None) -> Array:
        """Run all tiles into one array, and call back with what is final."""
        if self._plan.n_tiles == 1:
            return self._single(callback)
        canvas, emitted, total = None, 0, self._plan.out_sizes[0]
        for call, result in self._results(by_slab=callback is not None):
            parts = self._parts(call.tiles, result)
            canvas = canvas or Canvas(self._plan, self._check.backend)
            if not canvas.is_open:
                canvas.open(0, total, parts[0])
            for tile in call.tiles:
                canvas.place(tile, parts.pop(0))
            del result  # or it would be alive beside the next one
            if callback is not None and call.final > emitted:
                callback(canvas.view(emitted, call.final), emitted)
                emitted = call.final
        assert canvas is not None  # a plan has at least one tile
        return canvas.close()

    def blocks(self, start: int) -> Iterator[tuple[int, Array]]:
        """Run slab by slab and yield each finished block."""
        return self._blocks(self._plan.check_start(start))

    def _blocks(self, first: int) -> Iterator[tuple[int, Array]]:
        if first == self._plan.out_sizes[0]:
            return
        if self._plan.n_tiles == 1:
            yield 0, self._single(None)
            return
        canvas, emitted = None, first
        for call, result in self._results(by_slab=True, first=first):
            parts = self._parts(call.tiles, result)
            canvas = canvas or Canvas(self._plan, self._check.backend, first)
            if not canvas.is_open:
                canvas.open(emitted, self._plan.block_end(emitted), parts[0])
            for tile in call.tiles:
                canvas.place(tile, parts.pop(0))
            del result
            if call.final > emitted:
                start, emitted = emitted, call.final
                yield start, canvas.close()

    def _single(self, callback: Callback | None) -> Array:
        """Run the only tile; its result is the output."""
        ((_, result),) = self._results(by_slab=True)
        if callback is not None:
            callback(result, 0)
        return result

    def _results(self, *, by_slab: bool, first: int = 0) -> Iterator[tuple[Call, Array]]:
        """Call the function call by call, as far as output from `first` on needs it; results are checked, finished."""
        done = 0
        calls = tuple(schedule(self._plan, self._size, by_slab=by_slab))
        if first:  # the tiles of a call are then all of one slab
            calls = tuple(call for call in calls if self._plan.writes_after(call.tiles[0].index[0], first))
        total = sum(len(call.tiles) for call in calls)
        with progress_of(self._progress, total, self._plan.direction) as report:
            for call, result in self._workers.compute(self._function, calls, self._input, self._source.backend):
                held = [result]
                del result
                self._check(call.tiles, held[0])
                self._check.backend.synchronize(held[0])
                self._check.check_numbers(call.tiles, held[0])
                self._check.check_varies(call.tiles, held[0], partial(self._input, call))
                yield call, held.pop()  # popped, so that this frame does not keep it alive
                done += len(call.tiles)
                report(done)

    def _input(self, call: Call) -> Array:
        inputs = [self._source.read(self._plan, tile) for tile in call.tiles]
        if len(inputs) == 1:
            return inputs[0]
        batch = self._plan.geometry.batch
        assert batch is not None
        return self._source.backend.concat(inputs, batch)

    def _parts(self, tiles: Sequence[Tile], result: Array) -> list[Array]:
        """Cut the result of a call into those of its tiles."""
        batch = self._plan.geometry.batch
        if batch is None or len(tiles) == 1:  # a full slice would be a copy in MLX
            return [result]
        size = self._plan.shape[batch]
        cut = [slice(None)] * self._plan.geometry.ndim
        parts = []
        for i in range(len(tiles)):
            cut[batch] = slice(i * size, (i + 1) * size)
            parts.append(result[tuple(cut)])
        return parts
