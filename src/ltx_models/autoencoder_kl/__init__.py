"""
AutoencoderKL: the autoencoder of Stable Diffusion, SDXL, Flux, AudioLDM and AudioLDM2, on torch and MLX.

Written once; module names are those of diffusers, so its checkpoints load as they are.
`tilekit.adapters.autoencoder_kl` runs it in tiles that equal the whole.
"""

from ltx_models.autoencoder_kl.model import AutoencoderKL, AutoencoderKLConfig, load_autoencoder_kl

__all__ = [
    "AutoencoderKL",
    "AutoencoderKLConfig",
    "load_autoencoder_kl",
]
