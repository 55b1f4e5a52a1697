"""Autoencoders of diffusers with the configurations that are published, for forecasts: no weights are read or made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from tilekit.adapters._exact_method import Place, Untiled

KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


def made(kind: str, config: dict[str, Any], dtype: str) -> Any:
    """Build the autoencoder of a class; its memory is reserved, and not touched before it computes."""
    import diffusers
    import torch

    diffusers.utils.logging.set_verbosity_error()
    with torch.device("meta"):
        vae = getattr(diffusers, kind)(**config)
    return vae.to(getattr(torch, dtype)).to_empty(device="cpu").eval().requires_grad_(False)


def function(vae: Any, way: Literal["decode", "encode"], kwargs: dict[str, Any] | None = None) -> Callable[[Any], Any]:
    """Give a method of it as a function of one array: the one that is not cut, where the class has it."""
    private = hasattr(vae, f"_{way}") and not kwargs
    if way == "encode" and not private:
        return lambda x: vae.encode(x).latent_dist.parameters
    return Untiled(Place(vae, vae, f"_{way}" if private else way, way), None, (), kwargs or {})
