"""``ltx-models info``: what a checkpoint holds, read from its header alone."""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import Checkpoint, Stored, open_checkpoint
from ltx_models.checkpoints.contents import version_by_header, version_text
from ltx_models.cli import options, report
from ltx_models.cli.network import checkpoint
from ltx_models.media.regular import parse_json
from ltx_models.pipelines.listing import Criteria, Listing, SourceError, local_listing
from ltx_models.pipelines.sources import choose
from ltx_models.pipelines.split import split_transformers

# Longest first: the first that fits names the component.
COMPONENTS = {
    "model.diffusion_model.audio_embeddings_connector.": "audio connector",
    "model.diffusion_model.video_embeddings_connector.": "video connector",
    "model.diffusion_model.": "transformer",
    "text_embedding_projection.": "text projection",
    "vae.encoder.": "video encoder",
    "vae.decoder.": "video decoder",
    "vae.per_channel_statistics.": "video statistics",
    "audio_vae.encoder.": "audio encoder",
    "audio_vae.decoder.": "audio decoder",
    "audio_vae.per_channel_statistics.": "audio statistics",
    "vocoder.": "vocoder",
    "duration_head.": "duration head",
    "lora": "LoRA",
    **dict.fromkeys(
        ("model.", "language_model.", "vision_model.", "multi_modal_projector.", "audio_projector."), "language model"
    ),
    **dict.fromkeys(("tokenizer_json", "hf_asset__"), "tokenizer"),
    **dict.fromkeys(
        ("initial_conv.", "initial_norm.", "res_blocks.", "upsampler.", "post_upsample_res_blocks.", "final_conv."),
        "latent upsampler",
    ),
}
# metadata that are files of their own, which are not printed
ASSETS = ("gemma_config", "tokenizer_config.json", "processor_config.json", "chat_template.jinja")


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "info", help="say what a checkpoint holds", description="Say what a checkpoint holds; no tensor is read."
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="safetensors file or folder; default: that of this package",
    )
    parser.add_argument("--config", action="store_true", help="print the whole embedded configuration as JSON")
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print components, keys and configuration: of a checkpoint, or of each file of a folder of parts."""
    if args.checkpoint is not None and args.checkpoint.is_dir():
        listing = local_listing(args.checkpoint)
        if split_transformers(listing):
            _run_parts(args, listing)
            return
    path = checkpoint(args)
    with open_checkpoint(path, "numpy") as opened:
        by_component = components(opened)
        if args.config:
            print(json.dumps(opened.config, indent=2))
        elif args.json:
            facts = {"path": str(path), "version": _version(opened.metadata), "components": by_component}
            print(json.dumps(facts | {"config": opened.config}))
        else:
            _print(opened, by_component)


def _run_parts(args: argparse.Namespace, listing: Listing) -> None:
    """Print what each file of a folder holds, and which of them a pipeline takes."""
    if args.config:
        msg = f"{args.checkpoint}: has a file for each component; --config is about one of them, give its path"
        raise ValueError(msg)
    names = [name for name in listing.names if name.endswith(".safetensors") and listing.holds(name)]
    rows: list[dict[str, Any]] = []
    for name in names:
        with open_checkpoint(args.checkpoint / name, "numpy") as opened:
            size, keys = sum(stored.size for stored in opened.files.values()), len(opened.files)
            held = sorted(components(opened))
            rows.append(
                {"name": name, "version": _version(opened.metadata), "holds": held, "keys": keys, "bytes": size}
            )
    try:
        taken: list[str] = list(choose(listing, Criteria()).names)
        trouble = None
    except SourceError as error:
        taken, trouble = [], str(error)
    if args.json:
        print(json.dumps({"path": str(args.checkpoint), "files": rows, "pipeline": taken, "trouble": trouble}))
        return
    print(args.checkpoint)
    table = [("file", "version", "holds", "keys", "size", "")]
    for row in rows:
        said = row["version"] or "?", ", ".join(row["holds"]), str(row["keys"]), report.size_of(row["bytes"])
        table.append((row["name"], *said, "*" * (row["name"] in taken)))
    print(report.table(table))
    print(trouble or "*: what a pipeline takes unless it is told otherwise")


def _version(metadata: Mapping[str, str]) -> str | None:
    """Give the version that a file says it is of, in full."""
    return metadata.get("model_version") or (version_text(v) if (v := version_by_header(metadata)) else None)


def components(opened: Checkpoint) -> dict[str, dict[str, Any]]:
    """Count keys, parameters and bytes of each component."""
    groups: dict[str, list[Stored]] = defaultdict(list)
    for key, stored in opened.files.items():
        prefix = "lora" if ".lora_" in key else next((p for p in COMPONENTS if key.startswith(p)), None)
        groups[COMPONENTS[prefix] if prefix else f"other ({key.split('.')[0]}.…)"].append(stored)
    return {
        name: {
            "keys": len(tensors),
            "parameters": sum(math.prod(t.shape) for t in tensors),
            "bytes": sum(t.size for t in tensors),
            "dtypes": sorted({t.dtype for t in tensors}),
        }
        for name, tensors in sorted(groups.items())
    }


def _print(opened: Checkpoint, by_component: dict[str, dict[str, Any]]) -> None:
    print(opened.path)
    rows = [("component", "keys", "parameters", "size", "dtypes")]
    for name, facts in by_component.items():
        size = report.size_of(facts["bytes"])
        rows.append((name, str(facts["keys"]), f"{facts['parameters']:,}", size, " ".join(facts["dtypes"])))
    print(report.table(rows))
    for name, section in opened.config.items():
        if section is None:  # as in files of one component
            continue
        entries = len(section) if isinstance(section, dict) else 1
        kind = section.get("_class_name", "") if isinstance(section, dict) else ""
        print(f"config.{name}: {entries} entries{f', {kind}' if kind else ''}")
    others = {k: v for k, v in opened.metadata.items() if k != "config"}
    for name, value in others.items():
        if name not in ASSETS:
            value = " ".join(value.split())
            print(f"metadata.{name}: {value if len(value) <= 60 else value[:57] + '...'}")
    if "gemma_config" in opened.metadata:
        gemma = parse_json(opened.metadata["gemma_config"])
        print(f"language model: {gemma.get('model_type')}, version {gemma.get('gemma_version') or 'unnamed'}")
