"""The video autoencoder of the toy: the embedded one, taught shapes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from training.losses import charbonnier, reconstruction_loss
from training.toy.loop import Training
from training.toy.scenes import LARGE, SMALL, draw_scene, draw_video
from training.toy.sections import VAE

from ltx_models import default_checkpoint
from ltx_models.nn import backend
from ltx_models.video_vae import VideoDecoder, VideoEncoder, VideoVAEConfig

# clips in a batch, frames, and size: whole small clips, and pieces of large ones
BATCHES = (((2, 33), SMALL), ((3, 17), SMALL), ((2, 17), LARGE))
ODDS = (0.5, 0.2, 0.3)
PIECE = 96  # side of a piece of a large clip, pixels
NOISE = 0.15  # added to latents, in parts of their spread: what a transformer makes of them is not exact either
SIZE_WEIGHT = 1e-4
COLOUR_WEIGHT = 8.0


class Autoencoder(torch.nn.Module):
    """Encoder and decoder, with the weights of the embedded autoencoder to begin with."""

    def __init__(self) -> None:
        super().__init__()
        nn, config = backend("torch"), VideoVAEConfig.read(VAE)
        self.encoder: Any = VideoEncoder(nn, config)
        self.decoder: Any = VideoDecoder(nn, config)
        known = load_file(default_checkpoint())
        with torch.no_grad():
            for name, weight in self.named_parameters():
                weight.copy_(known[f"vae.{name}"].float())


def train(state: Path, minutes: float) -> Any:
    """Train it; give encoder and decoder."""
    torch.manual_seed(0)
    ends = ("encoder.conv_in.", "decoder.conv_out.")
    training = Training(Autoencoder(), state, minutes, rate=0.006, ends=ends)

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        video = draw_batch(rng)
        with torch.autocast("cpu", torch.bfloat16):
            latent = training.model.encoder(video)
        return decoding_loss(training.model.decoder, latent, video) + SIZE_WEIGHT * latent.float().square().mean()

    return training.run(loss)


def train_decoder(state: Path, minutes: float, autoencoder: Any) -> None:
    """Train the decoder on, with latents that stay as they are: that takes half the work."""
    torch.manual_seed(0)
    training = Training(deepcopy(autoencoder.decoder).requires_grad_(), state, minutes, rate=0.004, ends=("conv_out.",))

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        video = draw_batch(rng)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latent = autoencoder.encoder(video)
        return decoding_loss(training.model, latent, video)

    autoencoder.decoder = training.run(loss)


def decoding_loss(decoder: Any, latent: Tensor, video: Tensor) -> Tensor:
    """Decode latents with noise, and compare."""
    spread = latent.float().std(dim=(0, 2, 3, 4), keepdim=True).detach()
    with torch.autocast("cpu", torch.bfloat16):
        decoded = decoder(latent + NOISE * spread * torch.randn_like(latent))
    return reconstruction_loss(decoded.float(), video) + COLOUR_WEIGHT * colour_loss(decoded.float(), video)


def colour_loss(decoded: Tensor, video: Tensor) -> Tensor:
    """Compare what tells colours from greys, over squares of four pixels."""
    error = F.avg_pool3d(decoded - video, (1, 4, 4))
    return charbonnier(error - error.mean(dim=1, keepdim=True))


def draw_batch(rng: np.random.Generator) -> Tensor:
    """Draw clips (B, 3, F, H, W)."""
    (count, frames), size = BATCHES[rng.choice(len(BATCHES), p=ODDS)]
    clips = []
    for _ in range(count):
        clip = draw_video(draw_scene(rng), size)
        start = int(rng.integers(clip.shape[1] - frames + 1))
        clip = clip[:, start : start + frames]
        if size == LARGE:
            row, column = (int(rng.integers((side - PIECE) // 32 + 1)) * 32 for side in size)
            clip = clip[..., row : row + PIECE, column : column + PIECE]
        clips.append(clip)
    return torch.from_numpy(np.stack(clips))
