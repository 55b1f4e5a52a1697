"""A whole checkpoint in the official layout, tiny and seeded, with an upsampler and a LoRA."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ltx_models import default_checkpoint
from ltx_models.audio_vae import AudioDecoder, AudioEncoder, AudioVAEConfig
from ltx_models.checkpoints import open_checkpoint
from ltx_models.nn import Backend
from ltx_models.transformer import Transformer, TransformerConfig
from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig
from ltx_models.vocoder import GeneratorConfig, Vocoder

TRANSFORMER = {
    "num_layers": 3,
    "in_channels": 128,
    "out_channels": 128,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_in_channels": 128,
    "audio_out_channels": 128,
    "audio_cross_attention_dim": 16,
    "caption_proj_before_connector": True,
    "cross_attention_adaln": True,
    "apply_gated_attention": True,
    "av_ca_timestep_scale_multiplier": 1000,
    "timestep_scale_multiplier": 1000,
    "frequencies_precision": "float64",
    "positional_embedding_max_pos": [20, 2048, 2048],
    "audio_positional_embedding_max_pos": [20],
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
                "ch": 8,
                "ch_mult": [1, 2, 4],
                "num_res_blocks": 1,
                "attn_resolutions": [],
                "mid_block_add_attention": False,
                "norm_type": "pixel",
                "causality_axis": "height",
            },
            "sampling_rate": 16000,
        }
    }
}
VOCODER = {
    "upsample_initial_channel": 32,
    "resblock": "1",
    "upsample_rates": [6, 5, 2, 2, 2],
    "resblock_kernel_sizes": [3],
    "upsample_kernel_sizes": [16, 15, 8, 4, 4],
    "resblock_dilation_sizes": [[1, 3, 5]],
    "output_sampling_rate": 24000,
}
# what sets the transformer of 2.5 apart
LTX2_5 = {"ff_bias": False, "use_keyframes_abs_pos_embedding": True}
UPSAMPLER = {"in_channels": 128, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": 3, "spatial_upsample": True}


def write_whole(
    folder: Path, nn: Backend, other: dict[str, Any] | None = None, version: str = "2.3.0"
) -> dict[str, Path]:
    """Write the files, and name them; `other` takes the place of values of the transformer."""
    draw = np.random.default_rng(7)
    transformer: dict[str, Any] = TRANSFORMER | (other or {})
    config = {"transformer": transformer, "audio_vae": AUDIO_VAE, "vocoder": VOCODER}
    tensors: dict[str, Any] = {}
    audio = AudioVAEConfig.read(AUDIO_VAE)
    parts = {
        "model.diffusion_model.": nn.build(lambda: Transformer(nn, TransformerConfig.of(transformer))),
        "audio_vae.encoder.": nn.build(lambda: AudioEncoder(nn, audio)),
        "audio_vae.decoder.": nn.build(lambda: AudioDecoder(nn, audio)),
        "vocoder.": nn.build(lambda: Vocoder(nn, GeneratorConfig.read(VOCODER))),
    }
    for prefix, module in parts.items():
        for name, shape in nn.shapes(module).items():
            key = f"audio_vae.{name}" if name.startswith("per_channel_statistics") else prefix + name
            tensors[key] = random(draw, name, shape)
    with open_checkpoint(default_checkpoint(), "numpy") as video:
        config["vae"] = video.config["vae"]
        tensors |= {key: wide(video, key) for key in video.keys}
    whole = folder / "tiny-2.3.safetensors"
    save_file(tensors, whole, {"config": json.dumps(config), "model_version": version})
    upsampler = nn.build(lambda: LatentUpsampler(nn, UpsamplerConfig.read(UPSAMPLER)))
    larger = {name: random(draw, name, shape) for name, shape in nn.shapes(upsampler).items()}
    save_file(larger, folder / "upsampler.safetensors", {"config": json.dumps(UPSAMPLER)})
    lora = {}
    for layer in (
        "transformer_blocks.0.attn1.to_q",
        f"transformer_blocks.{transformer['num_layers'] // 2}.audio_ff.net.2",
    ):
        out, inputs = tensors[f"model.diffusion_model.{layer}.weight"].shape
        lora[f"diffusion_model.{layer}.lora_A.weight"] = draw.normal(0, 0.3, (2, inputs)).astype(np.float32)
        lora[f"diffusion_model.{layer}.lora_B.weight"] = draw.normal(0, 0.3, (out, 2)).astype(np.float32)
    save_file(lora, folder / "lora.safetensors", {"reference_downscale_factor": "1"})
    return {"path": whole, "upsampler": folder / "upsampler.safetensors", "lora": folder / "lora.safetensors"}


def random(draw: np.random.Generator, name: str, shape: tuple[int, ...]) -> Any:
    """Draw weights that neither explode nor vanish."""
    if "std-of-means" in name or ("norm" in name and name.endswith("weight")):
        return np.ones(shape, np.float32)
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 64
    return draw.normal(0, fan**-0.5, shape).astype(np.float32)


def wide(checkpoint: Any, key: str) -> Any:
    """Read a tensor as float32, 16-bit brain floats too, which numpy does not know."""
    stored = checkpoint.files[key]
    if stored.dtype != "BF16":
        return checkpoint.tensor(key).astype(np.float32)
    halves = np.fromfile(stored.file, np.uint16, stored.size // 2, offset=stored.start)
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(stored.shape)


def contexts(seed: int) -> tuple[Any, Any]:
    """Draw the contexts of a prompt."""
    draw = np.random.default_rng(seed)
    return tuple(draw.normal(size=(1, 12, width)).astype(np.float32) for width in (32, 16))  # type: ignore[return-value]  # two of them
