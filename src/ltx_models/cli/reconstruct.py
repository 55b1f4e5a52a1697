"""``ltx-models reconstruct``: a clip becomes latents and a video again, and the difference is measured."""

import argparse
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models import ExactPlan, plan_exact
from ltx_models.checkpoints import keys_of_half
from ltx_models.checkpoints.digest import network_digest
from ltx_models.cli import decode, encode, options, plan, report
from ltx_models.cli.clips import FittedClip, add_clip, read_fitted
from ltx_models.cli.frames import Difference, FrameFile
from ltx_models.cli.keep import add_keep, array_digest, kept_blocks, refuse_foreign, refuse_inside
from ltx_models.cli.machine import memory_bytes, taken
from ltx_models.cli.meter import Meter
from ltx_models.cli.network import array_for, checkpoint, load_decoder, named
from ltx_models.cli.several import computing, one_device, refuse_several_for_exact
from ltx_models.media import (
    OriginalAudio,
    VideoWriter,
    as_float32,
    contact_sheet,
    refuse_same,
    refuse_unwritable,
)
from ltx_models.media._places import LATENTS, VIDEO
from tilekit import Kept

SEED = 0  # of the noise of a diffusion decoder
SHARE = 0.25  # of memory that a decode may take whose only use is to be compared with


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "reconstruct",
        help="encode a clip, decode it and compare",
        description="Encode a clip, save its latents, decode them into an mp4 with the clip's sound, and compare with "
        "the decode in one piece.",
    )
    add_clip(parser)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("reconstruct.mp4"), metavar="FILE", help="default: reconstruct.mp4"
    )
    parser.add_argument("--latents", type=Path, metavar="FILE", help="default: the output's name with .safetensors")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="also draw the plan and a contact sheet there")
    parser.add_argument(
        "--compare",
        choices=("whole", "stream", "none"),
        help="what to compare with: the decode in one piece, the same as an exact stream in little memory, or nothing; "
        "default: whole where a quarter of this machine's memory is enough, else stream",
    )
    options.add_model(parser)
    options.add_tiling(parser, default=None)
    options.add_exact(parser)
    add_keep(parser)
    options.add_debug(parser)
    parser.set_defaults(run=run)


@dataclass
class _Outcome:
    """What there is to tell."""

    clip: FittedClip
    encoding: Meter
    decoding: Meter
    fidelity: Difference
    decoded: FrameFile
    chosen: ExactPlan | None
    whole: FrameFile | None = None
    comparing: Meter | None = None
    difference: Difference | None = None


def run(args: argparse.Namespace) -> None:
    """Reconstruct a clip and tell about it."""
    if args.pictures is not None:
        if args.compare == "none":
            msg = "--pictures shows the difference from the whole decode; leave --compare none out"
            raise ValueError(msg)
        args.pictures.mkdir(parents=True, exist_ok=True)
    latents_path = args.latents or args.output.parent / f"{args.output.stem}.safetensors"
    for path, suffixes in ((args.output, VIDEO), (latents_path, LATENTS)):
        refuse_unwritable(path, suffixes=suffixes)
        refuse_same(path, [args.clip, *named(args)])
    refuse_same(args.output, [latents_path], "written besides")
    refuse_inside(args.keep, [args.output, latents_path, *([args.pictures] if args.pictures else [])])
    refuse_foreign(args.keep, {"latents", "frames"})
    refuse_several_for_exact(args)
    clip = read_fitted(args)
    with tempfile.TemporaryDirectory() as scratch:
        outcome = _reconstruct(args, clip, latents_path, Path(scratch))
        if args.pictures is not None:
            _draw(args, outcome)
    print(json.dumps(_facts(args, outcome)) if args.json else _table(args, outcome, latents_path))


def _reconstruct(args: argparse.Namespace, clip: FittedClip, latents_path: Path, scratch: Path) -> _Outcome:
    """Encode, save, decode into the mp4; decode whole; compare the results frame by frame."""
    latents, encoding = _latents(args, clip)
    encode.save(latents_path, latents, clip, args)
    height, width = clip.video.shape[3:]
    decoded, fidelity = FrameFile(scratch / "decoded", height, width), Difference()
    audio = OriginalAudio(clip.path, trim=clip.cut)
    place = VideoWriter(
        args.output, fps=clip.fps, height=height, width=width, audio=audio, pixel_aspect=clip.pixel_aspect
    )
    with place as writer, computing(args, load_decoder) as computed:
        decoder = computed.network
        chosen = decode.exact_plan(args, decoder, latents) if options.exact(args) else None
        values, latents = as_float32(latents), array_for(decoder, as_float32(latents), one_device(args))
        kept = None
        if args.keep is not None:
            decode.refuse_unrepeatable(args, decoder, SEED)
            plan_text = decode.plan_text(args, decoder, latents)
            kept = kept_blocks(args, args.keep / "frames", values, checkpoint(args), plan_text, SEED)

        def sink(block: Any, start: int) -> None:
            values = as_float32(block)
            writer.write(values)
            decoded.append(values)
            for k in range(values.shape[2]):
                fidelity.add(np.clip(values[0, :, k], -1, 1), clip.video[0, :, start + k])

        decoding = decode.decode(args, computed, latents, sink, seed=SEED, kept=kept)
    outcome = _Outcome(clip, encoding, decoding, fidelity, decoded, chosen)
    if args.compare != "none":
        outcome.whole = FrameFile(scratch / "whole", height, width)
        streamed, noise = _streamed(args, decoder, latents), decode.noise_of(decoder, latents, SEED)
        with Meter() as outcome.comparing:
            pieces = decoder.stream(latents, noise=noise) if streamed else [(0, decoder(latents, noise=noise))]
            for _, piece in pieces:
                outcome.whole.append(as_float32(piece))
        outcome.difference = Difference()
        for k in range(decoded.frames):
            outcome.difference.add(decoded.frame(k), outcome.whole.frame(k))
    return outcome


def _latents(args: argparse.Namespace, clip: FittedClip) -> tuple[Any, Meter]:
    """Encode the clip, unless a run before kept its latents."""
    if args.keep is None:
        return encode.encode(args, clip)
    key = {
        "input": array_digest(clip.video),
        "network": network_digest(checkpoint(args), keys_of_half("vae", "encoder"), "vae"),
        "how": decode.how(args),
        "memory": args.memory,
        "backend": taken(args)[0],
        "dtype": args.dtype,
    }
    kept = Kept(args.keep / "latents", key)
    if not kept.start:
        latents, meter = encode.encode(args, clip)
        return kept.put(0, latents), meter
    with Meter() as meter:
        ((_, values),) = kept.blocks()
    return values, meter


def _streamed(args: argparse.Namespace, decoder: Any, latents: Any) -> bool:
    """Say whether the reference is an exact stream: where that is asked for, or the whole decode is too large here."""
    if args.compare is not None:
        return bool(args.compare == "stream")
    memory = memory_bytes()
    if memory is None:
        return False
    return int(plan_exact(decoder, latents.shape, memory_bytes=2**62).peak_bytes) > SHARE * memory


def _draw(args: argparse.Namespace, outcome: _Outcome) -> None:
    """Draw the plan, and original, whole, tiled and their difference, amplified."""
    video = outcome.clip.video
    if not options.exact(args):
        plan.draw(plan.plan_for(video.shape[2:], args.tiling or "default"), args.pictures / "plan.png")
    if outcome.whole is None:
        return
    numbers = sorted({round(k) for k in np.linspace(0, video.shape[2] - 1, 4)})
    decoded, whole = outcome.decoded.clip(numbers), outcome.whole.clip(numbers)
    difference = np.abs(decoded - whole)
    # A power of ten that shows the largest differences and clips few of them.
    factor = 10 ** round(-math.log10(max(float(np.quantile(difference, 0.999)), 1e-9)))
    rows = {
        "original": video[:, :, numbers],
        "decoded in one piece": whole,
        f"decoded: {decode.how(args)}": decoded,
        f"their difference, {factor:,} times": np.minimum(difference * factor, 1) * 2 - 1,
    }
    contact_sheet(args.pictures / "sheet.png", rows)


def _facts(args: argparse.Namespace, outcome: _Outcome) -> dict[str, Any]:
    """Give everything as numbers."""
    clip, difference = outcome.clip, outcome.difference
    _, _, frames, height, width = clip.video.shape
    facts: dict[str, Any] = {
        "clip": str(clip.path),
        "width": width,
        "height": height,
        "frames": frames,
        "fps": str(clip.fps),
        "notes": clip.notes,
        "how": decode.how(args),
        "output": str(args.output),
        "psnr": outcome.fidelity.psnr,
    }
    for name, meter in (("encode", outcome.encoding), ("decode", outcome.decoding)):
        facts[name] = {"seconds": meter.seconds, "peak_bytes": meter.peak_bytes}
        if name == "encode" or outcome.chosen is None:
            made = plan.plan_for((frames, height, width), args.tiling or "default", encode=name == "encode")
            calls = made.calls(args.tile_batch_size, streaming=name == "decode")
            facts[name] |= {"tiles": len(made.tiles), "calls": calls, "redundant_work": made.redundant_work}
        else:
            tiles = math.prod(getattr(outcome.chosen, "tiles", ()))  # a diffusion decoder's plan has none
            facts[name] |= {"tiles": tiles, "redundant_work": outcome.chosen.work}
            facts["chosen"] = str(outcome.chosen)
    if outcome.comparing is not None and difference is not None:
        facts["whole"] = {"seconds": outcome.comparing.seconds, "peak_bytes": outcome.comparing.peak_bytes}
        facts["whole"] |= {"tiles": 1, "calls": 1, "redundant_work": 1.0}
        facts["difference"] = {"largest": difference.largest, "mean": difference.mean}
    return facts


def _table(args: argparse.Namespace, outcome: _Outcome, latents_path: Path) -> str:
    """Lay the facts out for people."""
    facts = _facts(args, outcome)
    steps = [name for name in ("encode", "decode", "whole") if name in facts]
    rows = [
        ("", *steps),
        ("tiles", *(str(facts[s].get("tiles", "")) for s in steps)),
        ("calls", *(str(facts[s].get("calls", "stream")) for s in steps)),
        ("redundant work", *(f"{facts[s]['redundant_work']:.2f}x" for s in steps)),
        ("seconds", *(f"{facts[s]['seconds']:.1f}" for s in steps)),
        ("peak memory", *(report.size_of(facts[s]["peak_bytes"]) for s in steps)),
    ]
    head = {
        "clip": outcome.clip.path.name,
        "size": f"{facts['width']}x{facts['height']}, {facts['frames']} frames at {facts['fps']} fps",
        "decode": facts["how"],
    }
    tail = {"to the original": f"PSNR {facts['psnr']:.1f} dB"}
    if "difference" in facts:
        found = facts["difference"]
        tail["to the whole"] = f"largest {found['largest']:.2g}, mean {found['mean']:.2g}, of values from -1 to 1"
    tail["written"] = f"{args.output}, {latents_path}"
    notes = [*outcome.clip.notes, *([facts["chosen"]] if "chosen" in facts else [])]
    return "\n".join([*notes, report.pairs(head), "", report.table(rows), "", report.pairs(tail)])
