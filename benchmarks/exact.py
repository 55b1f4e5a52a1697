"""
Measure exact decoding beside blended tiling and the whole decode.

    python benchmarks/exact.py                   all of the following
    python benchmarks/exact.py counts            work and forecast memory of the real configurations, by formula
    python benchmarks/exact.py time              wall time, interleaved in one run: whole, exact, blended
    python benchmarks/exact.py memory            live and resident bytes as the clip grows, a process for each case
    python benchmarks/exact.py convolution       small convolutions: torch's own choice of kernel beside oneDNN by name
    python benchmarks/exact.py latency           latents that a decoder reads before it shows its first frame

Figures of one run: docs/benchmarks/exact.md. Times are ratios within a run; the rest is counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import tilekit
from ltx_models import decode_exact, default_checkpoint, load_video_decoder, plan_exact, stream_decode
from ltx_models.byte_sizes import format_bytes
from ltx_models.cli.comparing.live import live_peak
from ltx_models.nn import backend
from ltx_models.video_vae import LTX2, LTX2_3, VideoVAEConfig
from ltx_models.video_vae.exact_costs import Costs, macs

LATENTS = 128


# ---- counts -------------------------------------------------------------------------------------------------------
def blended_work(config: VideoVAEConfig, shape: tuple[int, ...], tiling: Any) -> float:
    """Multiply-adds of the tiles over those of the whole."""
    steps = config.decoder_steps()
    plan = tilekit.plan(shape, tiling, geometry=tilekit.LTX2_VIDEO)
    tiles = sum(macs(steps, *(stop - start for start, stop in tile.src)) for tile in plan.tiles)
    return tiles / macs(steps, *shape[2:])


def counts() -> None:
    """Print the work and the forecast memory of each way to decode."""
    official = tilekit.Tiling(frames=(80, 24), height=(768, 64), width=(768, 64))
    for label, width, height in (("1280x704", 40, 22), ("1920x1088", 60, 34), ("3840x2176", 120, 68)):
        shape = (1, LATENTS, 16, height, width)
        for name, config in (("LTX-2", LTX2), ("LTX-2.3", LTX2_3)):
            costs = Costs(config, shape, decode=True, itemsize=2, causal=False)
            total = macs(config.decoder_steps(), *shape[2:])
            print(f"\n{name} decoder, {label}, 121 frames, bfloat16: {total / 1e12:.0f} T multiply-adds whole")
            print(f"  {'whole':34s} work 1.000  peak {format_bytes(costs.peak(None))}")
            for frames in (8, 3):
                name = f"exact stream, {frames} frames at once"
                print(f"  {name:34s} work 1.000  peak {format_bytes(costs.peak(frames))}")
            tiled = costs.boundaries()[0]
            grid = costs.grid(tiled, 2, 2)
            work, peak = costs.tiled_work(grid, tiled), costs.peak(3, tiled, grid)
            print(f"  {'the same, last stage in 2 x 2 tiles':34s} work {work:.3f}  peak {format_bytes(peak)}")
            print(f"  {'blended, 512/64 px, 64/24 frames':34s} work {blended_work(config, shape, DEFAULT):.3f}")
            print(f"  {'blended, 768/64 px, 80/24 frames':34s} work {blended_work(config, shape, official):.3f}")


DEFAULT = tilekit.TilingConfig.default()


# ---- networks -----------------------------------------------------------------------------------------------------
def network(name: str) -> Any:
    """Give a float32 torch decoder: the shipped one, or a wider one with seeded weights."""
    import torch

    torch.set_num_threads(1)
    if name == "shipped":
        return load_video_decoder(default_checkpoint(), backend="torch", dtype="float32")
    from dataclasses import replace

    from ltx_models.nn import backend
    from ltx_models.video_vae import VideoDecoder

    torch.manual_seed(0)
    config = replace(LTX2, decoder_base_channels=int(name.removeprefix("wide")))
    return VideoDecoder(backend("torch"), config).eval().requires_grad_(False)


def latents(frames: int, height: int, width: int) -> Any:
    """Give seeded latents for so many frames of so many pixels."""
    import torch

    shape = (1, LATENTS, 1 + (frames - 1) // 8, height // 32, width // 32)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def modes(decoder: Any, z: Any) -> dict[str, Callable[[], Iterator[Any]]]:
    """Give each way to decode as an iterator of blocks, which are looked at and dropped."""

    # map holds no block while the next is made
    def exact() -> Iterator[Any]:
        return map(itemgetter(1), stream_decode(decoder, z))

    def blended() -> Iterator[Any]:
        return map(itemgetter(1), tilekit.stream_tiled(decoder, z, DEFAULT, geometry=tilekit.LTX2_VIDEO))

    def whole() -> Iterator[Any]:
        yield decoder(z)

    return {"whole": whole, "exact": exact, "blended": blended}


def wall(args: argparse.Namespace) -> None:
    """Time each way, in turns."""
    for name in args.network:
        decoder = network(name)
        for frames, height, width in args.clip:
            z = latents(frames, height, width)
            taken: dict[str, list[float]] = {}
            ways = modes(decoder, z)
            for turn in range(args.rounds + 1):
                for way, run in ways.items():
                    begin = time.perf_counter()
                    for block in run():
                        del block
                    if turn:
                        taken.setdefault(way, []).append(time.perf_counter() - begin)
            reference = statistics.median(taken["whole"])
            error = (decode_exact(decoder, z) - decoder(z)).abs().max().item()
            plan = plan_exact(decoder.config, z.shape)
            print(f"{name} {width}x{height}x{frames}: {plan.frames} frames at once, max |exact - whole| {error:.1e}")
            for way, seconds in taken.items():
                ratio = statistics.median(seconds) / reference
                print(
                    f"  {way:8s} {ratio:5.2f} of the whole   {statistics.median(seconds):7.2f} s"
                    f" [{min(seconds):.2f}-{max(seconds):.2f}]"
                )


# ---- memory -------------------------------------------------------------------------------------------------------
def live_bytes(run: Callable[[], Iterator[Any]], held: list[Any]) -> int:
    """Run, and give the most bytes that tensors held at once."""
    with live_peak(backend("torch"), held) as peak:
        for block in run():
            del block
    return peak.n_bytes


def resident_peak(run: Callable[[], Iterator[Any]]) -> int:
    """Run, and give the most resident bytes above those before (Linux)."""

    def status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))

    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    for block in run():
        del block
    return status("VmHWM") - before


def worker(args: argparse.Namespace) -> None:
    """Measure one case in this process and print it."""
    import torch

    torch.set_grad_enabled(False)
    name, way, kind = args.worker
    decoder = network(name)
    (frames, height, width) = args.clip[0]
    z = latents(frames, height, width)
    run = modes(decoder, z)[way]
    peak = live_bytes(run, [*decoder.parameters(), *decoder.buffers(), z]) if kind == "live" else resident_peak(run)
    print(json.dumps({"peak": peak, "forecast": plan_exact(decoder.config, z.shape).peak_bytes}))


def memory(args: argparse.Namespace) -> None:
    """Measure live and resident bytes of each way as the clip grows."""
    for name in args.network:
        _, height, width = args.clip[0]
        print(f"{name} {width}x{height}, MiB above what was there before; the result is dropped block by block")
        for way in ("whole", "exact", "blended"):
            for frames in args.frames:
                row = {}
                for kind in ("live", "resident"):
                    command = [sys.executable, __file__, "memory", "--worker", name, way, kind]
                    command += ["--clip", f"{frames}x{height}x{width}"]
                    row[kind] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                live, resident, forecast = row["live"]["peak"], row["resident"]["peak"], row["live"]["forecast"]
                told = f"  forecast {forecast / 2**20:7.1f} ({forecast / live:.2f})" if way == "exact" else ""
                print(
                    f"  {way:8s} {frames:4d} frames  live {live / 2**20:7.1f}  resident {resident / 2**20:7.1f}{told}",
                    flush=True,
                )


def latency() -> None:
    """Count the latents that are read before the first frame is shown."""
    from dataclasses import replace

    import torch

    from ltx_models.nn import backend
    from ltx_models.video_vae import VideoDecoder

    for name, config in (("LTX-2", LTX2), ("LTX-2.3", LTX2_3)):
        for causal in (False, True):
            narrow = replace(config, latent_channels=8, decoder_base_channels=8)
            decoder = VideoDecoder(backend("torch"), narrow).eval().requires_grad_(False)
            read = 0

            def parts() -> Iterator[Any]:
                nonlocal read
                for _ in range(40):
                    read += 1
                    yield torch.randn(1, 8, 1, 2, 2)

            next(iter(decoder.stream(parts(), frames_per_chunk=1, causal=causal)))
            print(f"{name} {'causal' if causal else 'as released'}: first frames after {read} latents")


def convolution() -> None:
    """Time 3x3x3 convolutions of few frames by torch's own choice and by the leaf, which asks for oneDNN."""
    import torch

    from ltx_models.nn import _torch

    torch.set_num_threads(1)
    for channels, height, width in ((128, 18, 26), (16, 130, 138)):
        leaf = _torch.Conv3d(channels, channels, 3).requires_grad_(False)
        for frames in (6, 11):
            x = torch.randn(1, frames, height, width, channels)
            taken: dict[str, list[float]] = {"torch": [], "leaf": []}
            for _ in range(7):
                for name, run in (
                    ("torch", lambda x, leaf=leaf: torch.nn.Conv3d.forward(leaf, x.movedim(-1, 1))),
                    ("leaf", leaf),
                ):
                    begin = time.perf_counter()
                    run(x)
                    taken[name].append(time.perf_counter() - begin)
            work = 2 * 27 * channels**2 * (frames - 2) * (height - 2) * (width - 2) / 1e9
            rates = {name: work / statistics.median(seconds) for name, seconds in taken.items()}
            told = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items())
            print(f"{channels} channels over {frames} x {height} x {width} cells: {told}")


def clip(text: str) -> tuple[int, ...]:
    """Read FRAMESxHEIGHTxWIDTH."""
    return tuple(int(part) for part in text.split("x"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="?", choices=["all", "counts", "convolution", "latency", "time", "memory"], default="all"
    )
    parser.add_argument("--network", nargs="+", default=["shipped", "wide32"])
    parser.add_argument("--clip", nargs="+", type=clip, default=[(65, 512, 640)], help="FRAMESxHEIGHTxWIDTH")
    parser.add_argument("--frames", nargs="+", type=int, default=[33, 65, 129, 257])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    parts = {
        "counts": counts,
        "convolution": convolution,
        "latency": latency,
        "time": lambda: wall(args),
        "memory": lambda: memory(args),
    }
    for name, part in parts.items():
        if args.what in {"all", name}:
            part()


if __name__ == "__main__":
    main()
