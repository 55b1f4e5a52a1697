"""``ltx-models decode``: latents become a video."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ltx_models
from ltx_models.cli import options, report
from ltx_models.cli.clips import SPACE, TIME
from ltx_models.cli.keep import add_keep, kept_blocks, refuse_inside, size_note
from ltx_models.cli.machine import taken
from ltx_models.cli.meter import Meter
from ltx_models.cli.network import array_for, checkpoint_of, load_decoder, named
from ltx_models.cli.ranks import first_frame, strips_of
from ltx_models.cli.several import Computing, computing, one_device, refuse_several_for_exact
from ltx_models.cli.stopping import WatchedBar
from ltx_models.media import OriginalAudio, SavedLatents, VideoWriter, read_latents, refuse_same, refuse_unwritable
from ltx_models.media._places import VIDEO
from ltx_models.media.tracks import AudioSource
from ltx_models.pipelines.files import Files
from ltx_models.video_vae.diffusion import DiffusionDecoderConfig
from ltx_models.video_vae.exact import draws_noise
from tilekit import Kept, Strips, stream_tiled

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
    add_keep(parser)
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Decode latents into an mp4, frame by frame."""
    refuse_unwritable(args.output, suffixes=VIDEO)
    refuse_same(args.output, [args.latents, args.audio, *named(args)])
    refuse_inside(args.keep, [args.output])
    strips = strips_of(args)
    first = strips is None or strips.rank == 0  # which alone writes
    refuse_several_for_exact(args)
    saved = read_latents(args.latents)
    refuse_same(args.output, [saved.source or None])
    files = checkpoint_of(args, saved, sound=saved.audio is not None and args.audio is None)
    h, w = saved.latents.shape[3:]
    open_writer = partial(
        VideoWriter,
        args.output,
        fps=saved.fps,
        height=h * SPACE,
        width=w * SPACE,
        pixel_aspect=saved.pixel_aspect,
    )
    writer = open_writer(audio=_audio(args, saved, files)) if first else None
    load = partial(load_decoder, path=files.of("video_decoder"))
    with writer or nullcontext(), computing(args, load) as decoder:
        latents = array_for(decoder.network, saved.latents, one_device(args))
        if options.exact(args) and not args.json and strips is None:
            print(exact_plan(args, decoder.network, latents))
        kept = None
        if args.keep is not None and first:
            refuse_unrepeatable(args, decoder.network, saved.seed)
            plan = "strips" if strips is not None else plan_text(args, decoder.network, latents)
            kept = kept_blocks(args, args.keep, saved.latents, files.of("video_decoder"), plan, saved.seed)
        given: Any = {"seed": saved.seed, "kept": kept, "strips": strips}
        meter = decode(args, decoder, latents, partial(_written, writer), **given)
    if writer is None:
        return
    if args.json:
        facts = {"output": str(args.output), "frames": writer.frames, "fps": str(saved.fps)}
        print(json.dumps(facts | {"seconds": meter.seconds, "peak_bytes": meter.peak_bytes, "how": how(args)}))
        return
    print(
        f"{args.output}: {writer.frames} frames of {w * SPACE}x{h * SPACE} at {saved.fps} fps, {how(args)}, "
        f"{meter.seconds:.1f} s, {report.size_of(meter.peak_bytes)}"
    )
    if kept is not None:
        print(size_note(kept))


def _written(writer: VideoWriter | None, block: Any, start: int) -> None:
    del start
    if writer is not None:
        writer.write(block)


def decode(
    args: argparse.Namespace,
    decoder: Computing,
    latents: Any,
    sink: Sink,
    *,
    seed: int | None = None,
    kept: Kept | None = None,
    strips: Strips | None = None,
) -> Meter:
    """Decode and hand every finished block of frames on, once and in order; give what it took."""
    frames, network = 1 + (latents.shape[2] - 1) * TIME, decoder.network
    shown = False if args.json or (strips is not None and strips.rank) else None
    with Meter() as meter, WatchedBar("decode", shown=shown) as progress:
        if strips is not None:
            shared: Any = {"strips": strips, "memory_bytes": args.memory}
            if seed is not None:
                shared["noise"] = noise_of(network, latents, seed)

            def stream(start: int) -> Iterator[tuple[int, Any]]:
                return ltx_models.stream_decode(network, latents, start=first_frame(strips, start, latents), **shared)

        elif options.exact(args):
            chosen = exact_plan(args, network, latents)
            noise = noise_of(network, latents, seed)

            def stream(start: int) -> Iterator[tuple[int, Any]]:
                return ltx_models.stream_decode(network, latents, plan=chosen, noise=noise, start=start)

        else:
            tiling = options.tiling(args.tiling or "default", (frames, *(n * SPACE for n in latents.shape[3:])))
            many: Any = {"tile_batch_size": args.tile_batch_size, "progress": progress, **decoder.options}

            def stream(start: int) -> Iterator[tuple[int, Any]]:
                return stream_tiled(decoder.function, latents, tiling, start=start, **many)

        for start, block in stream(0) if kept is None else kept.resume(stream):
            network.nn.synchronize(block)  # what is pending is not done, and its progress must not be told
            sink(block, start)
            if options.exact(args):
                progress(start + block.shape[2], frames)
            del block
    return meter


def plan_text(args: argparse.Namespace, decoder: Any, latents: Any) -> str:
    """Say how a decode is cut, so that another cut is told from it."""
    if options.exact(args):
        return str(replace(exact_plan(args, decoder, latents), reason="", peak_bytes=0))
    return f"{args.tiling or 'default'}, {args.tile_batch_size} tiles a call, of {tuple(latents.shape)}"


def refuse_unrepeatable(args: argparse.Namespace, decoder: Any, seed: int | None) -> None:
    """Refuse to keep what a second run would not make again: frames of noise that nobody knows."""
    seeded = seed is not None and options.exact(args) and isinstance(decoder.config, DiffusionDecoderConfig)
    if seeded or not draws_noise(decoder):
        return
    msg = (
        "--keep: this decoder draws noise, and a run that goes on would draw another; decode latents of 'generate', "
        "which say their seed, without --tiling, or leave --keep out"
    )
    raise ValueError(msg)


def noise_of(decoder: Any, latents: Any, seed: int | None) -> Any:
    """Give the noise of a diffusion decoder, the same for each decode of the same latents; None of others."""
    from ltx_models.pipelines.steps import decoder_noise

    return None if seed is None else decoder_noise(decoder, latents, seed)


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

    backend, device = taken(args)[0], options.devices(args)[0]
    components = Components(files, backend_name=backend, dtype=args.dtype, device=device)
    sound = decode_sound(components, components.array(latents))
    return sound.samples, sound.rate
