"""Writing the toy as files with the official names and metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from training.toy.scenes import FPS, FRAMES, SMALL
from training.toy.sections import AUDIO_VAE, TRANSFORMER, UPSAMPLER, VAE, VOCODER

ABOUT = (
    "A toy: every part of an LTX-2.3 checkpoint, tiny, trained for seventy minutes of one processor core on drawn "
    "shapes that move and sound. It shows that the machinery works, and draws nothing else. It is not an official "
    "checkpoint, and its latents mean nothing to other models."
)
# what our pipelines use where the user says nothing: the clips of a first stage that it was trained on
DEFAULTS = {"height": SMALL[0], "width": SMALL[1], "frames": FRAMES, "fps": FPS}
MARK = {"format": "pt", "model_version": "2.3.0", "license": "Apache-2.0", "description": ABOUT}


def save_checkpoint(
    path: Path, video: Any, audio: Any, vocoder: Any, denoiser: Any, statistics: dict[str, Tensor]
) -> None:
    """Write all but the language model and the upsampler, in bfloat16."""
    inside = "model.diffusion_model."
    prefixes = {
        "vae.encoder.": video.encoder,
        "vae.decoder.": video.decoder,
        "audio_vae.encoder.": audio.encoder,
        "audio_vae.decoder.": audio.decoder,
        "vocoder.": vocoder,
        inside: denoiser.transformer,
        f"{inside}video_embeddings_connector.": denoiser.connectors.video_embeddings_connector,
        f"{inside}audio_embeddings_connector.": denoiser.connectors.audio_embeddings_connector,
        "text_embedding_projection.": denoiser.connectors.text_embedding_projection,
    }
    tensors = {prefix + key: value for prefix, module in prefixes.items() for key, value in module.named_parameters()}
    for name, (mean, spread) in statistics.items():
        tensors[f"{name}.per_channel_statistics.mean-of-means"] = mean
        tensors[f"{name}.per_channel_statistics.std-of-means"] = spread
    config = {"transformer": TRANSFORMER, "vae": VAE, "audio_vae": AUDIO_VAE, "vocoder": VOCODER}
    _save(path, tensors, MARK | {"config": json.dumps(config), "default_settings": json.dumps(DEFAULTS)})


def save_upsampler(path: Path, upsampler: Any) -> None:
    """Write the upsampler, in bfloat16."""
    _save(path, dict(upsampler.named_parameters()), MARK | {"config": json.dumps(UPSAMPLER)})


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    stored = {key: value.detach().to(torch.bfloat16).contiguous() for key, value in sorted(tensors.items())}
    beside = path.with_suffix(".part")
    save_file(stored, beside, metadata)
    beside.chmod(0o644)  # readable for all whom it is installed for
    beside.replace(path)
