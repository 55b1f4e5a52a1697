"""The embedded configuration of the toy: every part of the official structure, narrow."""

from __future__ import annotations

from typing import Any

from training.network import SECTION

KEPT = 32  # of the 128 channels of latents of pictures carry something
# Wide where cells are few, narrow next to pixels: flat shapes need no texture.
VAE: dict[str, Any] = SECTION | {
    "encoder_blocks": [
        ["compress_space_res", {"multiplier": 4}],
        ["compress_time_res", {"multiplier": 2}],
        ["compress_all_res", {"multiplier": 1}],
        ["res_x", {"num_layers": 1}],
        ["compress_all_res", {"multiplier": 1}],
    ],
    "decoder_blocks": [
        ["res_x", {"num_layers": 1, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 2, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 2, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 1}],
    ],
    "encoder_base_channels": 16,
    "decoder_base_channels": 16,
}
AUDIO_VAE: dict[str, Any] = {
    "model": {
        "params": {
            "ddconfig": {
                "double_z": True,
                "mel_bins": 64,
                "z_channels": 8,
                "resolution": 256,
                "in_channels": 2,
                "out_ch": 2,
                "ch": 12,
                "ch_mult": [1, 2, 4],
                "num_res_blocks": 1,
                "attn_resolutions": [],
                "mid_block_add_attention": False,
                "norm_type": "pixel",
                "causality_axis": "height",
            },
            "sampling_rate": 16000,
        }
    },
    "preprocessing": {
        "audio": {"sampling_rate": 16000},
        "stft": {"filter_length": 1024, "hop_length": 160, "win_length": 1024, "causal": True},
        "mel": {"n_mel_channels": 64, "mel_fmin": 0, "mel_fmax": 8000},
    },
    "variables": {"mel_bins": 64},
}
VOCODER: dict[str, Any] = {
    "upsample_initial_channel": 192,
    "resblock": "1",
    "upsample_rates": [6, 5, 2, 2, 2],
    "resblock_kernel_sizes": [3],
    "upsample_kernel_sizes": [16, 15, 8, 4, 4],
    "resblock_dilation_sizes": [[1, 3, 5]],
    "stereo": True,
    "output_sampling_rate": 24000,
}
TRANSFORMER: dict[str, Any] = {
    "_class_name": "AVTransformer3DModel",
    "activation_fn": "gelu-approximate",
    "apply_gated_attention": True,
    "attention_bias": True,
    "attention_head_dim": 32,
    "attention_type": "default",
    "audio_attention_head_dim": 24,
    "audio_connector_attention_head_dim": 24,
    "audio_connector_num_attention_heads": 4,
    "audio_cross_attention_dim": 96,
    "audio_in_channels": 128,
    "audio_num_attention_heads": 4,
    "audio_out_channels": 128,
    "audio_positional_embedding_max_pos": [4],
    "av_ca_timestep_scale_multiplier": 1000.0,
    "av_cross_ada_norm": True,
    "caption_channels": 64,
    "caption_proj_before_connector": True,
    "caption_proj_input_norm": False,
    "caption_projection_first_linear": False,
    "caption_projection_second_linear": False,
    "causal_temporal_positioning": True,
    "connector_apply_gated_attention": True,
    "connector_attention_head_dim": 32,
    "connector_learnable_registers_std": 1,
    "connector_norm_output": True,
    "connector_num_attention_heads": 4,
    "connector_num_layers": 1,
    "connector_num_learnable_registers": 16,
    "connector_positional_embedding_max_pos": [48],
    "cross_attention_adaln": True,
    "cross_attention_dim": 128,
    "cross_attention_norm": True,
    "double_self_attention": False,
    "dropout": 0.0,
    "frequencies_precision": "float64",
    "in_channels": 128,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-06,
    "num_attention_heads": 4,
    "num_embeds_ada_norm": 1000,
    "num_layers": 4,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "out_channels": 128,
    "positional_embedding_max_pos": [4, 256, 256],
    "positional_embedding_theta": 100.0,
    "positional_embedding_type": "rope",
    "qk_norm": "rms_norm",
    "rope_type": "split",
    "share_ff": False,
    "standardization_norm": "rms_norm",
    "text_encoder_norm_type": "per_token_rms",
    "timestep_scale_multiplier": 1000,
    "upcast_attention": False,
    "use_audio_video_cross_attention": True,
    "use_embeddings_connector": True,
    "use_linear_projection": False,
    "use_middle_indices_grid": True,
}
UPSAMPLER: dict[str, Any] = {
    "_class_name": "LatentUpsampler",
    "in_channels": 128,
    "mid_channels": 32,
    "num_blocks_per_stage": 1,
    "dims": 3,
    "spatial_upsample": True,
    "temporal_upsample": False,
    "spatial_scale": 2.0,
    "rational_resampler": False,
}
