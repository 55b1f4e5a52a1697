"""The shape of the demonstration model: the blocks of LTX-2 2.0, narrow next to pixels and wide at the cells."""

from __future__ import annotations

from typing import Any

import torch

from ltx_models.nn import backend
from ltx_models.video_vae import VideoDecoder, VideoEncoder, VideoVAEConfig

# Every kind of block of the 2.0 layout; decoder blocks stand in reverse order, as in official files.
SECTION: dict[str, Any] = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "encoder_blocks": [
        ["compress_space_res", {"multiplier": 2}],
        ["res_x", {"num_layers": 1}],
        ["compress_time_res", {"multiplier": 2}],
        ["compress_all_res", {"multiplier": 1}],
        ["compress_all_res", {"multiplier": 2}],
    ],
    "decoder_blocks": [
        ["res_x", {"num_layers": 1, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 4}],
        ["res_x", {"num_layers": 2, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 1}],
        ["res_x", {"num_layers": 2, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 2}],
    ],
    "encoder_base_channels": 32,
    "decoder_base_channels": 16,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "scaling_factor": 1.0,
    "causal_decoder": False,
    "timestep_conditioning": False,
    "normalize_latent_channels": False,
    "spatial_padding_mode": "reflect",
    "encoder_spatial_padding_mode": "zeros",
}


class Autoencoder(torch.nn.Module):
    """
    Encoder and decoder of one configuration, with new weights.

    Parameters
    ----------
    section : dict
        What stands under ``vae`` in the embedded configuration.
    """

    def __init__(self, section: dict[str, Any]) -> None:
        super().__init__()
        nn, config = backend("torch"), VideoVAEConfig.read(section)
        self.encoder: Any = VideoEncoder(nn, config)
        self.decoder: Any = VideoDecoder(nn, config)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith(".conv2.conv.weight"):
                    weight *= 0.1  # residual blocks begin close to the identity
                elif name.endswith("bias") and "conv_out" not in name and "res_blocks" not in name:
                    # a norm over channels hides how bright a picture is unless some of them do not depend on it
                    weight[: len(weight) // 8] = 1.0

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Encode and decode (B, 3, F, H, W)."""
        decoded: torch.Tensor = self.decoder(self.encoder(video))
        return decoded
