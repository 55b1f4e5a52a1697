"""
The latent upsamplers of LTX-2 and LTX-2.3: twice or one and a half times the side, or twice the frames.

They work on denormalised latents; `upsample_latent` does what is around them. Their group norms see the whole clip, so
in tiles they run in lockstep from norm to norm, with the statistics of the whole (`tilekit.norms`).
"""

from ltx_models.upsampler.config import UpsamplerConfig
from ltx_models.upsampler.loading import LatentStatistics, load_statistics, load_upsampler, upsample_latent
from ltx_models.upsampler.model import LatentUpsampler

__all__ = [
    "LatentStatistics",
    "LatentUpsampler",
    "UpsamplerConfig",
    "load_statistics",
    "load_upsampler",
    "upsample_latent",
]
