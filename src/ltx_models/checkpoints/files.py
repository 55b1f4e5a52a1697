"""What a safetensors file is: its tensors, where each of them lies, and the embedded configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.media.regular import irregular, parse_json
from ltx_models.nn import Array, backend, backend_of

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


MOST_LAYERS = 1000  # of a configuration in a file that holds another component
_COUNT = re.compile(r"layers|blocks")
# What code makes of values of another type or size than it was written for.
_MISREAD = (TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, RuntimeError, MemoryError)


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
    array : array or None
        The tensor itself, where it is in memory already and in no file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int
    axes: tuple[int, ...] = ()
    array: Any = field(default=None, compare=False, repr=False)


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
            config = parse_json(self.metadata.get("config", "{}"))
        except ValueError as error:
            msg = f"{self.path}: the embedded config is not JSON ({error})"
            raise CheckpointError(msg) from error
        if not isinstance(config, dict):
            msg = f"{self.path}: the embedded config is a {type(config).__name__}, expected an object of sections"
            raise CheckpointError(msg)
        check_amounts(self.path, config, max(MOST_LAYERS, len(self.files)))
        return config

    def tensor(self, key: str) -> Array:
        """
        Read one tensor, into memory of its own: a mapped file would stay resident as long as any tensor of it.

        One of a state dict is shared where it is of the framework asked for.
        """
        stored = self.files[key]
        if stored.array is not None and (shared := self._shared(stored)) is not None:
            return shared
        data = self.buffer(key)
        if self.framework == "numpy":
            return data.view(_NUMPY[stored.dtype]).reshape(stored.shape)
        return backend(self.framework).from_buffer(data, stored.dtype, stored.shape)

    def buffer(self, key: str) -> Array:
        """Read the bytes of one tensor, in the order of its shape."""
        stored = self.files[key]
        if stored.array is None:
            data = np.fromfile(stored.file, np.uint8, stored.size, offset=stored.start)
        else:
            data = _bytes(stored.array)
        if not stored.axes:
            return data
        width = stored.size // max(1, prod(stored.shape))
        shape = [0] * len(stored.axes)
        for axis, length in zip(stored.axes, stored.shape, strict=True):
            shape[axis] = length
        turned = data.view(f"V{width}").reshape(shape).transpose(stored.axes)
        return np.ascontiguousarray(turned).reshape(-1).view(np.uint8)

    def _shared(self, stored: Stored) -> Array | None:
        """Give an array of a state dict, its memory shared, its axes turned; None where it is of another library."""
        array, numpy = stored.array, isinstance(stored.array, np.ndarray)
        if self.framework != ("numpy" if numpy else backend_of(array).name):
            return None
        if self.framework == "torch":
            array = array.detach()  # so that freezing the network does not freeze what it was made of
        if stored.axes:
            array = np.transpose(array, stored.axes) if numpy else backend_of(array).xp.permute_dims(array, stored.axes)
        return array.reshape(stored.shape)

    def shape(self, key: str) -> tuple[int, ...]:
        """Give a tensor's shape without reading it."""
        return self.files[key].shape

    def dtype(self, key: str) -> str:
        """Give a tensor's dtype as safetensors names it, such as ``"BF16"``, without reading it."""
        return self.files[key].dtype


def _bytes(array: Array) -> Array:
    """Give the bytes of an array of any library, which may be those of the array itself."""
    if not isinstance(array, np.ndarray):
        return backend_of(array).to_buffer(array)
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return data if data.flags.writeable else data.copy()


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
        missing = indexed_names(path) - {file.name for file in files}
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


def indexed_names(folder: Path) -> set[str]:
    """Give the shards that the indices in a folder name."""
    names: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        try:
            refuse_irregular(index)
            listed = set(parse_json(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            msg = f"{index}: is no index of shards ({error}); download it again"
            raise CheckpointError(msg) from error
        if not all(isinstance(name, str) for name in listed):
            msg = f"{index}: is no index of shards (names must be text); download it again"
            raise CheckpointError(msg)
        names |= listed
    return names


def refuse_irregular(path: Path) -> None:
    """Refuse a named pipe or device, which would be waited for."""
    kind = irregular(path)
    if kind is not None:
        msg = f"{path}: is {kind}; give a regular file"
        raise CheckpointError(msg)


@contextmanager
def described_by(path: str | Path) -> Iterator[None]:
    """
    Say in one line that a configuration describes no network, whatever its values made of the code that read them.

    Parameters
    ----------
    path : path
        The checkpoint.

    Yields
    ------
    None
        For reading the configuration and making the modules.

    Raises
    ------
    CheckpointError
        If a value has another type than it should, is missing or too large. A ValueError goes on, with its own text.
    """
    try:
        yield
    except _MISREAD as error:
        reason = (str(error).splitlines() or [""])[0]
        msg = f"{path}: its configuration describes no such network ({type(error).__name__}: {reason}); is it damaged?"
        raise CheckpointError(msg) from error


def check_amounts(path: Path, config: Any, most: int) -> None:
    """Refuse configurations that would be built for hours: more layers than tensors, or numbers beyond 32 bits."""
    layers, todo = 0, [("", config)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, dict):
            todo += value.items()
        elif isinstance(value, list):
            # ["res_x", 5] stands for five layers of that kind
            short = len(value) == 2 and isinstance(value[0], str)
            todo += [("layers" if short else name, inner) for inner in value]
        elif isinstance(value, int) and not isinstance(value, bool):
            layers += value if _COUNT.search(str(name)) else 0
            if not -(2**31) < value < 2**31 or layers > most:
                msg = f"{path}: the embedded config asks for {name}={value}, and the file has {most} tensors at most"
                raise CheckpointError(msg)


def read_header(file: Path) -> tuple[dict[str, str], dict[str, Stored]]:
    """Give a file's metadata and its tensors; the safetensors library judges whether the file is whole."""
    from safetensors import SafetensorError, safe_open

    refuse_irregular(file)
    try:
        with safe_open(file, "numpy"), file.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            header = parse_json(raw.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        msg = f"{file}: not a whole safetensors file ({error}); download it again"
        raise CheckpointError(msg) from error
    metadata = header.pop("__metadata__", None) or {}  # MLX writes null where there is none
    tensors = {}
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[key] = Stored(file, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)
    return metadata, tensors
