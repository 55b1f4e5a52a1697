"""Files and requests that both our pipelines and the official ones can run: tiny, seeded, in the official layout."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from tests.ltx_models.pipeline_files import AUDIO_VAE, LTX2_5, contexts, random, write_whole
from tests.ltx_models.split_files import HEAD

from ltx_models.audio_vae import AudioEncoder, AudioVAEConfig
from ltx_models.nn import Backend
from ltx_models.text import ConnectorConfig, TextConnectors
from ltx_models.text.duration import DurationConfig, DurationHead
from ltx_models.transformer import Transformer, TransformerConfig
from ltx_models.video_vae import VideoEncoder, VideoVAEConfig

# what the official loader wants said, and ours takes for granted
SAID = {
    "dropout": 0.0,
    "attention_bias": True,
    "num_vector_embeds": None,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "use_linear_projection": False,
    "only_cross_attention": False,
    "cross_attention_norm": True,
    "double_self_attention": False,
    "upcast_attention": False,
    "standardization_norm": "rms_norm",
    "norm_elementwise_affine": False,
    "qk_norm": "rms_norm",
    "positional_embedding_type": "rope",
    "use_middle_indices_grid": True,
    "use_audio_video_cross_attention": True,
    "share_ff": False,
    "av_cross_ada_norm": True,
    "rope_type": "split",
    "caption_proj_input_norm": False,
    "caption_projection_first_linear": False,
    "caption_projection_second_linear": False,
}
RES = ["res_x", {"num_layers": 1}]
VIDEO_VAE: dict[str, Any] = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "encoder_blocks": [
        ["compress_space_res", {"multiplier": 1}],
        ["compress_time_res", {"multiplier": 1}],
        RES,
        ["compress_all_res", {"multiplier": 1}],
        ["compress_all_res", {"multiplier": 1}],
    ],
    "decoder_blocks": [["compress_all", {"residual": True, "multiplier": 1}]] * 3,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "timestep_conditioning": False,
    "spatial_padding_mode": "zeros",
    "encoder_spatial_padding_mode": "zeros",
}

# the official encoder has as many channels as a frame of its latents has numbers
PARAMS = AUDIO_VAE["model"]["params"]
WIDE = {"ch": 128, "ch_mult": [1, 1, 1]}
WIDE_AUDIO_VAE = {"model": {"params": {**PARAMS, "ddconfig": {**PARAMS["ddconfig"], **WIDE}}}}  # type: ignore[dict-item]


# sizes of the text connectors, which end where the transformer's attention to text begins
CONNECTORS = {
    "connector_num_attention_heads": 2,
    "connector_attention_head_dim": 16,
    "connector_num_layers": 2,
    "connector_num_learnable_registers": 128,
    "connector_positional_embedding_max_pos": [4096],
    "connector_norm_output": True,
}
LATER_CONNECTORS = CONNECTORS | {
    "audio_connector_num_attention_heads": 2,
    "audio_connector_attention_head_dim": 8,
    "connector_apply_gated_attention": True,
}
LATER = {"caption_proj_before_connector", "cross_attention_adaln", "apply_gated_attention"}
LATER |= {key for key in SAID if key.startswith("caption_proj")}


def write_text_files(folder: Path, nn: Backend, version: str, states: int, hidden: int) -> dict[str, str]:
    """Write a checkpoint of a version with its text connectors, for a language model of so many states and channels."""
    files = write_files(folder, nn, version=version)
    with safe_open(files["path"], "numpy") as whole:
        metadata = whole.metadata()
        config = json.loads(metadata["config"])
        tensors = {key: whole.get_tensor(key) for key in whole.keys()}  # noqa: SIM118
    section = config["transformer"]
    if late := version >= "2.3":
        section |= LATER_CONNECTORS
    else:
        section = {key: value for key, value in section.items() if key not in LATER} | CONNECTORS
    section["caption_channels"] = hidden
    video, audio = (ConnectorConfig.read(section, prefix) for prefix in ("", "audio_"))
    draw = np.random.default_rng(23)
    parts = {"": nn.build(lambda: TextConnectors(nn, video, audio, states * hidden, 0 if late else video.width))}
    if not late:
        tensors = {key: x for key, x in tensors.items() if not key.startswith("model.diffusion_model.")}
        parts["model.diffusion_model."] = nn.build(lambda: Transformer(nn, TransformerConfig.of(section)))
    for prefix, module in parts.items():
        for name, shape in nn.shapes(module).items():
            inside = "model.diffusion_model." if "_embeddings_connector." in name else prefix
            tensors[inside + name] = random(draw, name, shape)
    save_file(tensors, files["path"], metadata | {"config": json.dumps(config | {"transformer": section})})
    return files


def write_files(folder: Path, nn: Backend, *, version: str = "2.3.0") -> dict[str, str]:
    """Write a checkpoint that the official loader takes too, an upsampler, LoRAs and contexts; and name them."""
    newer = LTX2_5 if version >= "2.5" else None
    files = {name: str(path) for name, path in write_whole(folder, nn, newer).items()}
    with safe_open(files["path"], "numpy") as whole:
        config = json.loads(whole.metadata()["config"])
        kept = [key for key in whole.keys() if not key.startswith(("vae.", "audio_vae."))]  # noqa: SIM118
        tensors = {key: whole.get_tensor(key) for key in kept}
    draw = np.random.default_rng(11)
    encoders = {
        "vae": nn.build(lambda: VideoEncoder(nn, VideoVAEConfig.read(VIDEO_VAE))),
        "audio_vae": nn.build(lambda: AudioEncoder(nn, AudioVAEConfig.read(WIDE_AUDIO_VAE))),
    }
    for prefix, encoder in encoders.items():
        for name, shape in nn.shapes(encoder).items():
            if not name.startswith("per_channel_statistics"):
                tensors[f"{prefix}.encoder.{name}"] = random(draw, name, shape)
        statistics = f"{prefix}.per_channel_statistics"
        tensors[f"{statistics}.mean-of-means"] = draw.normal(0, 0.3, 128).astype(np.float32)
        tensors[f"{statistics}.std-of-means"] = draw.uniform(0.5, 1.5, 128).astype(np.float32)
    config |= {"transformer": config["transformer"] | SAID, "vae": VIDEO_VAE, "audio_vae": WIDE_AUDIO_VAE}
    if newer:
        config |= {"duration_head": HEAD}
        for name, shape in nn.shapes(nn.build(lambda: DurationHead(nn, DurationConfig.read(config)))).items():
            tensors[f"duration_head.{name}"] = random(draw, name, shape)
    save_file(tensors, files["path"], {"config": json.dumps(config), "model_version": version})
    good, bad = contexts(1), contexts(2)
    np.savez(folder / "contexts.npz", good_video=good[0], good_audio=good[1], bad_video=bad[0], bad_audio=bad[1])
    other = read_lora(files["lora"])
    save_file(other, folder / "small.safetensors", {"reference_downscale_factor": "2"})
    save_file(other, folder / "slow.safetensors", {"reference_temporal_scale_factor": "2"})
    return files | {
        "contexts": str(folder / "contexts.npz"),
        "small": str(folder / "small.safetensors"),
        "slow": str(folder / "slow.safetensors"),
    }


def read_lora(path: str) -> dict[str, Any]:
    """Read a LoRA, and turn it into another one."""
    with safe_open(path, "numpy") as lora:
        return {key: lora.get_tensor(key)[::-1].copy() for key in lora.keys()}  # noqa: SIM118


class OfficialNoise:
    """
    Draw what the official pipelines draw, in their order: one generator for first latents, two for a sampler's steps.

    Parameters
    ----------
    seed : int
        Of the run.
    stages : sequence of (int, str, int)
        For each stage, the streams there are, the sampler, and its steps that draw noise.
    """

    def __init__(self, seed: int, stages: list[tuple[int, str, int]]) -> None:
        import torch

        self.torch, self.seed = torch, seed
        self.first = torch.Generator().manual_seed(seed)
        self.order = self._order(stages)

    def _order(self, stages: list[tuple[int, str, int]]) -> Iterator[Any]:
        for streams, sampler, steps in stages:
            yield from [(self.first, self.torch.float32)] * streams
            if sampler == "ancestral":
                again = self.torch.Generator().manual_seed(self.seed + 10000)
                yield from [(again, self.torch.float32)] * streams * steps
                continue
            # the official loop's own seeds, whatever the run's
            whole, half = (self.torch.Generator().manual_seed(seed) for seed in (-1, 9999))
            for _ in range(steps):
                yield from [(half, self.torch.float64)] * streams
                yield from [(whole, self.torch.float64)] * streams

    def __call__(self, name: str, like: Any) -> Any:
        """Draw in the shape of an array."""
        from ltx_models.nn import backend_of

        generator, dtype = next(self.order)
        drawn = self.torch.randn(tuple(like.shape), generator=generator, dtype=dtype)
        return backend_of(like).asarray(drawn.numpy().astype(np.float32), like)
