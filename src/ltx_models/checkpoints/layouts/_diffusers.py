"""The configurations of diffusers' components, as tables of keys, and the parts that are no mere renaming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from ltx_models.checkpoints.layouts._published import AUDIO_VAE, SECOND_EXTRACTOR

Config = dict[str, Any]
Table = tuple[tuple[str, str], ...]

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

# official, diffusers; values are the same
_TRANSFORMER: Table = (
    *((key, key) for key in ("in_channels", "out_channels", "num_attention_heads", "attention_head_dim")),
    *((key, key) for key in ("cross_attention_dim", "num_layers", "norm_eps", "caption_channels", "rope_type")),
    *((f"audio_{key}", f"audio_{key}") for key in ("in_channels", "out_channels", "num_attention_heads")),
    *((f"audio_{key}", f"audio_{key}") for key in ("attention_head_dim", "cross_attention_dim")),
    ("positional_embedding_theta", "rope_theta"),
    ("timestep_scale_multiplier", "timestep_scale_multiplier"),
    ("av_ca_timestep_scale_multiplier", "cross_attn_timestep_scale_multiplier"),
    ("apply_gated_attention", "gated_attn"),
    ("apply_gated_attention", "audio_gated_attn"),
    ("cross_attention_adaln", "cross_attn_mod"),
    ("cross_attention_adaln", "audio_cross_attn_mod"),
    *((key, key) for key in ("ff_bias", "audio_ff_bias", "use_prompt_adaln_single", "use_keyframes_abs_pos_embedding")),
)
_CONNECTORS: Table = (
    *((f"connector_{key}", f"video_connector_{key}") for key in ("num_attention_heads", "attention_head_dim")),
    *((f"connector_{key}", f"video_connector_{key}") for key in ("num_layers", "num_learnable_registers")),
    *((f"audio_connector_{key}", f"audio_connector_{key}") for key in ("num_attention_heads", "attention_head_dim")),
    *((f"audio_connector_{key}", f"audio_connector_{key}") for key in ("num_layers",)),
    ("connector_apply_gated_attention", "video_gated_attn"),
    ("connector_apply_gated_attention", "audio_gated_attn"),
    ("rope_type", "rope_type"),
    ("positional_embedding_theta", "rope_theta"),
)
_AUDIO_VAE: Table = (
    ("ch", "base_channels"),
    ("out_ch", "output_channels"),
    ("ch_mult", "ch_mult"),
    ("num_res_blocks", "num_res_blocks"),
    ("attn_resolutions", "attn_resolutions"),
    ("in_channels", "in_channels"),
    ("resolution", "resolution"),
    ("z_channels", "latent_channels"),
    ("norm_type", "norm_type"),
    ("causality_axis", "causality_axis"),
    ("dropout", "dropout"),
    ("mid_block_add_attention", "mid_block_add_attention"),
    ("mel_bins", "mel_bins"),
    ("double_z", "double_z"),
)
_GENERATOR: Table = (
    ("upsample_initial_channel", "hidden_channels"),
    ("upsample_rates", "upsample_factors"),
    ("upsample_kernel_sizes", "upsample_kernel_sizes"),
    ("resblock_kernel_sizes", "resnet_kernel_sizes"),
    ("resblock_dilation_sizes", "resnet_dilations"),
    ("use_bias_at_final", "final_bias"),
)
_BANDWIDTH: Table = (
    ("n_fft", "filter_length"),
    ("win_size", "window_length"),
    ("hop_length", "hop_length"),
    ("num_mels", "num_mel_channels"),
    ("input_sampling_rate", "input_sampling_rate"),
    ("output_sampling_rate", "output_sampling_rate"),
)
_UPSAMPLER: Table = (
    *((key, key) for key in ("in_channels", "mid_channels", "num_blocks_per_stage", "dims")),
    *((key, key) for key in ("spatial_upsample", "temporal_upsample")),
    ("spatial_scale", "rational_spatial_scale"),
    ("rational_resampler", "use_rational_resampler"),
)
_KINDS = {"space": "spatial", "time": "temporal", "all": "spatiotemporal"}
_KINDS_BACK = {there: here for here, there in _KINDS.items()}


def _back(table: Table, section: Mapping[str, Any]) -> Config:
    return {official: section[other] for official, other in table if other in section}


def _there(table: Table, section: Mapping[str, Any]) -> Config:
    return {other: section[official] for official, other in table if official in section}


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
        return {"transformer": _transformer_back(config)}
    if component == "connectors":
        return {"transformer": _connectors_back(config)}
    if component == "video_vae":
        return {"vae": _video_back(config)}
    if component == "audio_vae":
        return {"audio_vae": _audio_back(config)}
    if component == "vocoder":
        return {"vocoder": _vocoder_back(config)}
    return {"_class_name": "LatentUpsampler", **_back(_UPSAMPLER, config)}


def _transformer_back(config: Mapping[str, Any]) -> Config:
    section = {"_class_name": "AVTransformer3DModel", **_back(_TRANSFORMER, config)}
    section["frequencies_precision"] = "float64" if config.get("rope_double_precision", True) else "float32"
    sides = (config.get("pos_embed_max_pos", 20), config.get("base_height", 2048), config.get("base_width", 2048))
    section["positional_embedding_max_pos"] = list(sides)
    section["audio_positional_embedding_max_pos"] = [config.get("audio_pos_embed_max_pos", 20)]
    section["use_middle_indices_grid"] = True
    if not config.get("use_prompt_embeddings", True):
        section |= SECOND_EXTRACTOR
    return section


def _connectors_back(config: Mapping[str, Any]) -> Config:
    section = _back(_CONNECTORS, config)
    section["connector_positional_embedding_max_pos"] = [config.get("connector_rope_base_seq_len", 4096)]
    section["frequencies_precision"] = "float64" if config.get("rope_double_precision", True) else "float32"
    section["caption_channels"] = config.get("caption_channels", 3840)
    if config.get("per_modality_projections", False):
        section |= SECOND_EXTRACTOR
    return section


def _video_back(config: Mapping[str, Any]) -> Config:
    _check_levels(config)
    channels: int = config.get("latent_channels", 128)
    before = [channels, *config["block_out_channels"]]
    encoder = _interleave(
        [["res_x", {"num_layers": n}] for n in config["layers_per_block"]],
        [
            [f"compress_{_KINDS_BACK[kind]}_res", {"multiplier": after // width}]
            for kind, width, after in zip(config["downsample_type"], before, before[1:], strict=False)
        ],
    )
    count = len(config["decoder_layers_per_block"])
    noise = _each(config.get("decoder_inject_noise", False), count)
    decoder = _interleave(  # as the file lists them: from pixels to latents
        [
            ["res_x", {"num_layers": n} | ({"inject_noise": True} if noisy else {})]
            for n, noisy in zip(config["decoder_layers_per_block"], noise, strict=True)
        ],
        [
            [f"compress_{_KINDS_BACK[kind]}", {"multiplier": factor} | ({"residual": True} if residual else {})]
            for kind, factor, residual in zip(
                reversed(config["upsample_type"]),
                config["upsample_factor"],
                _each(config.get("upsample_residual", True), count - 1),
                strict=True,
            )
        ],
    )
    return {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": config.get("in_channels", 3),
        "out_channels": config.get("out_channels", 3),
        "latent_channels": channels,
        "patch_size": config.get("patch_size", 4),
        "encoder_blocks": encoder,
        "decoder_blocks": decoder,
        "decoder_base_channels": config["decoder_block_out_channels"][-1] // prod(config["upsample_factor"]),
        "norm_layer": "pixel_norm",
        "latent_log_var": "uniform",
        "causal_decoder": config.get("decoder_causal", False),
        "timestep_conditioning": config.get("timestep_conditioning", False),
        "spatial_padding_mode": config.get("decoder_spatial_padding_mode", "reflect"),
        "encoder_spatial_padding_mode": config.get("encoder_spatial_padding_mode", "zeros"),
    }


def _check_levels(config: Mapping[str, Any]) -> None:
    """Refuse lists of levels whose lengths do not go together: n changes of size lie between n + 1 rows of layers."""
    for rows, *changes in (
        ("layers_per_block", "downsample_type", "block_out_channels"),
        ("decoder_layers_per_block", "upsample_type", "upsample_factor", "decoder_block_out_channels"),
    ):
        lengths = {name: len(config[name]) for name in (rows, *changes)}
        if any(lengths[name] != lengths[rows] - 1 for name in changes):
            counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
            msg = f"vae: numbers of entries are {counts}; expected one more of {rows} than of each of the others"
            raise ValueError(msg)


def _audio_back(config: Mapping[str, Any]) -> Config:
    whole: Config = AUDIO_VAE
    ddconfig = _back(_AUDIO_VAE, config)
    if ddconfig.get("attn_resolutions") is None:  # which diffusers writes for none
        ddconfig["attn_resolutions"] = []
    return {
        "model": {
            "params": {"ddconfig": ddconfig, "sampling_rate": config.get("sample_rate", 16000)},
        },
        "preprocessing": {
            "stft": whole["preprocessing"]["stft"]
            | {"hop_length": config.get("mel_hop_length", 160), "causal": config.get("is_causal", True)},
            "mel": whole["preprocessing"]["mel"] | {"n_mel_channels": config.get("mel_bins") or 64},
        },
    }


def _vocoder_back(config: Mapping[str, Any]) -> Config:
    if config["_class_name"] == "LTX2Vocoder":
        plain = _back(_GENERATOR, config) | {"resblock": "1", "stereo": config.get("out_channels", 2) == 2}
        return plain | {
            "use_tanh_at_final": config.get("final_act_fn", "tanh") == "tanh",
            "output_sampling_rate": config.get("output_sampling_rate", 24000),
        }
    inner = {key.removeprefix("bwe_"): value for key, value in config.items() if key.startswith("bwe_")}
    return {"vocoder": _amp_back(config), "bwe": _amp_back(inner) | _back(_BANDWIDTH, config)}


def _amp_back(config: Mapping[str, Any]) -> Config:
    return _back(_GENERATOR, config) | {
        "resblock": "AMP1",
        "activation": config.get("act_fn", "snakebeta"),
        "use_tanh_at_final": config.get("final_act_fn") == "tanh",
        "stereo": config.get("out_channels", 2) == 2,
    }


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
        return {"_class_name": "LTX2VideoTransformer3DModel", **_transformer_there(section)}
    if component == "connectors":
        return {"_class_name": "LTX2TextConnectors", **_connectors_there(section, shapes)}
    if component == "video_vae":
        return {"_class_name": "AutoencoderKLLTX2Video", **_video_there(section)}
    if component == "audio_vae":
        return {"_class_name": "AutoencoderKLLTX2Audio", **_audio_there(section)}
    if component == "vocoder":
        return _vocoder_there(section, shapes)
    # what the official code takes where a file does not say; diffusers takes others
    unsaid = {"mid_channels": 512, "use_rational_resampler": False}
    return {"_class_name": "LTX2LatentUpsamplerModel", **unsaid, **_there(_UPSAMPLER, section)}


_SECTIONS = {
    "transformer": "transformer",
    "connectors": "transformer",
    "video_vae": "vae",
    "audio_vae": "audio_vae",
    "vocoder": "vocoder",
}


def _transformer_there(section: Mapping[str, Any]) -> Config:
    if not section.get("use_middle_indices_grid", True):
        msg = "config.transformer.use_middle_indices_grid is False; diffusers' transformer always uses the middle"
        raise ValueError(msg)
    newer = bool(section.get("caption_proj_before_connector", False))
    most = section.get("positional_embedding_max_pos", [20, 2048, 2048])
    sizes = {"pos_embed_max_pos": most[0], "base_height": most[1], "base_width": most[2]}
    # the same in every file of one version, where the section leaves them out
    width = {"audio_in_channels": section.get("audio_in_channels", section.get("audio_out_channels", 128))}
    return (
        _there(_TRANSFORMER, section)
        | width
        | sizes
        | {
            "audio_pos_embed_max_pos": section.get("audio_positional_embedding_max_pos", [20])[0],
            "rope_type": section.get("rope_type", "split"),
            "rope_double_precision": section.get("frequencies_precision") == "float64",
            "cross_attn_timestep_scale_multiplier": section.get("av_ca_timestep_scale_multiplier", 1),
            "use_prompt_embeddings": not newer,
            "perturbed_attn": newer,
        }
    )


def _connectors_there(section: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Config:
    newer = bool(section.get("caption_proj_before_connector", False))
    prefix = "text_embedding_projection."
    video = shapes[f"{prefix}{'video_aggregate_embed' if newer else 'aggregate_embed'}.weight"]
    audio = shapes.get(f"{prefix}audio_aggregate_embed.weight", video)
    width = section.get("caption_channels") or 3840
    if video[1] % width:
        msg = f"config.transformer.caption_channels is {width}, but the text projection takes {video[1]} channels"
        raise ValueError(msg)
    sizes = {
        f"audio_connector_{key}": section.get(f"audio_connector_{key}", section.get(f"connector_{key}"))
        for key in ("num_attention_heads", "attention_head_dim", "num_layers", "num_learnable_registers")
    }
    return (
        _there(_CONNECTORS, section)
        | {key: value for key, value in sizes.items() if value is not None}
        | {
            "caption_channels": width,
            "text_proj_in_factor": video[1] // width,
            "connector_rope_base_seq_len": int(section.get("connector_positional_embedding_max_pos", [1])[0]),
            "rope_type": section.get("rope_type", "split"),
            "rope_double_precision": section.get("frequencies_precision") == "float64",
            "per_modality_projections": newer,
            "video_hidden_dim": video[0],
            "audio_hidden_dim": audio[0],
            "proj_bias": newer,
        }
    )


def _video_there(section: Mapping[str, Any]) -> Config:
    channels: int = section.get("latent_channels", 128)
    base = section.get("encoder_base_channels", channels)
    if base != channels or len(section["encoder_blocks"]) != 9:
        msg = (
            f"config.vae: encoder_base_channels={base} with {channels} latent channels and "
            f"{len(section['encoder_blocks'])} blocks; diffusers' encoder has as many channels as latents, and 9 blocks"
        )
        raise ValueError(msg)
    encoder = [_options(entry) for entry in section["encoder_blocks"]]
    widths = [base]
    for _, options in encoder[1::2]:
        widths.append(widths[-1] * options.get("multiplier", 1))
    decoder = [_options(entry) for entry in section["decoder_blocks"]]  # from pixels to latents
    compress = decoder[1::2]
    factors = [options.get("multiplier", 1) for _, options in compress]
    before = [section.get("decoder_base_channels", 128) * prod(factors)]
    for _, options in reversed(compress):
        before.append(before[-1] // options.get("multiplier", 1))
    return {
        "in_channels": section.get("in_channels", 3),
        "out_channels": section.get("out_channels", 3),
        "latent_channels": channels,
        "patch_size": section.get("patch_size", 4),
        "block_out_channels": widths[1:],
        "down_block_types": ["LTX2VideoDownBlock3D"] * (len(widths) - 1),
        "layers_per_block": [options.get("num_layers", 1) for _, options in encoder[::2]],
        "downsample_type": [_KINDS[_kind(name)] for name, _ in encoder[1::2]],
        "spatio_temporal_scaling": [True] * (len(widths) - 1),
        "decoder_block_out_channels": before[-2::-1],
        "decoder_layers_per_block": [options.get("num_layers", 1) for _, options in decoder[::2]],
        "decoder_inject_noise": [bool(options.get("inject_noise", False)) for _, options in decoder[::2]],
        "decoder_spatio_temporal_scaling": [True] * len(compress),
        "upsample_type": [_KINDS[_kind(name)] for name, _ in reversed(compress)],
        "upsample_residual": [bool(options.get("residual", False)) for _, options in compress],
        "upsample_factor": factors,
        "timestep_conditioning": bool(section.get("timestep_conditioning", False)),
        "encoder_causal": True,
        "decoder_causal": bool(section.get("causal_decoder", False)),
        "encoder_spatial_padding_mode": section.get(
            "encoder_spatial_padding_mode", section.get("spatial_padding_mode", "zeros")
        ),
        "decoder_spatial_padding_mode": section.get("spatial_padding_mode", "reflect"),
    }


def _audio_there(section: Mapping[str, Any]) -> Config:
    params = section["model"]["params"]
    stft = section.get("preprocessing", {}).get("stft", {})
    return _there(_AUDIO_VAE, params["ddconfig"]) | {
        "sample_rate": params.get("sampling_rate", 16000),
        "mel_hop_length": stft.get("hop_length", 160),
        "is_causal": stft.get("causal", True),
    }


def _vocoder_there(section: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Config:
    if "bwe" not in section:
        return {
            "_class_name": "LTX2Vocoder",
            **_there(_GENERATOR, section),
            "in_channels": shapes["conv_pre.weight"][1],
            "final_act_fn": "tanh" if section.get("use_tanh_at_final", True) else "clamp",
            "output_sampling_rate": section.get("output_sampling_rate", 24000),
        }
    first, second = _amp_there(section["vocoder"]), _amp_there(section["bwe"])
    first["in_channels"] = shapes["vocoder.conv_pre.weight"][1]
    first["final_act_fn"] = "tanh" if section["vocoder"].get("use_tanh_at_final", True) else "clamp"
    second["in_channels"] = shapes["bwe_generator.conv_pre.weight"][1]
    return {
        "_class_name": "LTX2VocoderWithBWE",
        **first,
        **{f"bwe_{key}": value for key, value in second.items()},
        **_there(_BANDWIDTH, section["bwe"]),
    }


def _amp_there(section: Mapping[str, Any]) -> Config:
    # an extension ends in no activation, whatever its configuration says
    return _there(_GENERATOR, section) | {"act_fn": section.get("activation", "snake"), "final_act_fn": None}


def _interleave(levels: list[Any], changes: list[Any]) -> list[Any]:
    blocks = [levels[0]]
    for change, level in zip(changes, levels[1:], strict=True):
        blocks += [change, level]
    return blocks


def _each(value: Any, count: int) -> list[bool]:
    return [value] * count if isinstance(value, bool) else list(value)


def _options(entry: Sequence[Any]) -> tuple[str, Config]:
    name, options = entry
    return name, {"num_layers": options} if isinstance(options, int) else dict(options)


def _kind(name: str) -> str:
    return name.removeprefix("compress_").removesuffix("_res")
