"""Loading the text connectors: their keys, their configuration, and the loader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import BackendName, Checkpoint, CheckpointError, DType, load_component, prefixed, section_of
from ltx_models.nn import Backend
from ltx_models.text.connectors.config import ConnectorConfig, is_second_extractor
from ltx_models.text.connectors.model import TextConnectors
from ltx_models.text.gemma4 import TextEncoderFile, check_pair

PREFIXES = tuple(
    (f"{before}{name}", name)
    for before in ("model.diffusion_model.", "")
    for name in ("video_embeddings_connector.", "audio_embeddings_connector.")
)


def load_connectors(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
    projections: str | Path | None = None,
) -> Any:
    """
    Load the feature extractor and the connectors of a checkpoint.

    Parameters
    ----------
    path, backend, dtype, device
        As every loader takes them, with the same errors: see `ltx_models.checkpoints.load_component`.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``transformer``.
    projections : path, optional
        The text encoder's file, where that holds the projections, as in 2.5.

    Returns
    -------
    TextConnectors
        A native module, ready for inference.

    Raises
    ------
    ValueError
        If the text encoder of `projections` does not belong to the transformer.

    Examples
    --------
    >>> connectors = load_connectors("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> TextConnectors:
        section = section_of(checkpoint, config, "transformer")
        if projections is not None:
            gemma = TextEncoderFile.read(Path(projections)).config
            check_pair(checkpoint.metadata, gemma, f"{path} and {projections}")
        second = is_second_extractor(section)
        key = f"text_embedding_projection.{'video_aggregate_embed' if second else 'aggregate_embed'}.weight"
        if key not in checkpoint.files:
            msg = (
                f"{path}: no {key}; this file holds no text connectors, or its configuration is that of another version"
            )
            raise CheckpointError(msg)
        outputs, inputs = checkpoint.shape(key)
        heard = any("audio_embeddings_connector." in name for name in checkpoint.files)
        audio = ConnectorConfig.read(section, "audio_") if heard else None
        return TextConnectors(nn, ConnectorConfig.read(section), audio, inputs, 0 if second else outputs)

    names = prefixed(*PREFIXES, ("text_embedding_projection.", "text_embedding_projection."))
    return load_component(path, make, names, backend=backend, dtype=dtype, device=device, beside=projections)
