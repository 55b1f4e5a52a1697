"""
What a device does: the canary, exact and blended decodes against the processor's, memory beside the forecast, seconds.

For a Mac and for CUDA cards, which this project has none of: run it there and send in the JSON. It needs no download.

    python benchmarks/device.py                        # the best device that there is, on every framework installed
    python benchmarks/device.py --quick                # a few minutes: no engine, no tiles, one round of small clips
    python benchmarks/device.py --device cpu --json report.json

Where there is no accelerator this is a dry run, on small clips; the JSON says so. With the reference cases in
``../shared`` their acceptance scripts run too, on the processor.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

import tilekit
from ltx_models import decode_exact, default_checkpoint, load_video_decoder, plan_exact
from ltx_models.peak_memory import forget_peaks, peak_bytes
from tilekit.backends import canary
from tilekit.backends.limits import known_of, limits_of, place_of

ACCEPTED = [
    "video_decoder",
    "video_encoder",
    "stream",
    "audio",
    "vocoder",
    "upsampler",
    "connectors",
    "dit",
    "sampling",
]
SHAPES = {"cpu": (1, 128, 3, 6, 8)}
SHAPE = (1, 128, 9, 16, 24)
QUICK_SHAPES = {"cpu": (1, 128, 2, 2, 2)}
QUICK_SHAPE = (1, 128, 5, 8, 12)
QUICK_WAYS = ("whole", "exact")


def best(framework: str) -> str:
    if framework == "mlx":
        import mlx.core as mx

        return str(mx.default_device().type).rpartition(".")[2]
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def arrays(framework: str, device: str) -> Callable[[np.ndarray[Any, Any]], Any]:
    if framework == "mlx":
        import mlx.core as mx

        mx.set_default_device(mx.cpu if device == "cpu" else mx.gpu)
        return mx.array
    import torch

    return lambda x: torch.from_numpy(x).to(device)


def timed(call: Callable[[], Any], backend: Any, rounds: int) -> tuple[Any, dict[str, Any]]:
    """Run some times; the first is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        forget_peaks()
        start = time.perf_counter()
        out = call()
        backend.synchronize(out)
        numbers = backend.to_numpy(out)  # waits for any device
        seconds.append(time.perf_counter() - start)
    return numbers, {"seconds": sorted(seconds[1:])[rounds // 2], "peak_bytes": peak_bytes()}


def decodes(framework: str, device: str, dtype: str, *, quick: bool) -> dict[str, Any]:
    """Decode whole, exactly, by the general engine and in blended tiles, and compare with the processor."""
    array = arrays(framework, device)
    shape = QUICK_SHAPES.get(device, QUICK_SHAPE) if quick else SHAPES.get(device, SHAPE)
    latents = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    wanted = reference(framework, latents)
    decoder = load_video_decoder(
        default_checkpoint(),
        backend=framework,
        dtype=dtype,
        **({"device": device} if framework == "torch" else {}),
    )
    z = array(latents)
    backend = tilekit.backends.backend_of(z)
    engine = tilekit.exact(decoder)
    ways: dict[str, tuple[Callable[[], Any], Callable[[], int] | None]] = {
        "whole": (lambda: decoder(z), None),
        "exact": (lambda: decode_exact(decoder, z), lambda: plan_exact(decoder, shape).peak_bytes),
        "engine": (lambda: engine(z), lambda: engine.plan(z).peak_bytes),
        "blended": (lambda: tilekit.decode_tiled(decoder, z, tilekit.TilingConfig.default()), None),
    }
    report = {}
    for name in QUICK_WAYS if quick else ways:
        call, forecast = ways[name]
        got, row = timed(call, backend, 1 if quick or device == "cpu" else 3)
        error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        report[name] = {**row, "forecast_bytes": None if forecast is None else forecast(), "error": error}
    return report


def reference(framework: str, latents: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Decode in float32 on the processor."""
    decoder = load_video_decoder(default_checkpoint(), backend=framework, dtype="float32")
    if framework == "mlx":
        import mlx.core as mx

        with mx.stream(mx.cpu):
            out = decoder(mx.array(latents))
            mx.eval(out)
        return np.array(out)
    import torch

    with torch.no_grad():
        return decoder(torch.from_numpy(latents)).numpy()


def accepted() -> dict[str, Any]:
    script = Path(__file__).parents[1] / ".." / "shared" / "accept" / "accept.py"
    if not script.exists():
        return {"skipped": "the reference cases are not here"}
    done = subprocess.run([sys.executable, str(script), *ACCEPTED], capture_output=True, text=True, check=False)
    return {"exit": done.returncode, "last lines": done.stdout.splitlines()[-5:]}


def report_of(framework: str, device: str | None, *, quick: bool) -> dict[str, Any]:
    device = device or best(framework)
    like = arrays(framework, device)(np.zeros(1, np.float32))
    place = place_of(like)
    limits = limits_of(like)
    most = {"convolution": 1 << 27, "elements": 1 << 28, "unfolded": 1 << 28} if place.device != "cpu" else {}
    dtypes = ["float32"] if place.device == "cpu" else ["float32", "bfloat16", "float16"]
    canary.report(like)  # what a device prepares at its first operations is not the canary's
    begun = time.perf_counter()
    canary.report(like)
    small = time.perf_counter() - begun
    cases = canary.report(like, **most)
    return {
        "place": place._asdict(),
        "dry_run": place.device == "cpu",
        "limits": {name: None if getattr(limits, name) == inf else getattr(limits, name) for name in limits.__slots__},
        "known": [row.source for row in known_of(place)],
        "canary": [{**case._asdict(), "error": str(case.error), "holds": case.holds} for case in cases],
        "canary_seconds": {"small cases": small, "all": time.perf_counter() - begun - small},
        "decodes": {dtype: decodes(framework, device, dtype, quick=quick) for dtype in dtypes},
    }


def show(framework: str, report: dict[str, Any]) -> None:
    what = ": no accelerator, a dry run" if report["dry_run"] else ""
    print(f"{framework} {report['place']['version']} on {report['place']['device']}{what}")
    seconds = ", ".join(f"{name} {took:.3f} s" for name, took in report["canary_seconds"].items())
    print(f"  canary: {seconds}")
    for case in report["canary"]:
        print(f"  {'right' if case['holds'] else 'WRONG'}  {case['name']}")
    for dtype, ways in report["decodes"].items():
        for name, row in ways.items():
            peak = "?" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}"
            told = "-" if row["forecast_bytes"] is None else f"{row['forecast_bytes'] / 2**20:.0f}"
            took = f"{row['seconds']:8.2f} s   peak {peak} MiB (forecast {told})   error {row['error']:.1e}"
            print(f"  {dtype:9}{name:9}{took}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cuda, mps, gpu or cpu; left out: the best that there is")
    parser.add_argument("--quick", action="store_true", help="a few minutes: whole and exact decodes of small clips")
    parser.add_argument("--json", type=Path, default=Path("device.json"))
    arguments = parser.parse_args()
    frameworks = [name for name in ("torch", "mlx") if find_spec(name)]
    reports = {name: report_of(name, arguments.device, quick=arguments.quick) for name in frameworks}
    for name, report in reports.items():
        show(name, report)
    whole = {
        "tilekit": getattr(tilekit, "__version__", ""),
        "system": platform.platform(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "quick": arguments.quick,
        "dry_run": all(report["dry_run"] for report in reports.values()),
        "accept": {"skipped": "--quick"} if arguments.quick else accepted(),
        **reports,
    }
    arguments.json.write_text(json.dumps(whole, indent=1) + "\n")
    print(f"wrote {arguments.json}; please send it in")
    if not all(case["holds"] for report in reports.values() for case in report["canary"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
