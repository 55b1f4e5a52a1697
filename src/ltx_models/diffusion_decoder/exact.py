"""
How to run a diffusion decoder exactly within a memory budget: whole, or its last stages in tiles; integers alone.

All stages but the last run on the whole of the latents: they are small. Tiles of the rest carry the whole reach of the
network around them, which is cropped, so they equal the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from ltx_models.diffusion_decoder.config import DiffusionDecoderConfig, Stage, Triple
from ltx_models.diffusion_decoder.geometry import Sizes, Tile, enlarged, tiles
from ltx_models.diffusion_decoder.layers import SLAB_CELLS
from ltx_models.quantities import format_bytes

MAX_TILES = 16  # of an axis, beyond which the reach around them costs more than any budget is worth
ATTENTION_ARRAYS = 10  # arrays of a block's size that its attention holds at the peak, its input not counted
HIDDEN_ARRAYS = 12  # arrays of a slab's size in an MLP: three of four times the channels


@dataclass(frozen=True, slots=True)
class DiffusionPlan:
    """
    A way to run a diffusion decoder exactly.

    Attributes
    ----------
    shape : tuple of int
        Latents, (B, C, f, h, w).
    tiles : (int, int, int)
        Tiles along time, height and width.
    peak_bytes : int
        Forecast of the live arrays at the peak, without weights, noise and a result that is assembled.
    work : float
        Multiply-adds over those of the untiled network.
    reason : str
        Why this one.

    Examples
    --------
    >>> from ltx_models import plan_exact
    >>> from ltx_models.diffusion_decoder import LTX2_5
    >>> print(plan_exact(LTX2_5, (1, 128, 16, 34, 60), itemsize=2, memory_bytes=24 * 2**30))
    exact diffusion decode of latents 1x128x16x34x60: 1 x 2 x 3 tiles along time, height and width
      work 1.687 of untiled, peak 20.8 GiB without weights
      because the whole clip needs 90.4 GiB and the budget is 24.0 GiB
    """

    shape: tuple[int, int, int, int, int]
    tiles: Triple
    peak_bytes: int
    work: float
    reason: str

    def __str__(self) -> str:
        """Say what is done and why."""
        whole = self.tiles == (1, 1, 1)
        how = "the whole clip" if whole else f"{' x '.join(map(str, self.tiles))} tiles along time, height and width"
        return (
            f"exact diffusion decode of latents {'x'.join(map(str, self.shape))}: {how}\n"
            f"  work {self.work:.3f} of untiled, peak {format_bytes(self.peak_bytes)} without weights\n"
            f"  because {self.reason}"
        )


class Costs:
    """
    Work and memory of a diffusion decode.

    Parameters
    ----------
    config : DiffusionDecoderConfig
        The network.
    shape : sequence of int
        Latents, (B, C, f, h, w).
    itemsize : int
        Bytes of one number.
    """

    def __init__(self, config: DiffusionDecoderConfig, shape: Sequence[int], itemsize: int) -> None:
        batch, _, frames, height, width = shape
        self.config, self.batch, self.itemsize = config, batch, itemsize
        self.sizes = Sizes(config, (frames, height, width))
        self.stages = [(stage, self.sizes.grid(index)) for index, stage in enumerate(config.stages)]
        self.denoising = Stage(config.channels, config.depth, config.kernel, (1, 1, 1), 1)

    def work(self, counts: Sequence[int]) -> float:
        """Multiply-adds over those of the untiled network."""
        early = sum(prod(grid) * self._macs(stage) for stage, grid in self.stages[:-1])
        return (early + self._late(counts)) / (early + self._late((1, 1, 1)))

    def _late(self, counts: Sequence[int]) -> int:
        """Multiply-adds of the stages that run in tiles: the axes of tiles are independent."""
        cells, patches = 1, 1
        for axis, count in enumerate(counts):
            boxes = [tile.box[axis] for tile in self._along(axis, count)]
            cells *= sum(stop - start for start, stop in boxes)
            patches *= sum(stop - start for start, stop in (enlarged(self.sizes, axis, box) for box in boxes))
        return cells * self._macs(self.config.stages[-1]) + self.config.steps * patches * self._macs(self.denoising)

    def _along(self, axis: int, count: int) -> Iterator[Tile]:
        counts = [1, 1, 1]
        counts[axis] = count
        return tiles(self.sizes, counts)

    def _macs(self, stage: Stage) -> int:
        """Multiply-adds of one cell: projections, MLP and the scores and sums of attention."""
        c = stage.channels
        return stage.depth * (4 * c * c + 12 * c * c + 2 * c * prod(stage.kernel))

    def peak(self, counts: Sequence[int]) -> int:
        """Forecast the bytes of live arrays at the peak."""
        early = max(self._stage(stage, prod(grid)) for stage, grid in self.stages[:-1])
        last, grid = self.stages[-1]
        kept = self._bytes(prod(grid) * last.channels)
        boxes = [
            max((tile.box[axis] for tile in self._along(axis, count)), key=lambda box: box[1] - box[0])
            for axis, count in enumerate(counts)
        ]
        cells = prod(stop - start for start, stop in boxes)
        patches = prod(
            stop - start for start, stop in (enlarged(self.sizes, axis, box) for axis, box in enumerate(boxes))
        )
        context = self._bytes(patches * self.config.context_channels)
        pixels = self.batch * patches * self.config.out_channels * self.config.patch_size**2 * 4
        denoise = context + 3 * pixels + self._stage(self.denoising, patches)
        grow = self._bytes(cells * last.channels) + 2 * context
        return max(early, kept + max(self._stage(last, cells), grow, denoise) + self._finished(counts))

    def _finished(self, counts: Sequence[int]) -> int:
        """Bytes of the pixels of tiles that wait for the rest of their frames."""
        if counts[1] * counts[2] == 1:
            return 0
        frames, height, width = self.sizes.video
        return 2 * self._bytes(-(-frames // counts[0]) * height * width * self.config.out_channels)

    def _stage(self, stage: Stage, cells: int) -> int:
        """Bytes at the peak of a block: its input, and what attention or the MLP holds."""
        slab = min(cells, max(SLAB_CELLS, 1))
        attention = (1 + ATTENTION_ARRAYS) * cells
        hidden = 4 * cells + HIDDEN_ARRAYS * slab
        return self._bytes(stage.channels * max(attention, hidden))

    def _bytes(self, numbers: int) -> int:
        return self.batch * numbers * self.itemsize


def plan_diffusion(
    config: DiffusionDecoderConfig, shape: Sequence[int], *, itemsize: int = 4, memory_bytes: int | None = None
) -> DiffusionPlan:
    """
    Choose how to run a diffusion decoder exactly; `plan_exact` calls this for one.

    Parameters
    ----------
    config : DiffusionDecoderConfig
        The network.
    shape : sequence of int
        Latents, (B, C, f, h, w).
    itemsize : int
        Bytes of one number: 4 for float32, 2 for bfloat16 and float16.
    memory_bytes : int, optional
        What live arrays may take at the peak, without weights, noise and a result that is assembled.

    Returns
    -------
    DiffusionPlan
        What to do, what it costs, and why: whole where it fits, else the tiles with the least work that fit.

    Raises
    ------
    ValueError
        If nothing fits the budget; the text says the least that would.
    """
    batch, channels, frames, height, width = shape
    shape = (batch, channels, frames, height, width)
    costs = Costs(config, shape, itemsize)
    whole = costs.peak((1, 1, 1))
    if memory_bytes is None or whole <= memory_bytes:
        budget = "no budget was given" if memory_bytes is None else f"it fits the budget of {format_bytes(memory_bytes)}"
        return DiffusionPlan(shape, (1, 1, 1), whole, 1.0, budget)
    choices = [range(1, min(MAX_TILES, cells) + 1) for cells in costs.sizes.cores]
    ways = [(counts, costs.peak(counts)) for counts in product(*choices)]
    fitting = [(costs.work(counts), peak, counts) for counts, peak in ways if peak <= memory_bytes]
    if not fitting:
        least = min(peak for _, peak in ways)
        msg = (
            f"memory_bytes: got {format_bytes(memory_bytes)}, the least that an exact diffusion decode of latents "
            f"{shape} needs is {format_bytes(least)}; give more memory, or tile with tilekit.decode_tiled"
        )
        raise ValueError(msg)
    work, peak, counts = min(fitting)
    reason = f"the whole clip needs {format_bytes(whole)} and the budget is {format_bytes(memory_bytes)}"
    return DiffusionPlan(shape, counts, peak, work, reason)
