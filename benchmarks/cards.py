"""
What decodes of published pipelines take on cards of 8, 12, 16 and 24 GB, by forecast: no weights, no card, no run.

    python benchmarks/cards.py                         # all rows of docs/how-to/cards.md
    python benchmarks/cards.py "Wan 2.1, 720x1280" Flux # those whose names begin so

Each autoencoder is built by diffusers with its published configuration and memory that is never touched;
`tilekit.exact` follows it and plans the decode at a usual size. A card offers nine tenths of its memory, less the
weights of the autoencoder; the other networks of the pipeline are taken to be away, as with
``enable_model_cpu_offload``.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tilekit.exact._published import KL, function, made

from tilekit import PlanError, exact

GIB = 2**30
CARDS = (8, 12, 16, 24)
SHARE = 0.9
"""Of a card, for weights and live arrays; the rest is for the driver, and for what the allocator cannot use."""

FLUX = {**KL, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
WAN_22 = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}


@dataclass(frozen=True)
class Row:
    """A decode: the class of diffusers, its published configuration where that is not the default, and the latents."""

    pipeline: str
    size: str
    kind: str
    latents: tuple[int, ...]
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = "bfloat16"


ROWS = (
    Row("SDXL", "1024x1024", "AutoencoderKL", (1, 4, 128, 128), KL, "float32"),
    Row("SDXL", "2048x2048", "AutoencoderKL", (1, 4, 256, 256), KL, "float32"),
    Row("Flux", "1024x1024", "AutoencoderKL", (1, 16, 128, 128), FLUX),
    Row("Flux", "2048x2048", "AutoencoderKL", (1, 16, 256, 256), FLUX),
    Row("Flux 2", "2048x2048", "AutoencoderKLFlux2", (1, 32, 256, 256)),
    Row("Flux 2", "4096x4096", "AutoencoderKLFlux2", (1, 32, 512, 512)),
    Row("Qwen-Image", "1328x1328", "AutoencoderKLQwenImage", (1, 16, 1, 166, 166)),
    Row("Wan 2.1", "480x832, 81 frames", "AutoencoderKLWan", (1, 16, 21, 60, 104)),
    Row("Wan 2.1", "720x1280, 81 frames", "AutoencoderKLWan", (1, 16, 21, 90, 160)),
    Row("Wan 2.2 5B", "704x1280, 121 frames", "AutoencoderKLWan", (1, 48, 31, 44, 80), WAN_22),
    Row("HunyuanVideo", "544x960, 33 frames", "AutoencoderKLHunyuanVideo", (1, 16, 9, 68, 120)),
    Row("HunyuanVideo", "720x1280, 129 frames", "AutoencoderKLHunyuanVideo", (1, 16, 33, 90, 160)),
    Row("HunyuanVideo 1.5", "720x1280, 121 frames", "AutoencoderKLHunyuanVideo15", (1, 32, 31, 45, 80)),
    Row("LTX-2", "512x768, 121 frames", "AutoencoderKLLTX2Video", (1, 128, 16, 16, 24)),
    Row("LTX-2", "1088x1920, 121 frames", "AutoencoderKLLTX2Video", (1, 128, 16, 34, 60)),
    Row("LTX-Video", "512x768, 121 frames", "AutoencoderKLLTXVideo", (1, 128, 16, 16, 24)),
    Row("CogVideoX", "480x720, 49 frames", "AutoencoderKLCogVideoX", (1, 16, 13, 60, 90)),
)


def planned(row: Row, vae: Any, budget: int | None) -> Any:
    """Plan the decode as `enable_exact_tiling` does, for the shape alone."""
    import torch

    return exact(function(vae, "decode"), budget).plan(
        row.latents, like=torch.empty(0, dtype=getattr(torch, row.dtype))
    )


def cell(row: Row, vae: Any, card: int, weights: int, plain_bytes: int) -> str | float:
    """Say what the decode takes on a card, or give the bytes that a refusal names."""
    budget = int(SHARE * card * GIB) - weights
    if plain_bytes <= budget:
        return "whole fits"
    try:
        plan = planned(row, vae, budget)
    except PlanError as error:
        least = re.search(r"needs least takes (\d+)", str(error))
        return math.inf if least is None else float(least[1])
    return f"{plan.peak_bytes / GIB:.1f} GiB, work {plan.work:.2f}"


def line(row: Row) -> str:
    """Give a row of the table."""
    begin = time.process_time()
    vae = made(row.kind, row.config, row.dtype)
    weights = sum(weight.nbytes for weight in vae.parameters())
    half = planned(row, vae, None)
    cells = [cell(row, vae, card, weights, half.plain_bytes) for card in CARDS]
    least = min((one for one in cells if isinstance(one, float)), default=math.inf)  # a search may name another one
    refused = "no plan" if least == math.inf else f"at least {least / GIB:.1f} GiB"
    told = [refused if isinstance(one, float) else one for one in cells]
    free = f"{half.peak_bytes / GIB:.1f} GiB, work {half.work:.2f}"
    print(f"{row.pipeline}, {row.size}: {time.process_time() - begin:.0f} s of processor time", file=sys.stderr)
    shown = (row.pipeline, row.size, row.dtype, f"{weights / GIB:.2f} GiB", f"{half.plain_bytes / GIB:.1f} GiB", free)
    return f"| {' | '.join((*shown, *told))} |"


def main() -> None:
    """Print the table, a row as it comes."""
    warnings.filterwarnings("ignore", module="diffusers")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of 'pipeline, size'; all rows without one")
    asked = parser.parse_args()
    heads = ("pipeline", "size", "dtype", "weights", "whole", "exact, no budget", *(f"{card} GB" for card in CARDS))
    print(f"| {' | '.join(heads)} |")
    print(f"|{'---|' * len(heads)}", flush=True)
    for row in ROWS:
        if not asked.names or f"{row.pipeline}, {row.size}".startswith(tuple(asked.names)):
            print(line(row), flush=True)


if __name__ == "__main__":
    main()
