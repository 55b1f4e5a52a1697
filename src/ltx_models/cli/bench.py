"""``ltx-models bench``: whole, blended and exact decodes measured on this machine."""

import argparse
import json
from typing import Any

import numpy as np

from ltx_models.cli import options, report
from ltx_models.cli.clips import SPACE, TIME, grid_size
from ltx_models.cli.comparing.comparison import Compared, compare
from ltx_models.cli.comparing.ways import WAYS, Decoding, Way
from ltx_models.cli.network import array_for, checkpoint, load_decoder
from ltx_models.cli.stopping import look

LATENT_CHANNELS = 128


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "bench",
        help="measure whole, blended and exact decodes here",
        description="Decode noise whole, in blended tiles and exactly; say seconds, peak memory, work and difference.",
    )
    parser.add_argument("--size", type=options.size, default=(320, 640), metavar="WxH", help="default: 640x320")
    parser.add_argument(
        "--frames",
        type=_lengths,
        default=(33,),
        metavar="N,...",
        help="1 + 8k; several lengths show how memory grows; default: 33",
    )
    parser.add_argument(
        "--ways", type=_ways, default=WAYS, metavar="WAY,...", help=f"of {', '.join(WAYS)}; default: all"
    )
    options.add_model(parser)
    options.add_tiling(parser)
    parser.add_argument("--memory", type=options.n_bytes, metavar="SIZE", help="budget of the exact decode")
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Measure, and print a table for each length, or a line of JSON."""
    height, width = args.size
    for frames in args.frames:
        grid_size(width, height, frames)
    path = checkpoint(args)
    decoder = load_decoder(args, path)
    if not args.json:
        print(f"{path.name}, {args.dtype}, {width}x{height}, noise")
    for frames in args.frames:
        look()
        found = measure(args, decoder, frames)
        if args.json:
            facts = {
                "frames": frames,
                "height": height,
                "width": width,
                "checkpoint": str(path),
                "ways": as_facts(found),
            }
            print(json.dumps(facts), flush=True)
        else:
            print(f"\n{frames} frames\n{as_table(found)}", flush=True)


def measure(args: argparse.Namespace, decoder: Any, frames: int) -> dict[Way, Compared]:
    """Decode noise of that many frames in each way."""
    height, width = args.size
    shape = (1, LATENT_CHANNELS, 1 + (frames - 1) // TIME, height // SPACE, width // SPACE)
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tiling = options.tiling(args.tiling, (frames, height, width))
    decoding = Decoding(decoder, array_for(decoder, noise, args), tiling, args.memory, args.tile_batch_size)
    return compare(decoding, args.ways)


def as_facts(found: dict[Way, Compared]) -> dict[str, Any]:
    """Give what was measured as numbers: bytes, seconds, values from -1 to 1."""
    facts: dict[str, Any] = {}
    for way, compared in found.items():
        taken = compared.taken
        facts[way] = {
            "seconds": taken.seconds,
            "seconds_to_first_frames": taken.blocks[0][0],
            "live_bytes": taken.live_bytes,
            "work": taken.work,
        }
        if compared.difference is not None:
            facts[way] |= {"largest_difference": compared.difference.largest, "rms_difference": compared.difference.rms}
    return facts


def as_table(found: dict[Way, Compared]) -> str:
    """
    Lay what was measured out for people, one column a way.

    Parameters
    ----------
    found : dict of str to Compared
        As `compare` gives it.

    Returns
    -------
    str
        Lines without a last newline.
    """
    first = next(iter(found))
    all_of = list(found.values())
    rows = [
        ("", *found),
        ("seconds", *(f"{c.taken.seconds:.1f}" for c in all_of)),
        ("first frames after, seconds", *(f"{c.taken.blocks[0][0]:.1f}" for c in all_of)),
        ("peak of live arrays", *(report.size_of(c.taken.live_bytes) for c in all_of)),
        ("work", *(f"{c.taken.work:.2f}x" for c in all_of)),
        (f"largest difference from {first}", *(_told(c, "largest") for c in all_of)),
        (f"rms difference from {first}", *(_told(c, "rms") for c in all_of)),
    ]
    return report.table(rows)


def _told(compared: Compared, what: str) -> str:
    return "-" if compared.difference is None else f"{getattr(compared.difference, what):.2g}"


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(options.positive(part) for part in text.split(","))


def _ways(text: str) -> tuple[Way, ...]:
    chosen = tuple(way for part in text.split(",") for way in WAYS if part == way)
    if len(chosen) != len(text.split(",")) or len(set(chosen)) != len(chosen):
        msg = f"expected some of {', '.join(WAYS)}, each once, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return chosen
