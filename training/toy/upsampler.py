"""The latent upsampler of the toy: from the latents of the first stage to those of the second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from training.toy.latents import Latents
from training.toy.loop import Training
from training.toy.rotation import importance
from training.toy.sections import KEPT, UPSAMPLER

from ltx_models.nn import backend
from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig

CLIPS = 6  # in a batch
NOISE = 0.1  # added to what comes in: the first stage is not exact


def train(state: Path, minutes: float, latents: Latents) -> Any:
    """Train it; it works on latents as the encoder gives them, not normalised."""
    torch.manual_seed(0)
    model = LatentUpsampler(backend("torch"), UpsamplerConfig.read(UPSAMPLER))
    training = Training(model, state, minutes, rate=0.002, ends=("initial_conv.", "final_conv."))
    mean, spread = latents.statistics["vae"].reshape(2, 1, -1, 1, 1, 1)

    weight = importance(spread[0, :, 0, 0, 0], KEPT)[:, None, None, None]

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        chosen = rng.integers(len(latents.large), size=CLIPS)
        small, large = latents.small[chosen], latents.large[chosen]
        small = small + NOISE * torch.randn_like(small) * (weight > 0)
        made = (model(small * spread + mean) - mean) / spread
        return ((made - large).square() * weight).mean()

    larger = training.run(loss)
    with torch.no_grad():  # the channels that carry nothing stay 0
        larger.final_conv.weight[KEPT:] = 0
        larger.final_conv.bias[KEPT:] = 0
    return larger
