"""
What huggingface_hub knows of a repository: names and sizes, from its cache or from the network.

It is imported when it is asked, and what it raises is said again with what to do about it.
"""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path, PurePosixPath
from typing import Any

from ltx_models.published import TEXT, Wanted


class DownloadError(OSError):
    """A repository or file that cannot be had, and what to do about it."""


def is_offline() -> bool:
    """
    Say whether the network is not to be asked.

    Returns
    -------
    bool
        Whether ``HF_HUB_OFFLINE`` is set.

    Raises
    ------
    ImportError
        If huggingface_hub is not installed.
    """
    return offline(library())


def listed_names(repo: str, token: str | None = None, revision: str | None = None) -> list[str]:
    """
    List the files of a repository.

    Parameters
    ----------
    repo : str
        As ``owner/name``.
    token : str, optional
        Of Hugging Face.
    revision : str, optional
        A branch, tag or commit.

    Returns
    -------
    list of str
        Their names.

    Raises
    ------
    DownloadError
        If the repository is gated or unknown, or there is no network.
    """
    return [name for name, _ in listed(library(), Wanted(repo, ("*",), revision), token)]


def cached_names(repo: str, revision: str | None = None) -> tuple[str, ...]:
    """
    List what the cache of huggingface_hub has of a repository.

    Parameters
    ----------
    repo : str
        As ``owner/name``.
    revision : str, optional
        A branch, tag or commit.

    Returns
    -------
    tuple of str
        Names of files that are there whole; empty where there is nothing.

    Raises
    ------
    ImportError
        If huggingface_hub is not installed.
    """
    try:
        folder = Path(library().snapshot_download(repo, local_files_only=True, **at_revision(revision)))
    except (FileNotFoundError, ValueError):  # not in the cache, or no name of a repository: asking the hub will tell
        return ()
    return tuple(sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()))


def of_text_encoder(repo: str) -> tuple[Wanted, ...]:
    """
    List what belongs to a language model.

    Parameters
    ----------
    repo : str
        As ``owner/name``.

    Returns
    -------
    tuple of Wanted
        Weights, descriptions and tokenizer.
    """
    names = cached_names(repo)
    exact = {name for pattern in TEXT for name in fnmatch.filter(names, pattern)}
    weights = [name for name in exact if name.endswith(".safetensors")]
    tokens = exact & {"tokenizer.json", "tokenizer.model"}
    if weights and tokens and "config.json" in exact and whole(weights):
        return (Wanted(repo, tuple(sorted(exact))),)
    return (Wanted(repo, TEXT),)


def listed(hub: Any, entry: Wanted, token: str | None) -> list[tuple[str, int | None]]:
    """List the files of a repository that fit, with their sizes."""
    try:
        info = hub.HfApi(token=token).model_info(entry.repo, files_metadata=True, **at_revision(entry.revision))
    except Exception as error:
        raise explained(error, entry.repo) from error
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings}
    return [(name, sizes[name]) for name in _matching(entry, list(sizes))]


def offline_names(hub: Any, entry: Wanted) -> list[tuple[str, int | None]]:
    """List what the cache has of a repository."""
    try:
        some = {"allow_patterns": list(entry.patterns), **at_revision(entry.revision)}
        folder = Path(hub.snapshot_download(entry.repo, local_files_only=True, **some))
    except Exception as error:
        msg = (
            f"{entry.repo}: HF_HUB_OFFLINE is set and the cache does not have it; unset it, or give a folder that has "
            f"{', '.join(entry.patterns)}"
        )
        raise DownloadError(msg) from error
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    return [(name, (folder / name).stat().st_size) for name in _matching(entry, names)]


def _matching(entry: Wanted, names: list[str]) -> list[str]:
    matching: set[str] = set()
    for pattern in entry.patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches and pattern.endswith(".safetensors"):
            available = ", ".join(sorted(n for n in names if n.endswith(".safetensors"))[:8]) or "no safetensors at all"
            msg = f"{entry.repo}: nothing there is called {pattern}; there are {available}"
            raise DownloadError(msg)
        matching |= set(matches)
    return sorted(matching)


def offline(hub: Any) -> bool:
    """Ask huggingface_hub, which reads the variable once, and the variable itself."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return offline or bool(getattr(getattr(hub, "constants", None), "HF_HUB_OFFLINE", False))


def whole(names: list[str]) -> bool:
    """Say whether these are all the files of a set: one file called model, or as many shards as their names count."""
    if [PurePosixPath(name).name for name in names] == ["model.safetensors"]:
        return True
    counts = {PurePosixPath(name).stem.rpartition("-of-")[2] for name in names}
    return len(counts) == 1 and counts == {str(len(names)).zfill(len(min(counts)))}


def at_revision(revision: str | None) -> dict[str, str]:
    """Give the argument by which huggingface_hub takes a revision, if one was asked for."""
    return {} if revision is None else {"revision": revision}


def explained(error: Exception, repo: str, name: str = "") -> DownloadError:
    """Say what a failed request means, by its status."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    what = f"{repo}/{name}" if name else repo
    page = f"https://huggingface.co/{repo}"
    if status == 401:
        text = (
            f"not signed in (401); the repository is gated or private: accept its terms at {page}, then 'hf auth login'"
        )
    elif status == 403:
        text = f"no access (403); accept the terms at {page} with the account of your token, which needs read access"
    elif status == 404:
        text = f"not found (404); check the name at {page}"
    elif status is not None:
        text = f"the server answered {status} ({error}); try again later"
    else:
        text = f"cannot be reached ({error}); check the network, or set HF_HUB_OFFLINE=1 to use what is cached"
    return DownloadError(f"{what}: {text}")


def library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        msg = "downloads need huggingface_hub; pip install 'tilekit-vae[hub]'"
        raise ImportError(msg) from error
    return huggingface_hub
