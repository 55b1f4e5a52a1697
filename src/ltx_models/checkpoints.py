"""Reading safetensors: official key names, the embedded configuration, and strict loading tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ltx_models.nn import Array, Backend, backend

BackendName = Literal["torch", "mlx"]
DType = Literal["bfloat16", "float16", "float32"]
DTYPES = ("bfloat16", "float16", "float32")
_FRAMEWORKS = {"torch": "pt", "mlx": "numpy"}  # the headers of an MLX checkpoint; its arrays are read by MLX itself


class CheckpointError(ValueError):
    """A file is no checkpoint, or not the one that was asked for."""


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
    files : dict of str to object
        The open file that holds each key.
    arrays : dict of str to array
        Arrays that the framework itself reads lazily; empty where the open files give them.
    """

    path: Path
    metadata: dict[str, str]
    files: Mapping[str, Any]
    arrays: Mapping[str, Array]

    @property
    def keys(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self.files)

    @property
    def config(self) -> dict[str, Any]:
        """The embedded configuration; empty where there is none."""
        try:
            found = json.loads(self.metadata.get("config", "{}"))
        except json.JSONDecodeError as error:
            msg = f"{self.path}: the embedded config is not JSON ({error})"
            raise CheckpointError(msg) from error
        if not isinstance(found, dict):
            msg = f"{self.path}: the embedded config is a {type(found).__name__}, expected an object of sections"
            raise CheckpointError(msg)
        return found

    def tensor(self, key: str) -> Array:
        """Read one tensor."""
        return self.arrays[key] if key in self.arrays else self.files[key].get_tensor(key)

    def shape(self, key: str) -> tuple[int, ...]:
        """Give a tensor's shape without reading it."""
        return tuple(self.files[key].get_slice(key).get_shape())


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


@contextmanager
def open_checkpoint(path: str | Path, framework: str = "torch") -> Iterator[Checkpoint]:
    """
    Open a checkpoint; tensors are read when they are asked for.

    Parameters
    ----------
    path : path
        A safetensors file (whole checkpoint or one component) or a folder of shards.
    framework : {"torch", "mlx", "numpy"}
        The kind of arrays to read.

    Yields
    ------
    Checkpoint
        Valid within the ``with`` block.

    Raises
    ------
    CheckpointError
        If a file is missing, truncated or not safetensors, or if two shards hold the same key.
    """
    from safetensors import SafetensorError, safe_open

    with ExitStack() as stack:
        metadata: dict[str, str] = {}
        files: dict[str, Any] = {}
        arrays: dict[str, Array] = {}
        for file in checkpoint_files(path):
            try:
                opened = stack.enter_context(safe_open(file, _FRAMEWORKS.get(framework, framework)))
            except (SafetensorError, OSError) as error:
                msg = f"{file}: not a whole safetensors file ({error}); download it again"
                raise CheckpointError(msg) from error
            metadata |= opened.metadata() or {}
            twice = files.keys() & (keys := set(opened.keys()))
            if twice:
                msg = f"{file}: {len(twice)} keys stand in another shard too, such as {min(twice)!r}"
                raise CheckpointError(msg)
            files |= dict.fromkeys(keys, opened)
            if framework == "mlx":
                import mlx.core as mx

                read: Any = mx.load(str(file))
                arrays |= read
        yield Checkpoint(Path(path), metadata, files, arrays)


def load_component(
    path: str | Path,
    make: Callable[[Backend, Checkpoint], Any],
    names: Callable[[str], str | None],
    *,
    backend_name: BackendName,
    dtype: DType,
    device: Any = None,
) -> Any:
    """
    Build one network and give it its weights, strictly.

    Parameters
    ----------
    path : path
        A safetensors file or a folder of shards.
    make : callable
        Makes the module from the backend and the open checkpoint.
    names : callable
        Maps a checkpoint key to the module's key, or to None where the key belongs to another component.
    backend_name : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of all floating-point weights.
    device : optional
        A torch device.

    Returns
    -------
    module
        A native module, ready for inference.

    Raises
    ------
    CheckpointError
        If keys are missing, unexpected or of another shape; the text lists them.
    ValueError
        If the backend or dtype is unknown.
    """
    if dtype not in DTYPES:
        msg = f"dtype: got {dtype!r}, allowed are {', '.join(map(repr, DTYPES))}"
        raise ValueError(msg)
    nn = backend(backend_name)
    with open_checkpoint(path, backend_name) as checkpoint:
        module = nn.build(lambda: make(nn, checkpoint))
        found = {name: key for key in checkpoint.keys if (name := names(key)) is not None}
        check_keys(checkpoint, found, nn.shapes(module))
        target = nn.dtype(dtype)
        weights = {name: _cast(nn, checkpoint.tensor(key), target) for name, key in found.items()}
        return nn.load(module, weights, device)


def _cast(nn: Backend, x: Array, dtype: Any) -> Array:
    return nn.cast(x, dtype) if nn.xp.isdtype(x.dtype, "real floating") else x


def check_keys(checkpoint: Checkpoint, found: Mapping[str, str], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse missing, unexpected and misshapen tensors, naming them."""
    faults = [
        ("missing", sorted(expected.keys() - found.keys())),
        ("unexpected", sorted(found[name] for name in found.keys() - expected.keys())),
        (
            "of another shape",
            [
                f"{found[name]} {checkpoint.shape(found[name])} instead of {shape}"
                for name, shape in sorted(expected.items())
                if name in found and checkpoint.shape(found[name]) != shape
            ],
        ),
    ]
    lines = [f"{len(keys)} {what}: {_some(keys)}" for what, keys in faults if keys]
    if lines:
        msg = f"{checkpoint.path}: the tensors do not fit this network; " + "; ".join(lines)
        raise CheckpointError(msg)


def _some(keys: list[str], most: int = 5) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def prefixed(*prefixes: tuple[str, str]) -> Callable[[str], str | None]:
    """
    Make a key map out of prefixes.

    Parameters
    ----------
    *prefixes : pair of str
        (prefix in the checkpoint, prefix in the module); the first that fits is taken.

    Returns
    -------
    callable
        From a checkpoint key to a module key, or None.

    Examples
    --------
    >>> names = prefixed(("vae.decoder.", ""), ("vae.per_channel_statistics.", "per_channel_statistics."))
    >>> names("vae.decoder.conv_in.conv.bias"), names("vocoder.conv_pre.bias")
    ('conv_in.conv.bias', None)
    """

    def rename(key: str) -> str | None:
        return next((new + key[len(old) :] for old, new in prefixes if key.startswith(old)), None)

    return rename
