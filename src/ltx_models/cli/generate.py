"""``ltx-models generate``: a prompt becomes a video with sound."""

import argparse
import json
from typing import Any

from ltx_models.cli import report
from ltx_models.cli.generate_call import call_arguments, pipeline_of, refuse_filled, write_frames
from ltx_models.cli.generate_options import add_arguments
from ltx_models.cli.keep import refuse_inside
from ltx_models.cli.meter import Meter
from ltx_models.cli.progress import Progress
from ltx_models.media import refuse_unwritable
from ltx_models.media._places import LATENTS, SOUND, VIDEO

ABOUT = """\
Make a video with sound from a prompt. Without --checkpoint-path this shows the
machinery with a toy that is part of the package, and knows moving shapes only.
Defaults follow the checkpoint's version."""
EXAMPLES = """\
examples:
  ltx-models generate -p "a red circle moving right, a high tone"
  ltx-models generate -p "A fox in snow." --checkpoint-path Lightricks/LTX-2.3 \\
      --memory 32GiB --save-latents fox.safetensors -o fox.mp4
  ltx-models generate -p "A fox in snow." --checkpoint-path ltx-folder \\
      --image first.png 0 1.0 -n 121 -o fox.mp4"""
TOY = (
    "no --checkpoint-path: this is the embedded toy, which knows red, yellow, green, blue and white circles, squares "
    "and triangles that move left, right, up or down or stand still, with low, middle and high "
    "tones or beeps"
)


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "generate",
        help="make a video with sound from a prompt",
        usage="%(prog)s --prompt TEXT [--checkpoint-path PATH] [flags]",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Generate, and say what was done."""
    from ltx_models.pipelines.keeping import kept_on_failure

    if args.frames_png is None:
        refuse_unwritable(args.output_path, suffixes=SOUND if args.only_audio else VIDEO)
    else:
        refuse_filled(args.frames_png)
    if args.save_latents is not None:
        refuse_unwritable(args.save_latents, suffixes=LATENTS)
    refuse_inside(args.keep, [path for path in (args.output_path, args.save_latents, args.frames_png) if path])
    if args.prompt is None and args.embeds is None:
        msg = "prompt: give --prompt, or --embeds with contexts made before"
        raise ValueError(msg)
    progress = Progress(args.json)
    pipe = pipeline_of(args, progress.note)
    if args.checkpoint_path is None and args.transformer_path is None:
        progress.note(TOY)
    version = ".".join(map(str, pipe.version)) or "not said"
    progress.note(f"pipeline {pipe.recipe.name}; version of the checkpoint: {version}")
    if pipe.memory is not None:
        progress.note(str(pipe.memory))
    with Meter() as meter:
        try:
            out = pipe(**call_arguments(args, pipe, progress))
        finally:
            progress.close()
    for note in out.notes:
        progress.note(note)
    if args.frames_png is not None:
        files = pipe.components.files
        with kept_on_failure(out.latents, out.fps, None, args.frames_png, files=files, seed=args.seed):
            write_frames(args.frames_png, out.frames)
    written = str(out.path or args.frames_png)
    facts = {"event": "done", "output": written, "seconds": meter.seconds, "peak_bytes": meter.peak_bytes}
    if args.json:
        print(json.dumps(facts | {"seed": args.seed}))
        return
    print(f"{written}: seed {args.seed}, {meter.seconds:.1f} s, peak {report.size_of(meter.peak_bytes)}")
