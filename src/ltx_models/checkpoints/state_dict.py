"""State dicts in the place of files: arrays that are in memory already, seen as a checkpoint sees stored tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.checkpoints.files import CheckpointError, Stored
from ltx_models.nn import Array, backend_of

__all__ = ["NAME", "Source", "named", "stored_arrays"]

Source = str | Path | Mapping[str, Array]
"""Where a loader finds tensors: a file, a folder, or a state dict."""
NAME = Path("state dict")
"""What stands in messages where a file has its name."""
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint32": "U32",
    "uint8": "U8",
    "bool": "BOOL",
    "bool_": "BOOL",
}


def named(source: Source) -> Path:
    """
    Give what messages call a source.

    Parameters
    ----------
    source : path or mapping
        What a loader was given.

    Returns
    -------
    Path
        Its own, or `NAME`.

    Examples
    --------
    >>> named("a.safetensors").name, named({}).name
    ('a.safetensors', 'state dict')
    """
    return NAME if isinstance(source, Mapping) else Path(source)


def stored_arrays(tensors: Mapping[str, Array]) -> dict[str, Stored]:
    """
    Describe arrays as if they lay in a file.

    Parameters
    ----------
    tensors : mapping of str to array
        Arrays of PyTorch, MLX or NumPy.

    Returns
    -------
    dict of str to Stored
        Each with its array.

    Raises
    ------
    CheckpointError
        If there are none, or a value is no array of these libraries, has no memory, or a dtype that files do not have.

    Examples
    --------
    >>> stored_arrays({"bias": np.zeros(3, np.float32)})["bias"].dtype
    'F32'
    """
    if not tensors:
        msg = f"{NAME}: it is empty; give names and arrays, such as vae.state_dict()"
        raise CheckpointError(msg)
    return {str(key): _stored(str(key), array) for key, array in tensors.items()}


def _stored(key: str, array: Any) -> Stored:
    if not isinstance(array, np.ndarray):
        try:
            backend_of(array)
        except TypeError as error:
            msg = f"{NAME}: {key!r}: {error}, or of numpy"
            raise CheckpointError(msg) from error
    if getattr(array, "is_meta", False):
        msg = f"{NAME}: {key!r} is on the meta device and has no values; load or offload the model before taking them"
        raise CheckpointError(msg)
    name = str(array.dtype).rpartition(".")[2]
    if name not in _DTYPES:
        msg = f"{NAME}: {key!r} has dtype {name}, allowed are {', '.join(_DTYPES)}; dequantise it first"
        raise CheckpointError(msg)
    shape = tuple(int(n) for n in array.shape)
    return Stored(NAME, _DTYPES[name], shape, 0, int(array.nbytes), array=array)
