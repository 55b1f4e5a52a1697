"""Decoding exactly within a memory budget, at once or as a stream, from the beginning or from a later block on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from typing import Any

from ltx_models.nn import Array
from ltx_models.nn.space import TiledStage
from ltx_models.nn.stream import Stage
from ltx_models.progress import Progress
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.diffusion import DiffusionDecoder, DiffusionPlan
from ltx_models.video_vae.exact.blocks import ask, collect, watched
from ltx_models.video_vae.exact.planning import Decoder, Plan, checked, plan_assembled, plan_exact, refuse_plan
from ltx_models.video_vae.exact_costs import Costs
from ltx_models.video_vae.exact_plan import ExactPlan
from ltx_models.video_vae.layers import Context, Window
from ltx_models.video_vae.restart import refuse_start, restart
from ltx_models.video_vae.stream import decode_chunks
from ltx_models.video_vae.strips import decode_strips, stream_strips
from tilekit import Strips
from tilekit.backends import canary
from tilekit.backends.limits import limits_of, said_of


def decode_exact(
    decoder: Decoder,
    latent: Array,
    *,
    memory_bytes: int | None = None,
    plan: Plan | None = None,
    timestep: Array | None = None,
    noise: Sequence[Array] | None = None,
    on_frames_ready: Callable[[Array, int], object] | None = None,
    progress: Progress = None,
    strips: Strips | None = None,
) -> Any:
    """
    Decode without seams, within a memory budget: whole, as a stream, or as a stream with tiled last stages.

    The result is that of the plain call. Only the tiled plan, which the smallest budgets need, computes the
    margins of its tiles more than once; `ExactPlan.work` says how much that adds.

    Parameters
    ----------
    decoder : VideoDecoder or DiffusionDecoder
        What `load_video_decoder` returned.
    latent : array, shape (B, 128, f, h, w)
        Normalised latents.
    memory_bytes : int, optional
        What live arrays may take at the peak, beside the weights and a result that is assembled.
    plan : ExactPlan or DiffusionPlan, optional
        How to decode, instead of the choice that `plan_exact` makes for the budget.
    timestep, noise : optional
        As `VideoDecoder.forward` takes them.
    on_frames_ready : callable, optional
        Called as ``on_frames_ready(frames, start)`` with each block of finished frames, in order, each frame once; then
        nothing is assembled.
    progress : bool or callable, optional
        True for a bar on the terminal, or called as ``progress(frames_done, frames_in_all)``; with `strips` of steps.
    strips : tilekit.Strips, optional
        The ranks that decode together, each its part of every frame within `memory_bytes`; all of them make this call.
        A network that draws noise needs `noise`, the same on all ranks. A diffusion decoder cannot be shared.

    Returns
    -------
    array, shape (B, 3, 1 + 8 (f - 1), 32 h, 32 w), or None
        Pixels, about [-1, 1], equal to ``decoder(latent)`` within rounding; None with `on_frames_ready`. With `strips`
        the `tilekit.Strip` of this rank; where they gather, all of it on rank 0 and None on the others.

    Raises
    ------
    ValueError
        If the latents do not fit, or nothing fits the budget: the text says the least that would.
    tilekit.RankError
        If another rank is gone.

    Examples
    --------
    >>> import torch
    >>> from ltx_models import decode_exact, default_checkpoint, load_video_decoder
    >>> decoder = load_video_decoder(default_checkpoint(), dtype="float32")
    >>> video = decode_exact(decoder, torch.zeros(1, 128, 3, 2, 2), memory_bytes=2**30)
    >>> video.shape
    torch.Size([1, 3, 17, 64, 64])
    """
    given: dict[str, Any] = {"memory_bytes": memory_bytes, "timestep": timestep, "noise": noise}
    if strips is not None:
        refuse_plan(plan)
        if on_frames_ready is None:
            return decode_strips(decoder, latent, strips, progress=progress, **given)
        for start, frames in stream_strips(decoder, latent, strips, progress=progress, **given):
            on_frames_ready(frames, start)
        return None
    if on_frames_ready is None:
        result = _check_result(decoder, latent)
        if plan is None and isinstance(decoder, VideoDecoder):
            decoder.check(latent, noise)
            plan = plan_assembled(decoder, latent.shape, result, memory_bytes)
    blocks = stream_decode(decoder, latent, plan=plan, **given)
    total = 1 + (latent.shape[2] - 1) * decoder.config.decoder_scale[0]
    return collect(decoder.nn, blocks, total, on_frames_ready, progress, "decode")


def _check_result(decoder: Decoder, latent: Array) -> int:
    """Refuse a result that the device gets wrong as one array; give its bytes."""
    batch, _, frames, height, width = latent.shape
    time, *sides = decoder.config.decoder_scale
    most = limits_of(latent).elements
    elements = batch * 3 * (1 + (frames - 1) * time) * height * width * prod(sides)
    if elements > most:
        msg = (
            f"decode_exact: the frames would have {elements} elements together, {said_of(latent, most)}; take them "
            "as they come, with on_frames_ready= or stream_decode"
        )
        raise ValueError(msg)
    return int(elements * (latent.nbytes // prod(latent.shape)))


def stream_decode(
    decoder: Decoder,
    latent: Array,
    *,
    memory_bytes: int | None = None,
    plan: Plan | None = None,
    timestep: Array | None = None,
    noise: Sequence[Array] | None = None,
    start: int = 0,
    strips: Strips | None = None,
) -> Iterator[tuple[int, Any]]:
    """
    Decode as `decode_exact` does, as an iterator: streaming decode.

    Parameters
    ----------
    decoder, latent, memory_bytes, plan, timestep, noise
        As `decode_exact` takes them.
    start : int
        The first frame of the block to begin with, as an earlier run with the same plan gave it, or the end of the
        clip. The blocks from there on are those of the whole stream; see `tilekit.Kept`. A convolutional decoder warms
        up on the latents that these frames depend on, a diffusion decoder begins again from the first frame.
    strips : tilekit.Strips, optional
        As `decode_exact` takes them; then `start` may be any frame.

    Yields
    ------
    start : int
        The first frame of the block.
    frames : array, shape (B, 3, n, 32 h, 32 w)
        Finished frames, in order, each once. With `strips` the `tilekit.Strip` of this rank; where they gather, whole
        frames on rank 0 and nothing on the others.

    Raises
    ------
    ValueError
        As `decode_exact`; also if no block begins at `start`, or if the decoder draws noise and `noise` is not given,
        as what was decoded before would have had another.
    """
    canary.check(latent)
    blocks = _decoded(decoder, latent, memory_bytes, plan, timestep, noise, start, strips)
    return blocks if strips is not None else watched(blocks, latent, "frames")


def _decoded(
    decoder: Decoder,
    latent: Array,
    memory_bytes: int | None,
    plan: Plan | None,
    timestep: Array | None,
    noise: Sequence[Array] | None,
    start: int,
    strips: Strips | None,
) -> Iterator[tuple[int, Any]]:
    if strips is not None:
        refuse_plan(plan)
        given: dict[str, Any] = {"memory_bytes": memory_bytes, "timestep": timestep, "noise": noise, "start": start}
        return stream_strips(decoder, latent, strips, **given)
    drawn = draws_noise(decoder)
    if start and drawn and noise is None:
        msg = f"noise: this decoder draws noise, and start is {start}; give noise=, the same as in the run before"
        raise ValueError(msg)
    total = 1 + (latent.shape[2] - 1) * decoder.config.decoder_scale[0]
    if isinstance(decoder, DiffusionDecoder):
        blocks = _decode_diffusion(decoder, latent, memory_bytes, plan, timestep, noise)
        return blocks if start == 0 else _after(blocks, start, total)
    decoder.check(latent, noise)
    config, causal = decoder.config, decoder.causal(None)
    chosen = plan or plan_exact(decoder, latent.shape, memory_bytes=memory_bytes)
    plan = checked(chosen, ExactPlan, latent.shape)
    ask(latent, plan, prod(latent.shape[2:]) * prod(config.decoder_scale) * 3)
    if start == total:
        return iter(())
    if plan.frames is None:
        if start != 0:
            refuse_start(start, [0, total])
        return iter([(0, decoder(latent, timestep=timestep, noise=noise))])
    stages = partial(_decoder_stages, decoder, plan, causal)
    chunk, time = max(1, plan.frames // config.decoder_scale[0]), config.decoder_scale[0]
    law = {"time": time, "latents": int(latent.shape[2]), "chunk": chunk, "most": plan.frames}
    begin = 0 if start == 0 else restart(decoder.steps, start, causal=causal, **law)
    if noise is not None and decoder.conditioned:
        noise = [noise[0][:, :, begin:], *noise[1:]]
    rest = latent[:, :, begin:, ...]
    blocks = decode_chunks(decoder, rest, chunk, stages, timestep=timestep, noise=noise, causal=causal)
    moved = ((begin * time + first, frames) for first, frames in blocks)
    return blocks if begin == start == 0 else ((first, frames) for first, frames in moved if first >= start)


def _after(blocks: Iterator[tuple[int, Array]], start: int, total: int) -> Iterator[tuple[int, Array]]:
    """Give the blocks from a frame on; refuse a frame within one before any is given."""
    if start == total:
        return
    borders = [0]
    for first, frames in blocks:
        if first >= start:
            yield first, frames
            continue
        borders.append(first + frames.shape[2])
        if borders[-1] > start:
            refuse_start(start, borders)


def _decode_diffusion(
    decoder: DiffusionDecoder,
    latent: Array,
    memory_bytes: int | None,
    plan: Plan | None,
    timestep: Array | None,
    noise: Sequence[Array] | None,
) -> Iterator[tuple[int, Array]]:
    if timestep is not None:
        msg = "timestep: a diffusion decoder has steps of its own; leave timestep= out"
        raise ValueError(msg)
    decoder.check(latent)
    most, field = limits_of(latent).elements, prod(decoder.noise_shape(latent.shape))
    if field > most:
        msg = (
            f"noise: the field of this clip would have {field} elements, {said_of(latent, most)}, and a diffusion "
            "decoder holds it whole; decode a shorter clip, or on another device"
        )
        raise ValueError(msg)
    chosen = checked(plan or plan_exact(decoder, latent.shape, memory_bytes=memory_bytes), DiffusionPlan, latent.shape)
    ask(latent, chosen, prod(latent.shape[2:]) * prod(decoder.config.decoder_scale) * 3)
    return decoder.stream(latent, noise=noise, plan=chosen)


def _decoder_stages(
    decoder: VideoDecoder, plan: ExactPlan, causal: bool, conditions: Sequence[Array | None], context: Context
) -> list[Any]:
    """Make the stages of a plan: whole frames, then spatial tiles, which are the last steps."""
    nn, workspace = decoder.nn, dict[str, Array]()
    whole = decoder.units(causal, conditions, plan.frames)
    if not plan.tiled:
        return [Stage(nn, whole, context, None, workspace)]
    costs = Costs(decoder.config, plan.shape, decode=True, itemsize=4, causal=causal)
    base = costs.base(plan.tiled)
    frame = plan.shape[3] * base, plan.shape[4] * base

    def tile(corners: Sequence[tuple[int, int]]) -> Stage:
        units = decoder.units(causal, conditions, plan.frames, base)[-plan.tiled :]
        return Stage(nn, units, context, Window(tuple(corners), frame), workspace)

    tiles = TiledStage(nn, costs.grid(plan.tiled, *plan.tiles), tile)
    return [Stage(nn, whole[: -plan.tiled], context, None, workspace), tiles]


def draws_noise(decoder: Decoder) -> bool:
    """
    Say whether a decode depends on random numbers.

    Parameters
    ----------
    decoder : VideoDecoder or DiffusionDecoder
        The network.

    Returns
    -------
    bool
        True for a diffusion decoder, and for one that mixes noise into latents or layers.
    """
    if isinstance(decoder, DiffusionDecoder):
        return True
    return decoder.conditioned or any(block.inject_noise for block in decoder.config.decoder_blocks)
