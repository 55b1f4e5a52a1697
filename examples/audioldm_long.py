"""
A long latent of AudioLDM2 to a wav file, in tiles of time, with a picture of the spectrogram.

    python examples/audioldm_long.py --model FOLDER --latent latents.npy        your own, FOLDER with vae/ and vocoder/
    python examples/audioldm_long.py --seconds 20                               seeded weights and a seeded latent

Leaves audioldm_long.wav and audioldm_long.png: the spectrogram decoded whole, in exact tiles, in tiles that are each
normalised by themselves, and how far the two are from the whole. Without --model the structure is the real one with an
eighth of the channels, and what is heard is noise: it shows the tiles, not the music.
Needs torch, matplotlib and transformers (for the vocoder); --backend mlx decodes on MLX.
"""

from __future__ import annotations

import argparse
import wave
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig, load_autoencoder_kl
from ltx_models.nn import backend as get_backend
from tilekit.adapters import autoencoder_kl, hifigan

RATE = 16000  # samples a second
ROWS = 25  # latent rows a second
BINS = 16  # latent columns: 64 mel bands


def load_vae(model: str | None, name: str) -> Any:
    """Load the autoencoder, or make one with seeded weights that let activations live."""
    if model is not None:
        return load_autoencoder_kl(Path(model) / "vae", backend=name)  # type: ignore[arg-type]  # a choice of argparse
    nn, rng = get_backend(name), np.random.default_rng(0)
    config = AutoencoderKLConfig(
        in_channels=1, out_channels=1, latent_channels=8, block_out_channels=(16, 32, 64), norm_num_groups=16
    )
    vae = AutoencoderKL(nn, config)
    weights = {}
    for key, shape in sorted(nn.shapes(vae).items()):
        if len(shape) > 1:
            values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        else:
            values = 0.2 * rng.standard_normal(shape) + ("norm" in key and key.endswith("weight"))
        weights[key] = nn.asarray(values.astype(np.float32))
    return nn.load(vae, weights)


def load_vocoder(model: str | None) -> Any:
    """Load the vocoder, or make one with seeded weights."""
    import torch
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    if model is not None:
        return SpeechT5HifiGan.from_pretrained(Path(model) / "vocoder").eval().requires_grad_(False)
    torch.manual_seed(0)
    structure = SpeechT5HifiGanConfig(
        model_in_dim=64,
        upsample_initial_channel=64,
        upsample_rates=[5, 4, 2, 2, 2],
        upsample_kernel_sizes=[16, 16, 8, 4, 4],
        normalize_before=False,
    )
    vocoder = SpeechT5HifiGan(structure).eval().requires_grad_(False)
    for weight in vocoder.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=float(np.prod(weight.shape[1:])) ** -0.5)
    return vocoder


def load_latent(path: str | None, seconds: float) -> np.ndarray:
    """Read a latent (1, 8, rows, 16), or draw one whose loudness and contrast change with time."""
    if path is not None:
        return np.asarray(np.load(path), np.float32)
    rng, rows = np.random.default_rng(1), int(seconds * ROWS)
    time = np.linspace(0, 1, rows)[:, None]
    noise = rng.standard_normal((1, 8, rows, BINS)) * (0.3 + np.sin(9 * time) ** 2) + 2 * np.sin(4 * time)
    return np.asarray(noise, np.float32)


def write_wav(path: Path, sound: np.ndarray) -> None:
    """Write 16-bit sound of one channel, as loud as it is."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def draw(path: Path, mels: dict[str, np.ndarray]) -> None:
    """Draw the spectrograms, and how far each is from the first."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    (_, whole), *others = mels.items()
    rows = [*mels.items(), *((f"{name} - whole", mel - whole) for name, mel in others)]
    figure, axes = pyplot.subplots(len(rows), 1, figsize=(12, 1.8 * len(rows)), sharex=True, layout="constrained")
    for axis, (name, mel) in zip(axes, rows, strict=True):
        largest = np.abs(mel).max()
        limit = np.abs(whole).max() if "-" in name else None
        image = axis.imshow(
            mel.T, aspect="auto", origin="lower", extent=(0, len(mel) / 100, 0, mel.shape[1]),
            vmin=-limit if limit else None, vmax=limit, cmap="RdBu" if limit else "magma",
        )  # fmt: skip
        axis.set_title(f"{name} (largest {largest:.1e})" if limit else name, loc="left", fontsize=9)
        axis.set_ylabel("mel band", fontsize=8)
        figure.colorbar(image, ax=axis, pad=0.01)
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Decode, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--model", help="folder of an AudioLDM2 pipeline")
    parser.add_argument("--latent", help=".npy of shape (1, 8, rows, 16), divided by the scaling factor")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the seeded latent")
    parser.add_argument("--tile", type=int, default=512, help="mel frames of a tile")
    parser.add_argument("--backend", choices=("torch", "mlx"), default="torch")
    parser.add_argument("--output", type=Path, default=Path("audioldm_long"))
    options = parser.parse_args()

    vae, nn = load_vae(options.model, options.backend), get_backend(options.backend)
    z = nn.asarray(load_latent(options.latent, options.seconds))
    exact = autoencoder_kl(vae, tile=(options.tile, None), offload="disk")
    print(exact.plan(z.shape))
    mels = {
        "whole": autoencoder_kl(vae, tile=None).decode(z),
        "exact tiles": exact.decode(z, progress=True),
        "tiles normalised by themselves": autoencoder_kl(vae, tile=(options.tile, None), norm="tile").decode(z),
    }
    hosts = {name: np.asarray(mel)[0, 0] for name, mel in mels.items()}
    for name, mel in hosts.items():
        print(f"{name}: largest difference from the whole {np.abs(mel - hosts['whole']).max():.1e}")
    draw(options.output.with_suffix(".png"), hosts)

    import torch

    sound = hifigan(load_vocoder(options.model), tile=options.tile)(torch.tensor(hosts["exact tiles"]), progress=True)
    write_wav(options.output.with_suffix(".wav"), sound.numpy())
    print(f"{options.output.with_suffix('.wav')}: {len(sound) / RATE:.2f} s; {options.output.with_suffix('.png')}")


if __name__ == "__main__":
    main()
