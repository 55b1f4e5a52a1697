"""
Measure the autoencoder in exact tiles beside diffusers, whole and in its own tiles. Needs diffusers.

    python benchmarks/groupnorm.py decode-768 encode-512       Stable Diffusion, to and from so many pixels a side
    python benchmarks/groupnorm.py sound-10                    AudioLDM2, decode so many seconds
    python benchmarks/groupnorm.py decode-2048 --threads 2     takes 16 GiB whole; --limit kills what takes more

Error, time and peak memory, a process for each run; figures: docs/benchmarks/groupnorm.md. Structures are the real ones
(--narrow divides the channels), weights are seeded and scaled so that activations keep their size from layer to layer.
Runs are interleaved; peak memory is what the process takes above what it held before the call. Where other processes
share the cores, a run of one thread waits for one: that time is taken off its wall time. Both are Linux's to tell.
"""

from __future__ import annotations

import argparse
import json
import math
import mmap
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("whole", "diffusers", "exact", "exact, disk", "fast", "tile")
AUDIOLDM = {"in_channels": 1, "out_channels": 1, "latent_channels": 8}


@dataclass(frozen=True)
class Case:
    """What is run: a name such as decode-768, what the channels are divided by, and the tile."""

    name: str
    narrow: int = 1
    tile: int = 0

    @property
    def size(self) -> int:
        """Pixels a side, or seconds."""
        return int(self.name.partition("-")[2])

    @property
    def sound(self) -> bool:
        """Whether it is AudioLDM2's."""
        return self.name.startswith("sound-")

    @property
    def encode(self) -> bool:
        """Which way."""
        return self.name.startswith("encode-")

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each level."""
        widths = (128, 256, 512) if self.sound else (128, 256, 512, 512)
        return tuple(width // self.narrow for width in widths)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input."""
        if self.sound:
            return (1, 8, 25 * self.size, 16)
        return (1, 3, self.size, self.size) if self.encode else (1, 4, self.size // 8, self.size // 8)

    @property
    def cut(self) -> Any:
        """The tile: a quarter of a side, within reason."""
        if self.sound:
            return (self.tile or min(1024, max(256, 25 * self.size)), None)
        return self.tile or max(192, self.size // 4)

    def __str__(self) -> str:
        what = (
            f"AudioLDM2, decode {self.size} s" if self.sound else f"Stable Diffusion, {self.name.replace('-', ' to ')}"
        )
        what = what.replace("encode to", "encode")
        return what + (f", channels / {self.narrow}" if self.narrow > 1 else "") + f", tiles {self.cut}"


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
        **(AUDIOLDM if case.sound else {}),
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


def queued() -> float:
    """Read for how many seconds the main thread of this process has waited for a core."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def call(case: Case, vae: Any, method: str) -> Any:
    """Give the function that is measured."""
    from tilekit.adapters import autoencoder_kl

    if method in {"whole", "diffusers"}:
        if method == "diffusers":
            vae.enable_tiling()
            size = case.cut[0] if case.sound else case.cut
            vae.tile_sample_min_size, vae.tile_latent_min_size = size, size // 2 ** (len(case.channels) - 1)
        return (lambda x: vae.encode(x).latent_dist.parameters) if case.encode else lambda z: vae.decode(z).sample
    norm, _, offload = method.partition(", ")
    tiled = autoencoder_kl(vae, tile=case.cut, norm=norm, offload=offload or None)  # type: ignore[arg-type]  # a name
    return tiled.encode if case.encode else tiled.decode


def work(case: Case, method: str, out: str, threads: int) -> None:
    """Run once and print what it took."""
    import torch

    torch.set_num_threads(threads)
    vae, x = network(case), smooth(case.shape)
    run = call(case, vae, method)
    with torch.no_grad():
        vae.decode(torch.zeros(1, case.shape[1], 8, 8)) if not case.encode else vae.encode(torch.zeros(1, 3, 64, 64))
        Path("/proc/self/clear_refs").write_text("5")
        before, waited, wall, cpu = memory("VmRSS"), queued(), time.perf_counter(), time.process_time()
        result = run(x)
        wall, cpu, waited = time.perf_counter() - wall, time.process_time() - cpu, queued() - waited
        peak = memory("VmHWM") - before
    if out:
        np.save(out, result.numpy())
    net = wall - waited if threads == 1 else wall
    took = {"wall": net, "raw": wall, "cpu": cpu, "peak": peak, "result": result.numel() * 4 / 2**20}
    print(json.dumps({key: round(value, 3) for key, value in took.items()}))


# ---- the driver ---------------------------------------------------------------------------------------------------
def spawn(options: argparse.Namespace, name: str, method: str, out: str) -> dict[str, float] | None:
    """Run in a fresh process; None where it took more memory than it may."""
    given = ["--narrow", options.narrow, "--tile", options.tile, "--threads", options.threads, "--work", method, out]
    command = [sys.executable, __file__, name, *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        status = Path(f"/proc/{run.pid}/statm")
        while run.poll() is None:
            time.sleep(0.2)
            if int(status.read_text().split()[1]) * mmap.PAGESIZE > options.limit * 2**30:
                run.kill()
                print(f"{name} {method}: killed at {options.limit} GiB", file=sys.stderr, flush=True)
                return None
        text = run.stdout.read() if run.stdout else ""
        if run.returncode:
            sys.exit(f"{name} {method}: failed")
    print(f"{name} {method}: {text.strip()}", file=sys.stderr, flush=True)
    found: dict[str, float] = json.loads(text.splitlines()[-1])
    return found


def compare(options: argparse.Namespace, name: str) -> None:
    """Print a table of one case."""
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, list[dict[str, float]]] = {method: [] for method in options.methods}
        for _ in range(options.rounds):
            for method, taken in runs.items():
                found = spawn(options, name, method, f"{folder}/{method}.npy")
                taken.extend([found] if found else [])
        print(f"\n### {Case(name, options.narrow, options.tile)}\n")
        print("| | max error / std | mean error / std | PSNR dB | wall / whole | CPU / whole | peak MiB | / whole |")
        print("|---|---|---|---|---|---|---|---|")
        base = medians(runs[options.methods[0]])
        want = np.load(f"{folder}/{options.methods[0]}.npy") if base else None
        for method, taken in runs.items():
            took = medians(taken)
            if took and base and want is not None:
                errors = " | ".join(distance(np.load(f"{folder}/{method}.npy"), want))
                shares = f"{took['wall'] / base['wall']:.2f} | {took['cpu'] / base['cpu']:.2f}"
                peak = f"{took['peak']:.0f} | {100 * took['peak'] / base['peak']:.0f} %"
                print(f"| {method} | {errors} | {shares} | {peak} |", flush=True)
            else:
                print(f"| {method} | | | | {took.get('wall', 0):.0f} s | {took.get('cpu', 0):.0f} s "
                      f"| {took.get('peak', 0):.0f} | |", flush=True)  # fmt: skip
    if base:
        print(
            f"\n{options.methods[0]}: {base['wall']:.0f} s wall ({base['raw']:.0f} with waiting for a core), ", end=""
        )
        print(f"{base['cpu']:.0f} s CPU, result {base['result']:.1f} MiB; ", end="")
        print(f"{options.rounds} round(s), {options.threads} thread(s)")


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Give the median of each figure; nothing of no runs."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]} if runs else {}


def distance(got: Any, want: Any) -> tuple[str, str, str]:
    """Say how far a result is from another."""
    off = np.abs(got.astype(np.float64) - want)
    noise = float((off**2).mean())
    psnr = 10 * math.log10(float(want.max() - want.min()) ** 2 / noise) if noise else math.inf
    return f"{off.max() / want.std():.1e}", f"{off.mean() / want.std():.1e}", f"{psnr:.1f}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("cases", nargs="+", help="decode-PIXELS, encode-PIXELS or sound-SECONDS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="the first is compared with")
    parser.add_argument("--narrow", type=int, default=1, help="what the channels are divided by")
    parser.add_argument("--tile", type=int, default=0, help="pixels or mel frames; by default a quarter of a side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=20.0, help="GiB beyond which a run is killed")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.cases:
        if options.work:
            work(Case(name, options.narrow, options.tile), *options.work, options.threads)
        else:
            compare(options, name)


if __name__ == "__main__":
    main()
