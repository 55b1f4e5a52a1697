"""
Several devices: forecasts, devices that only sleep against their forecast, and bytes of borders against the formula.

    python benchmarks/reach.py forecast            what each way of sharing one clip gains, from integers
    python benchmarks/reach.py sleep               tiles over executors whose devices sleep in place of computing
    python benchmarks/reach.py bytes               what strips send between processes of gloo, against the formula

Figures: docs/benchmarks/reach.md. No GPU is needed; what is sent and what is made are counts, the same on every device.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.video_vae.config import LTX2, LTX2_3
from ltx_models.video_vae.sharing import plan_sharing
from tilekit import LTX2_VIDEO, Tiling, TilingConfig, decode_tiled, plan

DEVICES = (2, 4, 8, 64)
CLIP = (1, 128, 16, 34, 60)  # 121 frames of 1920x1088
LINKS = {"NVLink, 300 GB/s": 300e9, "PCIe, 25 GB/s": 25e9, "25 GbE, 3 GB/s": 3e9}


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("forecast", "sleep", "bytes", "rank"))
    parser.add_argument("--teraflops", type=float, default=200.0, help="of one device, in bfloat16; default: 200")
    parser.add_argument("--seconds", type=float, default=20.0, help="that one device sleeps for the whole; default: 20")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    {"forecast": forecast, "sleep": sleep, "bytes": sent_bytes, "rank": rank}[args.what](args)


def forecast(args: argparse.Namespace) -> None:
    """Print the speedup over one device of each way to share a clip."""
    _, _, frames, height, width = CLIP
    tiles = plan(CLIP, TilingConfig.default(), geometry=LTX2_VIDEO)
    print(
        "| devices | blended default tiles | one tile a device, overlap 4 latents | height shards | exact strips "
        "| grid of strips |"
    )
    print("|---|---|---|---|---|---|")
    for count in DEVICES:
        shared = plan_sharing(LTX2, CLIP, count)
        rows, columns = shared.grid
        grid = height * width / prod(-(-(n + 4 * (k - 1)) // k) for n, k in ((height, rows), (width, columns)))
        shards = height / -(-height // count) if count <= height else 0.0
        figures = 1 / tiles.makespan(count), grid, shards, 1 / shared.makespan
        print(
            f"| {count} | " + " | ".join(f"{n:.1f}" if n else "refused" for n in figures) + f" | {rows} x {columns} |"
        )
    print(f"\nwork of the default tiles: {tiles.redundant_work:.2f}, of strips 1.00\n")
    for name, config in (("LTX-2", LTX2), ("LTX-2.3", LTX2_3)):
        done = sum(
            27 * a * b * (1 + (frames - 1) * step.time) * height * width * step.space**2
            for step in config.decoder_steps()
            for a, b in step.convolutions
        )
        alone = 2 * done / (args.teraflops * 1e12)
        print(f"{name}: {done / 1e12:.0f} tera multiply-adds, {alone:.1f} s at {args.teraflops:.0f} TFLOPS\n")
        print("| devices | borders, GiB | busiest, GiB | " + " | ".join(LINKS) + " |")
        print("|---|---|---|" + "---|" * len(LINKS))
        for count in DEVICES:
            shared = plan_sharing(config, CLIP, count)
            most = max(shared.sent_bytes)
            speedups = [alone / (alone * shared.makespan + most / speed) for speed in LINKS.values()]
            sizes = f"{sum(shared.sent_bytes) / 2**30:.2f} | {most / 2**30:.2f}"
            print(f"| {count} | {sizes} | " + " | ".join(f"{n:.1f}" for n in speedups) + " |")
        print()


def sleep(args: argparse.Namespace) -> None:
    """Compare tiles on devices that sleep as long as a tile has cells with the forecast."""
    shape, tiling = (1, 1, 16, 9, 15), Tiling(height=(96, 32), width=(96, 32), frames=(64, 24))
    planned = plan(shape, tiling, geometry=LTX2_VIDEO)
    whole = prod(planned.out_sizes)

    def decode(z: Any) -> Any:
        frames, height, width = 1 + 8 * (z.shape[2] - 1), 32 * z.shape[3], 32 * z.shape[4]
        time.sleep(args.seconds * frames * height * width / whole)
        return np.broadcast_to(np.float32(0.5), (1, 1, frames, height, width))

    print(f"{len(planned.tiles)} tiles, work {planned.redundant_work:.2f}; one device: {args.seconds:.0f} s\n")
    print("| devices | forecast, s | measured, s | measured over forecast |")
    print("|---|---|---|---|")
    for count in DEVICES:
        foretold = args.seconds * planned.makespan(count)
        with ThreadPoolExecutor(count) as pool:
            begun = time.monotonic()
            decode_tiled(decode, np.zeros(shape, np.float32), tiling, executor=pool)
            taken = time.monotonic() - begun
        print(f"| {count} | {foretold:.2f} | {taken:.2f} | {taken / foretold:.3f} |", flush=True)


def sent_bytes(args: argparse.Namespace) -> None:
    """Count what strips send between processes."""
    print("| processes | grid | sent | formula | largest difference |")
    print("|---|---|---|---|---|")
    for count in (2, 3, 4):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "rank", "--folder", folder]
            env = os.environ | {"WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
            running = [subprocess.Popen(command, env=env | {"RANK": str(k)}) for k in range(count)]
            if any(process.wait() for process in running):
                sys.exit("a process failed")
            told = [json.loads((Path(folder) / f"{k}.json").read_text()) for k in range(count)]
        rows, columns = told[0]["grid"]
        sent, formula = (sum(rank[name] for rank in told) for name in ("sent", "formula"))
        error = max(rank["error"] for rank in told)
        print(f"| {count} | {rows} x {columns} | {sent} | {formula} | {error:.1e} |", flush=True)


def rank(args: argparse.Namespace) -> None:
    """Be one of the processes that `sent_bytes` starts: decode with the small network of the package."""
    import torch
    import torch.distributed as dist

    from ltx_models import Strips, decode_exact, default_checkpoint, load_video_decoder

    torch.set_num_threads(1)
    number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{args.folder}/store", rank=number, world_size=count)
    decoder = load_video_decoder(default_checkpoint(), dtype="float32")
    z = torch.randn(1, 128, 3, 4, 7, generator=torch.Generator().manual_seed(0))
    strips = Strips()
    with torch.no_grad():
        want = decoder(z)
    strip = decode_exact(decoder, z, strips=strips)
    shared = plan_sharing(decoder.config, tuple(z.shape), count, itemsize=4)
    told = {"sent": strips.sent_bytes, "formula": shared.sent_bytes[number], "grid": shared.grid}
    told |= {"error": float((strip.array - want[strip.place]).abs().max())}
    (args.folder / f"{number}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
