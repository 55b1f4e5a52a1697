"""Loading the audio autoencoder: its keys, its configuration, and the two loaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.audio_vae.decoder import AudioDecoder
from ltx_models.audio_vae.encoder import AudioEncoder
from ltx_models.checkpoints import BackendName, Checkpoint, DType, Source, keys_of_half, load_component, section_of
from ltx_models.nn import Backend


def load_audio_decoder(
    path: Source,
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
    path, backend, dtype, device
        As every loader takes them, with the same errors: see `ltx_models.checkpoints.load_component`.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, that of diffusers, or its section ``audio_vae``.

    Returns
    -------
    AudioDecoder
        A native module, ready for inference.

    Examples
    --------
    >>> decoder = load_audio_decoder("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> AudioDecoder:
        return AudioDecoder(nn, AudioVAEConfig.read(section_of(checkpoint, config, "audio_vae")))

    return load_component(path, make, keys_of_half("audio_vae", "decoder"), backend=backend, dtype=dtype, device=device)


def load_audio_encoder(
    path: Source,
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
    path, backend, dtype, device
        As every loader takes them, with the same errors: see `ltx_models.checkpoints.load_component`.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, that of diffusers, or its section ``audio_vae``.

    Returns
    -------
    AudioEncoder
        A native module, ready for inference.

    Examples
    --------
    >>> encoder = load_audio_encoder("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> AudioEncoder:
        return AudioEncoder(nn, AudioVAEConfig.read(section_of(checkpoint, config, "audio_vae")))

    return load_component(path, make, keys_of_half("audio_vae", "encoder"), backend=backend, dtype=dtype, device=device)
