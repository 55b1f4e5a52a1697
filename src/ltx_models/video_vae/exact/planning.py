"""What `plan_exact` chooses: of which kind a plan is, and how large its arrays may be on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf, prod
from typing import Any, TypeVar, overload

from ltx_models.nn import Array
from ltx_models.video_vae.config import VideoVAEConfig
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.diffusion import DiffusionDecoder, DiffusionDecoderConfig, DiffusionPlan, plan_diffusion
from ltx_models.video_vae.encoder import VideoEncoder
from ltx_models.video_vae.exact_plan import ExactPlan, plan_convolutional
from tilekit.backends.limits import limits_of

Decoder = VideoDecoder | DiffusionDecoder
Network = Decoder | VideoEncoder | VideoVAEConfig | DiffusionDecoderConfig
Plan = ExactPlan | DiffusionPlan
ANY = 1 << 62
"""Bytes that every plan fits."""
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

    A convolutional network runs whole where it fits; else as a stream with the largest chunk that fits; else as a
    stream whose stages of highest resolution run in spatial tiles, with the least work that fits. Without a budget: a
    stream whose pieces are just large enough to run at full speed, unless a short clip takes no more whole. A diffusion
    decoder runs whole where it fits or without a budget, else as a sweep along one axis.

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
        if config is not network:
            make = partial(make, most_work=limits_of(_bias(network)).work)
    chosen = make(memory_bytes=memory_bytes)
    most = None if config is network else _most_bytes(network, itemsize)
    return chosen if most is None or chosen.peak_bytes <= most else _smaller(make, most)


def plan_assembled(
    network: VideoDecoder, shape: Sequence[int], result_bytes: int, memory_bytes: int | None
) -> ExactPlan:
    """Choose as `plan_exact` does; whole also where a stream and the result that it is put together to take no less."""
    chosen = plan_exact(network, shape, memory_bytes=memory_bytes)
    whole = plan_exact(network, shape, memory_bytes=ANY)
    if chosen.frames is None or whole.frames is not None or whole.peak_bytes > chosen.peak_bytes + result_bytes:
        return chosen
    return replace(whole, reason="a stream and its result take no less together")


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
        limits.elements,
        limits.convolution,
        limits.unfolded / 27 if limits.unfolds and not limits.frames else inf,
        limits.work / _fan_in(network) if isinstance(network, DiffusionDecoder) else inf,  # else its plans count it
    )
    return None if cells == inf else int(cells) * itemsize


def _fan_in(network: DiffusionDecoder) -> int:
    """Give the most numbers that a layer adds up for one cell of its output."""
    shapes: dict[str, tuple[int, ...]] = network.nn.shapes(network)
    return max(prod(shape[1:]) for shape in shapes.values())


def _itemsize(module: Any) -> int:
    bias = _bias(module)
    return int(bias.nbytes // bias.shape[0])


def _bias(module: Any) -> Array:
    """Give a weight, which says dtype and device."""
    return getattr(module.conv_in, "conv", module.conv_in).bias


def checked(plan: Plan, kind: type[AnyPlan], shape: Sequence[int]) -> AnyPlan:
    """Refuse a plan of another network or for other latents."""
    if not isinstance(plan, kind):
        msg = f"plan: got a {type(plan).__name__}, this decoder takes a {kind.__name__}; make it with plan_exact"
        raise TypeError(msg)
    if tuple(shape) != plan.shape:
        msg = f"plan: is for latents of shape {plan.shape}, got {tuple(shape)}; make one for this shape"
        raise ValueError(msg)
    return plan


def refuse_plan(plan: Plan | None) -> None:
    if plan is not None:
        msg = "plan: is for one device; with strips give memory_bytes, the budget of each rank"
        raise ValueError(msg)
