"""``ltx-models info``: what a checkpoint holds, read from its header alone."""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import Checkpoint, Stored, open_checkpoint
from ltx_models.cli import options, report
from ltx_models.cli.network import checkpoint

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
}


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
    """Print components, keys and configuration."""
    path = checkpoint(args)
    with open_checkpoint(path, "numpy") as opened:
        by_component = components(opened)
        if args.config:
            print(json.dumps(opened.config, indent=2))
        elif args.json:
            print(json.dumps({"path": str(path), "components": by_component, "config": opened.config}))
        else:
            _print(opened, by_component)


def components(opened: Checkpoint) -> dict[str, dict[str, Any]]:
    """Count keys, parameters and bytes of each component."""
    groups: dict[str, list[Stored]] = defaultdict(list)
    for key, stored in opened.files.items():
        prefix = next((p for p in COMPONENTS if key.startswith(p)), None)
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
        entries = len(section) if isinstance(section, dict) else 1
        kind = section.get("_class_name", "") if isinstance(section, dict) else ""
        print(f"config.{name}: {entries} entries{f', {kind}' if kind else ''}")
    others = {k: v for k, v in opened.metadata.items() if k != "config"}
    for name, value in others.items():
        print(f"metadata.{name}: {value if len(value) <= 60 else value[:57] + '...'}")
