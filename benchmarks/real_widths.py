"""What exact calls take at the widths of the published networks, by forecast: nothing is computed.

Give beginnings of names for some rows alone: ``python benchmarks/real_widths.py Mochi --shares .36``.
"""

from __future__ import annotations

import argparse
import re
import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from tilekit import PlanError, exact
from tilekit.adapters._exact_method import Place, Untiled

KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
SVD = {name: KL[name] for name in ("block_out_channels", "down_block_types", "layers_per_block")}


@dataclass(frozen=True)
class Network:
    """A class, and what it is given."""

    kind: str
    decoded: tuple[int, ...]
    encoded: tuple[int, ...]
    config: dict[str, Any] = field(default_factory=dict)
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Of decode."""
    dtype: str = "bfloat16"


NETWORKS = {
    "AutoencoderKL": Network("AutoencoderKL", (1, 4, 64, 64), (1, 3, 512, 512), KL, dtype="float32"),
    "Flux 2": Network("AutoencoderKLFlux2", (1, 32, 256, 256), (1, 3, 2048, 2048)),
    "HunyuanVideo": Network("AutoencoderKLHunyuanVideo", (1, 16, 9, 60, 104), (1, 3, 33, 480, 832)),
    "CogVideoX": Network("AutoencoderKLCogVideoX", (1, 16, 13, 60, 90), (1, 3, 49, 480, 720)),
    "Mochi, 19 frames": Network("AutoencoderKLMochi", (1, 12, 4, 60, 106), (1, 3, 19, 480, 848)),
    "Mochi, 85 frames": Network("AutoencoderKLMochi", (1, 12, 15, 60, 106), (1, 3, 85, 480, 848)),
    "Cosmos, 25 frames": Network("AutoencoderKLCosmos", (1, 16, 4, 60, 90), (1, 3, 25, 480, 720)),
    "Cosmos, 121 frames": Network("AutoencoderKLCosmos", (1, 16, 16, 88, 160), (1, 3, 121, 704, 1280)),
    "Stable Video Diffusion": Network(
        "AutoencoderKLTemporalDecoder", (14, 4, 72, 128), (14, 3, 576, 1024), SVD, {"num_frames": 14}
    ),
}


def made(network: Network) -> Any:
    """Build the autoencoder; its memory is reserved, and not touched before it computes."""
    import diffusers

    with torch.device("meta"):
        vae = getattr(diffusers, network.kind)(**network.config)
    return vae.to(getattr(torch, network.dtype)).to_empty(device="cpu").eval().requires_grad_(False)


def function(network: Network, vae: Any, way: Literal["decode", "encode"]) -> Untiled:
    """Give a method of it as a function of one array."""
    private = hasattr(vae, f"_{way}") and not network.kwargs
    kwargs = network.kwargs if way == "decode" else {}
    return Untiled(Place(vae, vae, f"_{way}" if private else way, way), None, (), kwargs)


def forecast(call: Untiled, shape: tuple[int, ...], dtype: str, shares: list[float]) -> list[str]:
    """Give the share of a plain call and the work of plans, without a budget and with some."""
    like = torch.empty(0, dtype=getattr(torch, dtype))
    usual = exact(call).plan(shape, like=like)
    whole = usual.plain_bytes
    rows = [f"{whole / 2**20:.0f}", f"{usual.peak_bytes / whole:.3f} at {usual.work:.3f}"]
    for share in shares:
        try:
            plan = exact(call, int(share * whole)).plan(shape, like=like)
        except PlanError as error:
            rows.append(f"refused, least {int(re.findall(r'takes ([0-9]+)', str(error))[0]) / whole:.3f}")
        else:
            rows.append(f"{plan.peak_bytes / whole:.3f} at {plan.work:.3f}")
    return rows


def main() -> None:
    """Print the table, a row as it comes."""
    warnings.filterwarnings("ignore", module="diffusers")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; all without one")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.36, 0.22], help="budgets, over a plain call")
    parser.add_argument("--ways", nargs="*", default=["decode", "encode"])
    asked = parser.parse_args()
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(f"| network | way | plain, MiB | no budget | {' | '.join(f'{share:.2f}' for share in asked.shares)} |")
    for name, network in NETWORKS.items():
        if asked.names and not any(name.startswith(start) for start in asked.names):
            continue
        vae = made(network)
        for way in asked.ways:
            call = function(network, vae, way)
            shape = network.decoded if way == "decode" else network.encoded
            rows = forecast(call, shape, network.dtype, asked.shares)
            print(f"| {name} | {way} | {' | '.join(rows)} |", flush=True)


if __name__ == "__main__":
    main()
