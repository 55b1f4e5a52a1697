"""Whether a checkpoint is dev or distilled: by its name, and by what a conversion wrote into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ltx_models.checkpoints.files import CheckpointError, read_header
from ltx_models.media.regular import parse_json

MARKER = "ltx_models"
KINDS = {"dev", "distilled"}


def kind_of(path: str | Path, metadata: Mapping[str, str]) -> str | None:
    """
    Tell whether a checkpoint is dev or distilled.

    Parameters
    ----------
    path : path
        Its file or folder, or the name of its repository.
    metadata : mapping of str to str
        Of its files.

    Returns
    -------
    {"dev", "distilled"} or None
        What a conversion noted, else what its name says; None where neither tells.

    Examples
    --------
    >>> kind_of("ltx-2-19b-dev.safetensors", {}), kind_of("a", {"ltx_models": '{"kind": "distilled"}'})
    ('dev', 'distilled')
    """
    try:
        noted = parse_json(metadata.get(MARKER, "{}"))
    except ValueError:  # whoever wrote it; the name may tell
        noted = {}
    if isinstance(noted, dict) and noted.get("kind") in KINDS:
        return str(noted["kind"])
    path = Path(path)
    repos = [part for part in path.parts if part.startswith("models--")]  # of the hub's cache
    for name in (path.name, *repos):
        if len(named := KINDS & set(re.split(r"[^a-z]+", name.lower()))) == 1:
            return named.pop()
    return None


def kind_of_file(path: Path) -> str | None:
    """Tell it of one file by its header; what is no checkpoint is refused by whoever opens it."""
    try:
        metadata = read_header(path)[0]
    except CheckpointError:
        metadata = {}
    return kind_of(path, metadata)
