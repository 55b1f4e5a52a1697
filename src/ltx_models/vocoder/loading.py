"""Loading a vocoder; the configuration decides which of the two it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltx_models.checkpoints import BackendName, Checkpoint, DType, Source, load_component, open_checkpoint, prefixed
from ltx_models.checkpoints.files import described_by
from ltx_models.checkpoints.layouts import official_config
from ltx_models.nn import Backend
from ltx_models.nn.checks import check_dtype
from ltx_models.vocoder.bandwidth import BandwidthVocoder
from ltx_models.vocoder.config import BandwidthConfig, read_config
from ltx_models.vocoder.model import Vocoder


def load_vocoder(
    path: Source,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the vocoder of a checkpoint.

    Parameters
    ----------
    path, backend, device
        As every loader takes them, with the same errors: see `ltx_models.checkpoints.load_component`.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights. A vocoder with bandwidth extension (2.3) holds its weights and computes in float32
        whatever this is, as half precision is audible there.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, that of diffusers, or its section ``vocoder``.

    Returns
    -------
    Vocoder or BandwidthVocoder
        A native module, ready for inference; the configuration decides which.

    Examples
    --------
    >>> vocoder = load_vocoder("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """
    with open_checkpoint(path, "numpy") as checkpoint, described_by(checkpoint.path):
        settings = read_config(_section(checkpoint.config if config is None else official_config(config)))
    wide = isinstance(settings, BandwidthConfig)

    def make(nn: Backend, checkpoint: Checkpoint) -> Any:
        return BandwidthVocoder(nn, settings) if isinstance(settings, BandwidthConfig) else Vocoder(nn, settings)

    check_dtype(dtype)
    kept: DType = "float32" if wide else dtype
    return load_component(path, make, prefixed(("vocoder.", "")), backend=backend, dtype=kept, device=device)


def _section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the description of the vocoder in a whole configuration, or in that section alone."""
    inner = config.get("vocoder", config)
    # the section of 2.3 has a part of the same name
    return config if "bwe" in config else inner
