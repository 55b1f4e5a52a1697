"""The configurations of the audio autoencoder and of the vocoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ltx_models.checkpoints.layouts._diffusers.tables import Config, Table, to_diffusers, to_official
from ltx_models.checkpoints.layouts._published import AUDIO_VAE

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


def audio_back(config: Mapping[str, Any]) -> Config:
    whole: Config = AUDIO_VAE
    ddconfig = to_official(_AUDIO_VAE, config)
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


def audio_there(section: Mapping[str, Any]) -> Config:
    params = section["model"]["params"]
    stft = section.get("preprocessing", {}).get("stft", {})
    return to_diffusers(_AUDIO_VAE, params["ddconfig"]) | {
        "sample_rate": params.get("sampling_rate", 16000),
        "mel_hop_length": stft.get("hop_length", 160),
        "is_causal": stft.get("causal", True),
    }


def vocoder_back(config: Mapping[str, Any]) -> Config:
    if config["_class_name"] == "LTX2Vocoder":
        plain = to_official(_GENERATOR, config) | {"resblock": "1", "stereo": config.get("out_channels", 2) == 2}
        return plain | {
            "use_tanh_at_final": config.get("final_act_fn", "tanh") == "tanh",
            "output_sampling_rate": config.get("output_sampling_rate", 24000),
        }
    inner = {key.removeprefix("bwe_"): value for key, value in config.items() if key.startswith("bwe_")}
    return {"vocoder": _amp_back(config), "bwe": _amp_back(inner) | to_official(_BANDWIDTH, config)}


def _amp_back(config: Mapping[str, Any]) -> Config:
    return to_official(_GENERATOR, config) | {
        "resblock": "AMP1",
        "activation": config.get("act_fn", "snakebeta"),
        "use_tanh_at_final": config.get("final_act_fn") == "tanh",
        "stereo": config.get("out_channels", 2) == 2,
    }


def vocoder_there(section: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Config:
    if "bwe" not in section:
        return {
            "_class_name": "LTX2Vocoder",
            **to_diffusers(_GENERATOR, section),
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
        **to_diffusers(_BANDWIDTH, section["bwe"]),
    }


def _amp_there(section: Mapping[str, Any]) -> Config:
    # an extension ends in no activation, whatever its configuration says
    return to_diffusers(_GENERATOR, section) | {"act_fn": section.get("activation", "snake"), "final_act_fn": None}
