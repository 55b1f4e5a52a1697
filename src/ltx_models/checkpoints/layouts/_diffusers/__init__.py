"""The configurations of diffusers' components: what says which component it is, and the way there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ltx_models.checkpoints.layouts._diffusers.sound import audio_back, audio_there, vocoder_back, vocoder_there
from ltx_models.checkpoints.layouts._diffusers.tables import Config, Table, to_diffusers, to_official
from ltx_models.checkpoints.layouts._diffusers.transformer import (
    connectors_back,
    connectors_there,
    transformer_back,
    transformer_there,
)
from ltx_models.checkpoints.layouts._diffusers.video import video_back, video_there

__all__ = ["CLASSES", "FOLDERS", "config_for", "sections_of"]

CLASSES = {
    "LTX2VideoTransformer3DModel": "transformer",
    "LTX2TextConnectors": "connectors",
    "AutoencoderKLLTX2Video": "video_vae",
    "AutoencoderKLLTX2Audio": "audio_vae",
    "LTX2Vocoder": "vocoder",
    "LTX2VocoderWithBWE": "vocoder",
    "LTX2LatentUpsamplerModel": "upsampler",
}
"""What `_class_name` of a ``config.json`` says about the component beside it."""

FOLDERS = {
    "transformer": "transformer",
    "connectors": "connectors",
    "video_vae": "vae",
    "audio_vae": "audio_vae",
    "vocoder": "vocoder",
    "upsampler": "latent_upsampler",
}
_UPSAMPLER: Table = (
    *((key, key) for key in ("in_channels", "mid_channels", "num_blocks_per_stage", "dims")),
    *((key, key) for key in ("spatial_upsample", "temporal_upsample")),
    ("spatial_scale", "rational_spatial_scale"),
    ("rational_resampler", "use_rational_resampler"),
)
_SECTIONS = {
    "transformer": "transformer",
    "connectors": "transformer",
    "video_vae": "vae",
    "audio_vae": "audio_vae",
    "vocoder": "vocoder",
}


def sections_of(config: Mapping[str, Any]) -> Config:
    """
    Translate the ``config.json`` of a component.

    Parameters
    ----------
    config : mapping
        Its content, with a ``_class_name`` of `CLASSES`.

    Returns
    -------
    dict of str to object
        Sections as official files embed them; for an upsampler, the whole configuration.
    """
    component = CLASSES[config["_class_name"]]
    if component == "transformer":
        return {"transformer": transformer_back(config)}
    if component == "connectors":
        return {"transformer": connectors_back(config)}
    if component == "video_vae":
        return {"vae": video_back(config)}
    if component == "audio_vae":
        return {"audio_vae": audio_back(config)}
    if component == "vocoder":
        return {"vocoder": vocoder_back(config)}
    return {"_class_name": "LatentUpsampler", **to_official(_UPSAMPLER, config)}


def config_for(component: str, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Config:
    """
    Write the ``config.json`` of a component.

    Parameters
    ----------
    component : str
        A key of `FOLDERS`.
    config : mapping
        The official configuration: its sections, or an upsampler's own.
    shapes : mapping of str to tuple of int
        Shapes of the component's tensors by official name, for what the configuration leaves out.

    Returns
    -------
    dict of str to object
        What diffusers' ``from_config`` takes.

    Raises
    ------
    ValueError
        If the configuration lacks the section, or describes what diffusers' classes cannot express.
    """
    section = config if component == "upsampler" else config.get(_SECTIONS[component])
    if not section:
        msg = f"config: no section {_SECTIONS[component]!r}, which the config.json of {component} is made from"
        raise ValueError(msg)
    if component == "transformer":
        return {"_class_name": "LTX2VideoTransformer3DModel", **transformer_there(section)}
    if component == "connectors":
        return {"_class_name": "LTX2TextConnectors", **connectors_there(section, shapes)}
    if component == "video_vae":
        return {"_class_name": "AutoencoderKLLTX2Video", **video_there(section)}
    if component == "audio_vae":
        return {"_class_name": "AutoencoderKLLTX2Audio", **audio_there(section)}
    if component == "vocoder":
        return vocoder_there(section, shapes)
    # what the official code takes where a file does not say; diffusers takes others
    unsaid = {"mid_channels": 512, "use_rational_resampler": False}
    return {"_class_name": "LTX2LatentUpsamplerModel", **unsaid, **to_diffusers(_UPSAMPLER, section)}
