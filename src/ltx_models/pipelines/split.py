"""Which files a pipeline is made of where each component is a file of its own, as LTX-2.5 is published."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ltx_models.checkpoints.contents import words_of
from ltx_models.pipelines.listing import (
    ITSELF,
    REDUCED,
    SHARD,
    Choice,
    Criteria,
    Listing,
    only,
    recipe_of,
    variant_of,
)

SINCE = (2, 4)  # published so from here on; before, transformers came with everything else
FOREIGN = {"diffusion_pytorch_model.safetensors", "model.safetensors"}  # in the folders of components of other tools
# for each part: what its file holds, and how it is named
PARTS = {
    "text_encoder": ({"text", "connectors"}, "text encoder", "--text-encoder-path or text_encoder="),
    "video_vae": ({"video_vae"}, "video autoencoder", "--video-vae-path or video_vae="),
    "audio_vae": ({"audio_vae"}, "audio autoencoder", "--audio-vae-path or audio_vae="),
    "duration_head": ({"duration_head"}, "duration head", "--duration-head-path or duration_head="),
}
OPTIONAL = (*PARTS, "connectors", "upsampler", "distilled_lora")


def split_transformers(listing: Listing) -> list[str]:
    """
    List the transformers that are published apart from the autoencoders.

    Parameters
    ----------
    listing : Listing
        What there is.

    Returns
    -------
    list of str
        Their files; those of versions before 2.4 are not among them.
    """
    return [
        name
        for name in _files(listing)
        if listing.holds(name) >= {"transformer"}
        and "video_vae" not in listing.holds(name)
        and (listing.version(name) or (0, 0)) >= SINCE
    ]


def choose_split(listing: Listing, criteria: Criteria, transformers: Sequence[str], variant: str | None) -> Choice:
    """
    Choose the files of a pipeline.

    Parameters
    ----------
    listing : Listing
        What there is.
    criteria : Criteria
        What is asked for.
    transformers : sequence of str
        What `split_transformers` gave.
    variant : {"dev", "distilled"} or None
        Which of them is asked for.

    Returns
    -------
    Choice
        The files. Of a component that is nowhere there is none: not every run needs it.

    Raises
    ------
    SourceError
        If it is not clear which is meant; the text lists what is there.
    """
    chosen = variant_of(listing, list(transformers), variant, criteria.fp8)
    near = _Near(listing, chosen)
    upsamplers = [name for name in near.holding("upsampler") if not _other_upsampler(name)]
    recipe = recipe_of(listing, criteria, chosen, bool(upsamplers) or not criteria.upsampler)
    parts = {name: near.one(held, what, flag) for name, (held, what, flag) in PARTS.items() if getattr(criteria, name)}
    if "connectors" not in listing.holds(chosen):
        parts["connectors"] = near.one({"connectors"}, "connectors", ITSELF)
    if recipe.two_stages and criteria.upsampler:
        flag = "--spatial-upsampler-path or upsampler="
        parts["upsampler"] = only(listing, upsamplers, "spatial x2 upsampler", flag)
    if recipe.needs_lora and criteria.distilled_lora:
        loras = [name for name in near.holding("lora") if "distilled" in words_of(name)]
        parts["distilled_lora"] = only(listing, loras, "distilled LoRA", "--distilled-lora or distilled_lora=")
    names = (chosen, *(name for name in parts.values() if name is not None))
    return Choice(recipe, chosen, names=names, **{name: parts.get(name) for name in OPTIONAL})


class _Near:
    """
    The files beside a transformer, those of its own version before others.

    Parameters
    ----------
    listing : Listing
        What there is.
    transformer : str
        The chosen one.
    """

    def __init__(self, listing: Listing, transformer: str) -> None:
        self.listing, self.own = listing, listing.version(transformer)
        self.names = [name for name in _files(listing) if "transformer" not in listing.holds(name)]

    def holding(self, component: str) -> list[str]:
        """List files that hold a component."""
        found = [name for name in self.names if component in self.listing.holds(name)]
        return [name for name in found if self.listing.version(name) in {self.own, None}] or found

    def one(self, components: set[str], what: str, flag: str) -> str | None:
        """Give the only file that holds just these components, if there is one: plain numbers before reduced ones."""
        first = min(components, key=lambda name: name != "text")
        found = [name for name in self.holding(first) if self._just(name, components)]
        found = [name for name in found if not words_of(name) & REDUCED] or found
        found = [name for name in found if "conv" not in words_of(name)] or found
        return only(self.listing, found, what, flag) if found else None

    def _just(self, name: str, components: set[str]) -> bool:
        held = self.listing.holds(name)
        return held >= components and ("text" in held) == ("text" in components)


def _files(listing: Listing) -> list[str]:
    """List the files of weights that are no shards, and not those in the folders of components of other tools."""
    names = [name for name in listing.names if name.endswith(".safetensors") and not SHARD.search(name)]
    return [name for name in names if PurePosixPath(name).name not in FOREIGN]


def _other_upsampler(name: str) -> bool:
    """Say whether a name speaks of an upsampler that doubles no height and width."""
    return "temporal" in words_of(name) or re.search(r"x1[._]5", name) is not None
