"""``ltx-models encode --to``: many clips become a folder of latents."""

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ltx_models.cli import options
from ltx_models.cli.machine import backend_name
from ltx_models.cli.meter import Meter
from ltx_models.cli.network import checkpoint
from ltx_models.cli.stopping import WatchedBar
from ltx_models.clips import Bucket, ClipResult, encode_clips
from ltx_models.clips.results import LAYOUTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what goes with many clips."""
    group = parser.add_argument_group("many clips")
    group.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="encode all clips into this folder; run again, it goes on",
    )
    where = group.add_mutually_exclusive_group()
    where.add_argument("--workers", type=options.positive, metavar="N", help="processes; default: none, or a thread "
                       "for each device")  # fmt: skip
    where.add_argument("--dask", metavar="ADDRESS", help="of a scheduler of Dask, whose workers encode")
    group.add_argument(
        "--buckets",
        type=_buckets,
        default=(),
        metavar="WxHxF,...",
        help="scale and crop each clip to the one of these sizes and lengths that suits it best",
    )
    group.add_argument("--sound", action="store_true", help="encode the sound of the clips too")
    group.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="plain",
        help="safetensors for 'ltx-models decode' (plain), or the folders of the official trainer",
    )
    group.add_argument("--text-encoder", type=Path, metavar="PATH", help="language model that encodes captions")
    group.add_argument("--caption-column", default="caption", metavar="NAME", help="of a table; default: caption")
    group.add_argument("--media-column", default="media_path", metavar="NAME", help="of a table; default: media_path")


def refuse_alone(args: argparse.Namespace) -> None:
    """Refuse without --to what goes with it."""
    given = {"--workers": args.workers, "--dask": args.dask, "--buckets": args.buckets}
    given |= {"--sound": args.sound, "--layout": args.layout != "plain", "--text-encoder": args.text_encoder}
    names = [name for name, value in given.items() if value]
    if len(args.clips) > 1:
        names.insert(0, f"{len(args.clips)} clips")
    if names:
        msg = f"{', '.join(names)}: wants --to FOLDER, in which the latents of many clips go"
        raise ValueError(msg)


def run(args: argparse.Namespace) -> None:
    """Encode clips, and say what became of each."""
    if args.output is not None:
        msg = f"--output: got {args.output}, but with --to results are named after the clips; leave it out"
        raise ValueError(msg)
    if not args.clips:
        msg = "clips: with --to name files or folders of clips"
        raise ValueError(msg)
    count = {"made": 0, "kept": 0, "failed": 0}

    def tell(result: ClipResult) -> None:
        count[result.state] += 1
        if args.json:
            facts = {"clip": str(result.path), "state": result.state, "shape": list(result.shape)}
            print(json.dumps(facts | {"notes": result.notes, "error": result.error}), flush=True)
        elif result.state == "made":
            print("; ".join([f"{result.path}: latents {result.shape}", *result.notes]), flush=True)

    devices = options.devices(args)
    tiling = None if options.exact(args) else options.NamedTiling(args.tiling or "default")
    with Meter() as meter, _executor(args, devices) as executor, WatchedBar("encode", shown=False) as bar:
        try:
            encode_clips(
                args.clips,
                args.to,
                executor=executor,
                checkpoint=checkpoint(args),
                backend=backend_name(args.backend),
                dtype=args.dtype,
                devices=devices,
                tiling=tiling,
                memory_bytes=args.memory,
                tile_batch_size=args.tile_batch_size,
                frames=args.frames or None,
                fit=args.fit,
                buckets=args.buckets,
                sound=args.sound,
                layout=args.layout,
                text_encoder=args.text_encoder,
                media_column=args.media_column,
                caption_column=args.caption_column,
                progress=bar,
                on_clip=tell,
            )
        finally:
            told = f"{args.to}: {count['made']} clips encoded, {count['kept']} were there, {count['failed']} failed"
    facts = {"event": "done", "output": str(args.to), **count, "seconds": meter.seconds}
    print(json.dumps(facts) if args.json else f"{told}, {meter.seconds:.1f} s")


@contextmanager
def _executor(args: argparse.Namespace, devices: tuple[str | None, ...]) -> Iterator[Any]:
    """Give what runs the tasks: workers of Dask, processes, a thread for each device, or nobody else."""
    if args.dask is not None:
        with _dask(args.dask) as executor:
            yield executor
        return
    if args.workers is None and len(devices) == 1:
        yield None
        return
    pool = (
        ThreadPoolExecutor(len(devices))
        if args.workers is None
        else ProcessPoolExecutor(args.workers, mp_context=get_context("spawn"))
    )
    try:
        with pool:
            yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


@contextmanager
def _dask(address: str) -> Iterator[Any]:
    """Give the workers of a scheduler as an executor."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        msg = "--dask needs Dask; install it with: pip install 'tilekit-vae[dask]'"
        raise ImportError(msg) from error
    with Client(address) as client:
        yield client.get_executor(pure=False)


def _buckets(text: str) -> tuple[Bucket, ...]:
    try:
        return tuple(map(Bucket.read, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
