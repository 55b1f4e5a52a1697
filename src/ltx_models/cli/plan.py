"""``ltx-models plan``: what a tiling costs, before anything runs."""

import argparse
import json
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ltx_models.cli import options, report
from ltx_models.cli.clips import SPACE, TIME, grid_size
from ltx_models.cli.comparing.forecast import expected, read_config
from ltx_models.cli.network import checkpoint
from ltx_models.media import replacing
from ltx_models.media._places import PICTURE, check_suffix
from ltx_models.pipelines.forecast import Decode
from ltx_models.pipelines.grid import Size
from ltx_models.video_vae.config import LTX2
from ltx_models.video_vae.sharing import plan_sharing
from tilekit import LTX2_VIDEO, Plan, PlanError
from tilekit import plan as make_plan

COLUMNS = 80
LATENT_CHANNELS, PIXEL_CHANNELS = 128, 3
ITEMSIZES = {"bfloat16": 2, "float16": 2, "float32": 4}


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("plan", help="say what a tiling costs", description="Say what a tiling costs.")
    parser.add_argument("--size", type=options.size, default=(704, 1280), metavar="WxH", help="default: 1280x704")
    parser.add_argument("--frames", type=options.positive, default=121, metavar="N", help="1 + 8k; default: 121")
    parser.add_argument("--encode", action="store_true", help="of the encoder, not the decoder")
    parser.add_argument(
        "--devices", type=options.positive, metavar="N", help="forecast N devices: exact strips, or these tiles"
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the plan")
    group = parser.add_argument_group("whole, blended and exact side by side")
    group.add_argument("--exact", action="store_true", help="forecast all three for a decoder")
    group.add_argument("--memory", type=options.n_bytes, metavar="SIZE", help="budget of the exact decode")
    group.add_argument("--checkpoint", type=Path, metavar="PATH", help="of the decoder; default: that of this package")
    group.add_argument("--dtype", choices=tuple(ITEMSIZES), default="bfloat16", help="default: bfloat16")
    options.add_tiling(parser)
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the plan, and draw it where asked."""
    (height, width), frames = args.size, args.frames
    grid_size(width, height, frames)
    if args.exact:
        side_by_side(args)
        return
    if args.memory is not None or args.checkpoint is not None:
        msg = "--memory and --checkpoint go with --exact; blended tiles are cut by --tiling alone"
        raise ValueError(msg)
    made = plan_for((frames, height, width), args.tiling, encode=args.encode)
    calls, peak = (
        made.calls(args.tile_batch_size),
        made.peak_bytes(tile_batch_size=args.tile_batch_size, streaming=True),
    )
    shared = None if args.devices is None else devices(made, args)
    if args.json:
        facts: dict[str, Any] = {"tiles": len(made.tiles), "calls": calls, "redundant_work": made.redundant_work}
        facts |= {} if shared is None else {"devices": shared}
        print(json.dumps(facts | {"peak_bytes": peak, "plan": json.loads(made.to_json())}))
    else:
        for line in str(made).splitlines():
            print(line if len(line) <= COLUMNS else textwrap.fill(line, COLUMNS, subsequent_indent="    "))
        print(f"{calls} calls with --tile-batch-size {args.tile_batch_size}")
        print(f"the engine holds at most {report.size_of(peak)} when frames are handed on as they are finished")
    if shared is not None and not args.json:
        print(told_devices(shared))
    if args.png is not None:
        draw(made, args.png)


def devices(made: Plan, args: argparse.Namespace) -> dict[str, Any]:
    """Forecast several devices, as exact strips and with the tiles of a plan, beside one for the whole."""
    (height, width), frames = args.size, args.frames
    latents = (1, LATENT_CHANNELS, 1 + (frames - 1) // TIME, height // SPACE, width // SPACE)
    tiles = made.makespan(args.devices, tile_batch_size=args.tile_batch_size)
    told: dict[str, Any] = {"devices": args.devices, "tiles": {"work": made.redundant_work, "speedup": 1 / tiles}}
    try:
        sharing = plan_sharing(LTX2, latents, args.devices, decode=not args.encode)
    except PlanError as error:
        return told | {"strips": None, "why": str(error)}
    told["strips"] = {
        "grid": sharing.grid,
        "work": sum(sharing.shares),
        "speedup": 1 / sharing.makespan,
        "sent_bytes": sum(sharing.sent_bytes),
        "most_sent_bytes": max(sharing.sent_bytes),
    }
    return told


def told_devices(shared: dict[str, Any]) -> str:
    """Say it in words."""
    count, tiles, strips = shared["devices"], shared["tiles"], shared["strips"]
    lines = [f"{count} devices, beside one that decodes the whole, if what is sent took no time:"]
    if strips is None:
        lines.append(f"  strips: {shared['why'].removeprefix('strips: ')}")
    else:
        rows, columns = strips["grid"]
        balance = strips["speedup"] / count
        sent, most = report.size_of(strips["sent_bytes"]), report.size_of(strips["most_sent_bytes"])
        lines += [
            f"  strips: exact, {rows} x {columns}, work {strips['work']:.2f}, balance {balance:.0%}, "
            f"{strips['speedup']:.1f} times as fast",
            f"          borders sent: {sent}, {most} by the busiest (LTX-2, bfloat16)",
        ]
    balance = tiles["speedup"] * tiles["work"] / count
    lines.append(
        f"  tiles:  blended, work {tiles['work']:.2f}, balance {balance:.0%}, {tiles['speedup']:.1f} times as fast"
    )
    better = strips is not None and strips["speedup"] > tiles["speedup"]
    lines.append(f"  best:   {'strips, inside a machine' if better else 'tiles, over any executor'}")
    return "\n".join(lines)


def side_by_side(args: argparse.Namespace) -> None:
    """Print what a decode takes whole, in blended tiles and exactly."""
    if args.encode:
        msg = "--exact: forecasts decodes; leave --encode out"
        raise ValueError(msg)
    (height, width), frames = args.size, args.frames
    made = plan_for((frames, height, width), args.tiling)
    path = checkpoint(args)
    config = read_config(path)
    found = expected(
        config,
        made,
        itemsize=ITEMSIZES[args.dtype],
        memory_bytes=args.memory,
        tile_batch_size=args.tile_batch_size,
    )
    if args.png is not None:
        draw(made, args.png)
    if args.json:
        print(json.dumps({"checkpoint": str(path), "ways": [asdict(one) for one in found]}))
        return
    rows = [
        ("", *(one.way for one in found)),
        ("expected peak", *(report.size_of(one.peak_bytes) for one in found)),
        ("work", *(f"{one.work:.2f}x" for one in found)),
        ("seams", *(str(one.seams) for one in found)),
    ]
    print(f"decode to {width}x{height}, {frames} frames, in {args.dtype}, by {path.name}\n\n{report.table(rows)}\n")
    for one in found:
        print(textwrap.fill(f"{one.way}: {one.how}", COLUMNS, subsequent_indent="    "))
    print("peaks are of live arrays, without weights and without frames that were handed on")
    beside = Decode.of(config, Size(height, width, frames, 24.0), ITEMSIZES[args.dtype])
    if beside.noise:
        noise, video = report.size_of(beside.noise), report.size_of(beside.result)
        print(f"a diffusion decoder has its noise beside them, {noise}, and the video until it is whole, {video}")


def plan_for(pixels: tuple[int, int, int], tiling: str | None, *, encode: bool = False) -> Plan:
    """Plan the decode to (frames, height, width), or the encode from there."""
    cut = options.tiling(tiling, pixels)
    if encode:
        return make_plan((1, PIXEL_CHANNELS, *pixels), cut, geometry=LTX2_VIDEO, direction="encode")
    frames, height, width = pixels
    shape = (1, LATENT_CHANNELS, 1 + (frames - 1) // TIME, height // SPACE, width // SPACE)
    return make_plan(shape, cut, geometry=LTX2_VIDEO)


def draw(made: Plan, path: Path) -> None:
    """Draw a plan as PNG."""
    check_suffix(path, PICTURE)
    with replacing(path) as part:
        made.plot().savefig(part, format="png", dpi=120)
