"""``ltx-models convert``: a checkpoint in another layout, dtype or quantisation."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, get_args

from ltx_models.checkpoints import DTYPES
from ltx_models.cli import options, report
from ltx_models.convert import Layout, convert

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


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
    parser.add_argument("--shard-size", type=size, metavar="SIZE", help="most bytes of a file, such as 5GB")
    parser.add_argument("--overwrite", action="store_true", help="replace what stands at TARGET")
    options.add_debug(parser)
    parser.set_defaults(run=run)


def size(text: str) -> int:
    """
    Read a number of bytes.

    Parameters
    ----------
    text : str
        A number, with KB, MB or GB (powers of 1000) behind it.

    Returns
    -------
    int
        Bytes.

    Examples
    --------
    >>> size("1.5GB")
    1500000000
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]B)?", text.strip().upper())
    if not found or not float(found[1]):
        msg = f"expected a size such as 5GB or 800MB, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(float(found[1]) * UNITS[found[2] or ""])


def run(args: argparse.Namespace) -> None:
    """Convert, and say what was written."""
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, disable=args.json or not sys.stderr.isatty(), leave=False) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        done = convert(
            args.source,
            args.target,
            layout=args.layout,
            dtype=args.dtype,
            quantize=args.quantize,
            shard_bytes=args.shard_size,
            overwrite=args.overwrite,
            progress=advance,
        )
    if args.json:
        facts = {"target": str(done.target), "files": [str(f) for f in done.files], "tensors": done.tensors}
        print(json.dumps(facts | {"bytes": done.n_bytes, "dropped": list(done.dropped)}))
        return
    print(f"{done.target}: {done.tensors} tensors, {report.size_of(done.n_bytes)}, {len(done.files)} files")
    if done.dropped:
        print(f"left out, as no network reads them: {', '.join(done.dropped)}")
