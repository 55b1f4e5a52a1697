"""The audio autoencoder and the vocoder of the toy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from training.toy.loop import Training
from training.toy.scenes import RATE, SECONDS, draw_scene, draw_sound
from training.toy.sections import AUDIO_VAE, VOCODER

from ltx_models.audio_vae import AudioDecoder, AudioEncoder, AudioVAEConfig, log_mel
from ltx_models.nn import backend
from ltx_models.vocoder import GeneratorConfig, Vocoder

LATENT_FRAMES = 34  # 25 a second, for a clip of 33 frames
MEL_FRAMES = 4 * LATENT_FRAMES - 3
NOISE = 0.15  # added to latents, in parts of their spread
WINDOWS = (256, 512, 1024)  # of the spectra that waveforms are compared by, samples
SHORT = 48  # mel frames of a waveform to learn from
HOP = 240  # samples of the waveform to a mel frame
SILENT = -9.0  # the mean of all spectrograms


class AudioAutoencoder(torch.nn.Module):
    """Encoder and decoder of spectrograms with new weights; statistics that change nothing."""

    def __init__(self) -> None:
        super().__init__()
        nn, config = backend("torch"), AudioVAEConfig.read(AUDIO_VAE)
        self.encoder: Any = AudioEncoder(nn, config)
        self.decoder: Any = AudioDecoder(nn, config)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith("conv2.conv.weight"):
                    weight *= 0.1
                elif name.endswith("bias") and "conv_out" not in name and ".block" not in name:
                    weight[: len(weight) // 8] = 1.0
            self.decoder.conv_out.conv.bias.fill_(SILENT)


def train_autoencoder(state: Path, minutes: float) -> Any:
    """Train it; give encoder and decoder."""
    torch.manual_seed(0)
    ends = ("encoder.conv_in.", "decoder.conv_out.")
    training = Training(AudioAutoencoder(), state, minutes, rate=0.002, ends=ends)

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        mel, _ = draw_batch(rng, 3)
        latent = training.model.encoder(mel)
        spread = latent.std(dim=(0, 2), keepdim=True).detach()
        decoded = training.model.decoder(latent + NOISE * spread * torch.randn_like(latent))
        return (decoded - mel).abs().mean() + 1e-4 * latent.square().mean()

    return training.run(loss)


def train_vocoder(state: Path, minutes: float, autoencoder: Any) -> Any:
    """
    Train a vocoder of one side on both sides, and give one of two sides that keeps them apart.

    A sound between left and right is one wave in two strengths. A small network of both sides at once learns the wave
    and one strength; one that is given a side alone has nothing else to learn. Spectrograms are as they are drawn, and
    as the autoencoder gives them.
    """
    torch.manual_seed(0)
    both = GeneratorConfig.read(VOCODER)
    model = Vocoder(backend("torch"), replace(both, width=both.width // 2, mel_channels=1))
    training = Training(model, state, minutes, rate=0.004, ends=("conv_pre.", "conv_post."))

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        mel, wave = draw_batch(rng, 2)
        if rng.random() < 0.5:
            with torch.no_grad():
                mel = autoencoder.decoder(autoencoder.encoder(mel))
        start = int(rng.integers(mel.shape[2] - SHORT + 1)) if rng.random() < 0.8 else 0
        made = training.model(mel[:, :, start : start + SHORT].flatten(0, 1)[:, None])
        return waveform_loss(made.unflatten(0, (-1, 2))[:, :, 0], wave[..., HOP * start : HOP * (start + SHORT)])

    return two_sides(training.run(loss), Vocoder(backend("torch"), both))


@torch.no_grad()
def two_sides(side: Any, both: Any) -> Any:
    """Write a network of one side twice into one of both, with nothing between the two; give the latter."""
    for weight, part in zip(both.parameters(), side.parameters(), strict=True):
        weight.zero_()
        rows = len(part)
        if weight.ndim == 1:
            weight[:rows], weight[rows:] = part, part
        else:
            columns = part.shape[1]
            weight[:rows, :columns], weight[rows:, columns:] = part, part
    return both


def draw_batch(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Draw spectrograms (B, 2, T, 64), and waveforms (B, 2, 240 T) of 24 kHz."""
    # more than is needed: the spectrogram mirrors the end
    drawn = torch.from_numpy(np.stack([draw_sound(draw_scene(rng), SECONDS + 0.1) for _ in range(count)]))
    mel = log_mel(drawn, RATE)[:, :, :MEL_FRAMES]
    return mel, drawn[..., ::2][..., : HOP * MEL_FRAMES]  # no harmonic reaches 12 kHz


def waveform_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Compare waveforms (B, 2, N) and their differences of left and right: samples, loudness and spectra."""
    made, wanted = (torch.cat([x, x[:, :1] - x[:, 1:]], dim=1) for x in (made, wanted))
    total = 10 * (made - wanted).abs().mean() + 10 * (_loudness(made) - _loudness(wanted)).abs().mean()
    for size in WINDOWS:
        ours, theirs = (_spectrum(x, size) for x in (made, wanted))
        logarithms = (torch.log(x + 1e-2) for x in (ours, theirs))
        total = total + (ours - theirs).abs().mean() + 0.1 * (next(logarithms) - next(logarithms)).abs().mean()
    return total


def _loudness(wave: Tensor) -> Tensor:
    """Give the root mean square of every hundredth of a second."""
    return torch.sqrt(wave.unflatten(2, (-1, HOP)).square().mean(dim=-1) + 1e-6)


def _spectrum(wave: Tensor, size: int) -> Tensor:
    padded = F.pad(wave.flatten(0, 1), (size // 2, size // 2))
    window = torch.hann_window(size)
    found = torch.stft(padded, size, size // 4, window=window, center=False, return_complex=True)
    return torch.sqrt(found.real**2 + found.imag**2 + 1e-8) / size**0.5
