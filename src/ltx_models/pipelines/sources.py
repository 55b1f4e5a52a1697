"""
Which files a pipeline is made of: found in a folder, or in a repository, of which no more than those is fetched.

What a file holds is read from its header where it is here, and from its name where it has yet to be fetched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import PurePosixPath

from ltx_models.checkpoints.contents import version_text, words_of
from ltx_models.checkpoints.layouts import FOLDERS
from ltx_models.pipelines.listing import (
    SHARD,
    Choice,
    Criteria,
    Listing,
    SourceError,
    check_whole,
    only,
    recipe_of,
    variant_of,
)
from ltx_models.pipelines.settings import RECIPES
from ltx_models.pipelines.split import choose_split, split_transformers

BESIDE = ("*.json", "*.model")  # what stands beside the weights of a component or a language model


def choose(listing: Listing, criteria: Criteria) -> Choice:
    """
    Choose the files of a pipeline.

    Parameters
    ----------
    listing : Listing
        What there is.
    criteria : Criteria
        What is asked for.

    Returns
    -------
    Choice
        The files.

    Raises
    ------
    SourceError
        If one is missing, or it is not clear which is meant; the text lists what is there.
    ValueError
        If there is no pipeline of that name.
    """
    if criteria.pipeline is not None and criteria.pipeline not in RECIPES:
        msg = f"pipeline: got {criteria.pipeline!r}, allowed are {', '.join(map(repr, RECIPES))}"
        raise ValueError(msg)
    sets = _sets(listing.names)
    holds = {label: frozenset[str]().union(*map(listing.holds, files)) for label, files in sets.items()}
    variant = None if criteria.pipeline is None else "distilled" if not RECIPES[criteria.pipeline].guided else "dev"
    whole = [label for label in sets if {"transformer", "video_vae"} <= holds[label]]
    if apart := split_transformers(listing):
        _refuse_both(listing, whole, apart)
        return choose_split(listing, criteria, apart, variant)
    chosen, names = _checkpoint(listing, sets, holds, whole, variant, criteria.fp8)
    upsamplers = _upsamplers(listing, holds) if criteria.upsampler else []
    recipe = recipe_of(listing, criteria, chosen, bool(upsamplers) or not criteria.upsampler)
    upsampler = lora = text = None
    if recipe.two_stages and criteria.upsampler:
        upsampler = only(listing, upsamplers, "spatial x2 upsampler", "--spatial-upsampler-path or upsampler=")
        names += [name for name in listing.names if name == upsampler or name.startswith(f"{upsampler}/")]
    if recipe.needs_lora and criteria.distilled_lora:
        loras = [label for label in sets if "lora" in holds[label] and "distilled" in words_of(label)]
        lora = only(listing, loras, "distilled LoRA", "--distilled-lora or distilled_lora=")
        names += sets[lora]
    if criteria.text_encoder:
        text, more = _text_encoder(listing, sets, holds)
        names += more
    return Choice(recipe, chosen, upsampler, lora, text, tuple(dict.fromkeys(names)))


def _refuse_both(listing: Listing, whole: Sequence[str], apart: Sequence[str]) -> None:
    """Refuse files of everything beside files of single components: nobody can know which are meant."""
    if whole:
        one, other = (f"{name} of {version_text(listing.version(name))}" for name in (whole[0], apart[0]))
        msg = (
            f"{listing.where}: has a whole checkpoint, {one}, beside a transformer alone, {other}; say which is meant: "
            "give the path of the one (--checkpoint-path), or of the other with its parts (--transformer-path, "
            "--text-encoder-path, --video-vae-path, --audio-vae-path)"
        )
        raise SourceError(msg)


def _sets(names: Sequence[str]) -> dict[str, list[str]]:
    """Group the weights that do not lie in folders: shards by their common name, and each other file by its own."""
    sets: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(".safetensors") and "/" not in name:
            sets.setdefault(SHARD.sub("", name), []).append(name)
    return sets


def _checkpoint(
    listing: Listing,
    sets: dict[str, list[str]],
    holds: dict[str, frozenset[str]],
    whole: list[str],
    variant: str | None,
    fp8: bool,
) -> tuple[str, list[str]]:
    """Choose among files that hold everything; else take the folders of components, or their files."""
    if whole:
        label = variant_of(listing, whole, variant, fp8)
        check_whole(listing, sets[label])
        if sets[label] == [label]:
            return label, [label]
        if len(whole) > 1:
            msg = f"{listing.where}: {label} is in shards beside other checkpoints; put its shards into a folder"
            raise SourceError(msg)
        return "", [*sets[label], *_beside(listing, "")]
    if folders := [name for name in listing.names if _component(name)]:
        for folder in {str(PurePosixPath(name).parent) for name in folders}:
            shards = [n for n in folders if n.endswith(".safetensors") and str(PurePosixPath(n).parent) == folder]
            check_whole(listing, shards)
        if any(name.startswith("transformer/") and name.endswith(".safetensors") for name in folders):
            return "", [*folders, *_beside(listing, "")]
    parts = [label for label in sets if holds[label] and not holds[label] & {"lora", "upsampler", "text"}]
    transformers = [label for label in parts if "transformer" in holds[label]]
    if len(transformers) == 1:
        return "", [*(name for label in parts for name in sets[label]), *_beside(listing, "")]
    if transformers:
        msg = (
            f"{listing.where}: has the transformers {', '.join(transformers)} in files of their own; leave one of them "
            "there, or give it as the checkpoint, with video_vae= and audio_vae="
        )
        raise SourceError(msg)
    there_are = ", ".join(sets) or "no safetensors files at all"
    msg = f"{listing.where}: no transformer of LTX-2 in it; there are {there_are}; {listing.remedy}".rstrip("; ")
    raise SourceError(msg)


def _component(name: str) -> bool:
    """Say whether a file belongs to the folder of a component."""
    folder = str(PurePosixPath(name).parent)
    wanted = name.endswith(".safetensors") or any(fnmatch(name, pattern) for pattern in BESIDE)
    return wanted and folder in FOLDERS


def _beside(listing: Listing, folder: str) -> list[str]:
    """List the descriptions that lie in a folder."""
    names = [name for name in listing.names if str(PurePosixPath(name).parent) == (folder or ".")]
    return [name for name in names if any(fnmatch(name, pattern) for pattern in BESIDE)]


def _upsamplers(listing: Listing, holds: dict[str, frozenset[str]]) -> list[str]:
    files = [label for label, held in holds.items() if "upsampler" in held and "temporal" not in words_of(label)]
    files = [label for label in files if not re.search(r"x1[._]5", label)]
    folders = {name.split("/")[0] for name in listing.names if name.endswith(".safetensors")}
    return files or sorted(folders & {"latent_upsampler", "upsampler"})


def _text_encoder(
    listing: Listing, sets: dict[str, list[str]], holds: dict[str, frozenset[str]]
) -> tuple[str | None, list[str]]:
    """Find the language model: a folder of its own with its tokenizer, or in the folder itself."""
    weights = [name for name in listing.names if name.endswith(".safetensors") and name.count("/") == 1]
    folders = {name.split("/")[0] for name in weights}
    named = sorted(name for name in folders if name == "text_encoder" or "gemma" in name.lower())
    if named:
        folder = named[0]
        inside = [n for n in listing.names if n.startswith(f"{folder}/") and fnmatch(n, f"{folder}/*.safetensors")]
        check_whole(listing, inside)
        tokens = [name for name in listing.names if name.startswith("tokenizer/")]
        return folder, [*inside, *_beside(listing, folder), *tokens]
    here = [label for label in sets if holds[label] == {"text"}]
    if here and "config.json" in listing.names:
        check_whole(listing, sets[here[0]])
        return "", [*sets[here[0]], *_beside(listing, "")]
    return None, []
