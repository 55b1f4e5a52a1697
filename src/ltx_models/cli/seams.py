"""``ltx-models seams``: where blended tiles would show, and how much."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ltx_models.cli import encode, options, report
from ltx_models.cli.bench import as_facts
from ltx_models.cli.clips import add_clip, read_fitted
from ltx_models.cli.comparing.charts import draw_seams, new_figure
from ltx_models.cli.comparing.comparison import Compared, compare
from ltx_models.cli.comparing.seams import Seam, SeamMap
from ltx_models.cli.comparing.shown import ShownFrame, write_pictures
from ltx_models.cli.comparing.ways import Decoding, Sink, Way
from ltx_models.cli.network import array_for, checkpoint, checkpoint_of, load_decoder
from ltx_models.cli.progress import Progress
from ltx_models.media import as_float32, read_latents, refuse_same, refuse_unwritable, replacing
from ltx_models.media._places import LATENTS, PICTURE
from tilekit import Plan

COMPARED: tuple[Way, ...] = ("whole", "exact", "blended")  # the first is what the others are compared with


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "seams",
        help="map the seams of blended tiles",
        description="Decode a clip or latents in blended tiles and exactly; score the seams, and draw a map of them.",
    )
    add_clip(parser, "video file, or latents of 'encode'; default: Big Buck Bunny of the extra 'samples'")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the map")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="decode whole too, compare with that, and write the map, a frame of each way and their differences",
    )
    parser.add_argument("--shown-frame", type=int, metavar="N", help="of --pictures; default: the middle one")
    options.add_model(parser)
    options.add_tiling(parser)
    parser.add_argument("--memory", type=options.n_bytes, metavar="SIZE", help="budget of exact work, such as 2GiB")
    options.add_debug(parser)
    parser.set_defaults(run=run, exact=True)


def run(args: argparse.Namespace) -> None:
    """Compare, tell the seams, and draw them where asked."""
    _check_places(args)
    path, values, notes = _latents(args)
    decoder = load_decoder(args, path)
    latents = array_for(decoder, values, args)
    _, _, f, h, w = latents.shape
    sizes = ((f - 1) * 8 + 1, h * 32, w * 32)
    tiling = options.tiling(args.tiling, sizes)
    decoding = Decoding(decoder, latents, tiling, args.memory, args.tile_batch_size)
    made = decoding.plan()
    found, shown = _compared(args, decoding, sizes[0])
    difference = found["blended"].difference
    assert difference is not None
    if shown is not None:
        write_pictures(args.pictures, shown.pictures())
        _draw(args.pictures / "seams.png", difference, made)
    if args.png is not None:
        _draw(args.png, difference, made)
    seams = difference.seams(made)
    if args.json:
        facts = {"largest": difference.largest, "rms": difference.rms, "seams": [asdict(seam) for seam in seams]}
        print(json.dumps(facts | {"ways": as_facts(found), "tiling": args.tiling, "notes": notes}))
        return
    for note in notes:
        print(note)
    print(_table(next(iter(found)), difference, seams))
    if args.png is not None:
        print(f"written {args.png}")


def _check_places(args: argparse.Namespace) -> None:
    """Refuse places that cannot be written, before any work."""
    if args.shown_frame is not None and args.pictures is None:
        msg = f"--shown-frame: got {args.shown_frame}, but it goes with --pictures, which is not given; add that"
        raise ValueError(msg)
    if args.png is None and args.pictures is None:
        return
    new_figure(1, 1, (1, 1))  # needs matplotlib
    if args.png is not None:
        refuse_unwritable(args.png, suffixes=PICTURE)
        refuse_same(args.png, [args.clip, args.checkpoint])
    if args.pictures is not None:
        args.pictures.mkdir(parents=True, exist_ok=True)
        refuse_unwritable(args.pictures / "seams.png", suffixes=PICTURE)


def _compared(
    args: argparse.Namespace, decoding: Decoding, frames: int
) -> tuple[dict[Way, Compared], ShownFrame | None]:
    """Decode in two ways, or in all three where their pictures are wanted, and then say how far it is."""
    if args.pictures is None:
        return compare(decoding, ("exact", "blended")), None
    number = frames // 2 if args.shown_frame is None else args.shown_frame
    if not 0 <= number < frames:
        msg = f"--shown-frame: got {number}, the clip has the frames 0 to {frames - 1}"
        raise ValueError(msg)
    shown, progress = ShownFrame(number), Progress(args.json)

    def sink(way: Way) -> Sink:
        keep = shown.sink(way)

        def take(block: Any, start: int) -> None:
            keep(block, start)
            progress(way, start + block.shape[2], frames)

        return take

    try:
        return compare(decoding, COMPARED, {way: sink(way) for way in COMPARED}), shown
    finally:
        progress.close()


def _latents(args: argparse.Namespace) -> tuple[Path, Any, tuple[str, ...]]:
    """Give checkpoint, latents and notes: read from a file, or encoded from a clip."""
    if args.clip is not None and args.clip.suffix in LATENTS:
        args.latents = args.clip
        saved = read_latents(args.clip)
        return checkpoint_of(args, saved).of("video_decoder"), saved.latents, ()
    clip = read_fitted(args)
    latents, _ = encode.encode(args, clip)
    return checkpoint(args), as_float32(latents), clip.notes


def _table(first: Way, difference: SeamMap, seams: list[Seam]) -> str:
    """Lay the seams out for people."""
    rows = [("seam along", "from", "to", "largest", "rms", "score")]
    for seam in seams:
        numbers = f"{seam.largest:.2g}", f"{seam.rms:.2g}", f"{seam.score:.1f}"
        rows.append((seam.axis, str(seam.start), str(seam.stop), *numbers))
    told = (
        f"blended against {first}: largest {difference.largest:.2g}, rms {difference.rms:.2g}, of values from -1 to 1"
    )
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
