"""
Sampling: schedules, steps, samplers, guidance, and the loop that joins them with a transformer.

Everything is written once for torch tensors and MLX arrays. Noise levels are numbers of the host.
"""

from ltx_models.sampling.guidance import Guidance, apg_delta, guide, star_delta
from ltx_models.sampling.loop import Cancelled, Noise, State, TextEmbeddings, denoise
from ltx_models.sampling.samplers import Ancestral, Blend, Euler, Prediction, Res2s, Sampler, SamplerStep
from ltx_models.sampling.schedules import (
    DISTILLED_SIGMAS,
    STAGE_2_SIGMAS,
    beta_sigmas,
    check_sigmas,
    linear_quadratic_sigmas,
    ltx2_sigmas,
)
from ltx_models.sampling.steps import (
    ancestral_step,
    cfg_pp_step,
    denoised_of,
    euler_step,
    phi,
    renoise,
    res2s_coefficients,
    velocity_of,
)

# their names before
Step = SamplerStep
Text = TextEmbeddings

__all__ = [
    "DISTILLED_SIGMAS",
    "STAGE_2_SIGMAS",
    "Ancestral",
    "Blend",
    "Cancelled",
    "Euler",
    "Guidance",
    "Noise",
    "Prediction",
    "Res2s",
    "Sampler",
    "SamplerStep",
    "State",
    "Step",
    "Text",
    "TextEmbeddings",
    "ancestral_step",
    "apg_delta",
    "beta_sigmas",
    "cfg_pp_step",
    "check_sigmas",
    "denoise",
    "denoised_of",
    "euler_step",
    "guide",
    "linear_quadratic_sigmas",
    "ltx2_sigmas",
    "phi",
    "renoise",
    "res2s_coefficients",
    "star_delta",
    "velocity_of",
]
