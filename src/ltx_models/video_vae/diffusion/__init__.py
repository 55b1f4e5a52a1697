"""
The diffusion video decoder of LTX-2.5: latents to pixels by denoising, whole or as a sweep that equals the whole.

`load_video_decoder` gives one where the checkpoint says so.
"""

from ltx_models.video_vae.diffusion.config import LTX2_5, DiffusionDecoderConfig
from ltx_models.video_vae.diffusion.decoder import DiffusionDecoder
from ltx_models.video_vae.diffusion.exact import DiffusionPlan, plan_diffusion
from ltx_models.video_vae.diffusion.loading import load_diffusion_decoder

__all__ = [
    "LTX2_5",
    "DiffusionDecoder",
    "DiffusionDecoderConfig",
    "DiffusionPlan",
    "load_diffusion_decoder",
    "plan_diffusion",
]
