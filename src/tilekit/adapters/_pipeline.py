"""Switch an existing diffusers pipeline, or one of its autoencoders, to exact decoding and encoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tilekit._errors import BackendError, PlanError
from tilekit._progress import Progress
from tilekit.adapters._classes import QUIRKS, VOCODERS, Direction, Quirks, class_of, quirks_of
from tilekit.adapters._exact_method import ExactMethod, Place, Redirected

__all__ = ["disable_exact_tiling", "enable_exact_tiling"]

Module = Any

PLACES = ("vae", "audio_vae", "movq", "vqvae", "vqgan", "vae_decoder", "vae_encoder")
"""Where pipelines of diffusers keep autoencoders."""
DIRECTIONS: tuple[Direction, ...] = ("decode", "encode")
_OLD = {
    "tile": "the sizes are chosen from memory_bytes now",
    "norm": "every norm is exact; autoencoder_kl(vae, tile=..., norm=...) still estimates them",
    "offload": "what is kept is chosen from memory_bytes now; autoencoder_kl(vae, offload=...) still moves it",
}


def enable_exact_tiling(pipe: Any, memory_bytes: int | None = None, *, progress: Progress = None, **old: Any) -> None:
    """
    Let the autoencoders of a diffusers pipeline decode and encode in little memory, equal to the plain call.

    The pipeline stays the same object: ``pipe(prompt)``, ``pipe.vae.decode`` and ``pipe.vae.encode`` work as before.
    Its own ``enable_tiling`` is not needed and has no effect while this is on. A vocoder (AudioLDM, AudioLDM2) is
    switched too.

    Weights are read when they are used: load others, add a LoRA, copy, pickle or offload the model before or after.
    For each new shape the model is followed once, and at the first use a small input is compared with the plain call.

    Parameters
    ----------
    pipe : diffusers pipeline or autoencoder
        Any with an autoencoder as its ``vae`` (``audio_vae``, ``movq``, ``vqvae``), or that itself, as it is or
        compiled. All classes of diffusers are known: Wan, Qwen-Image, HunyuanVideo, CogVideoX, LTX-Video, Mochi,
        Stable Diffusion, Flux, ...
    memory_bytes : int, optional
        Bytes that live arrays may take at the peak of a decode or encode, the result included, weights and input not.
        Left out: about half of a plain call, or as near to that as goes without making anything twice; what takes up to
        16 MiB in all is not cut then.
    progress : bool or callable, optional
        True for a bar, a callable for (finished steps, all steps). What it raises ends the decode or encode.
    **old
        ``tile``, ``norm`` and ``offload`` of earlier versions are refused, with what to use now; ``norm="exact"`` and
        None are accepted.

    Raises
    ------
    BackendError
        If there is no autoencoder of diffusers, or one that must not be made exact; the text says why.
    PlanError
        If `memory_bytes` is not a positive integer, or a keyword is not known. Where no plan meets `memory_bytes`, the
        decode raises this and names the least that one does.
    TraceError
        At a decode or encode: if the model cannot be followed, or the small input shows a difference of more than
        rounding.

    Examples
    --------
    ``examples/diffusers_image.py`` and ``examples/diffusers_video.py`` run this without a download.

    >>> pipe = WanPipeline.from_pretrained("Wan-AI/Wan2.1-T2V-1.3B-Diffusers")  # doctest: +SKIP
    >>> enable_exact_tiling(pipe, memory_bytes=2 * 2**30)  # doctest: +SKIP
    >>> frames = pipe("a lighthouse at night", num_frames=81).frames[0]  # doctest: +SKIP

    What is no autoencoder of diffusers is refused:

    >>> enable_exact_tiling(print)
    Traceback (most recent call last):
        ...
    tilekit._errors.BackendError: pipeline: got builtin_function_or_method, expected one with an autoencoder as its ...
    """
    _refuse_old(old)
    methods = [method for model, quirks in _models(pipe) for method in _methods(model, quirks, memory_bytes, progress)]
    disable_exact_tiling(pipe)
    for method in methods:
        method.put()


def disable_exact_tiling(pipe: Any) -> None:
    """
    Undo `enable_exact_tiling`; nothing happens where it was not on.

    Parameters
    ----------
    pipe : diffusers pipeline or autoencoder
        What was given to `enable_exact_tiling`, or a copy of it.
    """
    for model in _found(pipe):
        for owner in (model, *(part for name in ("decoder", "encoder") if (part := _part(model, name)) is not None)):
            for value in list(getattr(owner, "__dict__", {}).values()):
                if isinstance(value, (ExactMethod, Redirected)):
                    value.remove()


def _refuse_old(old: dict[str, Any]) -> None:
    for name, value in old.items():
        if name not in _OLD:
            msg = f"enable_exact_tiling: unknown keyword {name!r}; it takes memory_bytes and progress"
            raise PlanError(msg)
        if value is not None and (name, value) != ("norm", "exact"):
            msg = f"{name}: got {value!r}, but {_OLD[name]}; leave it out"
            raise PlanError(msg)


def _models(pipe: Any) -> list[tuple[Module, Quirks]]:
    """Give each model to switch, and what is special about it."""
    found = _found(pipe)
    if not found:
        msg = (
            f"pipeline: got {type(pipe).__qualname__}, expected one with an autoencoder as its "
            f"{', '.join(PLACES[:-1])} or {PLACES[-1]}, or that itself"
        )
        raise BackendError(msg)
    return [(model, quirks_of(model)) for model in found]


def _found(pipe: Any) -> list[Module]:
    """Give the autoencoders and vocoders of a pipeline; compiled ones without their wrapper."""
    plain = _unwrapped(pipe)
    if (hasattr(plain, "decode") and hasattr(plain, "encode")) or type(plain).__name__ in QUIRKS:
        return [plain]
    models = [_unwrapped(getattr(pipe, place, None)) for place in PLACES]
    vocoder = _unwrapped(getattr(pipe, "vocoder", None))
    if type(vocoder).__name__ in VOCODERS:
        models.append(vocoder)
    return [model for model in models if model is not None]


def _unwrapped(model: Any) -> Any:
    """Take off what torch.compile puts around a module."""
    return vars(model).get("_modules", {}).get("_orig_mod", model) if hasattr(model, "__dict__") else model


def _part(model: Module, name: str) -> Module | None:
    return _unwrapped(getattr(model, name, None))


def _methods(
    model: Module, quirks: Quirks, memory_bytes: int | None, progress: Progress
) -> Iterator[ExactMethod | Redirected]:
    """Give what takes the place of methods of a model."""
    if type(model).__name__ in VOCODERS:
        yield ExactMethod(Place(model, model, "forward", "decode"), memory_bytes, progress)
        return
    for direction in DIRECTIONS:
        owner, name = model, f"_{direction}"
        if quirks.inner:
            owner, name = _part(model, quirks.inner), direction
        elif not hasattr(model, name):
            owner, name = _part(model, f"{direction}r"), "forward"
        if owner is None:
            msg = (
                f"pipeline: {class_of(model)} has neither _{direction} nor {direction}r; "
                f"use tilekit.exact(lambda x: vae.{direction}(x)[0])"
            )
            raise BackendError(msg)
        yield ExactMethod(Place(model, owner, name, direction), memory_bytes, progress)
    for name, part in quirks.redirect:
        yield Redirected(model, name, part)
