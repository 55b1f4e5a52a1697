"""What exact calls take at the widths of published networks, by forecast: nothing is computed.

Give beginnings of names for some rows alone: ``python benchmarks/real_widths.py Mochi --shares .36``.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from published import KL, function, made

from tilekit import PlanError
from tilekit._exact.kernels import kernels_of
from tilekit._exact.search import search
from tilekit._exact.trace import trace

SVD = {name: KL[name] for name in ("block_out_channels", "down_block_types", "layers_per_block")}
COGVIDEOX = {"block_out_channels": (128, 256, 256, 512), "layers_per_block": 3}


@dataclass(frozen=True)
class Network:
    """A class, and what it is given."""

    kind: str
    decode: tuple[int, ...]
    encode: tuple[int, ...]
    config: dict[str, Any] = field(default_factory=dict)
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Of decode."""
    dtype: str = "bfloat16"


NETWORKS = {
    "AutoencoderKL, 512x512": Network("AutoencoderKL", (1, 4, 64, 64), (1, 3, 512, 512), KL, dtype="float32"),
    "Flux 2, 2048x2048": Network("AutoencoderKLFlux2", (1, 32, 256, 256), (1, 3, 2048, 2048)),
    "HunyuanVideo, 480x832, 33 frames": Network("AutoencoderKLHunyuanVideo", (1, 16, 9, 60, 104), (1, 3, 33, 480, 832)),
    "CogVideoX, 480x720, 49 frames": Network(
        "AutoencoderKLCogVideoX", (1, 16, 13, 60, 90), (1, 3, 49, 480, 720), COGVIDEOX
    ),
    "Qwen-Image, 1440x2560": Network("AutoencoderKLQwenImage", (1, 16, 1, 180, 320), (1, 3, 1, 1440, 2560)),
    "LTX-Video 0.9, 512x768, 97 frames": Network("AutoencoderKLLTXVideo", (1, 128, 13, 16, 24), (1, 3, 97, 512, 768)),
    "Wan 2.1, 480x832, 81 frames": Network("AutoencoderKLWan", (1, 16, 21, 60, 104), (1, 3, 81, 480, 832)),
    "Mochi, 480x848, 19 frames": Network("AutoencoderKLMochi", (1, 12, 4, 60, 106), (1, 3, 19, 480, 848)),
    "Mochi, 480x848, 85 frames": Network("AutoencoderKLMochi", (1, 12, 15, 60, 106), (1, 3, 85, 480, 848)),
    "Cosmos, 480x720, 25 frames": Network("AutoencoderKLCosmos", (1, 16, 4, 60, 90), (1, 3, 25, 480, 720)),
    "Cosmos, 704x1280, 121 frames": Network("AutoencoderKLCosmos", (1, 16, 16, 88, 160), (1, 3, 121, 704, 1280)),
    "Stable Video Diffusion, 576x1024, 14 frames": Network(
        "AutoencoderKLTemporalDecoder", (14, 4, 72, 128), (14, 3, 576, 1024), SVD, {"num_frames": 14}
    ),
}


def forecast(network: Network, way: Literal["decode", "encode"], shares: Sequence[float]) -> list[str]:
    """Plan a way without a budget and with shares of a plain call: share at work, operations, processor seconds."""
    vae = made(network.kind, network.config, network.dtype)
    x = torch.empty(getattr(network, way), dtype=getattr(torch, network.dtype))
    begin = time.process_time()
    graph, kernels = trace(function(vae, way, network.kwargs if way == "decode" else {}), x).graph, kernels_of(x)
    cells, plain = [f"+{time.process_time() - begin:.1f}"], 0
    for share in (None, *shares):
        budget = None if share is None else int(share * plain)
        begin = time.process_time()
        try:
            choice = search(graph, budget, kernels.scratch, plain_scratch=kernels.plain_scratch)
        except PlanError as error:
            least = re.search(r"needs least takes (\d+)", str(error))
            text = "refused" if least is None else f"refused, least {int(least[1]) / plain:.3f}"
        else:
            plain = choice.plain_bytes
            text = f"{choice.peak_bytes / plain:.3f} at {choice.work:.3f}, {choice.operations}"
        cells.append(f"{text} +{time.process_time() - begin:.1f}")
    return [f"{plain / 2**20:.0f}", *cells]


def main() -> None:
    """Print the table, a row as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; all without one: " + "; ".join(NETWORKS))
    parser.add_argument("--shares", type=float, nargs="*", default=[0.36, 0.2], help="budgets, over a plain call")
    parser.add_argument("--ways", nargs="*", choices=["decode", "encode"], default=["decode", "encode"])
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    heads = ("network", "plain, MiB", "followed, s", "no budget: share at work, operations, +plan s")
    print(f"| {' | '.join((*heads, *(f'{share:.0%}' for share in asked.shares)))} |")
    print(f"|{'---|' * (len(heads) + len(asked.shares))}", flush=True)
    for name, network in NETWORKS.items():
        if asked.names and not name.startswith(tuple(asked.names)):
            continue
        for way in asked.ways:
            cells = forecast(network, way, asked.shares)
            print(f"| {name}, {network.dtype}, {way} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
