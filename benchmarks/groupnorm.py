"""
Measure the autoencoder in exact tiles beside diffusers, untiled and in its own tiles. Needs diffusers.

    python benchmarks/groupnorm.py sd sd-2048 sd-encode audioldm     error, time and peak memory, a process for each run
    python benchmarks/groupnorm.py growth                            peak memory as a spectrogram grows to ten minutes

Figures of one run: docs/benchmarks/groupnorm.md. Structures are the real ones, weights are seeded and scaled so that
activations keep their size from layer to layer. Runs are interleaved; peak memory is what the process takes above what
it held before the call, so Linux is needed for it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("untiled", "diffusers", "exact", "exact, disk", "fast", "tile")
AUDIOLDM = {"in_channels": 1, "out_channels": 1, "latent_channels": 8}


@dataclass(frozen=True)
class Case:
    """A structure, the shape of its input, and the tile."""

    text: str
    channels: tuple[int, ...]
    shape: tuple[int, ...]
    tile: Any
    encode: bool = False
    config: Any = None


CASES = {
    "sd": Case("Stable Diffusion, decode to 768x768", (128, 256, 512, 512), (1, 4, 96, 96), 192),
    "sd-2048": Case("the same with a quarter of the channels, to 2048x2048", (32, 64, 128, 128), (1, 4, 256, 256), 512),
    "sd-encode": Case("Stable Diffusion, encode 512x512", (128, 256, 512, 512), (1, 3, 512, 512), 192, encode=True),
    "audioldm": Case("AudioLDM2, decode 10 s", (128, 256, 512), (1, 8, 250, 16), (256, None), config=AUDIOLDM),
}


def growing(seconds: int) -> Case:
    """AudioLDM2's structure with an eighth of the channels, so that ten minutes can be run here."""
    return Case(f"{seconds} s", (16, 32, 64), (1, 8, 25 * seconds, 16), (1024, None), config=AUDIOLDM)


# ---- one run, in a process of its own -----------------------------------------------------------------------------
def network(case: Case) -> Any:
    """Make diffusers' AutoencoderKL with weights that let activations live."""
    import diffusers
    import torch

    torch.manual_seed(0)
    levels = len(case.channels)
    vae = diffusers.AutoencoderKL(
        block_out_channels=case.channels,
        layers_per_block=2,
        norm_num_groups=min(32, case.channels[0]),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **(case.config or {}),
    )
    for name, weight in vae.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=math.prod(weight.shape[1:]) ** -0.5)
        else:
            torch.nn.init.normal_(weight, mean=float("norm" in name and name.endswith("weight")), std=0.2)
    return vae.eval().requires_grad_(False)


def smooth(shape: tuple[int, ...]) -> Any:
    """Give noise whose mean and contrast differ between regions, as those of pictures do."""
    import torch
    from torch.nn import functional

    source = torch.Generator().manual_seed(0)
    low = functional.interpolate(1.5 * torch.randn((*shape[:2], 3, 3), generator=source), shape[2:], mode="bilinear")
    contrast = functional.interpolate(torch.rand((1, 1, 4, 4), generator=source), shape[2:], mode="bilinear")
    return low + contrast * torch.randn(shape, generator=source)


def memory(key: str) -> float:
    """Read a line of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def call(case: Case, vae: Any, method: str) -> Any:
    """Give the function that is measured."""
    from tilekit.adapters import autoencoder_kl

    if method in {"untiled", "diffusers"}:
        if method == "diffusers":
            vae.enable_tiling()
            size = case.tile if isinstance(case.tile, int) else case.tile[0]
            vae.tile_sample_min_size, vae.tile_latent_min_size = size, size // 2 ** (len(case.channels) - 1)
        return (lambda x: vae.encode(x).latent_dist.parameters) if case.encode else lambda z: vae.decode(z).sample
    norm, _, offload = method.partition(", ")
    tiled = autoencoder_kl(vae, tile=case.tile, norm=norm, offload=offload or None)  # type: ignore[arg-type]  # a name
    return tiled.encode if case.encode else tiled.decode


def work(case: Case, method: str, out: str) -> None:
    """Run once and print what it took."""
    import torch

    torch.set_num_threads(1)
    vae, x = network(case), smooth(case.shape)
    run = call(case, vae, method)
    with torch.no_grad():
        vae.decode(torch.zeros(1, case.shape[1], 8, 8)) if not case.encode else vae.encode(torch.zeros(1, 3, 64, 64))
        Path("/proc/self/clear_refs").write_text("5")
        before, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
        result = run(x)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = memory("VmHWM") - before
    if out:
        np.save(out, result.numpy())
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak, "result": result.numel() * 4 / 2**20}))


# ---- the driver ---------------------------------------------------------------------------------------------------
def spawn(case: str, method: str, out: str = "") -> dict[str, float]:
    """Run in a fresh process."""
    command = [sys.executable, __file__, "--work", case, method, out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, rounds: int, methods: list[str]) -> None:
    """Print a table of one case."""
    print(f"\n### {CASES[name].text}, tiles {CASES[name].tile}\n")
    print("| | max error / std | mean error / std | PSNR dB | wall / untiled | CPU / untiled | peak MiB | / untiled |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
        for _ in range(rounds):
            for method in methods:
                runs[method].append(spawn(name, method, f"{folder}/{method}.npy"))
        want = np.load(f"{folder}/untiled.npy")
        base = {key: statistics.median(run[key] for run in runs["untiled"]) for key in ("wall", "cpu", "peak")}
        for method in methods:
            off = np.abs(np.load(f"{folder}/{method}.npy").astype(np.float64) - want)
            noise = float((off**2).mean())
            psnr = 10 * math.log10(float(want.max() - want.min()) ** 2 / noise) if noise else math.inf
            took = {key: statistics.median(run[key] for run in runs[method]) for key in base}
            print(
                f"| {method} | {off.max() / want.std():.1e} | {off.mean() / want.std():.1e} | {psnr:.1f} "
                f"| {took['wall'] / base['wall']:.2f} | {took['cpu'] / base['cpu']:.2f} "
                f"| {took['peak']:.0f} | {100 * took['peak'] / base['peak']:.0f} % |",
                flush=True,
            )
    print(f"\nuntiled: {base['wall']:.0f} s wall, {base['cpu']:.0f} s CPU; {rounds} round(s)")


def growth(lengths: list[int]) -> None:
    """Print how peak memory grows with the length of a spectrogram."""
    print("\n### AudioLDM2 with an eighth of the channels, peak MiB\n")
    methods = ("untiled", "exact", "exact, disk", "fast")
    print("| seconds | result MiB |" + "".join(f" {method} |" for method in methods))
    print("|---|---|" + "---|" * len(methods))
    for seconds in lengths:
        runs = [spawn(f"growth-{seconds}", method) for method in methods]
        print(f"| {seconds} | {runs[0]['result']:.1f} |" + "".join(f" {run['peak']:.0f} |" for run in runs), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("cases", nargs="*", default=[*CASES, "growth"], help=f"of {', '.join(CASES)}, growth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seconds", type=int, nargs="*", default=[75, 150, 300, 600])
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, method, out = options.work
        case = CASES[name] if name in CASES else growing(int(name.partition("-")[2]))
        work(case, method, out)
        return
    for name in options.cases:
        growth(options.seconds) if name == "growth" else compare(name, options.rounds, options.methods)


if __name__ == "__main__":
    main()
