"""``ltx-models seams``: where blended tiles would show, and how much."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ltx_models.cli import encode, options, report
from ltx_models.cli.clips import add_clip, read_fitted
from ltx_models.cli.comparing.charts import draw_seams, new_figure
from ltx_models.cli.comparing.comparison import compare
from ltx_models.cli.comparing.seams import Seam, SeamMap
from ltx_models.cli.comparing.ways import Decoding
from ltx_models.cli.network import array_for, checkpoint, checkpoint_of, load_decoder
from ltx_models.media import as_float32, read_latents, refuse_same, refuse_unwritable, replacing
from ltx_models.media._places import LATENTS, PICTURE
from tilekit import Plan


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "seams",
        help="map the seams of blended tiles",
        description="Decode a clip or latents in blended tiles and exactly; score the seams, and draw a map of them.",
    )
    add_clip(parser, "video file, or latents of 'encode'; default: Big Buck Bunny of the extra 'samples'")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the map")
    options.add_model(parser)
    options.add_tiling(parser)
    parser.add_argument("--memory", type=options.n_bytes, metavar="SIZE", help="budget of exact work, such as 2GiB")
    options.add_debug(parser)
    parser.set_defaults(run=run, exact=True)


def run(args: argparse.Namespace) -> None:
    """Compare, tell the seams, and draw them where asked."""
    if args.png is not None:
        new_figure(1, 1, (1, 1))  # needs matplotlib, as is said before any work
        refuse_unwritable(args.png, suffixes=PICTURE)
        refuse_same(args.png, [args.clip, args.checkpoint])
    path, values, notes = _latents(args)
    decoder = load_decoder(args, path)
    latents = array_for(decoder, values, args)
    _, _, f, h, w = latents.shape
    sizes = ((f - 1) * 8 + 1, h * 32, w * 32)
    tiling = options.tiling(args.tiling, sizes)
    decoding = Decoding(decoder, latents, tiling, args.memory, args.tile_batch_size)
    made = decoding.plan()
    difference = compare(decoding, ("exact", "blended"))["blended"].difference
    assert difference is not None
    if args.png is not None:
        _draw(args.png, difference, made)
    seams = difference.seams(made)
    if args.json:
        facts = {"largest": difference.largest, "rms": difference.rms, "seams": [asdict(seam) for seam in seams]}
        print(json.dumps(facts | {"tiling": args.tiling, "notes": notes}))
        return
    for note in notes:
        print(note)
    print(_table(difference, seams))
    if args.png is not None:
        print(f"written {args.png}")


def _latents(args: argparse.Namespace) -> tuple[Path, Any, tuple[str, ...]]:
    """Give checkpoint, latents and notes: read from a file, or encoded from a clip."""
    if args.clip is not None and args.clip.suffix in LATENTS:
        args.latents = args.clip
        saved = read_latents(args.clip)
        return checkpoint_of(args, saved).of("video_decoder"), saved.latents, ()
    clip = read_fitted(args)
    latents, _ = encode.encode(args, clip)
    return checkpoint(args), as_float32(latents), clip.notes


def _table(difference: SeamMap, seams: list[Seam]) -> str:
    """Lay the seams out for people."""
    rows = [("seam along", "from", "to", "largest", "rms", "score")]
    for seam in seams:
        numbers = f"{seam.largest:.2g}", f"{seam.rms:.2g}", f"{seam.score:.1f}"
        rows.append((seam.axis, str(seam.start), str(seam.stop), *numbers))
    told = f"blended against exact: largest {difference.largest:.2g}, rms {difference.rms:.2g}, of values from -1 to 1"
    if not seams:
        return f"{told}\none tile holds everything: there are no seams"
    return (
        f"{told}\n\n{report.table(rows)}\n\nscore: mean square in the overlap over that outside overlaps; 1 is no seam"
    )


def _draw(path: Path, difference: SeamMap, made: Plan) -> None:
    """Draw the map as PNG."""
    figure, axis = new_figure(1, 1, (8, 5))
    draw_seams(axis, difference, made)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
