"""The folder of a Gemma 3: what must be in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KINDS = ("gemma3", "gemma3_text")


def check_folder(path: Path) -> dict[str, Any]:
    """
    Refuse a folder that is no Gemma 3, saying what is missing.

    Returns
    -------
    dict
        Its configuration.

    Raises
    ------
    ValueError
        If files are missing, or the configuration is that of another model.
    """
    if not path.is_dir():
        msg = f"{path}: no such folder; give that of Gemma 3, downloaded whole (--gemma-root or text_encoder=)"
        raise ValueError(msg)
    wanted = {
        "config.json": (path / "config.json").is_file(),
        "tokenizer.json or tokenizer.model": _has_tokenizer(tokenizer_folder(path)),
        "model*.safetensors": any(path.glob("model*.safetensors")),
    }
    for index in path.glob("*.safetensors.index.json"):
        shards = set(json.loads(index.read_text())["weight_map"].values())
        wanted |= {shard: (path / shard).is_file() for shard in shards}
    if missing := [name for name, exists in wanted.items() if not exists]:
        msg = f"{path}: {', '.join(missing)} missing; download the folder of Gemma 3 again"
        raise ValueError(msg)
    config: dict[str, Any] = json.loads((path / "config.json").read_text())
    if config.get("model_type") not in KINDS:
        msg = (
            f"{path}: model_type is {config.get('model_type')!r}, the prompts of LTX-2 and 2.3 are read by {KINDS[0]!r}"
        )
        raise ValueError(msg)
    return config


def tokenizer_folder(path: Path) -> Path:
    """
    Find the tokenizer of a language model.

    Returns
    -------
    Path
        Its folder, or ``tokenizer`` beside it where that alone has one.
    """
    beside = path.parent / "tokenizer"
    return beside if _has_tokenizer(beside) and not _has_tokenizer(path) else path


def _has_tokenizer(path: Path) -> bool:
    return any((path / f"tokenizer.{end}").is_file() for end in ("json", "model"))
