"""Loading the audio autoencoder: its keys, its configuration, and the two loaders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.audio_vae.decoder import AudioDecoder
from ltx_models.audio_vae.encoder import AudioEncoder
from ltx_models.checkpoints import BackendName, Checkpoint, DType, load_component, prefixed
from ltx_models.nn import Backend
from ltx_models.nn.statistics import STATISTICS

NORM_EPS = 1e-6


def _names(component: str) -> Any:
    prefixes = prefixed((f"audio_vae.{component}.", ""), (f"{component}.", ""))

    def rename(key: str) -> str | None:
        if key.startswith(("audio_vae.per_channel_statistics.", "per_channel_statistics.")):
            name = key.rpartition(".")[2]
            return f"per_channel_statistics.{name}" if name in STATISTICS else None
        return prefixes(key)

    return rename


def _read_config(checkpoint: Checkpoint, config: Mapping[str, Any] | None) -> AudioVAEConfig:
    found = checkpoint.config if config is None else config
    return AudioVAEConfig.read(found.get("audio_vae", found))


def load_audio_decoder(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the audio decoder of a checkpoint.

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
        Takes the place of the embedded configuration: all of it, or its section ``audio_vae``.

    Returns
    -------
    AudioDecoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> decoder = load_audio_decoder("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> AudioDecoder:
        return AudioDecoder(nn, _read_config(checkpoint, config))

    return load_component(path, make, _names("decoder"), backend_name=backend, dtype=dtype, device=device)


def load_audio_encoder(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the audio encoder of a checkpoint.

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
        Takes the place of the embedded configuration: all of it, or its section ``audio_vae``.

    Returns
    -------
    AudioEncoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> encoder = load_audio_encoder("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> AudioEncoder:
        return AudioEncoder(nn, _read_config(checkpoint, config))

    return load_component(path, make, _names("encoder"), backend_name=backend, dtype=dtype, device=device)
