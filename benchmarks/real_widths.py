"""What plain and exact calls take at the widths of published networks: nothing is computed.

The plain call is counted while it is followed, plans are forecast. Budgets are shares of the plain call; cells say what
a plan takes of it, at how many multiply-adds over those of a plain call, in how many operations, and the processor
seconds of planning; "too much" is more work than the bar of that budget allows.

Give beginnings of names for some rows alone: ``python benchmarks/real_widths.py Mochi --shares .36``.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tilekit.exact._published import BARS, NETWORKS, Bar, Network, Way

from tilekit import PlanError
from tilekit._exact.kernels import kernels_of
from tilekit._exact.search import search
from tilekit._exact.trace import trace
from tilekit._exact.trials import Choice

MIB = 2**20


def row(network: Network, way: Way, bars: Sequence[Bar]) -> list[str]:
    """Plan a way without a budget and with shares of a plain call: share at work, operations, processor seconds."""
    vae, x = network.make(), network.input(way)
    begin = time.process_time()
    graph, kernels = trace(network.function(vae, way), x).graph, kernels_of(x)
    cells, plain = [f"+{time.process_time() - begin:.1f}"], 0
    for bar in (None, *bars):
        begin = time.process_time()
        try:
            budget = None if bar is None else int(bar.share * plain)
            choice = search(graph, budget, kernels.scratch, plain_scratch=kernels.plain_scratch)
        except PlanError as error:
            least = re.search(r"needs least takes (\d+)", str(error))
            text = "refused" if least is None else f"refused, least {int(least[1]) / plain:.3f}"
        else:
            plain = choice.plain_bytes
            text = f"{choice.peak_bytes / plain:.3f} at {choice.work:.3f}, {choice.operations}{verdict(choice, bar)}"
        cells.append(f"{text} +{time.process_time() - begin:.1f}")
    return [f"{plain / MIB:.0f}", *cells]


def verdict(choice: Choice, bar: Bar | None) -> str:
    """Say where an accepted plan computes more than its bar allows."""
    return "" if bar is None or round(choice.work, 2) <= bar.work else ", too much"


def main() -> None:
    """Print the table, a row as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; all without one: " + "; ".join(NETWORKS))
    text = "budgets, over a plain call; those of the bars without it: .36 and .20 for decode, .42 and .25 for encode"
    parser.add_argument("--shares", type=float, nargs="*", help=text)
    parser.add_argument("--ways", nargs="*", choices=["decode", "encode"], default=["decode", "encode"])
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    budgets = ["36 %, encode 42 %", "20 %, encode 25 %"]
    if asked.shares is not None:
        budgets = [f"{share:.0%}" for share in asked.shares]
    heads = ("network", "plain, MiB", "followed, s", "no budget: share at work, operations, +plan s", *budgets)
    print(f"| {' | '.join(heads)} |")
    print(f"|{'---|' * len(heads)}", flush=True)
    for name, network in NETWORKS.items():
        if asked.names and not name.startswith(tuple(asked.names)):
            continue
        for way in asked.ways:
            bars = BARS[way] if asked.shares is None else [Bar(share, math.inf) for share in asked.shares]
            cells = row(network, way, bars)
            print(f"| {name}, {network.dtype}, {way} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
