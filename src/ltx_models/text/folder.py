"""The folder of a Gemma 3: what must be in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltx_models.checkpoints.files import indexed_names
from ltx_models.media.regular import parse_json

KINDS = ("gemma3", "gemma3_text")


def check_folder(path: Path, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """
    Refuse a folder that is no Gemma of these kinds, by default 3, saying what is missing.

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
    wanted |= {shard: (path / shard).is_file() for shard in indexed_names(path)}
    if missing := [name for name, exists in wanted.items() if not exists]:
        msg = f"{path}: {', '.join(missing)} missing; download the folder of Gemma 3 again"
        raise ValueError(msg)
    try:
        config = parse_json((path / "config.json").read_bytes())
    except ValueError as error:
        msg = f"{path / 'config.json'}: is not JSON ({error}); download the folder of Gemma 3 again"
        raise ValueError(msg) from error
    if not isinstance(config, dict):
        config = {}
    if config.get("model_type") not in kinds:
        what = (
            f"prompts of LTX-2 and 2.3 are read by {KINDS[0]!r}, those of 2.5 by a fine-tuned Gemma 4, whose one file "
            "is given in place of a folder (--text-encoder-path)"
        )
        if tuple(kinds) != KINDS:
            what = f"prompts are written out by {', '.join(kinds)}"
        msg = f"{path}: model_type is {config.get('model_type')!r}; {what}"
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
