"""``ltx-models convert``: a checkpoint in another layout, dtype or quantisation."""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from ltx_models.checkpoints import DTYPES
from ltx_models.cli import options, report
from ltx_models.cli.stopping import WatchedBar
from ltx_models.convert import Layout, convert


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "convert",
        help="write a checkpoint in another layout",
        description="Write a checkpoint in another layout, dtype or quantisation, one tensor at a time.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a checkpoint in any known layout")
    parser.add_argument("target", type=Path, metavar="TARGET", help="a .safetensors file, or a folder for the others")
    parser.add_argument(
        "--layout", choices=get_args(Layout), default="official", help="layout to write; default: official"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="default: as it is")
    parser.add_argument(
        "--quantize", choices=("fp8", "int8", "int4"), help="the transformer's large layers; integers need MLX"
    )
    parser.add_argument("--shard-size", type=options.n_bytes, metavar="SIZE", help="most bytes of a file, such as 5GB")
    parser.add_argument("--overwrite", action="store_true", help="replace what stands at TARGET")
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Convert, and say what was written."""
    with WatchedBar("convert", unit="B", shown=False if args.json else None) as bar:
        done = convert(
            args.source,
            args.target,
            layout=args.layout,
            dtype=args.dtype,
            quantize=args.quantize,
            shard_bytes=args.shard_size,
            overwrite=args.overwrite,
            progress=bar,
        )
    if args.json:
        facts = {"target": str(done.target), "files": [str(f) for f in done.files], "tensors": done.tensors}
        print(json.dumps(facts | {"bytes": done.n_bytes, "dropped": list(done.dropped)}))
        return
    print(f"{done.target}: {done.tensors} tensors, {report.size_of(done.n_bytes)}, {len(done.files)} files")
    if done.dropped:
        print(f"left out, as no network reads them: {', '.join(done.dropped)}")
