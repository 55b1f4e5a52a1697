"""
The configurations of the two published architectures, for files that carry none.

Conversions of mlx-video have no description of the autoencoders and vocoders. Which architecture a file is of shows in
the names of its tensors; shapes are checked when it is loaded.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_TRANSFORMER = {
    "num_layers": 48,
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "in_channels": 128,
    "out_channels": 128,
    "cross_attention_dim": 4096,
    "caption_channels": 3840,
    "audio_num_attention_heads": 32,
    "audio_attention_head_dim": 64,
    "audio_in_channels": 128,
    "audio_out_channels": 128,
    "audio_cross_attention_dim": 2048,
    "positional_embedding_theta": 10000.0,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "audio_positional_embedding_max_pos": [20],
    "use_middle_indices_grid": True,
    "timestep_scale_multiplier": 1000,
    "av_ca_timestep_scale_multiplier": 1000.0,
    "norm_eps": 1e-6,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "connector_positional_embedding_max_pos": [4096],
    "connector_num_learnable_registers": 128,
    "connector_attention_head_dim": 128,
}
SECOND_EXTRACTOR = {
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "caption_projection_second_linear": False,
    "caption_proj_input_norm": False,
}
_TRANSFORMERS = {
    (2, 0): _TRANSFORMER | {"connector_num_attention_heads": 30, "connector_num_layers": 2},
    (2, 3): _TRANSFORMER
    | SECOND_EXTRACTOR
    | {
        "apply_gated_attention": True,
        "cross_attention_adaln": True,
        "connector_num_attention_heads": 32,
        "connector_num_layers": 8,
        "connector_apply_gated_attention": True,
        "audio_connector_num_attention_heads": 32,
        "audio_connector_attention_head_dim": 64,
    },
}


def _blocks(*entries: tuple[str, int] | tuple[str, int, bool]) -> list[list[Any]]:
    blocks: list[list[Any]] = []
    for name, number, *residual in entries:
        options: dict[str, Any] = {"num_layers" if name == "res_x" else "multiplier": number}
        blocks.append([name, options | ({"residual": True} if residual else {})])
    return blocks


_SPACE_TIME = (("res_x", 4), ("compress_space_res", 2), ("res_x", 6), ("compress_time_res", 2))
_VAE = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "patch_size": 4,
    "norm_layer": "pixel_norm",
    "latent_log_var": "uniform",
    "causal_decoder": False,
    "timestep_conditioning": False,
}
_VAES = {
    (2, 0): _VAE
    | {
        "encoder_blocks": _blocks(
            *_SPACE_TIME, ("res_x", 6), ("compress_all_res", 2), ("res_x", 2), ("compress_all_res", 2), ("res_x", 2)
        ),
        "decoder_blocks": _blocks(("res_x", 5), *(("compress_all", 2, True), ("res_x", 5)) * 3),
        "spatial_padding_mode": "reflect",
        "encoder_spatial_padding_mode": "zeros",
    },
    (2, 3): _VAE
    | {
        "encoder_blocks": _blocks(
            *_SPACE_TIME, ("res_x", 4), ("compress_all_res", 2), ("res_x", 2), ("compress_all_res", 1), ("res_x", 2)
        ),
        "decoder_blocks": _blocks(
            *(("res_x", 4), ("compress_space", 2), ("res_x", 6), ("compress_time", 2), ("res_x", 4)),
            *(("compress_all", 1), ("res_x", 2), ("compress_all", 2), ("res_x", 2)),
        ),
        "spatial_padding_mode": "zeros",
    },
}
AUDIO_VAE = {
    "model": {
        "params": {
            "ddconfig": {
                "double_z": True,
                "mel_bins": 64,
                "z_channels": 8,
                "resolution": 256,
                "in_channels": 2,
                "out_ch": 2,
                "ch": 128,
                "ch_mult": [1, 2, 4],
                "num_res_blocks": 2,
                "attn_resolutions": [],
                "dropout": 0.0,
                "mid_block_add_attention": False,
                "norm_type": "pixel",
                "causality_axis": "height",
            },
            "sampling_rate": 16000,
        }
    },
    "preprocessing": {
        "stft": {"filter_length": 1024, "hop_length": 160, "win_length": 1024, "causal": True},
        "mel": {"n_mel_channels": 64, "mel_fmin": 0, "mel_fmax": 8000},
    },
}
_BRANCHES = {"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3, "stereo": True}
_AMP = _BRANCHES | {
    "resblock": "AMP1",
    "activation": "snakebeta",
    "use_tanh_at_final": False,
    "use_bias_at_final": False,
}
_VOCODERS: dict[tuple[int, int], dict[str, Any]] = {
    (2, 0): _BRANCHES
    | {
        "resblock": "1",
        "upsample_initial_channel": 1024,
        "upsample_rates": [6, 5, 2, 2, 2],
        "upsample_kernel_sizes": [16, 15, 8, 4, 4],
        "output_sampling_rate": 24000,
    },
    (2, 3): {
        "vocoder": _AMP
        | {
            "upsample_initial_channel": 1536,
            "upsample_rates": [5, 2, 2, 2, 2, 2],
            "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4],
        },
        "bwe": _AMP
        | {
            "upsample_initial_channel": 512,
            "upsample_rates": [6, 5, 2, 2, 2],
            "upsample_kernel_sizes": [12, 11, 4, 4, 4],
            "apply_final_activation": False,
            "input_sampling_rate": 16000,
            "output_sampling_rate": 48000,
            "hop_length": 80,
            "n_fft": 512,
            "win_size": 512,
            "num_mels": 64,
        },
    },
}
# A name that only one of the two architectures has, by component.
_MARKS = {
    "transformer": ("to_gate_logits",),
    "connectors": ("to_gate_logits", "video_aggregate_embed"),
    "video_vae": ("decoder.up_blocks.7.", "decoder.up_blocks.8."),
    "vocoder": ("bwe_generator.",),
}


def published(component: str, names: Collection[str]) -> dict[str, Any]:
    """
    Give the sections of the published configuration that a component's tensors are of.

    Parameters
    ----------
    component : str
        A component of the official file.
    names : collection of str
        Its official names, without prefix.

    Returns
    -------
    dict of str to object
        Sections as the official files embed them; empty for a component that is not described so.
    """
    newer = any(mark in name for name in names for mark in _MARKS.get(component, ()))
    version = (2, 3) if newer else (2, 0)
    if component in {"transformer", "connectors"}:
        return {"transformer": _TRANSFORMERS[version]}
    if component == "video_vae":
        # an encoder alone: the levels differ in the number of residual blocks
        older = any("encoder.down_blocks.4.res_blocks.5." in name for name in names)
        encoder_only = not any(name.startswith("decoder.") for name in names)
        return {"vae": _VAES[(2, 0) if encoder_only and older else (2, 3) if encoder_only else version]}
    if component == "audio_vae":
        return {"audio_vae": AUDIO_VAE}
    if component == "vocoder":
        return {"vocoder": _VOCODERS[version]}
    return {}
