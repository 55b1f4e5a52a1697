"""Sizes of a diffusion decode: padding, ghost frames, and tiles with the whole reach of the network; integers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil

from ltx_models.diffusion_decoder.config import DiffusionDecoderConfig, Triple

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sizes:
    """
    The sizes that follow from the configuration and the size of the latents.

    A *cell* is one of the grid on which the last deterministic stage runs; tiles are cut there.

    Attributes
    ----------
    config : DiffusionDecoderConfig
        The network.
    latent : (int, int, int)
        Frames, rows and columns of the latents as given.
    """

    config: DiffusionDecoderConfig
    latent: Triple

    @property
    def padded(self) -> Triple:
        """Latents that every stage can attend over: smaller ones are padded by repeating their border."""
        time, height, width = (max(n, least) for n, least in zip(self.latent, self.config.least_latent, strict=True))
        return time, height, width

    @property
    def before(self) -> Triple:
        """Latents added before, along each axis: none in time, half of what is missing in space."""
        height, width = ((self.padded[axis] - self.latent[axis]) // 2 for axis in (1, 2))
        return 0, height, width

    @property
    def frames(self) -> int:
        """Frames of pixels of the padded latents."""
        return self.config.scale[0] * (self.padded[0] - 1) + 1

    @property
    def video(self) -> Triple:
        """Frames, rows and columns of pixels of the padded latents: the size of the noise."""
        return self.frames, self.padded[1] * self.config.scale[1], self.padded[2] * self.config.scale[2]

    @property
    def result(self) -> Triple:
        """Frames, rows and columns of the video."""
        time, height, width = self.config.scale
        return time * (self.latent[0] - 1) + 1, self.latent[1] * height, self.latent[2] * width

    @property
    def kept(self) -> int:
        """Frames of the context that are kept: those of the video, or more where attention needs them."""
        available = self.config.scale[0] * (self.padded[0] + self.config.ghosts - 1) + 1
        return max(self.frames, min(self.config.kernel[0], available))

    @property
    def patches(self) -> Triple:
        """Frames, rows and columns of the denoising blocks."""
        return self.kept, self.video[1] // self.config.patch_size, self.video[2] // self.config.patch_size

    def grid(self, stage: int, *, ghosts: bool = True) -> Triple:
        """Give the cells of a stage, with or without those of the ghost frames."""
        time, height, width = self.padded[0] + (self.config.ghosts if ghosts else 0), *self.padded[1:]
        for earlier in self.config.stages[:stage]:
            p, q, r = earlier.stride
            time, height, width = _frames(p, time), height * q, width * r
        return time, height, width

    @property
    def cells(self) -> Triple:
        """The grid on which tiles are cut, with the ghost frames."""
        return self.grid(len(self.config.stages) - 1)

    @property
    def cores(self) -> Triple:
        """The cells of that grid that become the video."""
        return self.grid(len(self.config.stages) - 1, ghosts=False)

    @property
    def reach(self) -> Triple:
        """
        Cells to each side that a cell's pixels depend on.

        Each block reaches half of its kernel; denoising does so again in every step.
        """
        stage, config = self.config.stages[-1], self.config
        time, height, width = (
            stage.depth * (stage.kernel[axis] // 2)
            + ceil(config.steps * config.depth * (config.kernel[axis] // 2) / stage.stride[axis])
            for axis in range(3)
        )
        return time, height, width


@dataclass(frozen=True, slots=True)
class Tile:
    """
    A part of the cells that is decoded by itself.

    Attributes
    ----------
    core : three of (int, int)
        The cells whose pixels it gives.
    box : three of (int, int)
        The cells that it reads: the core and the reach of the network around it.
    """

    core: tuple[Interval, Interval, Interval]
    box: tuple[Interval, Interval, Interval]


def tiles(sizes: Sizes, counts: Sequence[int]) -> Iterator[Tile]:
    """
    Cut the cells into tiles.

    Parameters
    ----------
    sizes : Sizes
        The sizes of the decode.
    counts : (int, int, int)
        Tiles along time, height and width.

    Yields
    ------
    Tile
        Time outermost, so that finished frames come in order.
    """
    axes = []
    for axis, count in enumerate(counts):
        cells = sizes.cores[axis]
        edges = [i * cells // count for i in range(count + 1)]
        axes.append([((start, stop), _box(sizes, axis, start, stop)) for start, stop in pairwise(edges)])
    for parts in product(*axes):
        core, box = zip(*parts, strict=True)
        yield Tile(core, box)


def _box(sizes: Sizes, axis: int, start: int, stop: int) -> Interval:
    """Add the reach to a core, and as much as every kernel needs."""
    cells, reach = sizes.cells[axis], sizes.reach[axis]
    if stop == sizes.cores[axis]:
        stop = cells  # the ghost frames belong to the last tile
    first, last = max(0, start - reach), min(cells, stop + reach)
    stage = sizes.config.stages[-1]
    least = min(cells, max(stage.kernel[axis], -(-sizes.config.kernel[axis] // stage.stride[axis]) + 1))
    first = max(0, min(first, last - least))
    return first, max(last, min(cells, first + least))


def enlarged(sizes: Sizes, axis: int, interval: Interval) -> Interval:
    """Give the frames, rows or columns of the denoising blocks that an interval of cells becomes."""
    factor = sizes.config.stages[-1].stride[axis]
    if axis == 0:
        start, stop = (_frames(factor, n) if n else 0 for n in interval)
        return start, min(stop, sizes.kept)
    return interval[0] * factor, interval[1] * factor


def _frames(factor: int, cells: int) -> int:
    """Count the frames after a step that multiplies them: the first cell becomes one."""
    return factor * (cells - 1) + 1
