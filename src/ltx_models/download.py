"""
Fetching checkpoints through huggingface_hub: only what a pipeline needs, from the nearest place that has it.

A local folder comes first, then the cache of huggingface_hub, then the network, unless ``HF_HUB_OFFLINE`` forbids it.
Files arrive under a temporary name and get theirs when they are whole; an interrupted download goes on where it ended.
"""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models import hub
from ltx_models.byte_sizes import format_bytes
from ltx_models.hub import (
    DownloadError,
    at_revision,
    cached_names,
    explained,
    is_offline,
    listed_names,
    of_text_encoder,
    whole,
)
from ltx_models.published import APART, GEMMA, MODELS, PIPELINES, Wanted, wanted_by

__all__ = [
    "APART",
    "GEMMA",
    "MODELS",
    "PIPELINES",
    "DownloadError",
    "Item",
    "Wanted",
    "cached_names",
    "fetch",
    "is_offline",
    "listed_names",
    "of_text_encoder",
    "plan",
    "wanted_by",
]


@dataclass(frozen=True, slots=True)
class Item:
    """
    One file of a plan.

    Attributes
    ----------
    repo, name : str
        Where it is published.
    n_bytes : int or None
        Its size; None where it is not known because the network is not asked.
    source : {"local", "cache", "network"}
        Where it will come from.
    path : Path or None
        Where it lies, unless it comes from the network.
    revision : str or None
        The branch, tag or commit; None for the default branch.
    """

    repo: str
    name: str
    n_bytes: int | None
    source: str
    path: Path | None
    revision: str | None = None


def plan(wanted: Iterable[Wanted], *, local: str | Path | None = None, token: str | None = None) -> list[Item]:
    """
    Find out where each file will come from and how large it is; nothing is fetched.

    Parameters
    ----------
    wanted : iterable of Wanted
        The files.
    local : path, optional
        A folder in which files may lie already, by their names.
    token : str, optional
        Of Hugging Face, for gated repositories; by default what is configured there.

    Returns
    -------
    list of Item
        One for each file.

    Raises
    ------
    DownloadError
        If a file is nowhere, the repository is gated or unknown, or there is no network.
    ImportError
        If huggingface_hub is not installed and a file is not in `local`.
    """
    items = []
    for entry in wanted:
        names = _local_names(entry, local)
        if names is not None and local is not None:
            items += [_here(entry, name, Path(local) / name, "local") for name in names]
            continue
        library = hub.library()
        if (cached := _all_cached(library, entry)) is not None:
            items += cached
            continue
        for name, size in (
            hub.offline_names(library, entry) if hub.offline(library) else hub.listed(library, entry, token)
        ):
            near = Path(local, name) if local is not None else None
            if near is not None and near.is_file() and size in {None, near.stat().st_size}:
                items.append(_here(entry, name, near, "local"))
                continue
            cached = library.try_to_load_from_cache(entry.repo, name, **at_revision(entry.revision))
            if isinstance(cached, str):
                items.append(_here(entry, name, Path(cached), "cache"))
            else:
                items.append(Item(entry.repo, name, size, "network", None, entry.revision))
    return items


def fetch(
    items: Sequence[Item],
    *,
    local: str | Path | None = None,
    token: str | None = None,
    progress: Callable[[Item], None] | None = None,
) -> list[Path]:
    """
    Fetch the files of a plan.

    Parameters
    ----------
    items : sequence of Item
        What `plan` returned.
    local : path, optional
        The folder to put files into; the cache of huggingface_hub where absent.
    token : str, optional
        Of Hugging Face.
    progress : callable, optional
        Called with each item before it is fetched.

    Returns
    -------
    list of Path
        Where each file lies, in the order of `items`.

    Raises
    ------
    DownloadError
        If a file cannot be had, or the disk is too small.
    """
    missing = [item for item in items if item.source == "network"]
    if missing:
        _check_space(missing, local)
    paths = []
    for item in items:
        if item.path is not None:
            paths.append(item.path)
            continue
        if progress is not None:
            progress(item)
        library = hub.library()
        try:
            fetched = library.hf_hub_download(
                item.repo, item.name, local_dir=local, token=token, **at_revision(item.revision)
            )
        except Exception as error:
            raise explained(error, item.repo, item.name) from error
        paths.append(Path(fetched))
    return paths


def _all_cached(library: Any, entry: Wanted) -> list[Item] | None:
    """Find files whose names are known in the cache; None unless all are there, so that no request is needed."""
    if any("*" in pattern for pattern in entry.patterns):
        return None
    paths = [library.try_to_load_from_cache(entry.repo, name, **at_revision(entry.revision)) for name in entry.patterns]
    if not all(isinstance(path, str) for path in paths):
        return None
    return [_here(entry, name, Path(path), "cache") for name, path in zip(entry.patterns, paths, strict=True)]


def _here(entry: Wanted, name: str, path: Path, source: str) -> Item:
    return Item(entry.repo, name, path.stat().st_size, source, path, entry.revision)


def _local_names(entry: Wanted, local: str | Path | None) -> list[str] | None:
    """List the files of a folder that fit, if every pattern has one and no shard named by an index is missing."""
    if local is None or not Path(local).is_dir():
        return None
    names = [file.relative_to(local).as_posix() for file in Path(local).rglob("*") if file.is_file()]
    matches_of = {pattern: fnmatch.filter(names, pattern) for pattern in entry.patterns}
    weights = [pattern for pattern in entry.patterns if pattern.endswith(".safetensors")]
    if not all(matches_of[pattern] for pattern in weights or entry.patterns):
        return None
    if not all(whole(matches_of[pattern]) for pattern in weights if "*" in pattern):
        return None
    return sorted({name for matches in matches_of.values() for name in matches})


def _check_space(missing: Sequence[Item], local: str | Path | None) -> None:
    place = Path(local) if local is not None else Path(hub.library().constants.HF_HUB_CACHE)
    while not place.is_dir():
        place = place.parent
    needed = sum(item.n_bytes or 0 for item in missing)
    free = shutil.disk_usage(place).free
    if needed > free:
        msg = f"{place}: {format_bytes(needed)} are needed, {format_bytes(free)} are free; set HF_HOME to a larger disk"
        raise DownloadError(msg)
