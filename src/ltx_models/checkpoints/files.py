"""What a safetensors file is: its tensors, where each of them lies, and the embedded configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.nn import Array, backend

_NUMPY = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


class CheckpointError(ValueError):
    """A file is no checkpoint, or not the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Stored:
    """
    Where one tensor lies.

    Attributes
    ----------
    file : Path
        Its file.
    dtype : str
        As safetensors names it.
    shape : tuple of int
        As it is read.
    start, size : int
        First byte and number of bytes.
    axes : tuple of int
        The axes of the file in the order in which they are read; empty where that is the same.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """
    One safetensors file, or a folder of shards, open for reading.

    Attributes
    ----------
    path : Path
        The file or folder.
    metadata : dict of str to str
        The embedded metadata of all files together.
    files : dict of str to Stored
        Where each tensor lies.
    framework : str
        The kind of arrays that `tensor` reads.
    """

    path: Path
    metadata: dict[str, str]
    files: Mapping[str, Stored]
    framework: str = "numpy"

    @property
    def keys(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self.files)

    @property
    def config(self) -> dict[str, Any]:
        """The embedded configuration; empty where there is none."""
        try:
            config = json.loads(self.metadata.get("config", "{}"))
        except json.JSONDecodeError as error:
            msg = f"{self.path}: the embedded config is not JSON ({error})"
            raise CheckpointError(msg) from error
        if not isinstance(config, dict):
            msg = f"{self.path}: the embedded config is a {type(config).__name__}, expected an object of sections"
            raise CheckpointError(msg)
        return config

    def tensor(self, key: str) -> Array:
        """Read one tensor, into memory of its own: a mapped file would stay resident as long as any tensor of it."""
        stored = self.files[key]
        data = self.buffer(key)
        if self.framework == "numpy":
            return data.view(_NUMPY[stored.dtype]).reshape(stored.shape)
        return backend(self.framework).from_buffer(data, stored.dtype, stored.shape)

    def buffer(self, key: str) -> Array:
        """Read the bytes of one tensor, in the order of its shape."""
        stored = self.files[key]
        data = np.fromfile(stored.file, np.uint8, stored.size, offset=stored.start)
        if not stored.axes:
            return data
        width = stored.size // max(1, prod(stored.shape))
        shape = [0] * len(stored.axes)
        for axis, length in zip(stored.axes, stored.shape, strict=True):
            shape[axis] = length
        turned = data.view(f"V{width}").reshape(shape).transpose(stored.axes)
        return np.ascontiguousarray(turned).reshape(-1).view(np.uint8)

    def shape(self, key: str) -> tuple[int, ...]:
        """Give a tensor's shape without reading it."""
        return self.files[key].shape

    def dtype(self, key: str) -> str:
        """Give a tensor's dtype as safetensors names it, such as ``"BF16"``, without reading it."""
        return self.files[key].dtype


def checkpoint_files(path: str | Path) -> list[Path]:
    """
    List the safetensors files of a checkpoint.

    Parameters
    ----------
    path : path
        A safetensors file or a folder of shards.

    Returns
    -------
    list of Path
        The files, sorted.

    Raises
    ------
    CheckpointError
        If there is nothing, or something else: pickled files are never read.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if not files:
            msg = f"{path}: no *.safetensors in this folder; other formats are not read"
            raise CheckpointError(msg)
        missing = {
            name
            for index in path.glob("*.safetensors.index.json")
            for name in json.loads(index.read_text())["weight_map"].values()
        } - {file.name for file in files}
        if missing:
            msg = f"{path}: shards named by the index are missing: {', '.join(sorted(missing))}"
            raise CheckpointError(msg)
        return files
    if not path.exists():
        msg = f"{path}: no such file or folder"
        raise CheckpointError(msg)
    if path.suffix not in {".safetensors", ".sft"}:
        msg = f"{path}: expected a .safetensors file or a folder of them; other formats are not read"
        raise CheckpointError(msg)
    return [path]


def read_header(file: Path) -> tuple[dict[str, str], dict[str, Stored]]:
    """Give a file's metadata and its tensors; the safetensors library judges whether the file is whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy"), file.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            header = json.loads(raw.read(length))
    except (SafetensorError, OSError) as error:
        msg = f"{file}: not a whole safetensors file ({error}); download it again"
        raise CheckpointError(msg) from error
    metadata = header.pop("__metadata__", None) or {}  # MLX writes null where there is none
    tensors = {}
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[key] = Stored(file, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)
    return metadata, tensors
