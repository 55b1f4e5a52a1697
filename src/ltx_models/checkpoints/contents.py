"""Which components a file of weights holds, and of which version: by its header, or by its name where it is remote."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from ltx_models.checkpoints.files import CheckpointError, checkpoint_files, read_header
from ltx_models.media.regular import parse_json

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
# words of the names of files that hold nothing else
ALONE = {"upscaler": "upsampler", "upsampler": "upsampler", "lora": "lora", "duration": "duration_head"}
WHOLE = frozenset({"transformer", "connectors", "video_vae", "audio_vae", "vocoder"})
# the beginnings of keys by which a file here shows what it holds
SIGNS = {
    "transformer": ("patchify_proj.", "audio_patchify_proj.", "transformer.patchify_proj."),
    "video_vae": (
        *("vae.", "vae_decoder.", "vae_encoder.", "decoder.up_blocks.", "encoder.down_blocks.", "up_blocks."),
        *("decoder.det_stages.", "decoder.diff_blocks."),
    ),
    "connectors": ("video_embeddings_connector.", "video_aggregate_embed.", "aggregate_embed.", "text_embedding_proj"),
    "audio_vae": ("audio_vae.", "vocoder.", "conv_pre.", "bwe_generator.", "decoder.up.", "encoder.down."),
    "text": ("language_model.", "model.language_model.", "model.layers.", "model.embed_tokens."),
    "upsampler": ("initial_conv.",),
    "duration_head": ("duration_head.",),
}
SPOKEN = {
    "transformer": "a transformer",
    "video_vae": "a video autoencoder",
    "connectors": "text connectors or projections",
    "audio_vae": "an audio autoencoder or vocoder",
    "vocoder": "a vocoder",
    "text": "a language model",
    "upsampler": "a latent upsampler",
    "duration_head": "a duration head",
    "lora": "a LoRA",
}
_VERSION = re.compile(r"(\d+)\.(\d+)")
Version = tuple[int, int]


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
    >>> sorted(by_name("text_encoders/gemma4-12b-with-proj-ltx-2.5-bf16.safetensors"))
    ['connectors', 'text']
    """
    words = words_of(name)
    for alone, component in ALONE.items():
        if alone in words:
            return frozenset({component})
    if re.fullmatch(r"model-\d{5}-of-\d{5}\.safetensors", name):  # Gemma's, put into the same folder
        return frozenset({"text"})
    if any(word.startswith("gemma") for word in words):
        return frozenset({"text"} | ({"connectors"} if "proj" in words else set()))
    if "audio" in words:
        return frozenset({"audio_vae", "vocoder"})
    components = frozenset(PARTS[word] for word in words if word in PARTS)
    if components == {"transformer"} and (version_by_name(name) or (0, 0)) >= (2, 5):
        return components | {"connectors"}  # which are published with it since
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
        Components: keys of `SIGNS`, or ``"lora"``; empty for others.

    Raises
    ------
    CheckpointError
        If the file is broken.
    """
    return contents_of(read_header(file)[1])


def contents_of(keys: Iterable[str]) -> frozenset[str]:
    """Name the components that keys belong to."""
    keys = list(keys)
    if any(".lora_" in key for key in keys):
        return frozenset({"lora"})
    bare = [key.removeprefix("model.diffusion_model.").removeprefix("diffusion_model.") for key in keys]
    return frozenset(kind for kind, starts in SIGNS.items() if any(key.startswith(starts) for key in bare))


def spoken(components: Iterable[str]) -> str:
    """
    Name components for people.

    Examples
    --------
    >>> spoken({"text", "connectors"}), spoken(())
    ('a language model and text connectors or projections', 'no component of LTX-2')
    """
    order = [SPOKEN[name] for name in SPOKEN if name in set(components)]
    order = sorted(order, key=lambda text: text != SPOKEN["text"])
    return " and ".join(order) or "no component of LTX-2"


def words_of(name: str) -> set[str]:
    """Give the words of a file's name, without those of its folders."""
    return set(re.split(r"[^a-z0-9]+", PurePosixPath(name).name.lower()))


def version_by_name(name: str) -> Version | None:
    """
    Guess from its name of which version a file is.

    Examples
    --------
    >>> version_by_name("vae/ltx-2.5-video-vae-bf16.safetensors"), version_by_name("ltx-2-19b-dev.safetensors")
    ((2, 5), (2, 0))
    >>> version_by_name("upsampler.safetensors") is None
    True
    """
    match = re.search(r"ltx-?(\d)(?:\.(\d))?(?![\d])", PurePosixPath(name).name.lower())
    return None if match is None else (int(match[1]), int(match[2] or 0))


def version_by_header(metadata: Mapping[str, str]) -> Version | None:
    """
    Read of which version a file says that it is.

    Parameters
    ----------
    metadata : mapping of str to str
        Of the file.

    Returns
    -------
    (int, int) or None
        Major and minor; None where it does not say, or says something that is no version of LTX-2, as upsamplers, which
        are counted by themselves, and files of 2.0 may.

    Examples
    --------
    >>> version_by_header({"model_version": "2.5.0"}), version_by_header({}) is None
    ((2, 5), True)
    """
    match = _VERSION.match(metadata.get("model_version", "").strip().strip('"'))
    if match is not None:
        return (2, int(match[2])) if match[1] == "2" else None
    try:
        section = parse_json(metadata.get("config", "{}"))["transformer"]
        marked = bool(section["use_keyframes_abs_pos_embedding"])
    except (ValueError, LookupError, TypeError):
        return None
    return (2, 5) if marked else None


def version_text(version: Version | None) -> str:
    """
    Write a version.

    Examples
    --------
    >>> version_text((2, 5)), version_text(None)
    ('2.5', 'unknown version')
    """
    return "unknown version" if version is None else f"{version[0]}.{version[1]}"


def version_of_file(path: Path) -> Version | None:
    """Tell it of a file or folder of shards by what its headers say; None where it is no checkpoint."""
    try:
        found = [version_by_header(read_header(file)[0]) for file in checkpoint_files(path)]
    except CheckpointError:
        return None
    return next((version for version in found if version is not None), None)
