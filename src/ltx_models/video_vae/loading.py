"""Loading the video autoencoder: its keys, its configuration, and the two loaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltx_models.checkpoints import (
    BackendName,
    Checkpoint,
    DType,
    Source,
    keys_of_half,
    load_component,
    open_checkpoint,
    section_of,
)
from ltx_models.nn import Backend
from ltx_models.video_vae.config import VideoVAEConfig, is_diffusion
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.diffusion.loading import load_diffusion_decoder
from ltx_models.video_vae.encoder import VideoEncoder


def load_video_decoder(
    path: Source,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the video decoder of a checkpoint.

    Parameters
    ----------
    path, backend, dtype, device
        As every loader takes them, with the same errors: see `ltx_models.checkpoints.load_component`.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, that of diffusers, or its section ``vae``.

    Returns
    -------
    VideoDecoder or DiffusionDecoder
        As the configuration says: the latter from 2.5 on. A native module, ready for inference.

    Examples
    --------
    >>> import torch
    >>> from ltx_models import default_checkpoint, load_video_decoder
    >>> decoder = load_video_decoder(default_checkpoint(), backend="torch", dtype="float32")
    >>> decoder(torch.zeros(1, 128, 2, 2, 3)).shape
    torch.Size([1, 3, 9, 64, 96])
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> VideoDecoder:
        timestep = any(key.endswith("timestep_scale_multiplier") for key in map(names, checkpoint.keys) if key)
        return VideoDecoder(nn, VideoVAEConfig.read(section_of(checkpoint, config, "vae")), timestep=timestep)

    names = keys_of_half("vae", "decoder")
    with open_checkpoint(path) as checkpoint:
        section = section_of(checkpoint, config, "vae")
    if is_diffusion(section):
        return load_diffusion_decoder(path, section, names, backend=backend, dtype=dtype, device=device)
    return load_component(path, make, names, backend=backend, dtype=dtype, device=device)


def load_video_encoder(
    path: Source,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the video encoder of a checkpoint.

    Parameters
    ----------
    path, backend, dtype, device
        As every loader takes them, with the same errors: see `ltx_models.checkpoints.load_component`.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, that of diffusers, or its section ``vae``.

    Returns
    -------
    VideoEncoder
        A native module, ready for inference.

    Examples
    --------
    >>> import torch
    >>> from ltx_models import default_checkpoint, load_video_encoder
    >>> encoder = load_video_encoder(default_checkpoint(), backend="torch", dtype="float32")
    >>> encoder(torch.zeros(1, 3, 9, 64, 96)).shape
    torch.Size([1, 128, 2, 2, 3])
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> VideoEncoder:
        return VideoEncoder(nn, VideoVAEConfig.read(section_of(checkpoint, config, "vae")))

    return load_component(path, make, keys_of_half("vae", "encoder"), backend=backend, dtype=dtype, device=device)
