"""Encoding exactly within a memory budget, at once or as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from ltx_models.nn import Array
from ltx_models.nn.chunks import chunks_of
from ltx_models.nn.space import TiledStage
from ltx_models.nn.stream import Stage
from ltx_models.progress import Progress
from ltx_models.video_vae.encoder import VideoEncoder, check_video
from ltx_models.video_vae.exact.blocks import ask, collect, watched
from ltx_models.video_vae.exact.planning import checked, plan_exact, refuse_plan
from ltx_models.video_vae.exact_costs import Costs
from ltx_models.video_vae.exact_plan import ExactPlan
from ltx_models.video_vae.layers import Context
from ltx_models.video_vae.stream import encode_chunks
from ltx_models.video_vae.strips import encode_strips
from tilekit import Strips
from tilekit.backends import canary


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

    The result is that of the plain call; see `decode_exact` for what a tiled plan computes more than once.

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
        refuse_plan(plan)
        return encode_strips(encoder, video, strips, memory_bytes=memory_bytes, progress=progress)
    blocks = stream_encode(encoder, video, memory_bytes=memory_bytes, plan=plan)
    total = 1 + (video.shape[2] - 1) // encoder.config.encoder_scale[0]
    return collect(encoder.nn, blocks, total, None, progress, "encode")


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
    plan = checked(chosen, ExactPlan, shape)
    ask(video, plan, prod(video.shape[1:]))
    if plan.frames is None:
        return watched(iter([(0, encoder(video))]), video, "latents")
    pieces = chunks_of(encoder.nn, "video", video, plan.frames)
    return watched(encode_chunks(encoder, pieces, _encoder_stages(encoder, plan)), video, "latents")


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
