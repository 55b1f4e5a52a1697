"""What there is in a folder or repository, what is asked of it, and the choice of one file among several."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from ltx_models.checkpoints.contents import (
    Version,
    by_header,
    version_by_name,
    version_of_file,
    words_of,
)
from ltx_models.checkpoints.kinds import KINDS, kind_of_file
from ltx_models.download import MODELS
from ltx_models.pipelines.settings import RECIPES, Recipe

SHARD = re.compile(r"-\d{5}-of-(\d{5})(?=\.safetensors$)")
REDUCED = {"fp8", "fp4", "nvfp4", "mxfp8", "int8", "int4"}
ITSELF = "its own path"


class SourceError(ValueError):
    """A folder or repository that lacks a file which a pipeline needs, or has several that it could be."""


@dataclass(frozen=True, slots=True)
class Listing:
    """
    What there is in a folder or repository.

    Attributes
    ----------
    where : str
        Its name in errors.
    names : tuple of str
        Files, relative to it, with forward slashes.
    holds : callable
        Gives the components that a file holds.
    remedy : str
        What to do about a file that is not there.
    kind : callable
        Gives ``"dev"`` or ``"distilled"`` where a file says so itself, else None.
    version : callable
        Gives the version that a file is of, where that is known, else None.
    """

    where: str
    names: tuple[str, ...]
    holds: Callable[[str], frozenset[str]]
    remedy: str = ""
    kind: Callable[[str], str | None] = lambda name: None
    version: Callable[[str], Version | None] = version_by_name


@dataclass(frozen=True, slots=True)
class Choice:
    """
    The files of a pipeline, relative to where they were found.

    Attributes
    ----------
    recipe : Recipe
        The pipeline, which files decide where nobody asked for one.
    checkpoint : str
        What to open: a file, or the empty string for the folder itself.
    upsampler, distilled_lora : str or None
        Files, where the pipeline needs them.
    text_encoder : str or None
        The folder of the language model, the empty string for the folder itself, or its file (2.5); None where there is
        none.
    names : tuple of str
        All files that must be there.
    connectors, video_vae, audio_vae, duration_head : str or None
        Files, where these are published apart from the transformer, as for 2.5.
    """

    recipe: Recipe
    checkpoint: str
    upsampler: str | None
    distilled_lora: str | None
    text_encoder: str | None
    names: tuple[str, ...]
    connectors: str | None = None
    video_vae: str | None = None
    audio_vae: str | None = None
    duration_head: str | None = None


@dataclass(frozen=True, slots=True)
class Criteria:
    """
    What is asked of a folder or repository.

    Attributes
    ----------
    pipeline : str or None
        Its name.
    fp8 : bool
        Whether a transformer of 8-bit floats is preferred.
    upsampler, distilled_lora, text_encoder, video_vae, audio_vae, duration_head : bool
        Whether these are to be found there too; they were not given, and may be needed.
    """

    pipeline: str | None = None
    fp8: bool = False
    upsampler: bool = True
    distilled_lora: bool = True
    text_encoder: bool = True
    video_vae: bool = True
    audio_vae: bool = True
    duration_head: bool = True


def local_listing(folder: Path) -> Listing:
    """
    List a folder.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    Listing
        Of its files and those of its folders; hidden ones left out.
    """
    paths = (path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth))
    names = (path.relative_to(folder).as_posix() for path in paths if path.is_file())
    kept = tuple(sorted(name for name in names if not any(part.startswith(".") for part in name.split("/"))))
    return Listing(
        str(folder),
        kept,
        cache(lambda name: by_header(folder / name)),
        "give its path",
        lambda name: kind_of_file(folder / name),
        cache(lambda name: version_of_file(folder / name) or version_by_name(name)),
    )


def variant_of(listing: Listing, labels: list[str], variant: str | None, fp8: bool) -> str:
    """Choose one of several whole checkpoints: by variant, then by how its numbers are stored, then the official."""
    candidates, wanted = labels, variant
    if len(candidates) > 1:
        wanted = variant or ("distilled" if any("distilled" in words_of(label) for label in labels) else "dev")
        candidates = [label for label in labels if wanted in words_of(label)]
    elif variant is not None and words_of(candidates[0]) & {"dev", "distilled"} - {variant}:
        candidates = []
    reduced = [label for label in candidates if words_of(label) & REDUCED]
    plain = [label for label in candidates if label not in reduced]
    wished = [label for label in reduced if "fp8" in words_of(label)] if fp8 else plain
    return only(listing, wished or plain or candidates, f"{wanted} checkpoint", ITSELF, all_of=labels)


def only(listing: Listing, candidates: list[str], what: str, flag: str, all_of: list[str] | None = None) -> str:
    """Give the only one, or the one that the official files name; else say what there is."""
    official = {
        PurePosixPath(n).name for parts in MODELS.values() for wanted in parts.values() for n in wanted.patterns
    }
    candidates = list(dict.fromkeys(candidates))
    best = [n for n in candidates if PurePosixPath(n).name in official] if len(candidates) > 1 else candidates
    if len(best) == 1:
        return best[0]
    if not candidates:
        others = f"; there are {', '.join(all_of)}" if all_of else ""
        remedy = listing.remedy or "give its path"
        named = "" if flag == ITSELF else f" ({flag})"  # a checkpoint is named itself, by no flag
        msg = f"{listing.where}: no {what} in it{others}; {remedy}{named}"
    else:
        msg = f"{listing.where}: has {', '.join(candidates)}; say which {what} is meant, by {flag}"
    raise SourceError(msg)


def recipe_of(listing: Listing, criteria: Criteria, chosen: str, upsampler: bool) -> Recipe:
    """Give the pipeline asked for, or the one that the names speak of."""
    if criteria.pipeline is not None:
        return RECIPES[criteria.pipeline]
    kinds = words_of(chosen) & KINDS or words_of(listing.where) & KINDS
    if len(kinds) != 1:
        files = (
            [chosen] if chosen in listing.names else [name for name in listing.names if name.endswith(".safetensors")]
        )
        kinds = {kind for name in files if "transformer" in listing.holds(name) and (kind := listing.kind(name))}
    if not chosen and len(kinds) != 1:
        msg = (
            f"{listing.where}: neither its name nor those of its files say whether it is dev or distilled; say which "
            "pipeline to run, by --pipeline or pipeline="
        )
        raise SourceError(msg)
    if kinds == {"dev"}:
        return RECIPES["dev"]
    return RECIPES["distilled" if upsampler else "distilled-one-stage"]


def check_whole(listing: Listing, files: Sequence[str]) -> None:
    """Refuse a set of shards of which some are missing."""
    counts = {int(match[1]) for name in files if (match := SHARD.search(name))}
    if counts and counts != {len(files)}:
        msg = (
            f"{listing.where}: {len(files)} of {max(counts)} shards are there, such as {files[0]}; fetch the others too"
        )
        raise SourceError(msg)
