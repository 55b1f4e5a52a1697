"""Loading the video autoencoder: its keys, its configuration, and the two loaders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import BackendName, Checkpoint, DType, load_component, prefixed
from ltx_models.nn import Backend
from ltx_models.nn.statistics import STATISTICS
from ltx_models.video_vae.config import VideoVAEConfig
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.encoder import VideoEncoder


def _statistics_keys(key: str) -> str | None:
    """Keep the two statistics that are used; files carry others."""
    name = key.rpartition("per_channel_statistics.")[2]
    return f"per_channel_statistics.{name}" if name in STATISTICS else None


def _names(component: str) -> Any:
    prefixes = prefixed((f"vae.{component}.", ""), (f"{component}.", ""))

    def rename(key: str) -> str | None:
        if key.startswith(("vae.per_channel_statistics.", "per_channel_statistics.")):
            return _statistics_keys(key)
        return prefixes(key)

    return rename


def _read_config(checkpoint: Checkpoint, config: Mapping[str, Any] | None) -> VideoVAEConfig:
    whole = checkpoint.config if config is None else config
    return VideoVAEConfig.read(whole.get("vae", whole))


def load_video_decoder(
    path: str | Path,
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
    path : path
        A safetensors file (whole checkpoint or one component), or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights, and so of the result.
    device : optional
        A torch device.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``vae``.

    Returns
    -------
    VideoDecoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

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
        return VideoDecoder(nn, _read_config(checkpoint, config), timestep=timestep)

    names = _names("decoder")
    return load_component(path, make, names, backend_name=backend, dtype=dtype, device=device)


def load_video_encoder(
    path: str | Path,
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
    path : path
        A safetensors file (whole checkpoint or one component), or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights, and so of the result.
    device : optional
        A torch device.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``vae``.

    Returns
    -------
    VideoEncoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> import torch
    >>> from ltx_models import default_checkpoint, load_video_encoder
    >>> encoder = load_video_encoder(default_checkpoint(), backend="torch", dtype="float32")
    >>> encoder(torch.zeros(1, 3, 9, 64, 96)).shape
    torch.Size([1, 128, 2, 2, 3])
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> VideoEncoder:
        return VideoEncoder(nn, _read_config(checkpoint, config))

    return load_component(path, make, _names("encoder"), backend_name=backend, dtype=dtype, device=device)
