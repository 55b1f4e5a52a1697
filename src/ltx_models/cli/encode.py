"""``ltx-models encode``: a clip becomes latents, or many clips do."""

import argparse
import json
from pathlib import Path
from typing import Any

from ltx_models import encode_exact
from ltx_models.cli import encode_many, options, report
from ltx_models.cli.clips import FittedClip, add_fitting, read_fitted
from ltx_models.cli.meter import Meter
from ltx_models.cli.network import array_for, checkpoint, load_encoder, named
from ltx_models.cli.several import computing, one_device, refuse_several_for_exact
from ltx_models.cli.stopping import WatchedBar
from ltx_models.clips.results import save_clip
from ltx_models.media import refuse_same, refuse_unwritable
from ltx_models.media._places import LATENTS
from tilekit import encode_tiled

ABOUT = "Turn a clip into latents; with --to, turn many clips into a folder of them."
OUTPUT = Path("latents.safetensors")


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("encode", help="turn a clip, or many, into latents", description=ABOUT)
    parser.add_argument(
        "clips",
        nargs="*",
        type=Path,
        metavar="CLIP",
        help="video file; with --to also several, and folders; default: Big Buck Bunny of the extra 'samples'",
    )
    add_fitting(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=f"of one clip; default: {OUTPUT}")
    encode_many.add_arguments(parser)
    options.add_model(parser)
    options.add_tiling(parser, default=None)
    options.add_exact(parser)
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Encode a clip and save its latents, or many."""
    if args.to is not None:
        encode_many.run(args)
        return
    encode_many.refuse_alone(args)
    args.clip = args.clips[0] if args.clips else None
    output = args.output or OUTPUT
    refuse_unwritable(output, suffixes=LATENTS)
    refuse_same(output, [args.clip, *named(args)])
    clip = read_fitted(args)
    latents, meter = encode(args, clip)
    save(output, latents, clip, args)
    facts = {"output": str(output), "shape": list(latents.shape), "fps": str(clip.fps)}
    if args.json:
        measured = {"seconds": meter.seconds, "peak_bytes": meter.peak_bytes, "notes": clip.notes}
        print(json.dumps(facts | measured))
        return
    for note in clip.notes:
        print(note)
    print(
        f"{output}: latents {tuple(latents.shape)} of {clip.video.shape[2]} frames at {clip.fps} fps, "
        f"{meter.seconds:.1f} s, {report.size_of(meter.peak_bytes)}"
    )


def save(path: Path, latents: Any, clip: FittedClip, args: argparse.Namespace) -> None:
    """Save latents with what a decode needs to know of the clip and the autoencoder."""
    save_clip(path, latents, clip, checkpoint(args))


def encode(args: argparse.Namespace, clip: FittedClip) -> tuple[Any, Meter]:
    """Encode a clip, exactly or in blended tiles; give the latents, of the backend's library, and what it took."""
    refuse_several_for_exact(args)
    with computing(args, load_encoder) as encoder:
        video = array_for(encoder.network, clip.video, one_device(args))
        with Meter() as meter, WatchedBar("encode", shown=False if args.json else None) as progress:
            if options.exact(args):
                latents = encode_exact(encoder.network, video, memory_bytes=args.memory, progress=progress)
            else:
                tiling = options.tiling(args.tiling or "default", clip.video.shape[2:])
                many: Any = {"tile_batch_size": args.tile_batch_size, "progress": progress, **encoder.options}
                latents = encode_tiled(encoder.function, video, tiling, **many)
            encoder.network.nn.synchronize(latents)
    return latents, meter
