"""
Which files a pipeline is made of: found in a folder, or in a repository, of which no more than those is fetched.

What a file holds is read from its header where it is here, and from its name where it has yet to be fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from ltx_models.checkpoints import read_header
from ltx_models.checkpoints.kinds import KINDS, kind_of_file
from ltx_models.checkpoints.layouts import FOLDERS
from ltx_models.download import MODELS
from ltx_models.pipelines.settings import RECIPES, Recipe

SHARD = re.compile(r"-\d{5}-of-(\d{5})(?=\.safetensors$)")
REDUCED = {"fp8", "fp4", "nvfp4", "mxfp8", "int8", "int4"}
# words of the names of files that hold one component alone
PARTS = {
    "transformer": "transformer",
    "connector": "connectors",
    "connectors": "connectors",
    "projection": "connectors",
    "projections": "connectors",
    "vae": "video_vae",
    "vocoder": "vocoder",
}
WHOLE = frozenset({"transformer", "connectors", "video_vae", "audio_vae", "vocoder"})
# the beginnings of keys by which a file here shows what it holds
SIGNS = {
    "transformer": ("patchify_proj.", "audio_patchify_proj.", "transformer.patchify_proj."),
    "video_vae": ("vae.", "vae_decoder.", "vae_encoder.", "decoder.up_blocks.", "encoder.down_blocks.", "up_blocks."),
    "connectors": ("video_embeddings_connector.", "video_aggregate_embed.", "aggregate_embed.", "text_embedding_proj"),
    "audio_vae": ("audio_vae.", "vocoder.", "conv_pre.", "bwe_generator.", "decoder.up.", "encoder.down."),
    "text": ("language_model.", "model.language_model.", "model.layers.", "model.embed_tokens."),
    "upsampler": ("initial_conv.",),
}
BESIDE = ("*.json", "*.model")  # what stands beside the weights of a component or a language model


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
    """

    where: str
    names: tuple[str, ...]
    holds: Callable[[str], frozenset[str]]
    remedy: str = ""
    kind: Callable[[str], str | None] = lambda name: None


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
        The folder of the language model, the empty string for the folder itself; None where there is none.
    names : tuple of str
        All files that must be there.
    """

    recipe: Recipe
    checkpoint: str
    upsampler: str | None
    distilled_lora: str | None
    text_encoder: str | None
    names: tuple[str, ...]


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
    upsampler, distilled_lora, text_encoder : bool
        Whether these are to be found there too; they were not given, and may be needed.
    """

    pipeline: str | None = None
    fp8: bool = False
    upsampler: bool = True
    distilled_lora: bool = True
    text_encoder: bool = True


ITSELF = "its own path"


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
        lambda name: by_header(folder / name),
        "give its path",
        lambda name: kind_of_file(folder / name),
    )


def by_name(name: str) -> frozenset[str]:
    """
    Guess from its name what a file of weights holds.

    Parameters
    ----------
    name : str
        Such as ``"ltx-2-19b-dev.safetensors"``.

    Returns
    -------
    frozenset of str
        Components; `WHOLE` where the name speaks of none.

    Examples
    --------
    >>> sorted(by_name("audio_vae.safetensors")), by_name("ltx-2.3-spatial-upscaler-x2-1.1.safetensors")
    (['audio_vae', 'vocoder'], frozenset({'upsampler'}))
    """
    words = _words(name)
    if words & {"upscaler", "upsampler"}:
        return frozenset({"upsampler"})
    if "lora" in words:
        return frozenset({"lora"})
    if re.fullmatch(r"model-\d{5}-of-\d{5}\.safetensors", name):  # Gemma's, put into the same folder
        return frozenset({"text"})
    if "audio" in words:
        return frozenset({"audio_vae", "vocoder"})
    components = frozenset(PARTS[word] for word in words if word in PARTS)
    return components or WHOLE


def by_header(file: Path) -> frozenset[str]:
    """
    Read what a file of weights holds; LoRAs, upsamplers and language models hold nothing else.

    Parameters
    ----------
    file : Path
        A safetensors file.

    Returns
    -------
    frozenset of str
        Components that `choose` tells apart; empty for others.

    Raises
    ------
    CheckpointError
        If the file is broken.
    """
    keys = read_header(file)[1]
    if any(".lora_" in key for key in keys):
        return frozenset({"lora"})
    bare = [key.removeprefix("model.diffusion_model.").removeprefix("diffusion_model.") for key in keys]
    return frozenset(kind for kind, starts in SIGNS.items() if any(key.startswith(starts) for key in bare))


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
    chosen, names = _checkpoint(listing, sets, holds, whole, variant, criteria.fp8)
    upsamplers = _upsamplers(listing, holds) if criteria.upsampler else []
    recipe = _recipe(listing, criteria, chosen, bool(upsamplers) or not criteria.upsampler)
    upsampler = lora = text = None
    if recipe.two_stages and criteria.upsampler:
        upsampler = _one(listing, upsamplers, "spatial x2 upsampler", "--spatial-upsampler-path or upsampler=")
        names += [name for name in listing.names if name == upsampler or name.startswith(f"{upsampler}/")]
    if recipe.needs_lora and criteria.distilled_lora:
        loras = [label for label in sets if "lora" in holds[label] and "distilled" in _words(label)]
        lora = _one(listing, loras, "distilled LoRA", "--distilled-lora or distilled_lora=")
        names += sets[lora]
    if criteria.text_encoder:
        text, more = _text_encoder(listing, sets, holds)
        names += more
    return Choice(recipe, chosen, upsampler, lora, text, tuple(dict.fromkeys(names)))


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", PurePosixPath(name).name.lower()))


def _sets(names: Sequence[str]) -> dict[str, list[str]]:
    """Group the weights that do not lie in folders: shards by their common name, and each other file by its own."""
    sets: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(".safetensors") and "/" not in name:
            sets.setdefault(SHARD.sub("", name), []).append(name)
    return sets


def _check_whole(listing: Listing, files: Sequence[str]) -> None:
    """Refuse a set of shards of which some are missing."""
    counts = {int(match[1]) for name in files if (match := SHARD.search(name))}
    if counts and counts != {len(files)}:
        msg = (
            f"{listing.where}: {len(files)} of {max(counts)} shards are there, such as {files[0]}; fetch the others too"
        )
        raise SourceError(msg)


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
        label = _variant(listing, whole, variant, fp8)
        _check_whole(listing, sets[label])
        if sets[label] == [label]:
            return label, [label]
        if len(whole) > 1:
            msg = f"{listing.where}: {label} is in shards beside other checkpoints; put its shards into a folder"
            raise SourceError(msg)
        return "", [*sets[label], *_beside(listing, "")]
    if folders := [name for name in listing.names if _component(name)]:
        for folder in {str(PurePosixPath(name).parent) for name in folders}:
            shards = [n for n in folders if n.endswith(".safetensors") and str(PurePosixPath(n).parent) == folder]
            _check_whole(listing, shards)
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


def _variant(listing: Listing, labels: list[str], variant: str | None, fp8: bool) -> str:
    """Choose one of several whole checkpoints: by variant, then by how its numbers are stored, then the official."""
    candidates, wanted = labels, variant
    if len(candidates) > 1:
        wanted = variant or ("distilled" if any("distilled" in _words(label) for label in labels) else "dev")
        candidates = [label for label in labels if wanted in _words(label)]
    elif variant is not None and _words(candidates[0]) & {"dev", "distilled"} - {variant}:
        candidates = []
    reduced = [label for label in candidates if _words(label) & REDUCED]
    plain = [label for label in candidates if label not in reduced]
    wished = [label for label in reduced if "fp8" in _words(label)] if fp8 else plain
    return _one(listing, wished or plain or candidates, f"{wanted} checkpoint", ITSELF, all_of=labels)


def _upsamplers(listing: Listing, holds: dict[str, frozenset[str]]) -> list[str]:
    files = [label for label, held in holds.items() if "upsampler" in held and "temporal" not in _words(label)]
    files = [label for label in files if not re.search(r"x1[._]5", label)]
    folders = {name.split("/")[0] for name in listing.names if name.endswith(".safetensors")}
    return files or sorted(folders & {"latent_upsampler", "upsampler"})


def _one(listing: Listing, candidates: list[str], what: str, flag: str, all_of: list[str] | None = None) -> str:
    """Give the only one, or the one that the official files name; else say what there is."""
    official = {name for parts in MODELS.values() for wanted in parts.values() for name in wanted.patterns}
    best = [name for name in candidates if name in official] if len(candidates) > 1 else candidates
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


def _recipe(listing: Listing, criteria: Criteria, chosen: str, upsampler: bool) -> Recipe:
    """Give the pipeline asked for, or the one that the names speak of."""
    if criteria.pipeline is not None:
        return RECIPES[criteria.pipeline]
    kinds = _words(chosen) & KINDS or _words(listing.where) & KINDS
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
        _check_whole(listing, inside)
        tokens = [name for name in listing.names if name.startswith("tokenizer/")]
        return folder, [*inside, *_beside(listing, folder), *tokens]
    here = [label for label in sets if holds[label] == {"text"}]
    if here and "config.json" in listing.names:
        _check_whole(listing, sets[here[0]])
        return "", [*sets[here[0]], *_beside(listing, "")]
    return None, []
