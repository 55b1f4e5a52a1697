"""Which clips there are, and what their results are called."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.media import MediaError

TABLES = {".csv", ".json", ".jsonl"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


@dataclass(frozen=True, slots=True)
class Source:
    """
    A clip of a data set.

    Attributes
    ----------
    path : Path
        The file.
    name : Path
        Relative, without a suffix: what its results are called.
    caption : str or None
        What it shows, in words.
    """

    path: Path
    name: Path
    caption: str | None = None


def find_clips(
    paths: Iterable[str | Path], *, media_column: str = "media_path", caption_column: str = "caption"
) -> list[Source]:
    """
    List the clips of files and folders.

    Parameters
    ----------
    paths : iterable of path
        Video files, folders that are searched with all that they contain, and tables of clips: .csv, .json (a list of
        objects) or .jsonl. Results of a folder's clips are named by their places in it, those of a table's by their
        places beside it.
    media_column, caption_column : str
        Of a table: paths of clips, from the table's folder on, and captions, which may lack.

    Returns
    -------
    list of Source
        In the order of `paths`, those of a folder by name.

    Raises
    ------
    MediaError
        If a path is not there, a folder has no clips, or two clips would have results of one name.

    Examples
    --------
    >>> from ltx_models.media import sample_clip
    >>> [str(source.name) for source in find_clips([sample_clip()])]
    ['bigbuckbunny']
    """
    found: list[Source] = []
    for path in map(Path, paths):
        if path.is_dir():
            inner = sorted(file for file in path.rglob("*") if file.suffix.lower() in VIDEOS and file.is_file())
            if not inner:
                msg = f"{path}: there are no clips in this folder; it was searched for {', '.join(sorted(VIDEOS))}"
                raise MediaError(msg)
            found += [Source(file, file.relative_to(path).with_suffix("")) for file in inner]
        elif path.suffix.lower() in TABLES and path.exists():
            found += _listed(path, media_column, caption_column)
        elif path.exists():
            found.append(Source(path, Path(path.stem)))
        else:
            msg = f"{path}: there is no such file or folder"
            raise MediaError(msg)
    check_names(found)
    return found


def _listed(path: Path, media_column: str, caption_column: str) -> list[Source]:
    """Read the clips of a table, and what they show."""
    found = []
    for number, row in enumerate(_rows(path), 1):
        media = row.get(media_column) if isinstance(row, dict) else None
        if not isinstance(media, str) or not media.strip():
            has = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
            msg = f"{path}: row {number} has no {media_column!r}, the clip's path; it has {has or 'nothing'}"
            raise MediaError(msg)
        clip = path.parent / media.strip()
        if not clip.is_file():
            msg = f"{path}: row {number} names {clip}, which is no file"
            raise MediaError(msg)
        beside = clip.is_relative_to(path.parent) and ".." not in clip.relative_to(path.parent).parts
        name = clip.relative_to(path.parent) if beside else Path(*clip.resolve().parts[1:])
        caption = row.get(caption_column)
        found.append(Source(clip, name.with_suffix(""), None if caption is None else str(caption)))
    return found


def _rows(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            return list(csv.DictReader(io.StringIO(text)))
        if path.suffix.lower() == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        rows = json.loads(text)
    except (OSError, ValueError, csv.Error) as error:
        msg = f"{path}: cannot be read as a table of clips: {error}"
        raise MediaError(msg) from error
    if not isinstance(rows, list):
        msg = f"{path}: holds a {type(rows).__name__}, expected a list of objects, one for each clip"
        raise MediaError(msg)
    return rows


def check_names(sources: Iterable[Source]) -> None:
    """Refuse two clips whose results would have one name; no clips at all are refused, too."""
    seen: dict[str, Path] = {}
    for source in sources:
        key = str(source.name).casefold()
        if key in seen:
            msg = f"{source.path} and {seen[key]}: their results would both be {source.name}; encode them separately"
            raise MediaError(msg)
        seen[key] = source.path
    if not seen:
        msg = "there are no clips to encode; give files or folders"
        raise MediaError(msg)
