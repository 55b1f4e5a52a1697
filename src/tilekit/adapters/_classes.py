"""What is special about the autoencoders of diffusers: one line for each class, by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from tilekit._errors import BackendError
from tilekit.backends import Array

__all__ = ["QUIRKS", "VOCODERS", "Quirks", "class_of", "quirks_of", "settings"]

Module = Any
Direction = Literal["decode", "encode"]
Untiled = Callable[[Module, Array], Array]

SETTINGS = ("use_tiling", "use_slicing", "use_framewise_decoding", "use_framewise_encoding")
"""What makes a class of diffusers cut its input by itself; off while it is followed."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a class differs from the rule: a function ``_decode`` and ``_encode`` of one tensor."""

    refused: str = ""
    """Why it is not made exact, and the way out."""
    decode: Untiled | None = None
    """The plain decode, where the class has none."""
    encode: Untiled | None = None
    redirect: tuple[tuple[str, str], ...] = ()
    """Pairs: a method that makes seams, and the module that is called in its place."""
    inner: str = ""
    """The module inside, whose `decode` and `encode` are of one tensor, where the class around has no such parts."""
    within: Callable[[Module], AbstractContextManager[None]] | None = None
    """What is set while the class is followed."""


def _allegro_decode(vae: Module, z: Array) -> Array:
    z = vae.post_quant_conv(z.permute(0, 2, 1, 3, 4).flatten(0, 1)).unflatten(0, (z.shape[0], -1))
    return vae.decoder(z.permute(0, 2, 1, 3, 4))


def _allegro_encode(vae: Module, x: Array) -> Array:
    x = vae.encoder(x).permute(0, 2, 1, 3, 4)
    return vae.quant_conv(x.flatten(0, 1)).unflatten(0, (x.shape[0], -1)).permute(0, 2, 1, 3, 4)


@contextmanager
def _masks(vae: Module) -> Iterator[None]:
    """Let masks be made by one comparison; the classes fill them row by row, in a loop over all tokens."""
    name, changed = "prepare_causal_attention_mask", []
    for module in vae.modules():
        if getattr(getattr(type(module), name, None), "__module__", "").startswith("diffusers."):
            module.__dict__[name] = _causal_mask
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.__dict__[name]


@contextmanager
def _fresh(vae: Module) -> Iterator[None]:
    """Let no frames of an earlier call be left; the class forgets them after its public call alone."""
    vae._clear_conv_cache()
    yield
    vae._clear_conv_cache()


def _causal_mask(n_frame: int, n_hw: int, dtype: Any, device: Any, batch_size: int | None = None) -> Array:
    import torch

    frame = torch.arange(n_frame * n_hw, device=device) // n_hw
    mask = torch.where(frame[None, :] <= frame[:, None], 0.0, float("-inf")).to(dtype)
    return mask if batch_size is None else mask.expand(batch_size, -1, -1)


_TRAINED_IN_TILES = "its decoder is a transformer that was trained in tiles, and whole pictures are worse (21.5 "
_TRAINED_IN_TILES += "dB against 36.4); leave its own tiling on"
_TRANSFORMER = "it is a transformer over all patches, with nothing that could be cut; call it as it is"
_SEGMENTS = (
    "its decoder and encoder hand frames on from segment to segment, so that neither is a function of one array; "
)
_SEGMENTS += "call tilekit.exact(lambda z: vae.decode(z).sample), which cuts all segments"
_SAMPLES = "it draws random numbers in every step, so there is no one result to equal; call it as it is"

QUIRKS: dict[str, Quirks] = {
    "AutoencoderKLAllegro": Quirks(decode=_allegro_decode, encode=_allegro_encode),
    "AutoencoderKLHunyuanImageRefiner": Quirks(within=_masks),
    "AutoencoderKLHunyuanVideo15": Quirks(within=_masks),
    "AutoencoderKLMagvit": Quirks(within=_fresh),
    "AutoencoderKLMiniMaxH3": Quirks(refused=_TRAINED_IN_TILES),
    "AutoencoderRAE": Quirks(refused=_TRANSFORMER),
    "AutoencoderTiny": Quirks(redirect=(("_tiled_decode", "decoder"), ("_tiled_encode", "encoder"))),
    "ConsistencyDecoderVAE": Quirks(refused=_SAMPLES),
    "Kandinsky6SRVAE": Quirks(refused=_SEGMENTS),
    "LTX2VideoDiffusionDecoderModel": Quirks(refused=_SAMPLES),
    "MMAudioVAE": Quirks(inner="vae"),
    "RFD4ProteinaAutoencoder": Quirks(refused="it takes the features of a molecule, not one array; call it as it is"),
}
"""Classes that are not named here follow the rule."""

VOCODERS = {"SpeechT5HifiGan"}
"""Networks from spectrograms to sound that stand beside an autoencoder, of AudioLDM and AudioLDM2."""


def class_of(vae: Module) -> str:
    """Give the name of the class of diffusers that a model is of, or a subclass of."""
    for kind in type(vae).__mro__:
        if kind.__module__.startswith("diffusers.") and (kind.__name__ in QUIRKS or hasattr(kind, "decode")):
            return str(kind.__name__)
    msg = (
        f"pipeline: {type(vae).__module__}.{type(vae).__qualname__} is no autoencoder of diffusers; "
        "use tilekit.exact(vae.decode) for another network"
    )
    raise BackendError(msg)


def quirks_of(vae: Module) -> Quirks:
    """
    Look up what is special about a model.

    Raises
    ------
    BackendError
        If it is no autoencoder of diffusers, or one that must not be made exact; the text says why and what to do.
    """
    if type(vae).__name__ in VOCODERS:
        return Quirks()
    name = class_of(vae)
    quirks = QUIRKS.get(name, Quirks())
    if quirks.refused:
        msg = f"pipeline: {name} is not made exact: {quirks.refused}"
        raise BackendError(msg)
    return quirks


@contextmanager
def settings(vae: Module, quirks: Quirks) -> Iterator[None]:
    """Turn off what cuts the input, and put it back."""
    before = {name: vae.__dict__[name] for name in SETTINGS if name in vae.__dict__}
    try:
        vae.__dict__.update(dict.fromkeys(before, False))
        if quirks.within is None:
            yield
        else:
            with quirks.within(vae):
                yield
    finally:
        vae.__dict__.update(before)
