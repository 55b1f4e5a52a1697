"""Small autoencoders of diffusers with seeded weights: every class, with sizes of latents and pictures."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["ZOO", "Entry"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One class in one configuration."""

    kind: str
    config: dict[str, Any]
    latents: Shape
    pictures: Shape
    decode: dict[str, Any] = field(default_factory=dict)
    """What the pipelines give beside the latents."""
    encode: dict[str, Any] = field(default_factory=dict)
    """What is given beside the picture, so that nothing is drawn at random."""
    step: int = 8
    """Pixels (samples) that the other size of pictures is smaller."""

    def make(self, seed: int = 0) -> Any:
        """Give the autoencoder; weights are drawn as the class does, and norms are no identities."""
        import diffusers
        import torch

        torch.manual_seed(seed)
        vae = getattr(diffusers, self.kind)(**self.config)
        with torch.no_grad():
            for name, weight in vae.named_parameters():
                if weight.ndim < 2 and "norm" in name:
                    weight.add_(0.2 * torch.randn(weight.shape))
        return vae.eval()


def tensor(made: Any) -> Any:
    """Give the tensor in whatever a class returns."""
    made = made[0] if type(made) is tuple else made
    names = ("sample", "latents", "latent", "latent_dist")
    made = next((getattr(made, name) for name in names if hasattr(made, name)), made)
    if hasattr(made, "shape"):
        return made
    return made.parameters if hasattr(made, "logvar") else made.mode() if hasattr(made, "mode") else made.mean


def _numbers(channels: int) -> dict[str, Any]:
    return {"latents_mean": [0.0] * channels, "latents_std": [1.0] * channels}


WAN = {"base_dim": 8, "z_dim": 4, "num_res_blocks": 1, **_numbers(4)}
HUNYUAN15 = {"latent_channels": 8, "block_out_channels": (8, 16, 16, 32, 32), "layers_per_block": 1}
LTX = {
    "latent_channels": 16,
    "block_out_channels": (8, 16, 16, 16),
    "decoder_block_out_channels": (8, 16, 16, 16),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
    "spatio_temporal_scaling": (True, True, True, False),
    "decoder_spatio_temporal_scaling": (True, True, True, False),
}
LTX2 = LTX | {
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_spatial_padding_mode": "reflect",
}
del LTX2["decoder_spatio_temporal_scaling"], LTX2["spatio_temporal_scaling"]
MAGVIT = {"latent_channels": 4, "block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "norm_num_groups": 4}
_DC = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
DC = {
    "in_channels": 3,
    "latent_channels": 8,
    "attention_head_dim": 8,
    "encoder_block_types": _DC,
    "decoder_block_types": _DC,
    "encoder_block_out_channels": (8, 16, 16, 32, 32, 32),
    "decoder_block_out_channels": (8, 16, 16, 32, 32, 32),
    "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "decoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "encoder_layers_per_block": (1,) * 6,
    "decoder_layers_per_block": (1,) * 6,
    "downsample_block_type": "conv",
    "upsample_block_type": "interpolate",
    "decoder_norm_types": "rms_norm",
    "decoder_act_fns": "silu",
}
KL = {
    "block_out_channels": (16, 32, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_size": 256,
}
TWO = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 8,
}
HUNYUAN = {
    "latent_channels": 4,
    "block_out_channels": (8, 16, 16, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
COGVIDEOX = {
    "latent_channels": 4,
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (8, 8, 8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 2,
}
MOCHI = {
    "latent_channels": 4,
    "encoder_block_out_channels": (32, 32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    **_numbers(4),
}
COSMOS = {
    "latent_channels": 4,
    "encoder_block_out_channels": (8, 8, 16, 16),
    "decode_block_out_channels": (8, 16, 16, 16),
    "attention_resolutions": (32,),
    "resolution": 256,
    "num_layers": 1,
}
HUNYUAN_IMAGE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 32,
    "block_out_channels": (32, 32, 32, 64, 64, 64),
    "layers_per_block": 1,
    "spatial_compression_ratio": 32,
    "sample_size": 384,
}
SVD = {
    "block_out_channels": [32, 32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "latent_channels": 4,
    "layers_per_block": 1,
}
KVAE = {
    "channels": 32,
    "num_enc_blocks": 1,
    "num_dec_blocks": 1,
    "z_channels": 4,
    "ch_mult": (1, 1, 2, 2),
    "sample_size": 256,
}
OOBLECK = {
    "encoder_hidden_size": 16,
    "decoder_channels": 16,
    "decoder_input_channels": 8,
    "downsampling_ratios": [2, 4, 4, 8, 8],
    "channel_multiples": [1, 2, 4, 8, 16],
}
QWEN21 = WAN | {"decoder_base_dim": 8, "dim_mult": [1, 2, 2, 4, 4]}
WAN22 = WAN | {
    "decoder_base_dim": 8,
    "is_residual": True,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_spatial": 16,
}
VIDTOK = {"ch": 16, "ch_mult": [1, 2, 2, 2], "z_channels": 4, "num_res_blocks": 1}
TINY = {"encoder_block_out_channels": (16,) * 4, "decoder_block_out_channels": (16,) * 4}
ALLEGRO = {"latent_channels": 4, "block_out_channels": (8, 16, 16, 16), "layers_per_block": 1, "norm_num_groups": 4}

# of sound
KVAE_AUDIO = {
    "encoder_dim": 8,
    "encoder_rates": [2, 3, 4],
    "latent_dim": 64,
    "codebook_dim": 8,
    "decoder_dim": 64,
    "decoder_rates": [4, 3, 2],
    "attn_num_heads": 2,
}
H3_AUDIO = {
    "encoder_dim": 8,
    "encoder_rates": (2, 4, 4),
    "latent_dim": 64,
    "latent_channels": 8,
    "num_attention_heads": 2,
    "decoder_dim": 64,
    "decoder_rates": (4, 2, 2, 2),
    "decoder_kernel_sizes": (8, 4, 4, 4),
    **_numbers(8),
}
SAME = {
    "patch_size": 16,
    "encoder_channels": 16,
    "encoder_c_mults": (2,),
    "encoder_strides": (4,),
    "encoder_transformer_depths": (1,),
    "latent_dim": 8,
    "dim_heads": 8,
}
COSMOS_AUDIO = {
    "vocoder_input_dim": 8,
    "dec_dim": 8,
    "dec_c_mults": (1, 2, 4),
    "dec_strides": (2, 4, 5),
    "hop_size": 40,
    "enc_dim": 16,
    "enc_intermediate_dim": 32,
    "enc_num_layers": 2,
    "enc_num_blocks": 1,
    "enc_n_fft": 64,
    "enc_hop_length": 2,
    "enc_latent_dim": 16,
    "enc_c_mults": (1, 2),
    "enc_strides": (4, 5),
}
LONGCAT = {
    "channels": 8,
    "c_mults": [1, 2, 4],
    "strides": [2, 4, 4],
    "latent_dim": 8,
    "encoder_latent_dim": 16,
    "downsampling_ratio": 32,
}
LTX2_AUDIO = {
    "base_channels": 16,
    "num_res_blocks": 1,
    "resolution": 64,
    "latent_channels": 4,
    "mel_bins": 16,
}

ZOO: dict[str, Entry] = {
    "Wan 2.1": Entry("AutoencoderKLWan", WAN, (1, 4, 3, 13, 18), (1, 3, 9, 72, 88)),
    "Wan 2.2": Entry("AutoencoderKLWan", WAN22, (1, 4, 3, 9, 14), (1, 3, 9, 80, 96), step=16),
    "Qwen-Image": Entry("AutoencoderKLQwenImage", WAN, (1, 4, 1, 25, 20), (1, 3, 1, 136, 152)),
    "Qwen-Image 2.1": Entry("AutoencoderKLQwenImage21", QWEN21, (1, 4, 1, 14, 17), (1, 4, 1, 96, 128), step=16),
    "HunyuanVideo": Entry("AutoencoderKLHunyuanVideo", HUNYUAN, (1, 4, 5, 11, 14), (1, 3, 9, 72, 88)),
    "HunyuanVideo 1.5": Entry("AutoencoderKLHunyuanVideo15", HUNYUAN15, (1, 8, 3, 7, 8), (1, 3, 9, 96, 112), step=16),
    "HunyuanImage": Entry("AutoencoderKLHunyuanImage", HUNYUAN_IMAGE, (1, 32, 9, 8), (1, 3, 192, 224), step=32),
    "HunyuanImageRefiner": Entry(
        "AutoencoderKLHunyuanImageRefiner", HUNYUAN15, (1, 8, 3, 7, 8), (1, 3, 9, 96, 112), step=16
    ),
    "CogVideoX": Entry("AutoencoderKLCogVideoX", COGVIDEOX, (1, 4, 4, 11, 14), (1, 3, 9, 72, 88)),
    "Mochi": Entry("AutoencoderKLMochi", MOCHI, (1, 4, 2, 9, 12), (1, 3, 13, 64, 72)),
    "Cosmos": Entry("AutoencoderKLCosmos", COSMOS, (1, 4, 3, 13, 16), (1, 3, 17, 96, 112)),
    "LTX-Video 0.9": Entry("AutoencoderKLLTXVideo", LTX, (1, 16, 4, 7, 6), (1, 3, 17, 96, 128), step=32),
    "LTX-2": Entry("AutoencoderKLLTX2Video", LTX2, (1, 16, 4, 7, 6), (1, 3, 17, 96, 128), step=32),
    "Allegro": Entry("AutoencoderKLAllegro", ALLEGRO, (1, 4, 3, 11, 14), (1, 3, 8, 72, 88)),
    "EasyAnimate": Entry(
        "AutoencoderKLMagvit", MAGVIT | {"spatial_group_norm": False}, (1, 4, 3, 11, 14), (1, 3, 9, 72, 88)
    ),
    "EasyAnimate, norms per frame": Entry(
        "AutoencoderKLMagvit", MAGVIT | {"spatial_group_norm": True}, (1, 4, 3, 11, 14), (1, 3, 9, 72, 88)
    ),
    "Stable Video Diffusion": Entry(
        "AutoencoderKLTemporalDecoder", SVD, (4, 4, 12, 15), (2, 3, 60, 72), {"num_frames": 4}
    ),
    "KVAE": Entry("AutoencoderKLKVAE", KVAE, (1, 4, 15, 18), (1, 3, 104, 120)),
    "KVAEVideo": Entry(
        "AutoencoderKLKVAEVideo",
        {"ch": 32, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1, "z_channels": 4},
        (1, 4, 3, 8, 10),
        (1, 3, 9, 64, 72),
    ),
    "AutoencoderKL": Entry("AutoencoderKL", KL, (1, 4, 17, 22), (1, 3, 136, 152)),
    "Flux 2": Entry("AutoencoderKLFlux2", {**KL, "latent_channels": 8}, (1, 8, 17, 22), (1, 3, 136, 152)),
    "DC-AE": Entry("AutoencoderDC", DC, (1, 8, 6, 7), (1, 3, 160, 192), step=32),
    "TAESD": Entry("AutoencoderTiny", TINY, (1, 4, 19, 22), (1, 3, 136, 152)),
    "VQ": Entry(
        "VQModel",
        {**TWO, "block_out_channels": (16, 32), "mid_block_add_attention": True},
        (1, 3, 41, 36),
        (1, 3, 90, 76),
        {"force_not_quantize": True},
    ),
    "Asymmetric": Entry(
        "AsymmetricAutoencoderKL",
        {
            "down_block_types": TWO["down_block_types"],
            "up_block_types": TWO["up_block_types"],
            "down_block_out_channels": (16, 32),
            "up_block_out_channels": (16, 32),
            "norm_num_groups": 8,
        },
        (1, 4, 41, 36),
        (1, 3, 90, 76),
    ),
    "Oobleck": Entry("AutoencoderOobleck", OOBLECK, (1, 8, 61), (1, 2, 2048 * 40), step=2048),
    "VidTok causal": Entry("AutoencoderVidTok", VIDTOK, (1, 4, 3, 12, 13), (1, 3, 9, 72, 88)),
    "VidTok": Entry("AutoencoderVidTok", VIDTOK | {"is_causal": False}, (1, 4, 4, 12, 13), (1, 3, 16, 72, 88)),
    "LTX-2 audio": Entry("AutoencoderKLLTX2Audio", LTX2_AUDIO, (1, 4, 20, 4), (1, 2, 80, 16)),
    "KVAE audio": Entry("AutoencoderKLKVAEAudio", KVAE_AUDIO, (1, 8, 60), (1, 1, 24 * 100), step=24),
    "MiniMax H3 audio": Entry("AutoencoderKLMiniMaxH3Audio", H3_AUDIO, (1, 8, 60), (1, 1, 32 * 100), step=32),
    "SAME": Entry("AutoencoderSAME", SAME, (1, 8, 50), (1, 2, 64 * 40), step=64),
    "Cosmos 3 audio": Entry("Cosmos3AVAEAudioTokenizer", COSMOS_AUDIO, (1, 8, 60), (1, 2, 40 * 60), step=40),
    "LongCat audio": Entry(
        "LongCatAudioDiTVae", LONGCAT, (1, 8, 60), (1, 1, 32 * 80), encode={"sample_posterior": False}, step=32
    ),
    "MMAudio": Entry(
        "MMAudioVAE",
        {"mel_bins": 16, "latent_channels": 4, "hidden_channels": 16, "n_fft": 512, "hop_length": 128},
        (1, 4, 60),
        (1, 128 * 120),
        step=256,
    ),
}
