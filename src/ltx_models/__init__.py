"""
The LTX-2 model family, written once for PyTorch and MLX.

Importing this package imports neither framework; each name is fetched from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Modality": "ltx_models.modality",
    "load_transformer": "ltx_models.transformer_loading",
    "save_transformer": "ltx_models.transformer_loading",
    "CheckpointError": "ltx_models.checkpoints",
    "default_checkpoint": "ltx_models.defaults",
    "load_audio_decoder": "ltx_models.audio_vae",
    "load_audio_encoder": "ltx_models.audio_vae",
    "ExactPlan": "ltx_models.exact_plan",
    "decode_exact": "ltx_models.exact",
    "encode_exact": "ltx_models.exact",
    "plan_exact": "ltx_models.exact_plan",
    "stream_decode": "ltx_models.exact",
    "stream_encode": "ltx_models.exact",
    "load_video_decoder": "ltx_models.video_vae",
    "load_video_encoder": "ltx_models.video_vae",
    "load_upsampler": "ltx_models.upsampler",
    "load_statistics": "ltx_models.upsampler",
    "upsample_latent": "ltx_models.upsampler",
    "load_connectors": "ltx_models.connectors",
    "load_text_encoder": "ltx_models.text",
    "decode_audio_tiled": "ltx_models.sound_tiles",
    "vocode_tiled": "ltx_models.sound_tiles",
    "mel_stream": "ltx_models.mel",
    "load_vocoder": "ltx_models.vocoder",
    "LTX2Pipeline": "ltx_models.pipelines",
    "log_mel": "ltx_models.mel",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
