"""
The diffusion decoder of LTX-2.5: forecasts at the published size, and sweeps beside the whole at a small one.

    python benchmarks/diffusion.py --forecast
    python benchmarks/diffusion.py
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np

from ltx_models import decode_exact, plan_exact
from ltx_models.nn import backend
from ltx_models.video_vae.diffusion import LTX2_5, DiffusionDecoder, DiffusionDecoderConfig
from ltx_models.video_vae.diffusion.config import Stage

SHAPE = (1, 128, 16, 34, 60)  # 1088x1920, 121 frames
NARROW = DiffusionDecoderConfig(
    stages=(
        Stage(128, 2, (3, 3, 3), (1, 2, 2), 2),
        Stage(64, 2, (3, 3, 3), (2, 1, 1), 2),
        Stage(32, 2, (3, 5, 5), (2, 2, 2), 1),
        Stage(32, 2, (3, 5, 5), (2, 2, 2), 1),
    ),
    channels=32,
    depth=4,
    kernel=(5, 5, 5),
    head_dim=16,
    embedding=32,
    latent_channels=16,
    steps=1,
    timestep_scale=1000.0,
    prediction="x0",
)


def forecast() -> None:
    print(plan_exact(LTX2_5, SHAPE, itemsize=2))
    for gigabytes in (8, 12, 16, 24):
        print(plan_exact(LTX2_5, SHAPE, itemsize=2, memory_bytes=gigabytes * 2**30))


def seconds(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def measure(rounds: int) -> None:
    import torch

    torch.set_num_threads(1)
    nn = backend("torch")
    torch.manual_seed(0)
    decoder: Any = DiffusionDecoder(nn, NARROW).requires_grad_(False)
    latents = torch.randn(1, 16, 4, 4, 8)
    noise = [torch.randn(decoder.noise_shape(latents.shape))]
    whole = plan_exact(decoder, tuple(latents.shape))
    plans = {
        share: plan_exact(decoder, tuple(latents.shape), memory_bytes=int(whole.peak_bytes * share))
        for share in (0.5, 0.25)
    }
    want = decoder(latents, noise=noise)
    times: dict[float, list[float]] = {1.0: [], **{share: [] for share in plans}}
    error = dict.fromkeys(plans, 0.0)
    for _ in range(rounds):
        times[1.0].append(seconds(lambda: decoder(latents, noise=noise))[0])
        for share, plan in plans.items():
            took, got = seconds(lambda plan=plan: decode_exact(decoder, latents, plan=plan, noise=noise))
            times[share].append(took)
            error[share] = max(error[share], float(np.abs((got - want).numpy()).max() / np.abs(want.numpy()).max()))
    base = statistics.median(times[1.0])
    print(f"whole: {base:.2f} s, forecast {whole.peak_bytes / 2**20:.1f} MiB")
    for share, plan in plans.items():
        ratio = statistics.median(times[share]) / base
        print(f"{plan}\n  wall time {ratio:.2f} of the whole, largest error {error[share]:.1e} of the largest value")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forecast", action="store_true", help="only what the published size takes, by formula")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.forecast:
        forecast()
    else:
        measure(args.rounds)
