"""The names of parameters in each layout, as tables: regular expressions from official names and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from ltx_models.checkpoints.layouts._transformer import from_diffusers, to_diffusers

# Components, and the prefixes that the official single file gives their keys.
PREFIXES = {
    "transformer": "model.diffusion_model.",
    "connectors": "",  # two prefixes of their own: see `connector_key`
    "video_vae": "vae.",
    "audio_vae": "audio_vae.",
    "vocoder": "vocoder.",
    "upsampler": "",
}
CONNECTORS = ("video_embeddings_connector.", "audio_embeddings_connector.")
PROJECTION = "text_embedding_projection."


class Names(NamedTuple):
    """
    One component's names in another layout, both ways.

    Attributes
    ----------
    there, back : callable
        From the official name without its prefix to the other one, and the reverse.
    """

    there: Callable[[str], str]
    back: Callable[[str], str]


Table = tuple[tuple[str, str], ...]


class BothWays(NamedTuple):
    """Two tables of patterns and replacements, each of which undoes the other."""

    there: Table
    back: Table

    def __or__(self, other: BothWays) -> BothWays:
        return BothWays(self.there + other.there, self.back + other.back)


def _reversible(pattern: str, replacement: str, *pairs: tuple[str, str]) -> BothWays:
    """Rename each way by exact match: ``{}`` is where a name stands in the pattern and in the replacement."""

    def table(pairs: Iterable[tuple[str, str]]) -> Table:
        return tuple((pattern.format(re.escape(old)), replacement.format(new)) for old, new in pairs)

    return BothWays(table(pairs), table((new, old) for old, new in pairs))


_whole = partial(_reversible, "^{}$", "{}")
_leading = partial(_reversible, r"^{}\.", "{}.")
_inner = partial(_reversible, r"(^|\.){}\.", r"\1{}.")


def _rename(table: Table) -> Callable[[str], str]:
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in table]

    def rename(key: str) -> str:
        for pattern, replacement in compiled:
            key = pattern.sub(replacement, key)
        return key

    return rename


def _names(tables: BothWays) -> Names:
    return Names(_rename(tables.there), _rename(tables.back))


def _numbered(old: str, new: str, pairs: tuple[tuple[str, str], ...]) -> Table:
    """Rename whole leading parts of a path by exact match."""
    return tuple((f"^{re.escape(old + a)}\\.", f"{new}{b}.") for a, b in pairs)


# Encoder: blocks that shrink follow blocks that do not; diffusers puts each pair into one. Decoder: the same reversed.
_DOWN = (
    *((str(2 * i), f"down_blocks.{i}") for i in range(4)),
    *((str(2 * i + 1), f"down_blocks.{i}.downsamplers.0") for i in range(4)),
    ("8", "mid_block"),
)
_UP = (
    ("0", "mid_block"),
    *((str(2 * i + 1), f"up_blocks.{i}.upsamplers.0") for i in range(4)),
    *((str(2 * i + 2), f"up_blocks.{i}") for i in range(4)),
)


def _once(table: Table) -> Callable[[str], str]:
    """Rename by the first entry that fits, so that no result is renamed again."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in table]

    def rename(key: str) -> str:
        for pattern, replacement in compiled:
            new, count = pattern.subn(replacement, key)
            if count:
                return new
        return key

    return rename


def _both(*steps: Callable[[str], str]) -> Callable[[str], str]:
    def rename(key: str) -> str:
        for step in steps:
            key = step(key)
        return key

    return rename


_BLOCKS_THERE = _once(
    (*_numbered("encoder.down_blocks.", "encoder.", _DOWN), *_numbered("decoder.up_blocks.", "decoder.", _UP))
)
# the longer paths first: a downsampler lies within its block
_BLOCKS_BACK = _once(
    tuple(
        (f"^{re.escape(side + b)}\\.", f"{side}{blocks}{a}.")
        for side, blocks, pairs in (("encoder.", "down_blocks.", _DOWN), ("decoder.", "up_blocks.", _UP))
        for a, b in sorted(pairs, key=lambda pair: -len(pair[1]))
    )
)
_STATISTICS = _whole(
    ("per_channel_statistics.mean-of-means", "latents_mean"), ("per_channel_statistics.std-of-means", "latents_std")
)
_VIDEO = (
    _inner(("res_blocks", "resnets"))
    | _leading(("decoder.last_time_embedder", "decoder.time_embedder"))
    | _whole(("decoder.last_scale_shift_table", "decoder.scale_shift_table"))
    | _STATISTICS
)
_VOCODER = _inner(
    ("ups", "upsamplers"),
    ("resblocks", "resnets"),
    ("conv_pre", "conv_in"),
    ("conv_post", "conv_out"),
    ("act_post", "act_out"),
) | BothWays(
    ((r"\.downsample\.lowpass\.", ".downsample."),), ((r"\.downsample\.filter$", ".downsample.lowpass.filter"),)
)
_CONNECTORS = _inner(
    ("transformer_1d_blocks", "transformer_blocks"), ("q_norm", "norm_q"), ("k_norm", "norm_k")
) | _leading(
    ("video_embeddings_connector", "video_connector"),
    ("audio_embeddings_connector", "audio_connector"),
    (f"{PROJECTION}aggregate_embed", "text_proj_in"),
    (f"{PROJECTION}video_aggregate_embed", "video_text_proj_in"),
    (f"{PROJECTION}audio_aggregate_embed", "audio_text_proj_in"),
)

DIFFUSERS = {
    "transformer": Names(to_diffusers, from_diffusers),
    "connectors": _names(_CONNECTORS),
    "video_vae": Names(_both(_BLOCKS_THERE, _rename(_VIDEO.there)), _both(_BLOCKS_BACK, _rename(_VIDEO.back))),
    "audio_vae": _names(_STATISTICS),
    "vocoder": _names(_VOCODER),
    "upsampler": Names(lambda key: key, lambda key: key),
}
"""Names in diffusers' folders."""

_LINEAR_THERE: Table = (
    (r"\.to_out\.0\.", ".to_out."),
    (r"ff\.net\.0\.proj\.", "ff.proj_in."),
    (r"ff\.net\.2\.", "ff.proj_out."),
)
_LINEAR_BACK: Table = (
    (r"\.to_out\.(?!0\.)", ".to_out.0."),
    (r"ff\.proj_in\.", "ff.net.0.proj."),
    (r"ff\.proj_out\.", "ff.net.2."),
)
_EMBEDDING_THERE: Table = ((r"\.linear_([12])\.", r".linear\1."),)
_EMBEDDING_BACK: Table = ((r"\.linear([12])\.", r".linear_\1."),)
# That project's decoder wraps each causal convolution once more, and its published files are of both kinds.
_DECODER_THERE: Table = ((r"(^|\.)(conv_?\w+)\.conv\.(weight|bias)$", r"\1\2.conv.conv.\3"),)
_DECODER_BACK: Table = ((r"(^|\.)(conv_?\w+)\.conv\.conv\.(weight|bias)$", r"\1\2.conv.\3"),)
_MLX_STATISTICS_BACK: Table = (
    (r"^per_channel_statistics\._?mean(_of_means)?$", "per_channel_statistics.mean-of-means"),
    (r"^per_channel_statistics\._?std(_of_means)?$", "per_channel_statistics.std-of-means"),
)
_VIDEO_STATISTICS: Table = (
    (r"^per_channel_statistics\.mean-of-means$", "per_channel_statistics.mean"),
    (r"^per_channel_statistics\.std-of-means$", "per_channel_statistics.std"),
)
_AUDIO_STATISTICS: Table = (
    (r"^per_channel_statistics\.mean-of-means$", "per_channel_statistics.mean_of_means"),
    (r"^per_channel_statistics\.std-of-means$", "per_channel_statistics.std_of_means"),
)
_AUDIO = Names(_rename(_AUDIO_STATISTICS), _rename(_MLX_STATISTICS_BACK))

MLX = {
    "transformer": Names(_rename(_LINEAR_THERE + _EMBEDDING_THERE), _rename(_LINEAR_BACK + _EMBEDDING_BACK)),
    "connectors": Names(
        _rename((*_LINEAR_THERE, (f"^{PROJECTION}", ""))),
        _rename((*_LINEAR_BACK, (r"^((video_|audio_)?aggregate_embed\.)", PROJECTION + r"\1"))),
    ),
    "video_decoder": Names(_rename(_DECODER_THERE + _VIDEO_STATISTICS), _rename(_DECODER_BACK + _MLX_STATISTICS_BACK)),
    "video_encoder": Names(_rename(_VIDEO_STATISTICS), _rename(_DECODER_BACK + _MLX_STATISTICS_BACK)),
    "audio_decoder": _AUDIO,
    "audio_encoder": _AUDIO,
    "vocoder": Names(lambda key: key, lambda key: key),
    "upsampler": Names(lambda key: key, lambda key: key),
}
"""Names in the folders of mlx-video; what an official name becomes twice is what it becomes once."""


def connector_key(name: str) -> str:
    """Put the official prefix before a connector's name; the projection has its own."""
    return name if name.startswith(PROJECTION) else PREFIXES["transformer"] + name


def component_of(key: str) -> tuple[str, str]:
    """
    Say which component an official key belongs to.

    Parameters
    ----------
    key : str
        As in the official single file.

    Returns
    -------
    component, name : str
        The key of `PREFIXES`, and the rest of the name; ``("", key)`` for keys of none.

    Examples
    --------
    >>> component_of("vae.decoder.conv_in.conv.bias")
    ('video_vae', 'decoder.conv_in.conv.bias')
    >>> component_of("model.diffusion_model.audio_embeddings_connector.learnable_registers")
    ('connectors', 'audio_embeddings_connector.learnable_registers')
    """
    inner = key.removeprefix(PREFIXES["transformer"])
    if key.startswith(PROJECTION) or inner.startswith(CONNECTORS):
        return "connectors", inner
    for component in ("transformer", "video_vae", "audio_vae", "vocoder"):
        if key.startswith(PREFIXES[component]):
            return component, key[len(PREFIXES[component]) :]
    return "", key


def official_key(component: str, name: str) -> str:
    """
    Undo `component_of`.

    Parameters
    ----------
    component : str
        A key of `PREFIXES`.
    name : str
        The official name without a prefix.

    Returns
    -------
    str
        As in the official single file.
    """
    return connector_key(name) if component == "connectors" else PREFIXES[component] + name
