"""
Stages of a stream in spatial tiles, exact.

A convolution reaches one cell to each side, so a tile that carries as many real neighbours as the stages behind it
reach gives the right cells after its margin is cut off. Only the stages of high resolution are tiled: their reach is a
few cells of their own, not the reach of the whole network. At the border of the frame a tile ends where the frame
does, so the layers' own padding applies there and nowhere else.

All windows of an axis have one size, shifted inwards at the border, so that tiles can share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from ltx_models.nn._types import Array, Backend
from ltx_models.nn.stream import Stage


@dataclass(frozen=True, slots=True)
class Cut:
    """
    One tile along one axis, in cells of the lowest resolution.

    Attributes
    ----------
    start, stop : int
        What the tile is given.
    core_start, core_stop : int
        What is taken from it.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int


def cuts(length: int, count: int, halo: int) -> tuple[Cut, ...]:
    """
    Cut an axis into tiles of one size with a margin of real neighbours.

    Parameters
    ----------
    length : int
        Cells of the axis.
    count : int
        Tiles.
    halo : int
        Neighbours that each tile needs beyond its core, to either side.

    Returns
    -------
    tuple of Cut
        The cores follow one another and cover the axis.

    Examples
    --------
    >>> [(cut.start, cut.stop) for cut in cuts(30, 3, 2)]
    [(0, 14), (8, 22), (16, 30)]
    """
    edges = [length * i // count for i in range(count + 1)]
    cores = list(pairwise(edges))
    size = max(min(length, stop + halo) - max(0, start - halo) for start, stop in cores)
    starts = [min(max(0, start - halo), length - size) for start, _ in cores]
    return tuple(Cut(begin, begin + size, *core) for begin, core in zip(starts, cores, strict=True))


@dataclass(frozen=True, slots=True)
class Grid:
    """
    Tiles of a frame.

    Attributes
    ----------
    rows, columns : tuple of Cut
        The tiles along height and width, in cells of the lowest resolution.
    scale_in, scale_out : int
        Cells of what goes in and of what comes out to one such cell.
    batch : int
        Tiles that share a call.
    """

    rows: tuple[Cut, ...]
    columns: tuple[Cut, ...]
    scale_in: int
    scale_out: int
    batch: int = 1

    def batches(self) -> list[tuple[tuple[Cut, Cut], ...]]:
        """Group the tiles of the frame, row by row."""
        tiles = list(product(self.rows, self.columns))
        return [tuple(tiles[i : i + self.batch]) for i in range(0, len(tiles), self.batch)]


class TiledStage:
    """
    Units run over tiles of a frame, for one pass over one clip; each tile has a stream of its own.

    Parameters
    ----------
    nn : Backend
        The framework.
    grid : Grid
        The tiles.
    make : callable
        Makes the stage of one batch of tiles from the top-left corners of its tiles.
    """

    def __init__(self, nn: Backend, grid: Grid, make: Callable[[Sequence[tuple[int, int]]], Stage]) -> None:
        self.nn, self.grid = nn, grid
        self.batches = grid.batches()
        self.stages = [make([(row.start, column.start) for row, column in batch]) for batch in self.batches]

    def push(self, x: Array, *, last: bool) -> Iterator[tuple[Array, bool]]:
        """
        Put a piece of whole frames in and take out what it completes.

        Parameters
        ----------
        x : array, shape (B, T, H, W, C)
            The next frames.
        last : bool
            Whether the clip ends with them.

        Yields
        ------
        block : array, shape (B, T', H', W', C')
            Finished frames, in order.
        last : bool
            Whether the clip ends with them.
        """
        streams = [
            stage.push(self._crop(x, batch), last=last) for batch, stage in zip(self.batches, self.stages, strict=True)
        ]
        samples = x.shape[0]
        del x
        done: list[Array] = []
        # the tiles' streams take turns, so that no more than one block of the frame is put together at a time
        while (ends := self._turn(streams, samples, done)) is not None:
            yield done.pop(), ends

    def _turn(self, streams: Sequence[Iterator[tuple[Array, bool]]], samples: int, done: list[Array]) -> bool | None:
        """Put the next block of every tile together; None where there is none."""
        ends = None
        for stream, batch in zip(streams, self.batches, strict=True):
            for block, ends in stream:  # noqa: B007  # its value is returned
                if not done:
                    done.append(self._canvas(block, samples))
                self._paste(done[0], block, batch)
                break
        return ends

    def _crop(self, x: Array, batch: Sequence[tuple[Cut, Cut]]) -> Array:
        k = self.grid.scale_in
        tiles = [x[:, :, r.start * k : r.stop * k, c.start * k : c.stop * k] for r, c in batch]
        return tiles[0] if len(tiles) == 1 else self.nn.xp.concat(tiles, axis=0)

    def _canvas(self, block: Array, samples: int) -> Array:
        k = self.grid.scale_out
        height, width = self.grid.rows[-1].core_stop * k, self.grid.columns[-1].core_stop * k
        shape = (samples, block.shape[1], height, width, block.shape[-1])
        frames = self.nn.on_device(self.nn.xp.zeros(shape, dtype=block.dtype), block)
        self.nn.synchronize(frames)
        return frames

    def _paste(self, frames: Array, block: Array, batch: Sequence[tuple[Cut, Cut]]) -> None:
        k, samples = self.grid.scale_out, frames.shape[0]
        for i, (r, c) in enumerate(batch):
            tile = block[i * samples : (i + 1) * samples]
            core = tile[
                :,
                :,
                (r.core_start - r.start) * k : (r.core_stop - r.start) * k,
                (c.core_start - c.start) * k : (c.core_stop - c.start) * k,
            ]
            self.nn.synchronize(core)  # assigning a pending slice would copy the whole frame on MLX
            frames[:, :, r.core_start * k : r.core_stop * k, c.core_start * k : c.core_stop * k] = core
            self.nn.synchronize(frames)
