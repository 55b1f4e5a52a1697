"""What results were made of, so that those of another file, size or network are made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ltx_models.media import replacing

FOLDER = ".made-of"


def file_digest(path: Path) -> str:
    """Give the digest of the bytes of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


class Mark:
    """
    A note beside results that says what they were made of; written after them, and read before they are made again.

    Parameters
    ----------
    folder : Path
        Where the results are.
    name : Path
        Relative, without a suffix: what they are called.
    made_of : mapping of str to JSON values
        Digests of file and network, and all settings.
    """

    def __init__(self, folder: Path, name: Path, made_of: Mapping[str, Any]) -> None:
        self._folder = folder
        self._path = folder / FOLDER / name.with_name(f"{name.name}.json")
        self._made_of = json.loads(json.dumps(dict(made_of)))

    def fits(self) -> bool:
        """Whether results are there, all of them, whole, and made of the same."""
        try:
            value = json.loads(self._path.read_bytes())
            sizes = value["results"]
            return bool(value["made_of"] == self._made_of) and all(
                (self._folder / name).stat().st_size == size for name, size in sizes.items()
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return False

    def remove(self) -> None:
        """Say that results are about to change."""
        self._path.unlink(missing_ok=True)

    def write(self, results: Sequence[Path]) -> None:
        """Say that results are there."""
        sizes = {path.relative_to(self._folder).as_posix(): path.stat().st_size for path in results}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as part:
            part.write_text(json.dumps({"made_of": self._made_of, "results": sizes}, indent=1))
