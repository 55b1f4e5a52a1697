"""
What the tiling engine costs beyond the decoder: wall time and peak memory, other libraries beside it if given.

    python benchmarks/engine.py [1v 1vs 1i] [--libraries numpy torch mlx] [--rounds 7] [--json FILE]
                                [--rivals SCRIPT [--without NAME ...]]

The decoders only enlarge their input, so that the engine shows. Every contestant runs in a process of its own, with one
thread, and the rounds are interleaved, so that ratios hold on a noisy machine. The bound is the decoder calls on the
tiles (`tiles`) plus one copy of the output (`copy`), of the same library. `numpy` runs the decoder of torch through
shared memory, `numpy-own` one written in NumPy. Peak is what the process held at most above
what was resident before the run.
"""

import argparse
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Latents, tile and overlap in latents: 512 px / 64 px and 64 / 24 frames for clips.
CASES = {
    "1v": {"shape": (1, 16, 9, 24, 40), "tile": (8, 16, 16), "overlap": (3, 2, 2)},
    "1vs": {"shape": (1, 16, 41, 12, 20), "tile": (8, 16, 16), "overlap": (3, 2, 2)},
    "1i": {"shape": (1, 4, 256, 256), "tile": (64, 64), "overlap": (16, 16)},
}
RIVALS = {
    "1v": [
        "raw_tiles",
        "memcpy",
        "ltx_core_stream",
        "ltx_core",
        "diffusers",
        "monai_const",
        "tiler",
        "torchio",
        "dask",
    ],
    "1vs": ["raw_tiles", "memcpy", "ltx_core_stream", "ltx_core", "diffusers"],
    "1i": ["raw_tiles", "memcpy", "diffusers", "monai_const", "tiler", "torchio", "blended", "dask"],
}
MLX_RIVALS = {"1v": ["mlx", "raw_tiles_mlx"], "1vs": [], "1i": []}


def enlarge_torch(z, frames, side):
    import torch

    z = z[:, :3]
    *lead, h, w = z.shape
    if len(lead) == 2:
        return z[..., :, None, :, None].expand(*lead, h, side, w, side).reshape(*lead, h * side, w * side)
    b, c, f = lead
    out = torch.empty(b, c, 1 + (f - 1) * frames, h, side, w, side, dtype=z.dtype)
    z = z[:, :, :, :, None, :, None]
    out[:, :, :1] = z[:, :, :1]
    if f > 1:
        out[:, :, 1:].view(b, c, f - 1, frames, h, side, w, side).copy_(z[:, :, 1:].unsqueeze(3))
    return out.view(b, c, 1 + (f - 1) * frames, h * side, w * side)


def enlarge_numpy(z, frames, side):
    import numpy as np

    z = z[:, :3]
    *lead, h, w = z.shape
    if len(lead) == 2:
        out = np.empty((*lead, h, side, w, side), z.dtype)
        out[...] = z[:, :, :, None, :, None]
        return out.reshape(*lead, h * side, w * side)
    b, c, f = lead
    out = np.empty((b, c, 1 + (f - 1) * frames, h, side, w, side), z.dtype)
    z = z[:, :, :, :, None, :, None]
    out[:, :, :1] = z[:, :, :1]
    if f > 1:
        out[:, :, 1:].reshape(b, c, f - 1, frames, h, side, w, side)[...] = z[:, :, 1:, None]
    return out.reshape(b, c, 1 + (f - 1) * frames, h * side, w * side)


def enlarge_mlx(z, frames, side):
    import mlx.core as mx

    z = z[:, :3]
    if z.ndim == 5:
        z = mx.concatenate([z[:, :, :1], mx.repeat(z[:, :, 1:], frames, axis=2)], axis=2)
    *lead, h, w = z.shape
    z = mx.broadcast_to(z[..., :, None, :, None], (*lead, h, side, w, side)).reshape(*lead, h * side, w * side)
    mx.eval(z)
    return z


def setup(library):
    """Latents of a shape, the decoder, and a function that copies an array, of one library."""
    import numpy as np

    def random(shape):
        return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)

    if library == "numpy-own":
        return random, enlarge_numpy, np.copy
    if library == "numpy":  # the decoder of the others, through shared memory
        import torch

        torch.set_num_threads(1)
        return random, lambda z, *sizes: enlarge_torch(torch.from_numpy(z), *sizes).numpy(), np.copy
    if library == "torch":
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        return lambda shape: torch.from_numpy(random(shape)), enlarge_torch, torch.clone
    import mlx.core as mx

    def copied(x):
        y = getattr(mx, "empty", mx.zeros)(x.shape)
        mx.eval(y)
        np.asarray(y)[...] = np.asarray(x)
        return y

    return lambda shape: mx.array(random(shape)), enlarge_mlx, copied


def build(case, library, what):
    """Give the function that is timed."""
    import tilekit as tk

    given = CASES[case]
    video = len(given["tile"]) == 3
    geometry = tk.LTX2_VIDEO if video else tk.SD_IMAGE
    random, enlarge, copied = setup(library)
    side = geometry.axes[-1].law.factor
    latents = random(given["shape"])
    sizes = [
        (t * a.law.factor, o * a.law.factor)
        for t, o, a in zip(given["tile"], given["overlap"], geometry.axes, strict=True)
    ]
    tiling = tk.Tiling(**{a.name: s for a, s in zip(geometry.axes, sizes, strict=True)})
    plan = tk.plan(given["shape"], tiling, geometry=geometry)

    def decode(z):
        return enlarge(z, 8, side)

    if what == "ours":
        return lambda: tk.decode_tiled(decode, latents, tiling, geometry=geometry)
    if what == "ours_stream":

        def run():
            for _, block in tk.stream_tiled(decode, latents, tiling, geometry=geometry):
                float(block[..., 0, 0].sum())

        return run
    if what == "tiles":
        regions = [tuple(slice(*interval) for interval in tile.src) for tile in plan.tiles]

        def run():
            for region in regions:
                decode(latents[(slice(None), slice(None), *region)])

        return run
    source = random((1, 3, *plan.out_sizes))
    return lambda: copied(source)


def resident(key):
    """MiB of the process: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def worker(case, library, what):
    """Run on every line of the input, and print one line of JSON."""
    run = build(case, library, what)
    print(json.dumps({"ok": 1}), flush=True)
    for _ in sys.stdin:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        began, cpu = time.perf_counter(), time.process_time()
        result = run()
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        del result
        print(json.dumps({"t": took, "cpu": cpu, "peak": resident("VmHWM") - before}), flush=True)


class Contestant:
    """A process that runs once for every line it gets."""

    def __init__(self, name, command, errors):
        env = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONWARNINGS="ignore")
        log = open(errors, "w")  # noqa: SIM115  closed with the process
        self.name, self.rows, self.error = name, [], None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=env
        )
        self._read()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                row = json.loads(line)
                self.error = row.get("err")
                return row
        self.error = "the process ended"
        return {}

    def go(self, keep):
        if self.error is None:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
            row = self._read()
            if keep and self.error is None:
                self.rows.append(row)

    def median(self, key):
        return statistics.median(row[key] for row in self.rows) if self.rows else float("nan")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def commands(case, libraries, rivals, without):
    """How to start every contestant of a case."""
    this = [sys.executable, __file__, "--worker", case]
    parts = ["tiles", "copy", "ours", "ours_stream"]
    named = {f"{library} {what}": [*this, library, what] for library, what in itertools.product(libraries, parts)}
    if rivals:
        names = RIVALS[case] + (MLX_RIVALS[case] if "mlx" in libraries else [])
        named |= {f"rival {n}": [sys.executable, rivals, "--worker", case, n] for n in names if n not in without}
    return named


def drive(case, named, rounds, folder):
    """Run all contestants of a case in turn; give their figures."""
    contestants = {name: Contestant(name, command, folder / f"{case}-{name}.log") for name, command in named.items()}
    for number in range(rounds + 1):  # the first round warms up
        for contestant in contestants.values():
            contestant.go(keep=number > 0)
    for contestant in contestants.values():
        contestant.close()
    return contestants


def report(case, contestants, libraries):
    """Print a table; give it as rows."""

    def bound(library, key):
        if library == "rival":
            return contestants["rival raw_tiles"].median(key) + contestants["rival memcpy"].median(key)
        if library == "rival mlx":
            return contestants["rival raw_tiles_mlx"].median(key) + contestants["rival memcpy"].median(key)
        return contestants[f"{library} tiles"].median(key) + contestants[f"{library} copy"].median(key)

    rows = []
    print(f"\n== {case} {CASES[case]}")
    head = ("contestant", "wall s", "min-max", "over bound", "cpu s", "cpu over bound", "peak MiB")
    print("{:28s} {:>8s} {:>15s} {:>10s} {:>8s} {:>14s} {:>9s}".format(*head))
    for name, contestant in contestants.items():
        if not contestant.rows:
            print(f"{name:28s} failed: {str(contestant.error)[:100]}")
            continue
        library = name.split()[0] if name not in ("rival mlx", "rival raw_tiles_mlx") else "rival mlx"
        wall, times = contestant.median("t"), [row["t"] for row in contestant.rows]
        pairs = (
            [
                sum(contestants[f"{library} {part}"].rows[i]["t"] for part in ("tiles", "copy"))
                for i in range(len(times))
            ]
            if library in libraries
            else None
        )
        ratio = (
            statistics.median(t / b for t, b in zip(times, pairs, strict=True)) if pairs else wall / bound(library, "t")
        )
        row = {
            "case": case,
            "name": name,
            "wall": wall,
            "min": min(times),
            "max": max(times),
            "over_bound": ratio,
            "cpu": contestant.median("cpu"),
            "cpu_over_bound": contestant.median("cpu") / bound(library, "cpu"),
            "peak_mib": max(r["peak"] for r in contestant.rows),
        }
        rows.append(row)
        spread = f"{row['min']:.2f}-{row['max']:.2f}"
        figures = f"{wall:8.3f} {spread:>15s} {ratio:10.2f} {row['cpu']:8.3f} {row['cpu_over_bound']:14.2f}"
        print(f"{name:28s} {figures} {row['peak_mib']:9.0f}", flush=True)
    return rows


def main():
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:5])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", default=list(CASES))
    parser.add_argument("--libraries", nargs="+", default=["numpy", "numpy-own", "torch", "mlx"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rivals", help="path of a script that runs other libraries on the same cases")
    parser.add_argument(
        "--without", nargs="+", default=[], help="names of that script to leave out (tiler takes 10 GiB)"
    )
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("RIVALS_SCRATCH", folder)
        for case in args.case or list(CASES):
            named = commands(case, args.libraries, args.rivals, args.without)
            contestants = drive(case, named, args.rounds, Path(folder))
            rows += report(case, contestants, args.libraries)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
