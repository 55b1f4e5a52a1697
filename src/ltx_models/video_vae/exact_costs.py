"""
What ways to run a video network exactly cost: multiply-adds of convolutions, and bytes of live arrays.

Integers only, from the configuration, without weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

from ltx_models.nn.space import Grid, cuts
from ltx_models.video_vae.config import UnitSpec, VideoVAEConfig

__all__ = ["Costs", "cells", "macs", "reach"]

SUMS = 8  # bytes of a number that is summed up over frames, in float32: the sum so far, and what is added


def macs(steps: Sequence[UnitSpec], frames: int, height: int, width: int) -> int:
    """
    Count the multiply-adds of the convolutions.

    Parameters
    ----------
    steps : sequence of UnitSpec
        The network or a part of it.
    frames, height, width : int
        Latent frames and cells; as in the networks, the first latent frame stands for one frame at every resolution.

    Returns
    -------
    int
        Multiply-adds of one sample.
    """
    return sum(
        27 * inputs * outputs * cells(step, frames, height, width)
        for step in steps
        for inputs, outputs in step.convolutions
    )


def cells(step: UnitSpec, frames: int, height: int, width: int) -> int:
    """Count the cells that the convolutions of a step run over."""
    time = step.time * (frames - 1) + 1
    if step.stride[0] > 1 and _downward(step):
        time += 1  # the encoder repeats the first frame before it halves the frame rate
    return time * step.space * height * step.space * width


def _downward(step: UnitSpec) -> bool:
    return step.name.startswith("down")


def reach(steps: Sequence[UnitSpec], scale: int) -> int:
    """
    Count the neighbours that a tile needs so that its core is right after some steps.

    Parameters
    ----------
    steps : sequence of UnitSpec
        Steps that the tile goes through.
    scale : int
        Cells of height to a latent cell in which to answer; the lowest resolution of the steps.

    Returns
    -------
    int
        Cells beyond the core, to each side.
    """
    need = 0
    for step in reversed(steps):
        stride = step.stride[1]
        need = (need * stride if _downward(step) else ceil(need / stride)) + len(step.convolutions)
    entry = steps[0].space
    return ceil(need * scale / entry)


class Costs:
    """
    Work and memory of one network on latents of one shape.

    Parameters
    ----------
    config : VideoVAEConfig
        The network.
    shape : sequence of int
        Latents, (B, C, f, h, w).
    decode : bool
        Whether it is the decoder.
    itemsize : int
        Bytes of one number.
    causal : bool
        Whether convolutions look back only.
    by_frames : bool
        Whether convolutions are made as sums of those of frames; see `tilekit.backends.frames`.
    """

    def __init__(
        self,
        config: VideoVAEConfig,
        shape: Sequence[int],
        *,
        decode: bool,
        itemsize: int,
        causal: bool,
        by_frames: bool = False,
    ) -> None:
        self.config, self.decode, self.itemsize = config, decode, itemsize
        # beside the result; in float32 the sum so far is the result
        self.sums = (SUMS if itemsize < 4 else SUMS - itemsize) if by_frames else 0
        self.steps = config.decoder_steps() if decode else config.encoder_steps()
        self.batch, _, self.frames, self.height, self.width = shape
        self.reflect = (config.decoder_padding if decode else config.encoder_padding) == "reflect"
        self.lag = 0 if causal or not decode else 1
        self.time = (config.decoder_scale if decode else config.encoder_scale)[0]
        self.work = macs(self.steps, self.frames, self.height, self.width)

    def boundaries(self) -> list[int]:
        """List how many steps of the high-resolution end may be tiled: a change of scale and what lies beyond."""
        ends = [i for i, step in enumerate(self.steps) if step.stride[1] > 1]
        return [len(self.steps) - i for i in reversed(ends)] if self.decode else [i + 1 for i in ends]

    def tail(self, tiled: int) -> tuple[UnitSpec, ...]:
        """List the steps that are tiled."""
        return self.steps[len(self.steps) - tiled :] if self.decode else self.steps[:tiled]

    def rest(self, tiled: int) -> tuple[UnitSpec, ...]:
        """List the steps that run on whole frames."""
        return self.steps[: len(self.steps) - tiled] if self.decode else self.steps[tiled:]

    def base(self, tiled: int) -> int:
        """Cells of height to a latent cell at the lowest resolution of the tiled steps."""
        if self.decode:
            return self.tail(tiled)[0].space
        last = self.tail(tiled)[-1]
        return last.space // last.stride[1]

    def grid(self, tiled: int, rows: int, columns: int) -> Grid:
        """Lay tiles over the frame."""
        steps, base = self.tail(tiled), self.base(tiled)
        halo = reach(steps, base)
        high = (steps[-1] if self.decode else steps[0]).space // base
        return Grid(
            cuts(self.height * base, rows, halo),
            cuts(self.width * base, columns, halo),
            1 if self.decode else high,
            high if self.decode else 1,
        )

    def tiled_work(self, grid: Grid, tiled: int) -> float:
        """Multiply-adds over those of the plain call."""
        base = self.base(tiled)
        area = sum(r.stop - r.start for r in grid.rows) * sum(c.stop - c.start for c in grid.columns)
        part = macs(self.tail(tiled), self.frames, self.height, self.width)
        excess = area / (self.height * base * self.width * base)
        return (self.work - part + part * excess) / self.work

    def peak(self, frames: int | None, tiled: int = 0, grid: Grid | None = None) -> int:
        """Forecast the bytes of live arrays at the peak."""
        height, width = self.height, self.width
        rest = self.rest(tiled)
        kept = 0 if frames is None else sum(self._kept(step, height, width) for step in rest)
        busy = max((self._busy(step, frames, height, width) for step in rest), default=0)
        if grid is None:
            return kept + busy
        base = self.base(tiled)
        rows, columns = (cut[0].stop - cut[0].start for cut in (grid.rows, grid.columns))
        tile = rows / base, columns / base
        count = len(grid.rows) * len(grid.columns)
        steps = self.tail(tiled)
        kept += count * sum(self._kept(step, *tile) for step in steps)
        entry, leave = self._border(steps, frames)
        tile_busy = max(self._busy(step, frames, *tile) for step in steps)
        return kept + max(busy, entry + leave + max(tile_busy, leave))

    def heaviest(self, frames: int | None, tiled: int = 0, grid: Grid | None = None) -> int:
        """Count the multiply-adds of the largest convolution, of whole frames or of one tile."""
        found = [self._heaviest(step, frames, self.height, self.width) for step in self.rest(tiled)]
        if grid is not None:
            base = self.base(tiled)
            rows, columns = (max(span.stop - span.start for span in spans) for spans in (grid.rows, grid.columns))
            found += [self._heaviest(step, frames, rows / base, columns / base) for step in self.tail(tiled)]
        return max(found)

    def _heaviest(self, step: UnitSpec, frames: int | None, height: float, width: float) -> int:
        kernel = 9 if self.sums else 27  # frame by frame each tap of time is a convolution of its own
        cells = self._plane(step, height, width) // self.itemsize * (self._time(step, frames) + _downward(step))
        return max(kernel * inputs * outputs * cells for inputs, outputs in step.convolutions)

    def _plane(self, step: UnitSpec, height: float, width: float) -> int:
        return round(self.batch * step.space * height * step.space * width * self.itemsize)

    def _time(self, step: UnitSpec, frames: int | None) -> int:
        whole = step.time * (self.frames - 1) + 1
        return min(whole, step.cap(self.time, frames))

    def _kept(self, step: UnitSpec, height: float, width: float) -> int:
        """Two frames before each convolution; a residual branch waits with the same ones."""
        return 2 * sum(inputs for inputs, _ in step.convolutions) * self._plane(step, height, width)

    def _busy(self, step: UnitSpec, frames: int | None, height: float, width: float) -> int:
        """Arrays that live at once within a step."""
        plane, count = self._plane(step, height, width), self._time(step, frames)
        inputs, outputs = step.convolutions[0][0], step.convolutions[-1][1]
        edge = 1.0
        if self.reflect:
            edge = (step.space * height + 2) * (step.space * width + 2) / (step.space * height * step.space * width)
        joined = edge * (count + 2) * inputs
        if self.sums:  # what is convolved waits beside its padded copy until all taps are added
            joined += count * (inputs + max(outputs for _, outputs in step.convolutions) * self.sums / self.itemsize)
        x = count * inputs
        if len(step.convolutions) == 2:
            return round(plane * (2 * x + joined))  # the input, the padded copy, the result
        if step.stride != (1, 1, 1) and self.decode:
            skip = count * inputs  # rearranged
            result = count * outputs
            return round(plane * max(x + joined + result, x + 2 * result + skip))
        result = count * outputs
        waiting = x if frames is not None else 0  # what later pieces are cut from
        return round(plane * max(x + joined + result, waiting + 2 * result))

    def _border(self, steps: Sequence[UnitSpec], frames: int | None) -> tuple[int, int]:
        """Whole frames between whole and tiled steps: what goes in, and the block that is put together."""
        first, last = steps[0], steps[-1]
        entry = self._plane(first, self.height, self.width) * self._time(first, frames) * first.convolutions[0][0]
        leave = self._plane(last, self.height, self.width) * last.convolutions[-1][1]
        if not self.decode:
            leave = leave // prod(last.stride) * prod(last.stride[:1])
        return entry, leave * self._time(last, frames)
