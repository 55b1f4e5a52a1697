"""``ltx-models decode``: latents become a video."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ltx_models
from ltx_models.cli import options, report
from ltx_models.cli.clips import SPACE, TIME
from ltx_models.cli.machine import taken
from ltx_models.cli.meter import Meter
from ltx_models.cli.network import array_for, checkpoint_of, load_decoder, named
from ltx_models.cli.stopping import WatchedBar
from ltx_models.media import OriginalAudio, SavedLatents, VideoWriter, read_latents, refuse_same, refuse_unwritable
from ltx_models.media._places import VIDEO
from ltx_models.media.tracks import AudioSource
from ltx_models.pipelines.files import Files
from tilekit import stream_tiled

Sink = Callable[[Any, int], object]


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("decode", help="turn latents into a video", description="Turn latents into a video.")
    parser.add_argument("latents", type=Path, metavar="LATENTS", help="safetensors file of 'encode' or 'reconstruct'")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("video.mp4"), metavar="FILE", help="default: video.mp4"
    )
    parser.add_argument(
        "--audio", metavar="FILE", help="take the sound of this file, or 'none'; default: of the clip they come from"
    )
    options.add_model(parser, sound=True)
    options.add_tiling(parser, default=None)
    options.add_exact(parser)
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Decode latents into an mp4, frame by frame."""
    refuse_unwritable(args.output, suffixes=VIDEO)
    refuse_same(args.output, [args.latents, args.audio, *named(args)])
    saved = read_latents(args.latents)
    refuse_same(args.output, [saved.source or None])
    files = checkpoint_of(args, saved, sound=saved.audio is not None and args.audio is None)
    h, w = saved.latents.shape[3:]
    writer = VideoWriter(
        args.output,
        fps=saved.fps,
        height=h * SPACE,
        width=w * SPACE,
        audio=_audio(args, saved, files),
        pixel_aspect=saved.pixel_aspect,
    )
    with writer:
        decoder = load_decoder(args, files.of("video_decoder"))
        latents = array_for(decoder, saved.latents, args)
        if options.exact(args) and not args.json:
            print(exact_plan(args, decoder, latents))
        meter = decode(args, decoder, latents, lambda block, start: writer.write(block), seed=saved.seed)
    if args.json:
        facts = {"output": str(args.output), "frames": writer.frames, "fps": str(saved.fps)}
        print(json.dumps(facts | {"seconds": meter.seconds, "peak_bytes": meter.peak_bytes, "how": how(args)}))
        return
    print(
        f"{args.output}: {writer.frames} frames of {w * SPACE}x{h * SPACE} at {saved.fps} fps, {how(args)}, "
        f"{meter.seconds:.1f} s, {report.size_of(meter.peak_bytes)}"
    )


def decode(args: argparse.Namespace, decoder: Any, latents: Any, sink: Sink, *, seed: int | None = None) -> Meter:
    """Decode and hand every finished block of frames on, once and in order; give what it took."""
    frames, height, width = 1 + (latents.shape[2] - 1) * TIME, latents.shape[3] * SPACE, latents.shape[4] * SPACE
    from ltx_models.pipelines.steps import decoder_noise

    with Meter() as meter, WatchedBar("decode", shown=False if args.json else None) as progress:
        if options.exact(args):
            chosen = exact_plan(args, decoder, latents)
            noise = None if seed is None else decoder_noise(decoder, latents, seed)
            ltx_models.decode_exact(decoder, latents, plan=chosen, noise=noise, on_frames_ready=sink, progress=progress)
            return meter
        tiling = options.tiling(args.tiling or "default", (frames, height, width))
        blocks = stream_tiled(decoder, latents, tiling, tile_batch_size=args.tile_batch_size, progress=progress)
        for start, block in blocks:
            sink(block, start)
    return meter


def exact_plan(args: argparse.Namespace, decoder: Any, latents: Any) -> Any:
    """Choose how to decode without seams within the budget."""
    return ltx_models.plan_exact(decoder, latents.shape, memory_bytes=args.memory)


def how(args: argparse.Namespace) -> str:
    """Say in words how the decode was cut."""
    if options.exact(args):
        return "exact"
    return "in one piece" if args.tiling == "none" else f"blended tiles, {args.tiling or 'default'}"


def _audio(args: argparse.Namespace, saved: SavedLatents, files: Files) -> AudioSource | None:
    """Find the sound: what was asked for, or the latents' own where it is still there."""
    chosen, source = args.audio, saved.source
    if chosen == "none":
        return None
    if chosen is not None:
        return OriginalAudio(chosen)
    if saved.audio is not None:
        return _decoded(args, saved.audio, files)
    if not source or not Path(source).is_file():
        return None
    note = f"{args.latents}: takes the sound of {source}, which the latents name (--audio none: no sound)"
    print(f"ltx-models: {note}", file=sys.stderr)  # a file from elsewhere may name any file of this machine
    return OriginalAudio(source, trim=True)


def _decoded(args: argparse.Namespace, latents: Any, files: Files) -> AudioSource:
    """Decode the sound that was generated with the pictures, by the same checkpoint or the file beside it."""
    from ltx_models.pipelines.components import Components
    from ltx_models.pipelines.steps import decode_sound

    backend, device = taken(args)
    components = Components(files, backend_name=backend, dtype=args.dtype, device=device)
    sound = decode_sound(components, components.array(latents))
    return sound.samples, sound.rate
