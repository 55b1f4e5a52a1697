"""Switch an existing diffusers pipeline to exact tiles."""

from __future__ import annotations

from typing import Any

from tilekit._errors import BackendError
from tilekit.adapters._autoencoder import TileSize, autoencoder_kl
from tilekit.adapters._vocoder import hifigan
from tilekit.norms import NormMode, Offload

IMAGE_TILE = 512  # pixels
SOUND_TILE = 1024  # mel frames: 10 s of AudioLDM


def enable_exact_tiling(
    pipe: Any, *, tile: TileSize | None = None, norm: NormMode = "exact", offload: Offload | None = None
) -> None:
    """
    Make a diffusers pipeline, or its AutoencoderKL, encode and decode in tiles that equal the whole.

    The pipeline stays the same object: ``pipe(prompt)``, ``pipe.vae.decode`` and ``pipe.vae.encode`` work as before.
    Its own ``enable_tiling`` is not needed and has no effect while this is on. A vocoder (AudioLDM, AudioLDM2) gets
    tiles too.

    Parameters
    ----------
    pipe : diffusers pipeline or AutoencoderKL
        Stable Diffusion, SDXL, Flux, AudioLDM, AudioLDM2, or any other with an AutoencoderKL.
    tile : int, (height, width), or None
        See `autoencoder_kl`. None takes 512 pixels; for a pipeline with a vocoder 1024 mel frames and all mel bins.
    norm : {"exact", "fast", "tile"}
        See `autoencoder_kl`.
    offload : {"host", "disk"} or None
        See `autoencoder_kl`.

    Raises
    ------
    BackendError
        If there is no AutoencoderKL, or a module is not supported.

    Examples
    --------
    >>> from ltx_models.nn import backend
    >>> from ltx_models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
    >>> enable_exact_tiling(AutoencoderKL(backend("torch"), AutoencoderKLConfig()))
    Traceback (most recent call last):
        ...
    tilekit._errors.BackendError: pipeline: ltx_models.autoencoder_kl...AutoencoderKL is not from diffusers; use ...
    """
    vae, vocoder = _networks(pipe)
    if not any(kind.__module__.startswith("diffusers.") for kind in type(vae).__mro__):
        msg = f"pipeline: {type(vae).__module__}.{type(vae).__qualname__} is not from diffusers; use autoencoder_kl"
        raise BackendError(msg)
    if tile is None:
        tile = IMAGE_TILE if vocoder is None else (SOUND_TILE, None)
    tiled = autoencoder_kl(vae, tile=tile, norm=norm, offload=offload)
    from diffusers.models.autoencoders.vae import DecoderOutput

    def decode(z: Any, return_dict: bool = True) -> Any:
        sample = tiled.decode(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    vae._encode, vae._decode = tiled.encode, decode
    if vocoder is not None:
        frames = tile if isinstance(tile, int) else tile[0]
        vocoder.forward = hifigan(vocoder, tile=frames or SOUND_TILE)


def disable_exact_tiling(pipe: Any) -> None:
    """
    Undo `enable_exact_tiling`; nothing happens where it was not on.

    Parameters
    ----------
    pipe : diffusers pipeline or AutoencoderKL
        What was given to `enable_exact_tiling`.
    """
    vae, vocoder = _networks(pipe)
    for owner, names in ((vae, ("_encode", "_decode")), (vocoder, ("forward",))):
        for name in names:
            getattr(owner, "__dict__", {}).pop(name, None)


def _networks(pipe: Any) -> tuple[Any, Any]:
    vae = pipe if hasattr(pipe, "decoder") else getattr(pipe, "vae", None)
    if vae is None:
        msg = f"pipeline: got {type(pipe).__qualname__}, expected one with an AutoencoderKL as its .vae, or that itself"
        raise BackendError(msg)
    return vae, None if vae is pipe else getattr(pipe, "vocoder", None)
