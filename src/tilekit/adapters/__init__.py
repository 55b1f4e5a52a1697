"""
Exact results in little memory for the autoencoders of diffusers and the vocoder of AudioLDM.

`autoencoder_kl` runs an AutoencoderKL (Stable Diffusion, SDXL, Flux, AudioLDM, AudioLDM2; diffusers on torch, or
`ltx_models.autoencoder_kl` on torch and MLX) in pieces of a size, `hifigan` the vocoder of AudioLDM.
`enable_exact_tiling` turns both on in a diffusers pipeline. Importing this imports none of these libraries.
"""

from tilekit.adapters._autoencoder import TiledAutoencoder, autoencoder_kl
from tilekit.adapters._pipeline import disable_exact_tiling, enable_exact_tiling
from tilekit.adapters._vocoder import TiledVocoder, hifigan

__all__ = [
    "TiledAutoencoder",
    "TiledVocoder",
    "autoencoder_kl",
    "disable_exact_tiling",
    "enable_exact_tiling",
    "hifigan",
]
