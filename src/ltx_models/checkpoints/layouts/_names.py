"""The names of parameters in each layout, as tables: regular expressions from official names and back."""

from __future__ import annotations

import re
from collections.abc import Callable
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


def _rename(table: Table) -> Callable[[str], str]:
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in table]

    def rename(key: str) -> str:
        for pattern, replacement in compiled:
            key = pattern.sub(replacement, key)
        return key

    return rename


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
_STATISTICS_THERE: Table = (
    (r"^per_channel_statistics\.mean-of-means$", "latents_mean"),
    (r"^per_channel_statistics\.std-of-means$", "latents_std"),
)
_STATISTICS_BACK: Table = (
    (r"^latents_mean$", "per_channel_statistics.mean-of-means"),
    (r"^latents_std$", "per_channel_statistics.std-of-means"),
)
_VIDEO_THERE: Table = (
    (r"\.res_blocks\.", ".resnets."),
    (r"^decoder\.last_time_embedder\.", "decoder.time_embedder."),
    (r"^decoder\.last_scale_shift_table$", "decoder.scale_shift_table"),
    *_STATISTICS_THERE,
)
_VIDEO_BACK: Table = (
    (r"\.resnets\.", ".res_blocks."),
    (r"^decoder\.time_embedder\.", "decoder.last_time_embedder."),
    (r"^decoder\.scale_shift_table$", "decoder.last_scale_shift_table"),
    *_STATISTICS_BACK,
)
_VOCODER_THERE: Table = (
    (r"(^|\.)ups\.", r"\1upsamplers."),
    (r"(^|\.)resblocks\.", r"\1resnets."),
    (r"(^|\.)conv_pre\.", r"\1conv_in."),
    (r"(^|\.)conv_post\.", r"\1conv_out."),
    (r"(^|\.)act_post\.", r"\1act_out."),
    (r"\.downsample\.lowpass\.", ".downsample."),
)
_VOCODER_BACK: Table = (
    (r"(^|\.)upsamplers\.", r"\1ups."),
    (r"(^|\.)resnets\.", r"\1resblocks."),
    (r"(^|\.)conv_in\.", r"\1conv_pre."),
    (r"(^|\.)conv_out\.", r"\1conv_post."),
    (r"(^|\.)act_out\.", r"\1act_post."),
    (r"\.downsample\.filter$", ".downsample.lowpass.filter"),
)
_CONNECTORS_THERE: Table = (
    (r"^(video|audio)_embeddings_connector\.", r"\1_connector."),
    (r"\.transformer_1d_blocks\.", ".transformer_blocks."),
    (r"\.q_norm\.", ".norm_q."),
    (r"\.k_norm\.", ".norm_k."),
    (r"^text_embedding_projection\.aggregate_embed\.", "text_proj_in."),
    (r"^text_embedding_projection\.(video|audio)_aggregate_embed\.", r"\1_text_proj_in."),
)
_CONNECTORS_BACK: Table = (
    (r"^(video|audio)_connector\.", r"\1_embeddings_connector."),
    (r"\.transformer_blocks\.", ".transformer_1d_blocks."),
    (r"\.norm_q\.", ".q_norm."),
    (r"\.norm_k\.", ".k_norm."),
    (r"^text_proj_in\.", "text_embedding_projection.aggregate_embed."),
    (r"^(video|audio)_text_proj_in\.", r"text_embedding_projection.\1_aggregate_embed."),
)

DIFFUSERS = {
    "transformer": Names(to_diffusers, from_diffusers),
    "connectors": Names(_rename(_CONNECTORS_THERE), _rename(_CONNECTORS_BACK)),
    "video_vae": Names(_both(_BLOCKS_THERE, _rename(_VIDEO_THERE)), _both(_BLOCKS_BACK, _rename(_VIDEO_BACK))),
    "audio_vae": Names(_rename(_STATISTICS_THERE), _rename(_STATISTICS_BACK)),
    "vocoder": Names(_rename(_VOCODER_THERE), _rename(_VOCODER_BACK)),
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
