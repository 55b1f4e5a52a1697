"""
The streams of the networks of LTX-2 beside `tilekit.exact`: error, live bytes, processor time, and what planning takes.

    python benchmarks/one_machine.py [video-decoder ...] [--rounds 5] [--dtype bfloat16]
    python benchmarks/one_machine.py --parts [video-decoder ...]     inputs that are read as they come
    python benchmarks/one_machine.py --plain [video-decoder ...]     calls without a budget beside plain ones
    python benchmarks/one_machine.py --published                     bytes at published widths, by forecast

Seeded weights (the video networks: the shipped checkpoint, and the blocks of LTX-2 at a quarter of their channels),
torch on the CPU, one thread, ways in turns, the median processor time of the rounds. `exact` is given as many bytes as
the stream was counted to take; of parts, both take as many rows at once.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import exact as video
import sound
import torch
from tests.tilekit.exact._live import Live

import tilekit
from ltx_models import (
    default_checkpoint,
    load_video_decoder,
    load_video_encoder,
    plan_exact,
    stream_decode,
    stream_encode,
)
from ltx_models.nn import backend
from ltx_models.video_vae import LTX2, LTX2_3, VideoDecoder, VideoEncoder
from tilekit._exact.kernels import kernels_of
from tilekit._exact.sources.plan import Wanted, endless
from tilekit.backends.limits import Limits

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


def wide(kind: str, config: Any, frames: int) -> Callable[[str], tuple[Any, Any, Callable[[], Iterator[Any]]]]:
    """Give a video network at a quarter of its published channels, its input, and its stream, when asked."""

    def make(dtype: str) -> tuple[Any, Any, Callable[[], Iterator[Any]]]:
        torch.manual_seed(0)
        nn = backend("torch")
        if kind == "decoder":
            network: Any = VideoDecoder(nn, replace(config, decoder_base_channels=32))
            x, stream = video.latents(frames, 256, 320), stream_decode
        else:
            network = VideoEncoder(nn, replace(config, encoder_base_channels=32))
            x, stream = torch.rand(1, 3, frames, 256, 320) * 2 - 1, stream_encode
        network = network.eval().requires_grad_(False).to(getattr(torch, dtype))
        x = x.to(getattr(torch, dtype))
        return network, x, lambda: stream(network, x)

    return make


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
    "video-decoder-2.0-wide": wide("decoder", LTX2, 65),
    "video-decoder-2.3-wide": wide("decoder", LTX2_3, 65),
    "video-encoder-2.0-wide": wide("encoder", LTX2, 65),
    "audio-decoder": of_sound("audio-decoder", 4),
    "audio-encoder": of_sound("audio-encoder", 4),
    "vocoder-2.0": of_sound("vocoder-2.0", 2),
    "vocoder-2.3": of_sound("vocoder-2.3", 1),
}


def drained(blocks: Iterator[Any]) -> None:
    """Look at each block and drop it."""
    for block in blocks:
        del block


def all_of(blocks: Callable[[], Iterator[Any]]) -> None:
    """Take all blocks of a stream."""
    drained(blocks())


def first_of(blocks: Callable[[], Iterator[Any]]) -> None:
    """Take the first block of a stream."""
    next(blocks())


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


def beside_plain(name: str, rounds: int, dtype: str) -> str:
    """Measure a call without a budget beside a plain one, in turns."""
    network, x, _ = NETWORKS[name](dtype)
    exact = tilekit.exact(network)
    plan, operations = exact.plan(x), exact._plan(x, stream=False).program.operations
    want, got = network(x), exact(x)
    error = float((got - want).abs().max() / want.abs().max())
    del want, got
    rows = [(seconds(lambda: network(x)), seconds(lambda: exact(x))) for _ in range(rounds)]
    return (
        f"| {name}, {'x'.join(map(str, x.shape))} | {error:.0e} | {statistics.median(b / a for a, b in rows):.2f} | "
        f"{plan.peak_bytes / plan.plain_bytes:.2f} | {operations} |"
    )


def of_parts(name: str, rounds: int, dtype: str) -> str:
    """Measure one network whose input is read as it comes, in as many rows at once as its stream takes."""
    network, x, _ = NETWORKS[name](dtype)
    rows = signature(network.stream).parameters["frames_per_chunk"].default
    lengths = range(1, 10**9, 8 if name.startswith("video-encoder") else 1)
    exact, read = tilekit.exact(network), 0

    def parts() -> Iterator[Any]:
        nonlocal read
        read = 0
        for start in range(0, x.shape[2], rows):
            part = x[:, :, start : start + rows]
            read += part.shape[2]
            yield part

    ways: dict[str, Callable[[], Iterator[Any]]] = {
        "stream": lambda: network.stream(parts()),
        "exact": lambda: exact.stream(parts(), axis=2, lengths=lengths, rows=rows),
    }
    begin = seconds(lambda: next(ways["exact"]()))
    firsts = {}
    for way, run in ways.items():
        taken = seconds(partial(first_of, run))
        firsts[way] = f"{taken:.2f} s, {read} rows"
    want = network(x)
    got = torch.cat([block for _, block in ways["exact"]()], 2)
    error = float((got - want).abs().max() / want.abs().max())
    del got, want
    whole = {way: partial(all_of, run) for way, run in ways.items()}
    live = {way: counted(run) for way, run in whole.items()}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in whole.items():
            times[way].append(seconds(run))
    usual = {way: statistics.median(row) for way, row in times.items()}
    return (
        f"| {name}, {'x'.join(map(str, x.shape))}, {rows} rows | {error:.0e} | {live['stream'] / MIB:.1f} | "
        f"{live['exact'] / MIB:.1f} | {usual['exact'] / usual['stream']:.2f} | "
        f"{firsts['stream']} | {firsts['exact']} | {begin:.1f} s |"
    )


def published() -> Iterator[str]:
    """Forecast what both take of 121 frames of 1920x1088 in bfloat16, at the widths of LTX-2 and 2.3."""
    for version, config in (("2.0", LTX2), ("2.3", LTX2_3)):
        for kind, decode in ((VideoDecoder, True), (VideoEncoder, False)):
            with torch.device("meta"):
                network: Any = kind(backend("torch"), config)
            network = network.to(torch.bfloat16).to_empty(device="cpu").requires_grad_(False)
            shape = (1, 128, 16, 34, 60)
            x = torch.empty(shape if decode else (1, 3, 121, 1088, 1920), dtype=torch.bfloat16)
            begin = time.thread_time()
            chosen = plan_exact(config, shape, decode=decode, itemsize=2)
            asked = time.thread_time() - begin
            begin = time.thread_time()
            plan = tilekit.exact(network, chosen.peak_bytes).plan(x, stream=True)
            taken = time.thread_time() - begin
            held = of_source(network, x.shape, decode=decode)
            yield (
                f"| {kind.__name__} {version} | {chosen.frames} | {chosen.peak_bytes / MIB:.0f} | "
                f"{asked * 1e3:.0f} ms | {plan.peak_bytes / MIB:.0f} | {plan.work:.2f} | {taken:.1f} s | "
                f"{held / MIB:.0f} |"
            )


def of_source(network: Any, shape: Sequence[int], *, decode: bool) -> int:
    """Forecast the peak of a stream that reads a latent, or its eight frames, at once."""
    exact = tilekit.exact(network)

    def follow(rows: int) -> Any:
        return exact._follow(torch.empty((*shape[:2], rows, *shape[3:]), dtype=torch.bfloat16))

    scratch = kernels_of(torch.empty(1)).scratch
    step = 1 if decode else 8
    plan = endless(Wanted(follow, lambda a, b: "", 2, range(1, 10**9, step), step, scratch, None, Limits()))
    return plan.counted(scratch).peak_bytes


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--parts", action="store_true", help="inputs that are read as they come")
    parser.add_argument("--plain", action="store_true", help="calls without a budget beside plain ones")
    parser.add_argument("--published", action="store_true", help="bytes at published widths")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if args.published:
        table(
            "network | frames at once | stream, MiB | its plan | exact, MiB | work | trace and plan | in parts, MiB",
            published(),
        )
        return
    heads = "network, input | error | plain, MiB | stream | exact | plain | stream | exact | exact over stream"
    heads += " | first block | exact | plan"
    if args.parts:
        heads = "network, input, at once | error | stream, MiB | exact | exact over stream | first block | exact"
        heads += " | its first call"
    if args.plain:
        heads = "network, input | error | time over plain | share of the plain memory | calls"
    measure = of_parts if args.parts else beside_plain if args.plain else row
    table(heads, (measure(name, args.rounds, args.dtype) for name in args.networks or NETWORKS))


def table(heads: str, rows: Iterable[str]) -> None:
    """Print rows as they come."""
    print(f"| {heads} |")
    print("|---" * (heads.count("|") + 1) + "|")
    for line in rows:
        print(line, flush=True)


if __name__ == "__main__":
    main()
