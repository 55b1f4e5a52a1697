"""The transformer of the toy with its text connectors: flow matching over latents of both streams together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from training.toy.language import HIDDEN, LAYERS
from training.toy.latents import Latents
from training.toy.loop import Training
from training.toy.rotation import importance
from training.toy.scenes import FPS
from training.toy.sections import KEPT, TRANSFORMER

from ltx_models.conditioning import audio_positions, patchify, video_positions
from ltx_models.nn import backend
from ltx_models.sampling import DISTILLED_SIGMAS, STAGE_2_SIGMAS
from ltx_models.text import ConnectorConfig, TextConnectors
from ltx_models.transformer import Modality, Transformer, TransformerConfig

SCENES_SMALL, LEVELS, SCENES_LARGE = 16, 2, 6  # clips in a batch, and noise levels at which each is shown
LARGE_PART = (0.2, 0.7)  # of the batches are of the second stage, first and later
FIRST_PART = 0.4  # of the time
SCHEDULED = 0.6  # of the noise levels are those of the distilled schedules; the rest lie between
SHIFT = 3.0
ENDS = ("transformer.patchify_proj.", "transformer.audio_patchify_proj.", "transformer.proj_out.",
        "transformer.audio_proj_out.", "connectors.text_embedding_projection.")  # fmt: skip


class Denoiser(torch.nn.Module):
    """Connectors and transformer with new weights."""

    def __init__(self) -> None:
        super().__init__()
        nn = backend("torch")
        video, audio = (ConnectorConfig.read(TRANSFORMER, prefix) for prefix in ("", "audio_"))
        self.connectors: Any = TextConnectors(nn, video, audio, (LAYERS + 1) * HIDDEN)
        self.transformer: Any = Transformer(nn, TransformerConfig.of(TRANSFORMER))
        with torch.no_grad():
            for name, weight in self.named_parameters():
                _start(name, weight)


def train(state: Path, minutes: float, latents: Latents) -> Any:
    """Train it; give connectors and transformer."""
    torch.manual_seed(0)
    model = Denoiser()
    training = Training(model, state, minutes, rate=0.004, ends=ENDS)
    weights = [importance(latents.statistics[name][1], kept) for name, kept in (("vae", KEPT), ("audio_vae", None))]

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        large = rng.random() < LARGE_PART[done > FIRST_PART]
        clips = latents.large if large else latents.small
        chosen = rng.integers(len(clips), size=SCENES_LARGE if large else SCENES_SMALL)
        hidden, mask = latents.text(chosen, rng)
        sigma = torch.from_numpy(draw_sigmas(rng, LEVELS * len(chosen), STAGE_2_SIGMAS if large else DISTILLED_SIGMAS))
        # the backward pass of the fused attention takes longer than all the rest where sequences are this short
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            contexts = model.connectors(hidden, mask)[:2]
            return flow_loss(model.transformer, clips[chosen], latents.audio[chosen], contexts, sigma, weights)

    return training.run(loss)


def flow_loss(
    transformer: Any, video: Tensor, audio: Tensor, contexts: Any, sigma: Tensor, weights: list[Tensor]
) -> Tensor:
    """Compare predicted velocities with noise less clip, at several noise levels of each clip."""
    positions = video_positions(*video.shape[2:], fps=FPS), audio_positions(audio.shape[2])
    modalities, wanted = [], []
    for latent, context, place in zip((video, audio), contexts, positions, strict=True):
        clean = patchify(latent).repeat(LEVELS, 1, 1)
        noise = torch.randn_like(clean)
        level = sigma[:, None, None]
        modalities.append(
            Modality((1 - level) * clean + level * noise, sigma, sigma[:, None], place, context.repeat(LEVELS, 1, 1))
        )
        wanted.append(noise - clean)
    made = transformer(*modalities)
    errors = ((ours.float() - theirs).square().mean(dim=(0, 1)) for ours, theirs in zip(made, wanted, strict=True))
    parts = [(error * weight).sum() / weight.sum() for error, weight in zip(errors, weights, strict=True)]
    return parts[0] + parts[1]


def draw_sigmas(rng: np.random.Generator, count: int, schedule: Any) -> Any:
    """Draw noise levels: of a schedule, or between."""
    between = rng.uniform(0.02, 0.98, count)
    between = SHIFT * between / (1 + (SHIFT - 1) * between)
    levels = np.where(rng.random(count) < SCHEDULED, rng.choice(schedule[:-1], count), between)
    return np.minimum(levels, schedule[0]).astype(np.float32)


def _start(name: str, weight: Tensor) -> None:
    """Let residual branches begin small and modulation begin without effect."""
    if "scale_shift_table" in name:
        weight.zero_()
        if weight.shape[0] in {5, 6, 9}:  # rows that are gates
            weight[4 if weight.shape[0] == 5 else 2 :: 3] = 0.5
    elif name.endswith("learnable_registers"):
        weight.normal_()
    elif "adaln" in name and ".linear.weight" in name:
        weight *= 0.1
    elif name.endswith("_norm.weight"):
        weight.fill_(1)
    elif "proj_out." in name:
        weight.zero_()
