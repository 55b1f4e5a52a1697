"""
Checkpoints, in three floors: what a file is, what its tensors are called, and how a network gets its weights.

`files` reads safetensors; `layouts` knows the names and shapes of every published arrangement; `loading` opens a
checkpoint under the official names and loads a network strictly, tensor by tensor.
"""

from ltx_models.checkpoints.files import Checkpoint, CheckpointError, Stored, checkpoint_files, read_header
from ltx_models.checkpoints.loading import (
    DTYPES,
    BackendName,
    DType,
    check_keys,
    keys_of_half,
    load_component,
    open_checkpoint,
    prefixed,
    section_of,
    weights_wanted,
    without_weights,
)
from ltx_models.checkpoints.state_dict import Source

__all__ = [
    "DTYPES",
    "BackendName",
    "Checkpoint",
    "CheckpointError",
    "DType",
    "Source",
    "Stored",
    "check_keys",
    "checkpoint_files",
    "keys_of_half",
    "load_component",
    "open_checkpoint",
    "prefixed",
    "read_header",
    "section_of",
    "weights_wanted",
    "without_weights",
]
