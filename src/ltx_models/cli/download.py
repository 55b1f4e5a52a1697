"""``ltx-models download``: the files that a pipeline needs."""

import argparse
import json
from pathlib import Path
from typing import Any

from ltx_models.cli import options, report
from ltx_models.download import MODELS, PIPELINES, Item, Wanted, fetch, plan, wanted_by


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "download",
        help="fetch the files that a pipeline needs",
        description="Fetch the files that a pipeline needs: from a folder, else the cache, else the network.",
    )
    parser.add_argument("pipeline", nargs="?", choices=tuple(PIPELINES), default="distilled", help="default: distilled")
    parser.add_argument("--version", choices=tuple(MODELS), default="2.3", help="of the model; default: 2.3")
    parser.add_argument("--fp8", action="store_true", help="the transformer in 8-bit floats")
    parser.add_argument("--no-text-encoder", action="store_true", help="leave the language model out")
    parser.add_argument("--conv-vae", action="store_true", help="of 2.5 the convolutional video autoencoder instead")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="another repository; then --include says which files")
    parser.add_argument("--include", nargs="+", metavar="PATTERN", help="names with *; default: *.safetensors *.json")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit; with --repo")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="a folder, searched first; default: the cache")
    parser.add_argument("--dry-run", action="store_true", help="say what would be fetched, and how large it is")
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Say what is needed, then fetch it."""
    if (args.include or args.revision) and not args.repo:
        msg = f"{'--include' if args.include else '--revision'} goes with --repo; the files of a pipeline are known"
        raise ValueError(msg)
    if args.repo:
        if args.fp8 or args.conv_vae:
            msg = f"{'--fp8' if args.fp8 else '--conv-vae'} is about the files of a pipeline; with --repo say --include"
            raise ValueError(msg)
        names = tuple(args.include or ("*.safetensors", "*.json"))
        wanted: tuple[Wanted, ...] = (Wanted(args.repo, names, args.revision),)
    else:
        wanted = wanted_by(
            args.pipeline,
            version=args.version,
            fp8=args.fp8,
            text_encoder=not args.no_text_encoder,
            convolutional=args.conv_vae,
        )
    items = plan(wanted, local=args.to)
    if not args.json:
        _announce(items)
    paths = [] if args.dry_run else fetch(items, local=args.to)
    if args.json:
        rows = [{"repo": i.repo, "name": i.name, "bytes": i.n_bytes, "source": i.source} for i in items]
        print(json.dumps({"files": rows, "paths": [str(path) for path in paths]}))
    else:
        for path in paths:
            print(path)


def _announce(items: list[Item]) -> None:
    rows = [("file", "size", "from")]
    rows += [(i.name, "?" if i.n_bytes is None else report.size_of(i.n_bytes), i.source) for i in items]
    print(report.table(rows))
    total = sum(i.n_bytes or 0 for i in items if i.source == "network")
    print(f"to fetch: {report.size_of(total)}", flush=True)
