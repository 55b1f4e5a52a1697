"""
The streams of the networks of LTX-2 beside `tilekit.exact`: error, live bytes, processor time, and what planning takes.

    python benchmarks/one_machine.py [video-decoder ...] [--rounds 5] [--dtype bfloat16]

Seeded weights (the video networks: the shipped checkpoint), torch on the CPU, one thread, ways in turns, the
median processor time of the rounds. `exact` is given as many bytes as the stream was counted to take.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import exact as video
import sound
import torch
from tests.tilekit.exact._live import Live

import tilekit
from ltx_models import default_checkpoint, load_video_decoder, load_video_encoder, stream_decode, stream_encode

MIB = 2**20


def decoder(dtype: str) -> tuple[Any, Any, Callable[[], Iterator[Any]]]:
    """Give the video decoder, latents, and its stream."""
    network = load_video_decoder(default_checkpoint(), dtype=dtype)
    x = video.latents(65, 256, 320).to(getattr(torch, dtype))
    return network, x, lambda: stream_decode(network, x)


def encoder(dtype: str) -> tuple[Any, Any, Callable[[], Iterator[Any]]]:
    """Give the video encoder, a clip, and its stream."""
    network = load_video_encoder(default_checkpoint(), dtype=dtype)
    x = torch.rand(1, 3, 65, 256, 320, generator=torch.Generator().manual_seed(1)) * 2 - 1
    x = x.to(getattr(torch, dtype))
    return network, x, lambda: stream_encode(network, x)


def of_sound(name: str, seconds: float) -> Callable[[str], tuple[Any, Any, Callable[[], Iterator[Any]]]]:
    """Give a network of sound at its real widths, its input, and its stream, when asked."""

    def make(dtype: str) -> tuple[Any, Any, Callable[[], Iterator[Any]]]:
        network, _ = sound.ours(name)
        network = network.to(getattr(torch, dtype))
        x = sound.sound(name, seconds).to(getattr(torch, dtype))
        return network, x, lambda: network.stream(x)

    return make


NETWORKS = {
    "video-decoder": decoder,
    "video-encoder": encoder,
    "audio-decoder": of_sound("audio-decoder", 4),
    "audio-encoder": of_sound("audio-encoder", 4),
    "vocoder-2.0": of_sound("vocoder-2.0", 2),
    "vocoder-2.3": of_sound("vocoder-2.3", 1),
}


def drained(blocks: Iterator[Any]) -> None:
    """Look at each block and drop it."""
    for block in blocks:
        del block


def seconds(run: Callable[[], object]) -> float:
    """Give the processor time of a call."""
    begin = time.thread_time()
    run()
    return time.thread_time() - begin


def counted(run: Callable[[], object]) -> int:
    """Give the most bytes that tensors held at once."""
    with Live() as live:
        run()
    return live.peak


def row(name: str, rounds: int, dtype: str) -> str:
    """Measure one network."""
    network, x, stream = NETWORKS[name](dtype)
    want = network(x)
    held = counted(lambda: drained(stream()))
    exact = tilekit.exact(network, held)
    begin = time.thread_time()
    plan = exact.plan(x, stream=True)
    planning = time.thread_time() - begin
    ways = {
        "plain": lambda: network(x),
        "stream": lambda: drained(stream()),
        "exact": lambda: drained(exact.stream(x)),
    }
    error = float((torch.cat([b for _, b in exact.stream(x)], plan.axis) - want).abs().max() / want.abs().max())
    del want
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            taken[way].append(seconds(run))
    usual = {way: statistics.median(times) for way, times in taken.items()}
    first = [seconds(lambda blocks=blocks: next(iter(blocks()))) for blocks in (stream, lambda: exact.stream(x))]
    plain = usual["plain"]
    return (
        f"| {name}, {'x'.join(map(str, x.shape))} | {error:.0e} | {counted(ways['plain']) / MIB:.1f} | "
        f"{held / MIB:.1f} | {counted(ways['exact']) / MIB:.1f} | {plain:.2f} s | {usual['stream'] / plain:.2f} | "
        f"{usual['exact'] / plain:.2f} | {usual['exact'] / usual['stream']:.2f} | "
        f"{first[0]:.2f} s | {first[1]:.2f} s | {planning:.1f} s |"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    columns = ("network, input", "error", "plain, MiB", "stream", "exact", "plain", "stream", "exact")
    columns += ("exact over stream", "first block", "exact", "plan")
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for name in args.networks or NETWORKS:
        print(row(name, args.rounds, args.dtype), flush=True)


if __name__ == "__main__":
    main()
