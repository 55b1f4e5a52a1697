"""
Measure what minutes of AudioLDM2 take from latents to sound, tiles waiting on disk. Needs diffusers and transformers.

    python benchmarks/long_sound.py 60 150 300 600               AudioLDM2's own widths: an hour of one core in all
    python benchmarks/long_sound.py 60 600 --narrow 4            a quarter of the channels

Each length is a process of its own. Its memory is that above what it held before, as Linux counts it: the most while
the autoencoder runs, and the most while the vocoder runs; figures: docs/benchmarks/groupnorm.md. Weights are seeded.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from groupnorm import Case, memory, network, smooth

COLUMNS = ("seconds", "mel MiB", "sound MiB", "array of latents MiB")  # sizes, known beforehand
STAGES = ("decode", "decode, less result and latents", "vocoder", "vocoder, less mel and sound")


def make_vocoder(narrow: int) -> Any:
    """Make AudioLDM2's vocoder with weights that let activations live."""
    import torch
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    structure = SpeechT5HifiGanConfig(
        model_in_dim=64,
        upsample_initial_channel=1024 // narrow,
        upsample_rates=[5, 4, 2, 2, 2],
        upsample_kernel_sizes=[16, 16, 8, 4, 4],
        normalize_before=False,
    )
    vocoder = SpeechT5HifiGan(structure).eval().requires_grad_(False)
    for weight in vocoder.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=(weight.numel() / weight.shape[0]) ** -0.5)
    return vocoder


def peak_since(held: float) -> float:
    """Read the most memory since the last call, in MiB above `held`, and begin anew."""
    peak = memory("VmHWM") - held
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def work(seconds: int, narrow: int, tile: int, *, sound: bool) -> None:
    """Run one length and print a row."""
    import torch

    from tilekit.adapters import autoencoder_kl, hifigan

    torch.set_num_threads(1)
    case = Case(f"sound-{seconds}", narrow)
    tiled = autoencoder_kl(network(case), tile=(tile, None), offload="disk")
    speak = hifigan(make_vocoder(narrow), tile=tile) if sound else None
    z, latents = smooth(case.shape), case.channels[-1] * case.shape[2] * case.shape[3] * 4 / 2**20
    autoencoder_kl(tiled.vae, tile=None).decode(z[:, :, :8])  # the libraries have made their threads and tables
    held, begun = memory("VmRSS"), time.process_time()
    peak_since(held)
    mel = tiled.decode(z)
    tiles, end = peak_since(held), time.process_time()
    size = mel.numel() * 4 / 2**20
    row = [f"{seconds}", f"{size:.0f}", "", f"{latents:.0f}", f"{tiles:.0f}"]
    row += [f"{tiles - size - latents:.0f}", "", ""]
    text = f"CPU seconds: decode {end - begun:.0f}"
    if speak:
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)  # or the vocoder would live in what the decode has left
        begun, held = time.process_time(), memory("VmRSS") - size
        peak_since(held)
        wave = speak(mel[0, 0])
        loud, wide = peak_since(held), wave.numel() * 4 / 2**20
        row[2], row[6], row[7] = f"{wide:.0f}", f"{loud:.0f}", f"{loud - size - wide:.0f}"
        text += f", vocoder {time.process_time() - begun:.0f}"
    print(f"| {' | '.join(row)} | {text} |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("seconds", type=int, nargs="+")
    parser.add_argument("--narrow", type=int, default=1, help="what all channels are divided by")
    parser.add_argument("--tile", type=int, default=1024, help="mel frames")
    parser.add_argument("--no-vocoder", action="store_true")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.seconds[0], options.narrow, options.tile, sound=not options.no_vocoder)
        return
    columns = (*COLUMNS, *STAGES, "took")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for seconds in options.seconds:
        given = ["--narrow", str(options.narrow), "--tile", str(options.tile), *["--no-vocoder"] * options.no_vocoder]
        subprocess.run([sys.executable, __file__, str(seconds), *given, "--work"], check=True)


if __name__ == "__main__":
    main()
