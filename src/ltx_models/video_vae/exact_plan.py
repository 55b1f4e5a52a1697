"""
How to run a video network exactly within a memory budget: whole, as a stream, or as a stream with tiled last stages.

Integers only. Work is counted in multiply-adds of the convolutions, memory in bytes of live arrays, both from the
configuration, without weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

from ltx_models.byte_sizes import format_bytes
from ltx_models.nn.space import Grid, cuts
from ltx_models.notebook import ShownAsText
from ltx_models.video_vae.config import UnitSpec, VideoVAEConfig

PIECE_CELLS = 320  # latent cells that a piece should have so that the fixed cost of a call does not show
FRAMES_LEAST = 3  # frames of pixels at once below which no stage shrinks
SUMS = 8  # bytes of a number that is summed up over frames, in float32: the sum so far, and what is added
MAX_GRID = 8  # tiles of an axis beyond which the margins cost more than any budget is worth


@dataclass(frozen=True, slots=True)
class ExactPlan(ShownAsText):
    """
    A way to run a network exactly.

    Attributes
    ----------
    decode : bool
        Whether it is a decoder.
    shape : tuple of int
        Latents, (B, C, f, h, w).
    frames : int or None
        Frames of pixels, and their like at other rates, that go through a layer at once; None for the whole clip.
    tiled : int
        How many steps at the high-resolution end run in spatial tiles; 0 for none.
    tiles : (int, int)
        Tiles along height and width.
    peak_bytes : int
        Forecast of the live arrays at the peak, without weights and without a result that is assembled.
    work : float
        Multiply-adds over those of the plain call.
    reason : str
        Why this one.

    Examples
    --------
    >>> from ltx_models import plan_exact
    >>> from ltx_models.video_vae import LTX2
    >>> print(plan_exact(LTX2, (1, 128, 16, 34, 60), itemsize=2, memory_bytes=2 * 2**30))
    exact decode of latents 1x128x16x34x60: stream of 4 frames at a time
      work 1.000 of the whole, peak 1.8 GiB without weights
      because the whole clip needs 11.4 GiB and the budget is 2.0 GiB
    """

    decode: bool
    shape: tuple[int, int, int, int, int]
    frames: int | None
    tiled: int
    tiles: tuple[int, int]
    peak_bytes: int
    work: float
    reason: str

    def __str__(self) -> str:
        """Say what is done and why."""
        kind = "decode" if self.decode else "encode"
        how = "the whole clip in one piece" if self.frames is None else f"stream of {self.frames} frames at a time"
        if self.tiled:
            how += f", {self.tiled} steps of highest resolution in {self.tiles[0]} x {self.tiles[1]} tiles"
        return (
            f"exact {kind} of latents {'x'.join(map(str, self.shape))}: {how}\n"
            f"  work {self.work:.3f} of the whole, peak {format_bytes(self.peak_bytes)} without weights\n"
            f"  because {self.reason}"
        )


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


def plan_convolutional(
    config: VideoVAEConfig,
    shape: Sequence[int],
    *,
    decode: bool = True,
    itemsize: int = 4,
    memory_bytes: int | None = None,
    causal: bool | None = None,
    by_frames: bool = False,
) -> ExactPlan:
    """
    Choose how to run a convolutional network exactly; `plan_exact` calls this for one.

    Whole where it fits; else a stream with the largest chunk that fits; else a stream whose stages of highest
    resolution run in spatial tiles, with the least work that fits. Without a budget: a stream whose pieces are just
    large enough to run at full speed, so that memory stays small and does not grow with the clip; whole where that
    takes no more.

    Parameters
    ----------
    config : VideoVAEConfig
        The network.
    shape : sequence of int
        Latents, (B, C, f, h, w).
    decode : bool
        Whether it is the decoder.
    itemsize : int
        Bytes of one number: 4 for float32, 2 for bfloat16 and float16.
    memory_bytes : int, optional
        What live arrays may take at the peak, without weights and without a result that is assembled.
    causal : bool, optional
        Whether the decoder looks back only; as configured where absent.
    by_frames : bool
        Whether the device is better at convolutions of frames, whose sums take memory.

    Returns
    -------
    ExactPlan
        What to do, what it costs, and why.

    Raises
    ------
    ValueError
        If nothing fits the budget; the text says the least that would.
    """
    batch, channels, frames, height, width = shape
    shape = (batch, channels, frames, height, width)
    causal = config.causal_decoder if causal is None else causal
    costs = Costs(config, shape, decode=decode, itemsize=itemsize, causal=causal, by_frames=by_frames)
    whole = costs.peak(None)
    time, clip = costs.time, costs.time * (frames - 1) + 1
    if memory_bytes is None:
        chunk = ceil(PIECE_CELLS / (batch * height * width)) * time
        if chunk >= clip:
            return ExactPlan(decode, shape, None, 0, (1, 1), whole, 1.0, "the clip is no longer than one piece")
        if costs.peak(chunk) >= whole:
            return ExactPlan(decode, shape, None, 0, (1, 1), whole, 1.0, f"pieces of {chunk} frames take no less")
        reason = f"no budget was given, and pieces of {chunk} frames run at full speed"
        return ExactPlan(decode, shape, chunk, 0, (1, 1), costs.peak(chunk), 1.0, reason)
    budget = f"the budget is {format_bytes(memory_bytes)}"
    if whole <= memory_bytes:
        return ExactPlan(decode, shape, None, 0, (1, 1), whole, 1.0, f"the whole clip fits, {budget}")
    needs = f"the whole clip needs {format_bytes(whole)} and {budget}"
    for piece in (*range(clip // time * time, 0, -time), time // 2, FRAMES_LEAST):
        if (peak := costs.peak(piece)) <= memory_bytes:
            return ExactPlan(decode, shape, piece, 0, (1, 1), peak, 1.0, needs)
    candidates = list(_tilings(costs, shape))
    fitting = [plan for plan in candidates if plan.peak_bytes <= memory_bytes]
    if not fitting:
        least = min([plan.peak_bytes for plan in candidates] + [costs.peak(FRAMES_LEAST)])
        verb = "decode" if decode else "encode"
        msg = (
            f"memory_bytes: got {format_bytes(memory_bytes)}, the least that an exact {verb} of latents {tuple(shape)} "
            f"needs is {format_bytes(least, up=True)}; give more memory, or tile with tilekit.decode_tiled"
        )
        raise ValueError(msg)
    best = min(fitting, key=lambda plan: (plan.work, plan.peak_bytes))
    reason = f"a stream of whole frames needs {format_bytes(costs.peak(FRAMES_LEAST))} and {budget}"
    return replace(best, reason=reason)


def _tilings(costs: Costs, shape: tuple[int, int, int, int, int]) -> Iterator[ExactPlan]:
    """Forecast every tiling worth a thought."""
    for tiled in costs.boundaries():
        base = costs.base(tiled)
        for rows in range(1, min(MAX_GRID, costs.height * base) + 1):
            for columns in range(1, min(MAX_GRID, costs.width * base) + 1):
                if rows * columns > 1:
                    grid = costs.grid(tiled, rows, columns)
                    peak, work = costs.peak(FRAMES_LEAST, tiled, grid), costs.tiled_work(grid, tiled)
                    yield ExactPlan(costs.decode, shape, FRAMES_LEAST, tiled, (rows, columns), peak, work, "")
