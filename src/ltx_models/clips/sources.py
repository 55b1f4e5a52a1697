"""Which clips there are, and what their results are called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ltx_models.media import MediaError

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


def find_clips(paths: Iterable[str | Path]) -> list[Source]:
    """
    List the clips of files and folders.

    Parameters
    ----------
    paths : iterable of path
        Video files, and folders that are searched with all that they contain. Results of a folder's clips are named
        by their places in it.

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
        elif path.exists():
            found.append(Source(path, Path(path.stem)))
        else:
            msg = f"{path}: there is no such file or folder"
            raise MediaError(msg)
    check_names(found)
    return found


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
