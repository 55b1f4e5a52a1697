"""``ltx-models encode``: a clip becomes latents."""

import argparse
import json
from pathlib import Path
from typing import Any

from ltx_models import encode_exact
from ltx_models.checkpoints.latent_space import latent_space
from ltx_models.cli import options, report
from ltx_models.cli.clips import FittedClip, add_clip, read_fitted
from ltx_models.cli.meter import Meter
from ltx_models.cli.network import array_for, checkpoint, load_encoder
from ltx_models.cli.stopping import WatchedBar
from ltx_models.media import refuse_same, refuse_unwritable, write_latents
from ltx_models.media._places import LATENTS
from tilekit import encode_tiled


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("encode", help="turn a clip into latents", description="Turn a clip into latents.")
    add_clip(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("latents.safetensors"),
        metavar="FILE",
        help="default: latents.safetensors",
    )
    options.add_model(parser)
    options.add_tiling(parser, default=None)
    options.add_exact(parser)
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Encode a clip and save its latents."""
    refuse_unwritable(args.output, suffixes=LATENTS)
    refuse_same(args.output, [args.clip, args.checkpoint])
    clip = read_fitted(args)
    latents, meter = encode(args, clip)
    save(args.output, latents, clip, args)
    facts = {"output": str(args.output), "shape": list(latents.shape), "fps": str(clip.fps)}
    if args.json:
        measured = {"seconds": meter.seconds, "peak_bytes": meter.peak_bytes, "notes": clip.notes}
        print(json.dumps(facts | measured))
        return
    for note in clip.notes:
        print(note)
    print(
        f"{args.output}: latents {tuple(latents.shape)} of {clip.video.shape[2]} frames at {clip.fps} fps, "
        f"{meter.seconds:.1f} s, {report.size_of(meter.peak_bytes)}"
    )


def save(path: Path, latents: Any, clip: FittedClip, args: argparse.Namespace) -> None:
    """Save latents with what a decode needs to know of the clip and the autoencoder."""
    source, space = str(clip.path.resolve()), latent_space(checkpoint(args))
    write_latents(path, latents, fps=clip.fps, source=source, pixel_aspect=clip.pixel_aspect, space=space)


def encode(args: argparse.Namespace, clip: FittedClip) -> tuple[Any, Meter]:
    """Encode a clip, exactly or in blended tiles; give the latents, of the backend's library, and what it took."""
    encoder = load_encoder(args)
    video = array_for(encoder, clip.video, args)
    with Meter() as meter, WatchedBar("encode", shown=False if args.json else None) as progress:
        if options.exact(args):
            latents = encode_exact(encoder, video, memory_bytes=args.memory, progress=progress)
        else:
            tiling = options.tiling(args.tiling or "default", clip.video.shape[2:])
            latents = encode_tiled(encoder, video, tiling, tile_batch_size=args.tile_batch_size, progress=progress)
        encoder.nn.synchronize(latents)
    return latents, meter
