"""VAEs of ComfyUI with seeded weights, made through its own classes, and what goes into them. Not a test."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import comfy.sd
import torch
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE
from comfy.ldm.models.autoencoder import AutoencoderKL, AutoencodingEngine
from comfy.ldm.wan.vae import WanVAE

PUBLISHED = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
NARROW = PUBLISHED | {"ch": 32, "ch_mult": [1, 2, 2, 2], "num_res_blocks": 1}
WAN = {"num_res_blocks": 2, "attn_scales": [], "temperal_downsample": [False, True, True], "dropout": 0.0}
# blocks as in LTX-2; "multiplier" 1 keeps all of them at 128 channels, the host's least
LTX = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "encoder_blocks": [
        ["res_x", {"num_layers": 1}],
        ["compress_space_res", {"multiplier": 1}],
        ["res_x", {"num_layers": 1}],
        ["compress_time_res", {"multiplier": 1}],
        ["compress_all_res", {"multiplier": 1}],
        ["compress_all_res", {"multiplier": 1}],
        ["res_x", {"num_layers": 1}],
    ],
    "decoder_blocks": [
        ["res_x", {"num_layers": 1, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 1}],
        ["res_x", {"num_layers": 1, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 1}],
        ["compress_all", {"residual": True, "multiplier": 1}],
        ["res_x", {"num_layers": 1, "inject_noise": False}],
    ],
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "causal_decoder": False,
    "timestep_conditioning": False,
    "spatial_padding_mode": "zeros",
}


@dataclass(frozen=True)
class Case:
    """
    A VAE and the shapes of what it is given; pixels are (frames or pictures, height, width, 3).

    `share` is how much of what a plain decode takes the exact one may take.
    """

    make: Callable[[], Any]
    latents: tuple[int, ...]
    pixels: tuple[int, ...]
    share: float = 0.5


def seeded(module: Any, scale: float = 1.0) -> Any:
    """Give weights that keep activations alive: convolutions by their fan-in, norms of one, biases near nought."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        inputs = parameter[0].numel()
        if inputs > 1:
            parameter.data = drawn * scale * inputs**-0.5
        else:
            parameter.data = drawn * 0.1 + float(name.endswith(("gamma", "weight")))
    for name, buffer in module.named_buffers():
        buffer.data = torch.ones_like(buffer) if name.endswith("std-of-means") else torch.zeros_like(buffer)
    return module.eval()


def detected(module: Any, metadata: Any = None) -> Any:
    """Let the host find out what a state dict is, as its loaders do: widths are then the published ones."""
    return comfy.sd.VAE(sd=seeded(module).state_dict(), metadata=metadata, dtype=torch.float32)


def stable_diffusion() -> Any:
    params = {"ddconfig": NARROW, "embed_dim": 4}
    return comfy.sd.VAE(sd=seeded(AutoencoderKL(**params)).state_dict(), config={"params": params}, dtype=torch.float32)


def sdxl() -> Any:
    return detected(AutoencoderKL(ddconfig=PUBLISHED, embed_dim=4))


def flux() -> Any:
    inner = "comfy.ldm.modules.diffusionmodules.model."
    params = PUBLISHED | {"z_channels": 16}
    return detected(
        AutoencodingEngine(
            regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
            encoder_config={"target": inner + "Encoder", "params": params},
            decoder_config={"target": inner + "Decoder", "params": params},
        )
    )


def hunyuan_video() -> Any:
    params = PUBLISHED | {"z_channels": 16, "conv3d": True, "time_compress": 4}
    return detected(AutoencoderKL(ddconfig=params, embed_dim=16))


def qwen_image() -> Any:
    return detected(WanVAE(dim=96, z_dim=16, dim_mult=[1, 2, 4, 4], **WAN))


def ltx2() -> Any:
    return detected(VideoVAE(config=LTX), {"config": json.dumps({"vae": LTX})})


def narrow_wan() -> Any:
    """Put a narrow network of the host into its VAE: a state dict would be taken for the published width."""
    vae = stable_diffusion()
    narrow = WanVAE(dim=16, z_dim=4, dim_mult=[1, 2, 2, 2], **{**WAN, "num_res_blocks": 1})
    vae.first_stage_model = seeded(narrow)
    vae.patcher = comfy.model_patcher.ModelPatcher(vae.first_stage_model, vae.device, management.vae_offload_device())
    vae.latent_dim, vae.latent_channels = 3, 4
    vae.upscale_ratio = (lambda n: max(0, n * 4 - 3), 8, 8)
    vae.upscale_index_formula = vae.downscale_index_formula = (4, 8, 8)
    vae.downscale_ratio = (lambda n: max(0, (n + 3) // 4), 8, 8)
    return vae


CASES = {
    "Stable Diffusion": Case(stable_diffusion, (1, 4, 40, 36), (1, 328, 264, 3)),
    "Wan 2.1": Case(narrow_wan, (1, 4, 4, 10, 12), (9, 64, 80, 3), 0.75),
    "SDXL": Case(sdxl, (1, 4, 12, 10), (1, 88, 64, 3)),
    "Flux": Case(flux, (1, 16, 12, 10), (1, 88, 64, 3)),
    "HunyuanVideo": Case(hunyuan_video, (1, 16, 2, 9, 10), (5, 48, 64, 3), 0.75),
    "Qwen-Image": Case(qwen_image, (1, 16, 1, 11, 10), (1, 72, 64, 3)),
    "LTX-2": Case(ltx2, (1, 128, 2, 3, 4), (9, 96, 64, 3)),
}
