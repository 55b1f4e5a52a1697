"""
What a device does: the canary, exact and blended decodes against the processor's, memory beside the forecast, seconds.

For a Mac and for CUDA cards, which this project has none of: run it there and send in the JSON. It needs no download.

    python benchmarks/device.py                        # the best device that there is, on every framework installed
    python benchmarks/device.py --device cpu --json report.json

With the reference cases in ``../shared`` their acceptance scripts run too, on the processor.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
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


def decodes(framework: str, device: str, dtype: str) -> dict[str, Any]:
    """Decode whole, exactly, by the general engine and in blended tiles, and compare with the processor."""
    array = arrays(framework, device)
    shape = SHAPES.get(device, SHAPE)
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
    plan = plan_exact(decoder, shape)
    engine = tilekit.exact(decoder)
    ways: dict[str, tuple[Callable[[], Any], int | None]] = {
        "whole": (lambda: decoder(z), None),
        "exact": (lambda: decode_exact(decoder, z), plan.peak_bytes),
        "engine": (lambda: engine(z), engine.plan(z).peak_bytes),
        "blended": (lambda: tilekit.decode_tiled(decoder, z, tilekit.TilingConfig.default()), None),
    }
    report = {}
    for name, (call, forecast) in ways.items():
        got, row = timed(call, backend, 1 if device == "cpu" else 3)
        error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        report[name] = {**row, "forecast_bytes": forecast, "error": error}
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


def report_of(framework: str, device: str | None) -> dict[str, Any]:
    device = device or best(framework)
    like = arrays(framework, device)(np.zeros(1, np.float32))
    place = place_of(like)
    limits = limits_of(like)
    most = {"convolution": 1 << 27, "elements": 1 << 28, "unfolded": 1 << 28} if place.device != "cpu" else {}
    dtypes = ["float32"] if place.device == "cpu" else ["float32", "bfloat16", "float16"]
    return {
        "place": place._asdict(),
        "limits": {name: getattr(limits, name) for name in limits.__slots__},
        "known": [row.source for row in known_of(place)],
        "canary": [{**case._asdict(), "holds": case.holds} for case in canary.report(like, **most)],
        "decodes": {dtype: decodes(framework, device, dtype) for dtype in dtypes},
    }


def show(framework: str, report: dict[str, Any]) -> None:
    print(f"{framework} {report['place']['version']} on {report['place']['device']}")
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
    parser.add_argument("--json", type=Path, default=Path("device.json"))
    arguments = parser.parse_args()
    frameworks = [name for name in ("torch", "mlx") if find_spec(name)]
    reports = {name: report_of(name, arguments.device) for name in frameworks}
    for name, report in reports.items():
        show(name, report)
    whole = {
        "tilekit": getattr(tilekit, "__version__", ""),
        "system": platform.platform(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "accept": accepted(),
        **reports,
    }
    arguments.json.write_text(json.dumps(whole, indent=1) + "\n")
    print(f"wrote {arguments.json}; please send it in")
    if not all(case["holds"] for report in reports.values() for case in report["canary"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
