"""The steps that every pipeline is made of: text, conditions, denoise, upsample, decode."""

from ltx_models.pipelines.steps.conditions import ask_keyframes, encode_pictures, encode_sound
from ltx_models.pipelines.steps.decoding import decode_sound, decode_video, decoder_noise, preview_picture, upsample
from ltx_models.pipelines.steps.denoising import Stage, denoise_stage
from ltx_models.pipelines.steps.text import (
    encode_contexts,
    encode_prompts,
    encode_text,
    enhance_prompt,
    estimate_seconds,
)

__all__ = [
    "Stage",
    "ask_keyframes",
    "decode_sound",
    "decode_video",
    "decoder_noise",
    "denoise_stage",
    "encode_contexts",
    "encode_pictures",
    "encode_prompts",
    "encode_sound",
    "encode_text",
    "enhance_prompt",
    "estimate_seconds",
    "preview_picture",
    "upsample",
]
