"""From what a user names, a file, a folder or a repository, to files on this machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ltx_models.byte_sizes import format_bytes
from ltx_models.checkpoints.contents import by_name, version_by_name
from ltx_models.checkpoints.kinds import kind_of, kind_of_file
from ltx_models.download import (
    GEMMA,
    DownloadError,
    Item,
    Wanted,
    cached_names,
    fetch,
    is_offline,
    listed_names,
    of_text_encoder,
    plan,
)
from ltx_models.pipelines.files import Files
from ltx_models.pipelines.listing import Choice, Criteria, Listing, SourceError, local_listing
from ltx_models.pipelines.settings import RECIPES, Recipe
from ltx_models.pipelines.sources import choose

REPO = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?P<file>.+\.safetensors))?")
Say = Callable[[str], object]


def find_files(
    path: str | Path,
    criteria: Criteria,
    *,
    token: str | None = None,
    say: Say | None = None,
    revision: str | None = None,
) -> tuple[Recipe, Files]:
    """
    Find the files of a pipeline, and fetch what is not here.

    Parameters
    ----------
    path : path or str
        A file, a folder, a repository as ``owner/name``, or a file in one as ``owner/name/file.safetensors``. What is
        on this machine comes first.
    criteria : Criteria
        What is asked for.
    token : str, optional
        Of Hugging Face.
    say : callable, optional
        Takes lines about what will be fetched; by default they go to standard error.
    revision : str, optional
        The branch, tag or commit of the repository; what is on this machine under its own path has none.

    Returns
    -------
    Recipe, Files
        The pipeline, and where its files lie.

    Raises
    ------
    CheckpointError
        If there is no such file, folder or repository.
    DownloadError
        If something cannot be fetched.
    SourceError
        If a file is missing, or it is not clear which is meant.
    """
    place = Path(path)
    if revision is not None and place.exists():
        msg = f"revision: got {revision!r}, but {path} is on this machine; leave it out, or name a repository"
        raise ValueError(msg)
    if place.is_dir():
        choice = choose(local_listing(place), criteria)
        return choice.recipe, _files(place, choice)
    repo = None if place.exists() else repository(str(path))
    if repo is None:
        return _of_file(criteria, place), Files(place)
    recipe, wanted, files_in = _in_repository(*repo, criteria, token, revision)
    wishes = [wanted]
    stock = criteria.text_encoder and files_in(Path()).text_encoder is None and _reads_gemma_3(wanted)
    if stock:
        wishes += of_text_encoder(GEMMA)
    folders = fetched(wishes, token, say)
    files = files_in(folders[wanted.repo])
    return recipe, replace(files, text_encoder=folders[GEMMA]) if stock else files


def find_file(path: str | Path, *, token: str | None = None, say: Say | None = None) -> Path:
    """
    Find one file, and fetch it if it is not here.

    Parameters
    ----------
    path : path or str
        A file or folder, or a file in a repository as ``owner/name/file.safetensors``.
    token : str, optional
        Of Hugging Face.
    say : callable, optional
        Takes lines about what will be fetched.

    Returns
    -------
    Path
        Where it lies; what is no repository's file is returned as it is.

    Raises
    ------
    DownloadError
        If it cannot be fetched.
    """
    named = None if Path(path).exists() else repository(str(path))
    if named is None or named[1] is None:
        return Path(path)
    return fetched([Wanted(named[0], (named[1],))], token, say)[named[0]] / named[1]


def find_text_encoder(path: str | Path, *, token: str | None = None, say: Say | None = None) -> Path:
    """
    Find a language model, and fetch it if it is not here.

    Parameters
    ----------
    path : path or str
        A folder, a file, a repository, or a file in one as ``owner/name/file.safetensors``.
    token : str, optional
        Of Hugging Face.
    say : callable, optional
        Takes lines about what will be fetched.

    Returns
    -------
    Path
        The folder or file.

    Raises
    ------
    DownloadError
        If it cannot be fetched.
    """
    named = None if Path(path).exists() else repository(str(path))
    if named is None or named[1] is not None:
        return find_file(path, token=token, say=say)
    return fetched(of_text_encoder(named[0]), token, say)[named[0]]


def repository(text: str) -> tuple[str, str | None] | None:
    """
    Say whether a text names a repository, or a file in one.

    Parameters
    ----------
    text : str
        What a user wrote.

    Returns
    -------
    (str, str or None), or None
        The repository and the file; None where it looks like a path.

    Examples
    --------
    >>> repository("Lightricks/LTX-2"), repository("models/missing.safetensors"), repository("./LTX-2/x")
    (('Lightricks/LTX-2', None), None, None)
    """
    match = REPO.fullmatch(text)
    if match is None or match["repo"].endswith((".safetensors", ".sft")):
        return None
    return match["repo"], match["file"]


def fetched(wanted: Sequence[Wanted], token: str | None = None, say: Say | None = None) -> dict[str, Path]:
    """
    Fetch files, after all repositories have said what they have.

    Parameters
    ----------
    wanted : sequence of Wanted
        The files.
    token : str, optional
        Of Hugging Face.
    say : callable, optional
        Takes lines about what will be fetched; by default they go to standard error.

    Returns
    -------
    dict of str to Path
        For each repository, the folder in which its files lie.

    Raises
    ------
    DownloadError
        If one cannot be had.
    """
    items = plan(wanted, token=token)
    announce(items, say or to_standard_error)
    paths = fetch(items, token=token)
    folders: dict[str, Path] = {}
    for repo in {item.repo: None for item in items}:
        own = [(item, path) for item, path in zip(items, paths, strict=True) if item.repo == repo]
        snapshots = {path.parents[item.name.count("/")] for item, path in own}
        if len(snapshots) > 1:
            # some are of an earlier revision: the hub's client renews them, which costs a request each
            anew = [replace(item, source="network", path=None) for item, _ in own]
            places = fetch(anew, token=token)
            snapshots = {path.parents[item.name.count("/")] for item, path in zip(anew, places, strict=True)}
        folders[repo] = snapshots.pop()
    return folders


def announce(items: Sequence[Item], say: Say) -> None:
    """
    Say what will be fetched and how large it is, before it is.

    Parameters
    ----------
    items : sequence of Item
        A plan.
    say : callable
        Takes lines.
    """
    missing = [item for item in items if item.source == "network"]
    for item in missing:
        say(f"to fetch: {item.repo}/{item.name}, {_size(item.n_bytes)}")
    if len(missing) > 1:
        say(f"to fetch in all: {_size(sum(item.n_bytes or 0 for item in missing))}")


def _in_repository(
    repo: str, file: str | None, criteria: Criteria, token: str | None, revision: str | None
) -> tuple[Recipe, Wanted, Callable[[Path], Files]]:
    """Choose by what the cache has, if that is enough, else by what there is; say what it becomes once fetched."""
    if file is not None:
        return _of_file(criteria, Path(file)), Wanted(repo, (file,), revision), lambda folder: Files(folder / file)
    try:
        choice = choose(Listing(repo, cached_names(repo, revision), by_name), criteria)
    except SourceError as error:
        if is_offline():
            msg = f"{repo}: HF_HUB_OFFLINE is set and the cache does not have what is needed ({error}); unset it"
            raise DownloadError(msg) from error
        published = tuple(listed_names(repo, token, revision))
        choice = choose(Listing(repo, published, by_name, "it is not published published, give its path"), criteria)
    return choice.recipe, Wanted(repo, choice.names, revision), lambda folder: _files(folder, choice)


def _files(folder: Path, choice: Choice) -> Files:
    def path_of(name: str | None) -> Path | None:
        return None if name is None else folder / name

    return Files(
        folder / choice.checkpoint,
        text_encoder=path_of(choice.text_encoder),
        upsampler=path_of(choice.upsampler),
        distilled_lora=path_of(choice.distilled_lora),
        connectors=path_of(choice.connectors),
        video_vae=path_of(choice.video_vae),
        audio_vae=path_of(choice.audio_vae),
        duration_head=path_of(choice.duration_head),
    )


def _reads_gemma_3(wanted: Wanted) -> bool:
    """Say whether a checkpoint is of a version whose prompts a stock Gemma 3 reads, as its files' names tell."""
    versions = [version_by_name(name) for name in (*wanted.patterns, wanted.repo)]
    return next((version for version in versions if version is not None), (2, 0)) < (2, 4)


def _of_file(criteria: Criteria, path: Path) -> Recipe:
    """Give the pipeline asked for, or that of a single file, which says it by its header or its name."""
    name = criteria.pipeline
    if name is None:
        name = "distilled-one-stage" if criteria.upsampler else "distilled"
        kind = kind_of_file(path) if path.is_file() else kind_of(path, {})
        name = "dev" if kind == "dev" else name
    if name not in RECIPES:
        msg = f"pipeline: got {name!r}, allowed are {', '.join(map(repr, RECIPES))}"
        raise ValueError(msg)
    return RECIPES[name]


def _size(n_bytes: int | None) -> str:
    if n_bytes is None:
        return "of unknown size"
    return format_bytes(n_bytes)


def to_standard_error(line: str) -> None:
    """Print a line for the user."""
    print(line, file=sys.stderr, flush=True)
