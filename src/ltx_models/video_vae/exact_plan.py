"""
How to run a video network exactly within a memory budget: whole, as a stream, or as a stream with tiled last stages.

Integers only; what each way costs is counted in `exact_costs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from ltx_models.byte_sizes import format_bytes
from ltx_models.notebook import ShownAsText
from ltx_models.video_vae.config import VideoVAEConfig
from ltx_models.video_vae.exact_costs import Costs

PIECE_CELLS = 320  # latent cells that a piece should have so that the fixed cost of a call does not show
FRAMES_LEAST = 3  # frames of pixels at once below which no stage shrinks
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


def plan_convolutional(
    config: VideoVAEConfig,
    shape: Sequence[int],
    *,
    decode: bool = True,
    itemsize: int = 4,
    memory_bytes: int | None = None,
    causal: bool | None = None,
    by_frames: bool = False,
    most_work: float = inf,
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
    most_work : float
        Most multiply-adds of one convolution; see `tilekit.backends.limits`.

    Returns
    -------
    ExactPlan
        What to do, what it costs, and why.

    Raises
    ------
    ValueError
        If nothing fits the budget, the text says the least that would; or if each way has too long a convolution.
    """
    batch, channels, frames, height, width = shape
    shape = (batch, channels, frames, height, width)
    causal = config.causal_decoder if causal is None else causal
    costs = Costs(config, shape, decode=decode, itemsize=itemsize, causal=causal, by_frames=by_frames)
    whole = costs.peak(None)
    time, clip = costs.time, costs.time * (frames - 1) + 1
    chunk = ceil(PIECE_CELLS / (batch * height * width)) * time
    free = memory_bytes is None
    if memory_bytes is None:
        piece: int | None = None
        if chunk >= clip:
            reason = "the clip is no longer than one piece"
        elif costs.peak(chunk) >= whole:
            reason = f"pieces of {chunk} frames take no less"
        else:
            piece, reason = chunk, f"no budget was given, and pieces of {chunk} frames run at full speed"
        memory_bytes = costs.peak(piece)
        if costs.heaviest(piece) <= most_work:
            return ExactPlan(decode, shape, piece, 0, (1, 1), memory_bytes, 1.0, reason)
    budget = "no budget was given" if free else f"the budget is {format_bytes(memory_bytes)}"
    heavy = costs.heaviest(None) > most_work
    if whole <= memory_bytes and not heavy:
        return ExactPlan(decode, shape, None, 0, (1, 1), whole, 1.0, f"the whole clip fits, {budget}")
    needs = f"the whole clip needs {format_bytes(whole)} and {budget}"
    if heavy:
        needs += f", and the device finishes {most_work:.0f} multiply-adds at once"
    for piece in (*range(clip // time * time, 0, -time), time // 2, FRAMES_LEAST):
        if costs.heaviest(piece) <= most_work and ((peak := costs.peak(piece)) <= memory_bytes or free):
            return ExactPlan(decode, shape, piece, 0, (1, 1), peak, 1.0, needs)
    candidates = list(_tilings(costs, shape, most_work))
    fitting = [plan for plan in candidates if free or plan.peak_bytes <= memory_bytes]
    if not fitting:
        raise ValueError(_refused(costs, candidates, memory_bytes, most_work))
    best = min(fitting, key=lambda plan: (plan.work, plan.peak_bytes))
    reason = f"a stream of whole frames needs {format_bytes(costs.peak(FRAMES_LEAST))} and {budget}"
    return replace(best, reason=needs if heavy else reason)


def _refused(costs: Costs, candidates: Sequence[ExactPlan], memory_bytes: int, most_work: float) -> str:
    """Say what is too large, and what would do."""
    verb = "decode" if costs.decode else "encode"
    shape = (costs.batch, costs.config.latent_channels, costs.frames, costs.height, costs.width)
    light = costs.heaviest(FRAMES_LEAST) <= most_work
    if not candidates and not light:
        return (
            f"the largest convolution of an exact {verb} of latents {shape} has {costs.heaviest(FRAMES_LEAST)} "
            f"multiply-adds even in the smallest pieces, of which the device finishes {most_work:.0f}; take smaller "
            "frames or fewer samples at once, or another device"
        )
    least = min([plan.peak_bytes for plan in candidates] + [costs.peak(FRAMES_LEAST)] * light)
    return (
        f"memory_bytes: got {format_bytes(memory_bytes)}, the least that an exact {verb} of latents {shape} "
        f"needs is {format_bytes(least, up=True)}; give more memory, or tile with tilekit.decode_tiled"
    )


def _tilings(costs: Costs, shape: tuple[int, int, int, int, int], most_work: float) -> Iterator[ExactPlan]:
    """Forecast every tiling worth a thought, of those with no convolution that takes too long."""
    for tiled in costs.boundaries():
        base = costs.base(tiled)
        for rows in range(1, min(MAX_GRID, costs.height * base) + 1):
            for columns in range(1, min(MAX_GRID, costs.width * base) + 1):
                if rows * columns > 1:
                    grid = costs.grid(tiled, rows, columns)
                    if costs.heaviest(FRAMES_LEAST, tiled, grid) > most_work:
                        continue
                    peak, work = costs.peak(FRAMES_LEAST, tiled, grid), costs.tiled_work(grid, tiled)
                    yield ExactPlan(costs.decode, shape, FRAMES_LEAST, tiled, (rows, columns), peak, work, "")
