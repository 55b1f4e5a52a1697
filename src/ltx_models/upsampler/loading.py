"""Loading an upsampler and the statistics of latents, and upsampling normalised latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import BackendName, Checkpoint, CheckpointError, DType, load_component, open_checkpoint
from ltx_models.nn import Array, Backend
from ltx_models.nn import backend as get_backend
from ltx_models.nn.statistics import STATISTICS
from ltx_models.upsampler.config import UpsamplerConfig
from ltx_models.upsampler.model import LatentUpsampler

FOLDERS = ("latent_upsampler", "upsampler")  # within the folder of a pipeline
NOT_OURS = ("vae.", "input.", "output.", "debug.")


@dataclass(frozen=True)
class LatentStatistics:
    """
    Mean and standard deviation of each channel of a video autoencoder's latents.

    Attributes
    ----------
    mean, std : array, shape (128,)
        In float32.
    """

    mean: Array
    std: Array


def load_statistics(path: str | Path, *, backend: BackendName = "torch", device: Any = None) -> LatentStatistics:
    """
    Load the statistics of a video autoencoder's latents.

    Parameters
    ----------
    path : path
        A safetensors file with a video autoencoder (whole checkpoint or one component), or a folder of shards. The
        files of upsamplers hold none.
    backend : {"torch", "mlx"}
        The framework.
    device : optional
        A torch device.

    Returns
    -------
    LatentStatistics
        What `upsample_latent` takes.

    Raises
    ------
    CheckpointError
        If the file has no such statistics.

    Examples
    --------
    >>> from ltx_models import default_checkpoint
    >>> load_statistics(default_checkpoint(), backend="torch").mean.shape
    torch.Size([128])
    """
    nn = get_backend(backend)
    with open_checkpoint(path, backend) as checkpoint:
        values = []
        for name in STATISTICS:
            keys = [f"{prefix}per_channel_statistics.{name}" for prefix in ("vae.", "")]
            key = next((key for key in keys if key in checkpoint.files), None)
            if key is None:
                msg = f"{path}: no {keys[0]}; give the checkpoint of the video autoencoder, upsamplers bring none"
                raise CheckpointError(msg)
            value = nn.cast(checkpoint.tensor(key), nn.float32)
            values.append(value if device is None else value.to(device))
    return LatentStatistics(*values)


def upsample_latent(upsampler: Any, latent: Array, statistics: LatentStatistics, **tiles: Any) -> Array:
    """
    Upsample normalised latents: undo the normalisation, upsample, normalise again.

    Parameters
    ----------
    upsampler : LatentUpsampler
        What `load_upsampler` returned.
    latent : array, shape (B, 128, f, h, w)
        Normalised latents, as the transformer and the autoencoder know them.
    statistics : LatentStatistics
        What `load_statistics` returned.
    **tiles
        ``frames``, ``height``, ``width``, ``offload`` of `LatentUpsampler.tiled`; whole where absent.

    Returns
    -------
    array, shape (B, 128, f', h', w')
        Normalised latents, in the dtype of `latent`.

    Raises
    ------
    ValueError
        If the shape or dtype does not fit.

    Examples
    --------
    >>> import torch
    >>> from ltx_models import default_checkpoint
    >>> from ltx_models.nn import backend
    >>> upsampler = LatentUpsampler(backend("torch"), UpsamplerConfig(128, 32, 1, "temporal"))  # random weights
    >>> statistics = load_statistics(default_checkpoint(), backend="torch")
    >>> upsample_latent(upsampler, torch.zeros(1, 128, 3, 2, 2), statistics).shape
    torch.Size([1, 128, 5, 2, 2])
    """
    nn = upsampler.nn
    mean, std = (x.reshape(1, -1, 1, 1, 1) for x in (statistics.mean, statistics.std))
    if latent.ndim != 5 or latent.shape[1] != mean.shape[1]:
        msg = f"latent: got shape {tuple(latent.shape)}, the statistics are of (batch, {mean.shape[1]}, f, h, w)"
        raise ValueError(msg)
    raw = nn.cast(nn.cast(latent, nn.float32) * std + mean, latent.dtype)
    large = upsampler.tiled(raw, **tiles) if tiles else upsampler(raw)
    return nn.cast((nn.cast(large, nn.float32) - mean) / std, latent.dtype)


def load_upsampler(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load a latent upsampler.

    Parameters
    ----------
    path, backend, dtype, device
        As every loader takes them, with the same errors: see `ltx_models.checkpoints.load_component`.
    config : mapping, optional
        Takes the place of the embedded configuration.

    Returns
    -------
    LatentUpsampler
        A native module, ready for inference.

    Examples
    --------
    >>> upsampler = load_upsampler("ltx-2.3-spatial-upscaler-x2-1.1.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> LatentUpsampler:
        return LatentUpsampler(nn, UpsamplerConfig.read(checkpoint.config if config is None else config))

    def names(key: str) -> str | None:
        return None if key.startswith(NOT_OURS) else key

    return load_component(_own_folder(Path(path)), make, names, backend=backend, dtype=dtype, device=device)


def _own_folder(path: Path) -> Path:
    """Give the upsampler's folder within that of a whole pipeline, where the path is such a folder."""
    folders = [path / name for name in FOLDERS if any((path / name).glob("*.safetensors"))]
    return folders[0] if folders else path
