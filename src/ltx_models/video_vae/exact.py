"""Exact decoding and encoding within a memory budget: one call that makes a plan and streams the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import inf, prod
from typing import Any, TypeVar, overload

from ltx_models.nn import Array
from ltx_models.nn.space import TiledStage
from ltx_models.nn.stream import Stage, chunks_of
from ltx_models.progress import Progress, reported
from ltx_models.video_vae.config import VideoVAEConfig
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.diffusion import DiffusionDecoder, DiffusionDecoderConfig, DiffusionPlan, plan_diffusion
from ltx_models.video_vae.encoder import VideoEncoder, check_video
from ltx_models.video_vae.exact_plan import Costs, ExactPlan, plan_convolutional
from ltx_models.video_vae.layers import Context, Window
from ltx_models.video_vae.restart import refuse_start, restart
from ltx_models.video_vae.stream import decode_chunks, encode_chunks
from ltx_models.video_vae.strips import decode_strips, encode_strips, stream_strips
from tilekit import DeviceError, Strips
from tilekit.backends import canary
from tilekit.backends.flat import flat_without_reason
from tilekit.backends.limits import limits_of, place_of, said_of

__all__ = [
    "DiffusionPlan",
    "ExactPlan",
    "decode_exact",
    "encode_exact",
    "plan_exact",
    "stream_decode",
    "stream_encode",
]

Decoder = VideoDecoder | DiffusionDecoder
Network = Decoder | VideoEncoder | VideoVAEConfig | DiffusionDecoderConfig
Plan = ExactPlan | DiffusionPlan
AnyPlan = TypeVar("AnyPlan", ExactPlan, DiffusionPlan)


@overload
def plan_exact(
    network: DiffusionDecoder | DiffusionDecoderConfig,
    shape: Sequence[int],
    *,
    decode: bool | None = None,
    itemsize: int | None = None,
    memory_bytes: int | None = None,
    causal: bool | None = None,
) -> DiffusionPlan: ...
@overload
def plan_exact(
    network: VideoDecoder | VideoEncoder | VideoVAEConfig,
    shape: Sequence[int],
    *,
    decode: bool | None = None,
    itemsize: int | None = None,
    memory_bytes: int | None = None,
    causal: bool | None = None,
) -> ExactPlan: ...
def plan_exact(
    network: Network,
    shape: Sequence[int],
    *,
    decode: bool | None = None,
    itemsize: int | None = None,
    memory_bytes: int | None = None,
    causal: bool | None = None,
) -> Plan:
    """
    Choose how to decode or encode exactly within a memory budget.

    A convolutional network runs untiled where it fits; else as a stream with the largest chunk that fits; else as a
    stream whose stages of highest resolution run in spatial tiles, with the least work that fits. Without a budget: a
    stream whose pieces are just large enough to run at full speed. A diffusion decoder runs untiled where it fits or
    without a budget, else as a sweep along one axis.

    Parameters
    ----------
    network : VideoDecoder, DiffusionDecoder, VideoEncoder, or the configuration of one
        What is to run; a configuration needs no weights.
    shape : sequence of int
        Latents, (B, C, f, h, w).
    decode : bool, optional
        Whether a `VideoVAEConfig` is planned as a decoder, as it is where absent.
    itemsize : int, optional
        Bytes of one number: 4 for float32, 2 for bfloat16 and float16. That of the weights where absent; 4 for a
        configuration.
    memory_bytes : int, optional
        What live arrays may take at the peak, without weights and without a result that is assembled.
    causal : bool, optional
        Whether a convolutional decoder looks back only; as configured where absent.

    Returns
    -------
    ExactPlan or DiffusionPlan
        What to do, what it costs, and why.

    Raises
    ------
    ValueError
        If the shape does not fit, or nothing fits the budget: the text says the least that would.
    TypeError
        If `network` is none of these.

    Examples
    --------
    >>> from ltx_models import default_checkpoint, load_video_decoder, plan_exact
    >>> decoder = load_video_decoder(default_checkpoint(), dtype="float32")
    >>> plan_exact(decoder, (1, 128, 16, 16, 16), memory_bytes=200 * 2**20).work
    1.0
    """
    config = getattr(network, "config", network)
    if not isinstance(config, (VideoVAEConfig, DiffusionDecoderConfig)):
        msg = f"plan_exact: got a {type(network).__name__}, expected a video decoder or encoder, or its configuration"
        raise TypeError(msg)
    shape = tuple(int(n) for n in shape)
    if len(shape) != 5 or shape[1] != config.latent_channels or min(shape) < 1:
        msg = (
            f"plan_exact: got shape {shape}, expected latents (batch, {config.latent_channels}, frames, height, width)"
        )
        raise ValueError(msg)
    if itemsize is None:
        itemsize = 4 if config is network else _itemsize(network)
    make: Callable[..., Plan]
    if isinstance(config, DiffusionDecoderConfig):
        make = partial(plan_diffusion, config, shape, itemsize=itemsize)
    else:
        decode = not isinstance(network, VideoEncoder) if decode is None else decode
        by_frames = config is not network and limits_of(_bias(network)).frames
        given: dict[str, Any] = {"decode": decode, "itemsize": itemsize, "causal": causal, "by_frames": by_frames}
        make = partial(plan_convolutional, config, shape, **given)
    chosen = make(memory_bytes=memory_bytes)
    most = None if config is network else _most_bytes(network, itemsize)
    return chosen if most is None or chosen.peak_bytes <= most else _smaller(make, most)


def _smaller(make: Callable[..., Plan], most: int) -> Plan:
    """Plan once more, with arrays that the device gets right."""
    try:
        plan = make(memory_bytes=most)
    except ValueError as error:
        error.add_note("the device gets larger arrays wrong, so that more memory does not help: use another device")
        raise
    return replace(plan, reason="the device gets the larger arrays of more memory wrong")


def _most_bytes(network: Any, itemsize: int) -> int | None:
    """Give a peak within which no array is too large for the device: no array is larger than all of them together."""
    limits = limits_of(_bias(network))
    cells = min(
        limits.elements, limits.convolution, limits.unfolded / 27 if limits.unfolds and not limits.frames else inf
    )
    return None if cells == inf else int(cells) * itemsize


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

    The result is that of the untiled decoder. Only the tiled plan, which the smallest budgets need, computes the
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
        _refuse_plan(plan)
        if on_frames_ready is None:
            return decode_strips(decoder, latent, strips, progress=progress, **given)
        for start, frames in stream_strips(decoder, latent, strips, progress=progress, **given):
            on_frames_ready(frames, start)
        return None
    if on_frames_ready is None:
        _check_result(decoder, latent)
    blocks = stream_decode(decoder, latent, plan=plan, **given)
    total = 1 + (latent.shape[2] - 1) * decoder.config.decoder_scale[0]
    return _collect(decoder.nn, blocks, total, on_frames_ready, progress, "decode")


def _check_result(decoder: Decoder, latent: Array) -> None:
    """Refuse a result that the device gets wrong as one array."""
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


def encode_exact(
    encoder: VideoEncoder,
    video: Array,
    *,
    memory_bytes: int | None = None,
    plan: ExactPlan | None = None,
    progress: Progress = None,
    strips: Strips | None = None,
) -> Any:
    """
    Encode without seams, within a memory budget: whole, as a stream, or as a stream with tiled first stages.

    The result is that of the untiled encoder; see `decode_exact` for what a tiled plan computes more than once.

    Parameters
    ----------
    encoder : VideoEncoder
        What `load_video_encoder` returned.
    video : array, shape (B, 3, 1 + 8 k, 32 h, 32 w)
        Pixels in [-1, 1].
    memory_bytes : int, optional
        What live arrays may take at the peak, beside the weights, the video and the latents.
    plan : ExactPlan, optional
        How to encode, instead of the choice that `plan_exact` makes for the budget.
    progress : bool or callable, optional
        True for a bar on the terminal, or called as ``progress(latents_done, latents_in_all)``; with `strips` of steps.
    strips : tilekit.Strips, optional
        The ranks that encode together; see `decode_exact`.

    Returns
    -------
    array, shape (B, 128, 1 + k, h, w)
        Normalised latent means, equal to ``encoder(video)`` within rounding; with `strips` as `decode_exact`.

    Raises
    ------
    ValueError
        If the video does not fit, or nothing fits the budget: the text says the least that would.

    Examples
    --------
    >>> import torch
    >>> from ltx_models import default_checkpoint, encode_exact, load_video_encoder
    >>> encoder = load_video_encoder(default_checkpoint(), dtype="float32")
    >>> encode_exact(encoder, torch.zeros(1, 3, 17, 64, 96)).shape
    torch.Size([1, 128, 3, 2, 3])
    """
    if strips is not None:
        _refuse_plan(plan)
        return encode_strips(encoder, video, strips, memory_bytes=memory_bytes, progress=progress)
    blocks = stream_encode(encoder, video, memory_bytes=memory_bytes, plan=plan)
    total = 1 + (video.shape[2] - 1) // encoder.config.encoder_scale[0]
    return _collect(encoder.nn, blocks, total, None, progress, "encode")


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
    return blocks if strips is not None else _watched(blocks, latent, "frames")


def _watched(blocks: Iterator[tuple[int, Array]], given: Array, what: str) -> Iterator[tuple[int, Array]]:
    """Refuse a block that is one number everywhere though the input varies, on a device that is known to give such."""
    if not limits_of(given).any:
        return blocks
    return (_varying(start, block, given, what) for start, block in blocks)


def _varying(start: int, block: Array, given: Array, what: str) -> tuple[int, Array]:
    if flat_without_reason(block, lambda: given):
        place = place_of(given)
        msg = (
            f"{what} {start} to {start + block.shape[2] - 1} are one number everywhere, though the input varies; "
            f"{place.framework} {place.version} on {place.device} does so where an array inside is too large for it: "
            "give a smaller memory_bytes, so that arrays are smaller, or use another device; see "
            "tilekit.backends.limits"
        )
        raise DeviceError(msg)
    return start, block


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
        _refuse_plan(plan)
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
    plan = _checked(chosen, ExactPlan, latent.shape)
    _ask(latent, plan, prod(latent.shape[2:]) * prod(config.decoder_scale) * 3)
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


def _ask(given: Array, plan: Plan, numbers: int) -> None:
    """Ask the device for cases near the sizes of a plan: no array is larger than all of them together."""
    most = limits_of(given)
    if most.any:
        largest = int(min(plan.peak_bytes // (given.nbytes // prod(given.shape)), most.elements, most.convolution))
        canary.check(given, canary.Sizes(largest, largest, work=canary.WORK_PER_NUMBER * given.shape[0] * numbers))


def _refuse_plan(plan: Plan | None) -> None:
    if plan is not None:
        msg = "plan: is for one device; with strips give memory_bytes, the budget of each rank"
        raise ValueError(msg)


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
    chosen = _checked(plan or plan_exact(decoder, latent.shape, memory_bytes=memory_bytes), DiffusionPlan, latent.shape)
    _ask(latent, chosen, prod(latent.shape[2:]) * prod(decoder.config.decoder_scale) * 3)
    return decoder.stream(latent, noise=noise, plan=chosen)


def _checked(plan: Plan, kind: type[AnyPlan], shape: Sequence[int]) -> AnyPlan:
    """Refuse a plan of another network or for other latents."""
    if not isinstance(plan, kind):
        msg = f"plan: got a {type(plan).__name__}, this decoder takes a {kind.__name__}; make it with plan_exact"
        raise TypeError(msg)
    if tuple(shape) != plan.shape:
        msg = f"plan: is for latents of shape {plan.shape}, got {tuple(shape)}; make one for this shape"
        raise ValueError(msg)
    return plan


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


def stream_encode(
    encoder: VideoEncoder, video: Array, *, memory_bytes: int | None = None, plan: ExactPlan | None = None
) -> Iterator[tuple[int, Array]]:
    """
    Encode as `encode_exact` does, as an iterator: streaming encode.

    Parameters
    ----------
    encoder, video, memory_bytes, plan
        As `encode_exact` takes them.

    Yields
    ------
    start : int
        The first latent frame of the block.
    latents : array, shape (B, 128, n, h, w)
        Finished latents, in order, each once.
    """
    config = encoder.config
    check_video(encoder, video)
    canary.check(video)
    sizes = (-(-n // scale) for n, scale in zip(video.shape[2:], config.encoder_scale, strict=True))
    shape = (int(video.shape[0]), config.latent_channels, *sizes)
    chosen = plan or plan_exact(encoder, shape, memory_bytes=memory_bytes)
    plan = _checked(chosen, ExactPlan, shape)
    _ask(video, plan, prod(video.shape[1:]))
    if plan.frames is None:
        return _watched(iter([(0, encoder(video))]), video, "latents")
    pieces = chunks_of(encoder.nn, "video", video, plan.frames)
    return _watched(encode_chunks(encoder, pieces, _encoder_stages(encoder, plan)), video, "latents")


def _encoder_stages(encoder: VideoEncoder, plan: ExactPlan) -> list[Any]:
    """Make the stages of a plan: spatial tiles, which are the first steps, then whole frames."""
    nn, context, workspace = encoder.nn, Context(causal=True), dict[str, Array]()
    units = encoder.units(plan.frames)
    if not plan.tiled:
        return [Stage(nn, units, context, None, workspace)]
    costs = Costs(encoder.config, plan.shape, decode=False, itemsize=4, causal=True)

    def tile(corners: Sequence[tuple[int, int]]) -> Stage:
        return Stage(nn, encoder.units(plan.frames)[: plan.tiled], context, None, workspace)

    tiles = TiledStage(nn, costs.grid(plan.tiled, *plan.tiles), tile)
    return [tiles, Stage(nn, units[plan.tiled :], context, None, workspace)]


def _itemsize(module: Any) -> int:
    bias = _bias(module)
    return int(bias.nbytes // bias.shape[0])


def _bias(module: Any) -> Array:
    """Give a weight, which says dtype and device."""
    return getattr(module.conv_in, "conv", module.conv_in).bias


def _collect(
    nn: Any,
    blocks: Iterator[tuple[int, Array]],
    total: int,
    on_frames_ready: Callable[[Array, int], object] | None,
    progress: Progress,
    verb: str,
) -> Array | None:
    """Hand out or assemble the blocks of a stream, reporting how far it is."""
    result: Array = None
    with reported(progress, verb, "frame") as report:
        for start, block in blocks:
            stop = start + block.shape[2]
            nn.synchronize(block)  # what is pending is not done, and its progress must not be told
            if on_frames_ready is not None:
                on_frames_ready(block, start)
            elif start == 0 and stop == total:
                result = block
            else:
                if result is None:
                    shape = (*block.shape[:2], total, *block.shape[3:])
                    result = nn.on_device(nn.xp.zeros(shape, dtype=block.dtype), block)
                    nn.synchronize(result)
                result[:, :, start:stop] = block
                nn.synchronize(result)
            del block
            report(stop, total)
    return result
