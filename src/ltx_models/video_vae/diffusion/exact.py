"""How to run a diffusion decoder exactly in a budget: whole, or as a sweep along one axis; integers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ltx_models.byte_sizes import format_bytes
from ltx_models.notebook import ShownAsText
from ltx_models.video_vae.config import Triple
from ltx_models.video_vae.diffusion.config import DiffusionDecoderConfig, Stage
from ltx_models.video_vae.diffusion.geometry import Sizes, piece_of, slab_frames

AXES = ("time", "height", "width")
BUSY = 8  # arrays of a piece's size that a block makes beside what it keeps
HIDDEN = 12  # channels in an MLP at once, over those of the block
PIXELS = 4  # bytes of a number of the noisy pixels, which are float32


@dataclass(frozen=True, slots=True)
class DiffusionPlan(ShownAsText):
    """
    A way to run a diffusion decoder exactly.

    Attributes
    ----------
    shape : tuple of int
        Latents, (B, C, f, h, w).
    axis : {0, 1, 2}
        Along which pieces follow one another: time, height or width.
    most : int or None
        The most cells of the denoising blocks that a piece has along it, each a frame, or 4 rows or columns of pixels;
        None for the whole clip in one piece.
    peak_bytes : int
        Forecast of the live arrays at the peak, without weights, noise and a result that is assembled.
    work : float
        Multiply-adds over those of the plain call: 1, since nothing is computed twice.
    reason : str
        Why this one.

    Examples
    --------
    >>> from ltx_models import plan_exact
    >>> from ltx_models.video_vae.diffusion import LTX2_5
    >>> print(plan_exact(LTX2_5, (1, 128, 16, 34, 60), itemsize=2, memory_bytes=8 * 2**30))
    exact diffusion decode of latents 1x128x16x34x60: a sweep along the width, 7 patches (28 pixels) at a time
      work 1.000 of the whole, peak 7.9 GiB without weights
      because the whole clip needs 70.6 GiB and the budget is 8.0 GiB
    """

    shape: tuple[int, int, int, int, int]
    axis: int
    most: int | None
    peak_bytes: int
    work: float
    reason: str

    def __str__(self) -> str:
        """Say what is done and why."""
        how = "the whole clip in one piece"
        if self.most is not None:
            unit = "frames" if self.axis == 0 else f"patches ({4 * self.most} pixels)"
            how = f"a sweep along the {AXES[self.axis]}, {self.most} {unit} at a time"
        return (
            f"exact diffusion decode of latents {'x'.join(map(str, self.shape))}: {how}\n"
            f"  work {self.work:.3f} of the whole, peak {format_bytes(self.peak_bytes)} without weights\n"
            f"  because {self.reason}"
        )


class Costs:
    """
    Memory of a diffusion decode.

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
        patch = config.out_channels * config.patch_size**2
        companions = config.context_channels + -(-patch * PIXELS // itemsize)
        denoising = Stage(config.channels, config.steps * config.depth, config.kernel, (1, 1, 1), 1)
        self.stages: list[tuple[Stage, Triple, int]] = [
            *((stage, self.sizes.grid(index), 0) for index, stage in enumerate(config.stages)),
            (denoising, self.sizes.patches, companions),
        ]

    def peak(self, axis: int, most: int) -> int:
        """Forecast the bytes of live arrays at the peak."""
        patches = self.stages[-1][1][axis]
        pieces = [min(grid[axis], piece_of(grid[axis], most, patches)) for _, grid, _ in self.stages[:-1]]
        pieces.append(min(patches, most))
        rows = list(zip(self.stages, pieces, strict=True))
        kept = [stage.depth * self._kept(stage, grid, axis, piece, more) for (stage, grid, more), piece in rows]
        busy = [self._busy(stage, grid, axis, piece, more) for (stage, grid, more), piece in rows]
        return sum(kept) + max(busy)

    def _kept(self, stage: Stage, grid: Triple, axis: int, piece: int, companions: int) -> int:
        """Bytes that a block keeps between two pieces: keys and values, and what waits for keys."""
        total, kernel = grid[axis], stage.kernel[axis]
        if piece >= total:
            return 0
        keys, waiting = min(total, kernel - 1), min(total, kernel - 1 - kernel // 2)
        channels = 2 * stage.channels * keys + (2 * stage.channels + companions) * waiting
        across = prod(n for other, n in enumerate(grid) if other != axis)
        return self.batch * self.itemsize * across * channels

    def _busy(self, stage: Stage, grid: Triple, axis: int, piece: int, companions: int) -> int:
        """Bytes of what a block makes of a piece."""
        frames, height, width = (piece if other == axis else n for other, n in enumerate(grid))
        cells = frames * height * width
        slab = min(frames, slab_frames(self.batch, height, width)) * height * width
        attention = (BUSY * stage.channels + companions) * cells
        hidden = (4 * stage.channels + companions) * cells + HIDDEN * stage.channels * slab
        made = self.batch * self.itemsize * max(attention, hidden)
        # while a piece is joined to what was kept, both are there
        return made + self._kept(stage, grid, axis, piece, companions)


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
        What to do, what it costs, and why: whole where it fits, else the sweep with the largest pieces that fit; along
        the time where that is as good, so that frames are finished in order.

    Raises
    ------
    ValueError
        If nothing fits the budget; the text says the least that would.
    """
    batch, channels, frames, height, width = shape
    shape = (batch, channels, frames, height, width)
    costs = Costs(config, shape, itemsize)
    patches = costs.sizes.patches
    whole = costs.peak(0, patches[0])
    if memory_bytes is None or whole <= memory_bytes:
        reason = "no budget was given" if memory_bytes is None else f"the budget is {format_bytes(memory_bytes)}"
        return DiffusionPlan(shape, 0, None, whole, 1.0, reason)
    ways = [(axis, most, costs.peak(axis, most)) for axis, n in enumerate(patches) for most in range(1, n)]
    fitting = [
        (most * prod(patches) // patches[axis], -axis, most, peak) for axis, most, peak in ways if peak <= memory_bytes
    ]
    if not fitting:
        least = min((peak for *_, peak in ways), default=whole)
        msg = (
            f"memory_bytes: got {format_bytes(memory_bytes)}, the least that an exact diffusion decode of latents "
            f"{shape} needs is {format_bytes(least)}; give more memory, or tile with tilekit.decode_tiled"
        )
        raise ValueError(msg)
    _, axis, most, peak = max(fitting)
    reason = f"the whole clip needs {format_bytes(whole)} and the budget is {format_bytes(memory_bytes)}"
    return DiffusionPlan(shape, -axis, most, peak, 1.0, reason)
