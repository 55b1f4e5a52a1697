"""The configurations of the transformer and of the text connectors, which official files have in one section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ltx_models.checkpoints.layouts._diffusers.tables import Config, Table, to_diffusers, to_official
from ltx_models.checkpoints.layouts._published import SECOND_EXTRACTOR

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


def transformer_back(config: Mapping[str, Any]) -> Config:
    section = {"_class_name": "AVTransformer3DModel", **to_official(_TRANSFORMER, config)}
    section["frequencies_precision"] = "float64" if config.get("rope_double_precision", True) else "float32"
    sides = (config.get("pos_embed_max_pos", 20), config.get("base_height", 2048), config.get("base_width", 2048))
    section["positional_embedding_max_pos"] = list(sides)
    section["audio_positional_embedding_max_pos"] = [config.get("audio_pos_embed_max_pos", 20)]
    section["use_middle_indices_grid"] = True
    if not config.get("use_prompt_embeddings", True):
        section |= SECOND_EXTRACTOR
    return section


def transformer_there(section: Mapping[str, Any]) -> Config:
    if not section.get("use_middle_indices_grid", True):
        msg = "config.transformer.use_middle_indices_grid is False; diffusers' transformer always uses the middle"
        raise ValueError(msg)
    newer = bool(section.get("caption_proj_before_connector", False))
    most = section.get("positional_embedding_max_pos", [20, 2048, 2048])
    sizes = {"pos_embed_max_pos": most[0], "base_height": most[1], "base_width": most[2]}
    # the same in every file of one version, where the section leaves them out
    width = {"audio_in_channels": section.get("audio_in_channels", section.get("audio_out_channels", 128))}
    return (
        to_diffusers(_TRANSFORMER, section)
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


def connectors_back(config: Mapping[str, Any]) -> Config:
    section = to_official(_CONNECTORS, config)
    section["connector_positional_embedding_max_pos"] = [config.get("connector_rope_base_seq_len", 4096)]
    section["frequencies_precision"] = "float64" if config.get("rope_double_precision", True) else "float32"
    section["caption_channels"] = config.get("caption_channels", 3840)
    if config.get("per_modality_projections", False):
        section |= SECOND_EXTRACTOR
    return section


def connectors_there(section: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Config:
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
        to_diffusers(_CONNECTORS, section)
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
