"""The video autoencoder of the toy: it begins as the best linear one of drawn shapes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from training.losses import charbonnier, reconstruction_loss
from training.network import Autoencoder
from training.start import begin
from training.toy.loop import Training
from training.toy.scenes import LARGE, SMALL, draw_scene, draw_video
from training.toy.sections import KEPT, VAE

# clips in a batch, frames, and size: whole small clips, and pieces of large ones
BATCHES = (((1, 33), SMALL), ((2, 17), SMALL), ((2, 17), LARGE))
ODDS = (0.25, 0.25, 0.5)
PIECE = 128  # side of a piece of a large clip, pixels
NOISE = 0.15  # added to latents, in parts of their spread: what a transformer makes of them is not exact either
SIZE_WEIGHT = 1e-4
COLOUR_WEIGHT = 4.0
WINDOWS = 2000  # of the size of two latent cells, to begin with
EDGE, PLAIN = 0.8, 0.15  # the contrast of a piece with an edge, and how many of the others are taken
RATE = 2.5e-4


def train(state: Path, minutes: float) -> Any:
    """Train it; give encoder and decoder."""
    torch.manual_seed(0)
    ends = ("encoder.conv_in.", "decoder.conv_out.")
    model = Autoencoder(VAE)
    if not state.exists():
        begin(model, draw_windows(np.random.default_rng(4), WINDOWS))
        leave_out(model)
    training = Training(model, state, minutes, rate=RATE, other_rate=RATE, ends=ends)

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        video = draw_batch(rng)
        with torch.autocast("cpu", torch.bfloat16):
            latent = training.model.encoder(video)
        return decoding_loss(training.model.decoder, latent, video) + SIZE_WEIGHT * latent.float().square().mean()

    return training.run(loss)


@torch.no_grad()
def leave_out(model: Autoencoder) -> None:
    """Let the weakest channels of latents carry nothing; they stay so, for no loss depends on them."""
    last, first = model.encoder.conv_out.conv, model.decoder.conv_in.conv
    last.weight[KEPT:] = 0
    last.bias[KEPT:] = 0
    first.weight[:, KEPT:] = 0


def train_decoder(state: Path, minutes: float, autoencoder: Any) -> None:
    """Train the decoder on, with latents that stay as they are: that takes half the work."""
    torch.manual_seed(0)
    training = Training(
        deepcopy(autoencoder.decoder).requires_grad_(), state, minutes, rate=RATE, other_rate=RATE, ends=("conv_out.",)
    )

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


def draw_windows(rng: np.random.Generator, count: int) -> Tensor:
    """Draw pieces (N, 3, 9, 32, 32), mostly of what is not the ground alone."""
    found: list[np.ndarray] = []
    while len(found) < count:
        size = (SMALL, LARGE)[int(rng.integers(2))]
        clip = draw_video(draw_scene(rng), size)
        for _ in range(16):
            start, row, column = (int(rng.integers(n)) for n in (clip.shape[1] - 8, size[0] - 31, size[1] - 31))
            piece = clip[:, start : start + 9, row : row + 32, column : column + 32]
            if np.ptp(piece, axis=(1, 2, 3)).max() > EDGE or rng.random() < PLAIN:
                found.append(piece)
    return torch.from_numpy(np.stack(found[:count]))
