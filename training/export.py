"""Writing the trained autoencoder as a checkpoint with the official names and metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clips import Sampler, training_sources
from safetensors.torch import save_file
from torch import Tensor

ABOUT = (
    "A small demonstration model with the block layout of the LTX-2 2.0 video autoencoder, trained from new weights "
    "for under an hour on a few short clips and photographs. It shows that the code works. It is not an official "
    "checkpoint, its latents mean nothing to other models, and its pictures are soft."
)
STATISTICS = "vae.per_channel_statistics."


def save_checkpoint(model: Any, section: dict[str, Any], path: Path) -> None:
    """
    Write an autoencoder in bfloat16.

    Parameters
    ----------
    model : Autoencoder
        Encoder and decoder, with latents as they come.
    section : dict
        Its configuration.
    path : Path
        The file to write.
    """
    mean, std = latent_statistics(model)
    tensors = {STATISTICS + "mean-of-means": mean, STATISTICS + "std-of-means": std}
    for part in ("encoder", "decoder"):
        tensors |= {f"vae.{part}.{key}": value for key, value in getattr(model, part).named_parameters()}
    metadata = {
        "format": "pt",
        "model_version": "2.0",
        "config": json.dumps({"vae": section}),
        "license": "Apache-2.0",
        "description": ABOUT,
    }
    stored = {key: value.detach().to(torch.bfloat16).contiguous() for key, value in sorted(tensors.items())}
    beside = path.with_suffix(".part")
    save_file(stored, beside, metadata)
    beside.replace(path)


def latent_statistics(model: Any, *, windows: int = 96, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Measure mean and standard deviation of each latent channel over training windows."""
    cells = torch.cat([latent.transpose(0, 1).flatten(1) for latent in _latents(model, windows, seed)], dim=1)
    return cells.mean(dim=1), cells.std(dim=1)


@torch.no_grad()
def _latents(model: Any, windows: int, seed: int) -> Iterator[Tensor]:
    sampler = Sampler(training_sources(), np.random.default_rng(seed))
    for _ in range(windows):
        yield model.encoder(sampler.batch(1, 17, 192))
