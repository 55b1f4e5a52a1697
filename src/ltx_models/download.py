"""
Fetching checkpoints through huggingface_hub: only what a pipeline needs, from the nearest place that has it.

A local folder comes first, then the cache of huggingface_hub, then the network, unless ``HF_HUB_OFFLINE`` forbids it.
Files arrive under a temporary name and get theirs when they are whole; an interrupted download goes on where it ended.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ltx_models.byte_sizes import format_bytes

GEMMA = "google/gemma-3-12b-it-qat-q4_0-unquantized"
_SPLIT = "Lightricks/LTX-2.5"
_TEXT = ("*.json", "model*.safetensors", "tokenizer.model")


class DownloadError(OSError):
    """A repository or file that cannot be had, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Files of one repository.

    Attributes
    ----------
    repo : str
        As ``owner/name``.
    patterns : tuple of str
        Names with ``*``; each must fit at least one file.
    revision : str or None
        A branch, tag or commit; None for the default branch.
    """

    repo: str
    patterns: tuple[str, ...]
    revision: str | None = None


MODELS: dict[str, dict[str, Wanted]] = {
    "2.0": {
        "distilled": Wanted("Lightricks/LTX-2", ("ltx-2-19b-distilled.safetensors",)),
        "distilled-fp8": Wanted("Lightricks/LTX-2", ("ltx-2-19b-distilled-fp8.safetensors",)),
        "dev": Wanted("Lightricks/LTX-2", ("ltx-2-19b-dev.safetensors",)),
        "dev-fp8": Wanted("Lightricks/LTX-2", ("ltx-2-19b-dev-fp8.safetensors",)),
        "lora": Wanted("Lightricks/LTX-2", ("ltx-2-19b-distilled-lora-384.safetensors",)),
        "spatial-upsampler": Wanted("Lightricks/LTX-2", ("ltx-2-spatial-upscaler-x2-1.0.safetensors",)),
        "temporal-upsampler": Wanted("Lightricks/LTX-2", ("ltx-2-temporal-upscaler-x2-1.0.safetensors",)),
        "text-encoder": Wanted(GEMMA, _TEXT),
    },
    "2.3": {
        "distilled": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-distilled-1.1.safetensors",)),
        "distilled-fp8": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-distilled-fp8.safetensors",)),
        "dev": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-dev.safetensors",)),
        "dev-fp8": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-dev-fp8.safetensors",)),
        "lora": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-distilled-lora-384-1.1.safetensors",)),
        "spatial-upsampler": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-spatial-upscaler-x2-1.1.safetensors",)),
        "temporal-upsampler": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-temporal-upscaler-x2-1.0.safetensors",)),
        "text-encoder": Wanted(GEMMA, _TEXT),
    },
    "2.5": {
        "distilled": Wanted(_SPLIT, ("diffusion_models/ltx-2.5-22b-distilled-transformer-bf16.safetensors",)),
        "dev": Wanted(_SPLIT, ("diffusion_models/ltx-2.5-22b-dev-transformer-bf16.safetensors",)),
        "lora": Wanted(_SPLIT, ("loras/ltx-2.5-22b-distilled-lora-450-bf16.safetensors",)),
        "spatial-upsampler": Wanted(
            _SPLIT, ("latent_upscale_models/ltx-2.5-latent-spatial-upscaler-x2-bf16-1.0.safetensors",)
        ),
        "temporal-upsampler": Wanted(
            _SPLIT, ("latent_upscale_models/ltx-2.5-latent-temporal-upscaler-x2-bf16-1.0.safetensors",)
        ),
        "text-encoder": Wanted(_SPLIT, ("text_encoders/gemma4-12b-with-proj-ltx-2.5-bf16.safetensors",)),
        "video-vae": Wanted(_SPLIT, ("vae/ltx-2.5-video-vae-bf16.safetensors",)),
        "video-vae-conv": Wanted(_SPLIT, ("vae/ltx-2.5-video-vae-conv-bf16.safetensors",)),
        "audio-vae": Wanted(_SPLIT, ("vae/ltx-2.5-audio-vae-bf16.safetensors",)),
        "duration-head": Wanted(_SPLIT, ("model_patches/ltx-2.5-duration-head-bf16.safetensors",)),
    },
}
"""The official files, by version and part; from 2.5 on, each component is a file of its own."""

APART = ("video-vae", "audio-vae", "duration-head")
"""The parts that every pipeline needs besides, where they are files of their own."""

PIPELINES = {
    "distilled": ("distilled", "spatial-upsampler", "text-encoder"),
    "distilled-one-stage": ("distilled", "text-encoder"),
    "dev": ("dev", "text-encoder"),
    "dev-two-stage": ("dev", "lora", "spatial-upsampler", "text-encoder"),
    "dev-two-stage-hq": ("dev", "lora", "spatial-upsampler", "text-encoder"),
    "keyframes": ("dev", "lora", "spatial-upsampler", "text-encoder"),
}
"""The parts that each pipeline needs."""


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


def wanted_by(
    pipeline: str, *, version: str = "2.3", fp8: bool = False, text_encoder: bool = True, convolutional: bool = False
) -> tuple[Wanted, ...]:
    """
    List the files that a pipeline needs.

    Parameters
    ----------
    pipeline : str
        Its name, a key of `PIPELINES`.
    version : {"2.0", "2.3", "2.5"}
        Of the model.
    fp8 : bool
        Whether the transformer is the file of 8-bit floats; of 2.5 there is none.
    text_encoder : bool
        Whether the language model is among them.
    convolutional : bool
        Whether the video autoencoder is the one with the convolutional decoder, which takes less memory and work; of
        2.5, where there are two.

    Returns
    -------
    tuple of Wanted
        Files by repository.

    Raises
    ------
    ValueError
        If the pipeline or version is unknown, or the version has no such file.

    Examples
    --------
    >>> [file for wanted in wanted_by("distilled", text_encoder=False) for file in wanted.patterns]
    ['ltx-2.3-22b-distilled-1.1.safetensors', 'ltx-2.3-spatial-upscaler-x2-1.1.safetensors']
    """
    if pipeline not in PIPELINES:
        msg = f"pipeline: got {pipeline!r}, allowed are {', '.join(map(repr, PIPELINES))}"
        raise ValueError(msg)
    if version not in MODELS:
        msg = f"version: got {version!r}, allowed are {', '.join(map(repr, MODELS))}"
        raise ValueError(msg)
    own = MODELS[version]
    parts = [part for part in PIPELINES[pipeline] if text_encoder or part != "text-encoder"]
    parts += [part for part in APART if part in own]
    if fp8:
        parts = [f"{part}-fp8" if part in {"distilled", "dev"} else part for part in parts]
    if convolutional:
        parts = [f"{part}-conv" if part == "video-vae" else part for part in parts]
        parts += [] if "video-vae" in own else ["video-vae-conv"]
    if missing := [part for part in parts if part not in own]:
        msg = f"{missing[0]}: is not published for {version}; there are {', '.join(own)}" + (
            "; leave fp8 out, and quantise when the file is read (quantize='fp8', --quantization fp8)" if fp8 else ""
        )
        raise ValueError(msg)
    return tuple(own[part] for part in parts)


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
        hub = _hub()
        if (cached := _all_cached(hub, entry)) is not None:
            items += cached
            continue
        for name, size in _offline_names(hub, entry) if _offline(hub) else _listed(hub, entry, token):
            near = Path(local, name) if local is not None else None
            if near is not None and near.is_file() and size in {None, near.stat().st_size}:
                items.append(_here(entry, name, near, "local"))
                continue
            cached = hub.try_to_load_from_cache(entry.repo, name, **_at(entry.revision))
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
        hub = _hub()
        try:
            fetched = hub.hf_hub_download(item.repo, item.name, local_dir=local, token=token, **_at(item.revision))
        except Exception as error:
            raise _explained(error, item.repo, item.name) from error
        paths.append(Path(fetched))
    return paths


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
    return _offline(_hub())


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
    return [name for name, _ in _listed(_hub(), Wanted(repo, ("*",), revision), token)]


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
        folder = Path(_hub().snapshot_download(repo, local_files_only=True, **_at(revision)))
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
    exact = {name for pattern in _TEXT for name in fnmatch.filter(names, pattern)}
    weights = [name for name in exact if name.endswith(".safetensors")]
    tokens = exact & {"tokenizer.json", "tokenizer.model"}
    if weights and tokens and "config.json" in exact and _whole(weights):
        return (Wanted(repo, tuple(sorted(exact))),)
    return (Wanted(repo, _TEXT),)


def _all_cached(hub: Any, entry: Wanted) -> list[Item] | None:
    """Find files whose names are known in the cache; None unless all are there, so that no request is needed."""
    if any("*" in pattern for pattern in entry.patterns):
        return None
    paths = [hub.try_to_load_from_cache(entry.repo, name, **_at(entry.revision)) for name in entry.patterns]
    if not all(isinstance(path, str) for path in paths):
        return None
    return [_here(entry, name, Path(path), "cache") for name, path in zip(entry.patterns, paths, strict=True)]


def _here(entry: Wanted, name: str, path: Path, source: str) -> Item:
    return Item(entry.repo, name, path.stat().st_size, source, path, entry.revision)


def _at(revision: str | None) -> dict[str, str]:
    """Give the argument by which huggingface_hub takes a revision, if one was asked for."""
    return {} if revision is None else {"revision": revision}


def _local_names(entry: Wanted, local: str | Path | None) -> list[str] | None:
    """List the files of a folder that fit, if every pattern has one and no shard named by an index is missing."""
    if local is None or not Path(local).is_dir():
        return None
    names = [file.relative_to(local).as_posix() for file in Path(local).rglob("*") if file.is_file()]
    matches_of = {pattern: fnmatch.filter(names, pattern) for pattern in entry.patterns}
    weights = [pattern for pattern in entry.patterns if pattern.endswith(".safetensors")]
    if not all(matches_of[pattern] for pattern in weights or entry.patterns):
        return None
    if not all(_whole(matches_of[pattern]) for pattern in weights if "*" in pattern):
        return None
    return sorted({name for matches in matches_of.values() for name in matches})


def _whole(names: list[str]) -> bool:
    """Say whether these are all the files of a set: one file called model, or as many shards as their names count."""
    if [PurePosixPath(name).name for name in names] == ["model.safetensors"]:
        return True
    counts = {PurePosixPath(name).stem.rpartition("-of-")[2] for name in names}
    return len(counts) == 1 and counts == {str(len(names)).zfill(len(min(counts)))}


def _offline(hub: Any) -> bool:
    """Ask huggingface_hub, which reads the variable once, and the variable itself."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return offline or bool(getattr(getattr(hub, "constants", None), "HF_HUB_OFFLINE", False))


def _listed(hub: Any, entry: Wanted, token: str | None) -> list[tuple[str, int | None]]:
    """List the files of a repository that fit, with their sizes."""
    try:
        info = hub.HfApi(token=token).model_info(entry.repo, files_metadata=True, **_at(entry.revision))
    except Exception as error:
        raise _explained(error, entry.repo) from error
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings}
    return [(name, sizes[name]) for name in _matching(entry, list(sizes))]


def _offline_names(hub: Any, entry: Wanted) -> list[tuple[str, int | None]]:
    """List what the cache has of a repository."""
    try:
        some = {"allow_patterns": list(entry.patterns), **_at(entry.revision)}
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


def _check_space(missing: Sequence[Item], local: str | Path | None) -> None:
    import shutil

    place = Path(local) if local is not None else Path(_hub().constants.HF_HUB_CACHE)
    while not place.is_dir():
        place = place.parent
    needed = sum(item.n_bytes or 0 for item in missing)
    free = shutil.disk_usage(place).free
    if needed > free:
        msg = f"{place}: {format_bytes(needed)} are needed, {format_bytes(free)} are free; set HF_HOME to a larger disk"
        raise DownloadError(msg)


def _explained(error: Exception, repo: str, name: str = "") -> DownloadError:
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


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        msg = "downloads need huggingface_hub; pip install 'tilekit-vae[hub]'"
        raise ImportError(msg) from error
    return huggingface_hub
