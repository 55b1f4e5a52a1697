"""Seeded tiny files of LTX-2.5 as they are published: split, with the official keys, metadata, folders and names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tests.ltx_models.pipeline_files import AUDIO_VAE, UPSAMPLER, VOCODER, random

from ltx_models import default_checkpoint
from ltx_models.audio_vae import AudioDecoder, AudioEncoder, AudioVAEConfig
from ltx_models.checkpoints import open_checkpoint
from ltx_models.checkpoints.layouts._values import narrow
from ltx_models.convert.write import Entry, write_file
from ltx_models.nn import Backend
from ltx_models.text.duration import DurationConfig, DurationHead
from ltx_models.transformer import Transformer, TransformerConfig
from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig
from ltx_models.video_vae import VideoEncoder, VideoVAEConfig
from ltx_models.video_vae.diffusion import DiffusionDecoder, DiffusionDecoderConfig
from ltx_models.vocoder import GeneratorConfig, Vocoder

REFERENCE = Path(__file__).parents[1] / "reference" / "ltx25"
VERSION = {"model_version": "2.5.0"}
NULL = {"transformer": None, "vae": None, "audio_vae": None, "vocoder": None}
# the names under which the files are published, by what holds them
NAMES = {
    "transformer": "diffusion_models/ltx-2.5-22b-distilled-transformer-bf16.safetensors",
    "dev_transformer": "diffusion_models/ltx-2.5-22b-dev-transformer-bf16.safetensors",
    "text_encoder": "text_encoders/gemma4-12b-with-proj-ltx-2.5-bf16.safetensors",
    "video_vae": "vae/ltx-2.5-video-vae-bf16.safetensors",
    "video_vae_conv": "vae/ltx-2.5-video-vae-conv-bf16.safetensors",
    "audio_vae": "vae/ltx-2.5-audio-vae-bf16.safetensors",
    "upsampler": "latent_upscale_models/ltx-2.5-latent-spatial-upscaler-x2-bf16-1.0.safetensors",
    "temporal_upsampler": "latent_upscale_models/ltx-2.5-latent-temporal-upscaler-x2-bf16-1.0.safetensors",
    "distilled_lora": "loras/ltx-2.5-22b-distilled-lora-450-bf16.safetensors",
    "duration_head": "model_patches/ltx-2.5-duration-head-bf16.safetensors",
}
ENCODER = {
    "in_channels": 3,
    "out_channels": 128,
    "patch_size": 4,
    "norm_layer": "pixel_norm",
    "latent_log_var": "constant",
    "spatial_padding_mode": "zeros",
    "blocks": [
        ["compress_space_res", {"multiplier": 1}],
        ["compress_time_res", {"multiplier": 1}],
        ["compress_all_res", {"multiplier": 1}],
        ["compress_all_res", {"multiplier": 1}],
        ["res_x", {"num_layers": 1}],
    ],
}
DECODER = {
    "in_channels": 128,
    "out_channels": 3,
    "patch_size": 4,
    "head_dim": 16,
    "stage_channels": [64, 32, 32, 32, 32],
    "stage_depths": [1, 1, 1, 1, 2],
    "stage_kernels": [[3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 5, 5]],
    "upsamples": [[[1, 2, 2], 2], [[2, 1, 1], 1], [[2, 2, 2], 1], [[2, 2, 2], 1]],
    "stage5_kernel": [3, 5, 5],
    "t_emb_dim": 24,
    "default_num_inference_steps": 1,
    "timestep_scale_multiplier": 1000,
    "resampler_kind": "linear",
    "spatial_padding_mode": "zeros",
}
DIFFUSION_VAE = {
    "_class_name": "CausalDiffusionVAE",
    "dims": 3,
    "latent_channels": 128,
    "model_output_type": "x0",
    "encoder": ENCODER,
    "decoder": DECODER,
}
HEAD = {"pooler_hidden_dim": 32, "num_queries": 1, "num_pooler_heads": 4, "mlp_hidden": 16}
SECONDS = 1.5  # about what the duration head says of any prompt

Tensors = dict[str, Any]


def write_split(folder: Path, nn: Backend, *, seed: int = 25, dev: bool = False) -> dict[str, Path]:
    """
    Write all files of LTX-2.5, in bfloat16, and name them by the keys of `NAMES`, with ``folder`` for all of them.

    The language model and its tokenizer are those of the reference cases; the other weights are drawn. The transformer
    of the dev checkpoint is written in place of the distilled one with `dev`: headers do not tell them apart.
    """
    makers = {
        "dev_transformer" if dev else "transformer": transformer_file,
        "text_encoder": text_encoder_file,
        "video_vae": video_vae_file,
        "video_vae_conv": convolutional_vae_file,
        "audio_vae": audio_vae_file,
        "upsampler": upsampler_file,
        "temporal_upsampler": temporal_upsampler_file,
        "distilled_lora": lora_file,
        "duration_head": duration_head_file,
    }
    paths = {"folder": folder}
    for number, (name, make) in enumerate(makers.items()):
        tensors, metadata = make(nn, np.random.default_rng((seed, number)))
        paths[name] = write(folder / NAMES[name], tensors, metadata)
    return paths


def write(path: Path, tensors: Tensors, metadata: dict[str, str]) -> Path:
    """Write a file: arrays in bfloat16, entries as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, {key: entry(key, value) for key, value in tensors.items()}, {"format": "pt", **metadata})
    return path


def entry(key: str, value: Any) -> Entry:
    if isinstance(value, Entry):
        return value
    return Entry("BF16", value.shape, lambda: narrow(value, "BF16", key))


def drawn(nn: Backend, draw: np.random.Generator, make: Any, prefix: str = "") -> Tensors:
    """Draw the weights of a module; statistics of latents stand beside encoder and decoder."""
    shapes = nn.shapes(nn.build(make))
    whole = prefix.removesuffix("encoder.").removesuffix("decoder.")
    return {
        (whole if name.startswith("per_channel_statistics.") else prefix) + name: random(draw, name, shape)
        for name, shape in sorted(shapes.items())
    }


def stored(path: Path, *starts: str) -> tuple[Tensors, dict[str, str]]:
    """Give tensors of a file as they lie there, and its metadata."""
    with open_checkpoint(path, "numpy") as checkpoint:
        tensors = {key: kept(checkpoint, key) for key in checkpoint.keys if key.startswith(starts)}
        return tensors, dict(checkpoint.metadata)


def kept(checkpoint: Any, key: str) -> Entry:
    data = checkpoint.buffer(key)
    return Entry(checkpoint.dtype(key), checkpoint.shape(key), lambda: data)


def transformer_config() -> dict[str, Any]:
    """The section of the reference case, with the channels of the real latents."""
    _, metadata = stored(REFERENCE / "te25_nested_metadata.transformer.safetensors", "model.")
    section: dict[str, Any] = json.loads(metadata["config"])["transformer"]
    channels = dict.fromkeys(("in_channels", "out_channels", "audio_in_channels", "audio_out_channels"), 128)
    return section | channels | {"num_layers": 3}


def transformer_file(nn: Backend, draw: np.random.Generator) -> tuple[Tensors, dict[str, str]]:
    """The transformer, with the connectors of the reference case and the text encoder that it was trained with."""
    tensors, metadata = stored(REFERENCE / "te25_nested_metadata.transformer.safetensors", "model.")
    section = transformer_config()
    tensors |= drawn(nn, draw, lambda: Transformer(nn, TransformerConfig.of(section)), "model.diffusion_model.")
    config = json.dumps(NULL | {"transformer": section})
    return tensors, VERSION | {"config": config, "gemma_source_checkpoint": metadata["gemma_source_checkpoint"]}


def text_encoder_file(nn: Backend, draw: np.random.Generator) -> tuple[Tensors, dict[str, str]]:
    """Gemma with its tokenizer and the projections: no version, no configuration but that of Gemma."""
    del nn, draw
    starts = ("model.", "text_embedding_projection.", "tokenizer_json", "hf_asset__", "vision_model.")
    tensors, metadata = stored(REFERENCE / "te25_nested_metadata.text_encoder.safetensors", *starts)
    return tensors, {key: value for key, value in metadata.items() if key not in {"oracle", "format"}}


def encoder_and_statistics(nn: Backend) -> Tensors:
    """The encoder that both video autoencoders have, and the statistics of the embedded one."""
    section = VideoVAEConfig.read(DIFFUSION_VAE)
    tensors = drawn(nn, np.random.default_rng(2525), lambda: VideoEncoder(nn, section), "encoder.")
    embedded, _ = stored(default_checkpoint(), "vae.per_channel_statistics.")
    return tensors | {key.removeprefix("vae."): value for key, value in embedded.items()}


def video_vae_file(nn: Backend, draw: np.random.Generator) -> tuple[Tensors, dict[str, str]]:
    """The diffusion decoder, with bare keys."""
    decoder = drawn(nn, draw, lambda: DiffusionDecoder(nn, DiffusionDecoderConfig.read(DIFFUSION_VAE)), "decoder.")
    return decoder | encoder_and_statistics(nn), VERSION | {"config": json.dumps(NULL | {"vae": DIFFUSION_VAE})}


def convolutional_vae_file(nn: Backend, draw: np.random.Generator) -> tuple[Tensors, dict[str, str]]:
    """The convolutional decoder for the same latents: that of the embedded checkpoint."""
    del draw
    decoder, metadata = stored(default_checkpoint(), "vae.decoder.")
    bare = {key.removeprefix("vae."): value for key, value in decoder.items()}
    section = json.loads(metadata["config"])["vae"] | {"encoder_blocks": ENCODER["blocks"]}
    del section["encoder_base_channels"]
    return bare | encoder_and_statistics(nn), VERSION | {"config": json.dumps(NULL | {"vae": section})}


def audio_vae_file(nn: Backend, draw: np.random.Generator) -> tuple[Tensors, dict[str, str]]:
    """The audio autoencoder and the vocoder."""
    audio = AudioVAEConfig.read(AUDIO_VAE)
    tensors = drawn(nn, draw, lambda: AudioEncoder(nn, audio), "audio_vae.encoder.")
    tensors |= drawn(nn, draw, lambda: AudioDecoder(nn, audio), "audio_vae.decoder.")
    tensors |= drawn(nn, draw, lambda: Vocoder(nn, GeneratorConfig.read(VOCODER)), "vocoder.")
    return tensors, VERSION | {"config": json.dumps(NULL | {"audio_vae": AUDIO_VAE, "vocoder": VOCODER})}


def upsampler_file(nn: Backend, draw: np.random.Generator) -> tuple[Tensors, dict[str, str]]:
    """From latents to latents of twice the height and width."""
    config = UpsamplerConfig.read(UPSAMPLER)
    return drawn(nn, draw, lambda: LatentUpsampler(nn, config)), VERSION | {"config": json.dumps(UPSAMPLER)}


def temporal_upsampler_file(nn: Backend, draw: np.random.Generator) -> tuple[Tensors, dict[str, str]]:
    """From latents to latents of twice the frames."""
    section = UPSAMPLER | {"spatial_upsample": False, "temporal_upsample": True, "rational_resampler": True}
    config = UpsamplerConfig.read(section)
    return drawn(nn, draw, lambda: LatentUpsampler(nn, config)), VERSION | {"config": json.dumps(section)}


def lora_file(nn: Backend, draw: np.random.Generator) -> tuple[Tensors, dict[str, str]]:
    """The distilled LoRA: layers of both streams, one of which has no biases."""
    shapes = nn.shapes(nn.build(lambda: Transformer(nn, TransformerConfig.of(transformer_config()))))
    tensors: Tensors = {}
    for layer in ("attn1.to_q", "ff.net.0.proj", "audio_ff.net.2"):
        path = f"transformer_blocks.1.{layer}"
        out, inputs = shapes[f"{path}.weight"]
        tensors[f"diffusion_model.{path}.lora_A.weight"] = draw.normal(0, 0.3, (2, inputs)).astype(np.float32)
        tensors[f"diffusion_model.{path}.lora_B.weight"] = draw.normal(0, 0.3, (out, 2)).astype(np.float32)
    return tensors, {}


def duration_head_file(nn: Backend, draw: np.random.Generator) -> tuple[Tensors, dict[str, str]]:
    """The duration head, which says about the same of every prompt."""
    section = transformer_config()
    streams = {key: section[key] for key in ("cross_attention_dim", "audio_cross_attention_dim")}
    config: dict[str, Any] = {"transformer": streams, "duration_head": HEAD}
    tensors = drawn(nn, draw, lambda: DurationHead(nn, DurationConfig.read(config)), "duration_head.")
    tensors["duration_head.mlp_out.weight"] *= 0.1
    tensors["duration_head.mlp_out.bias"][:] = np.log(SECONDS)
    return tensors, VERSION | {"config": json.dumps(config)}
