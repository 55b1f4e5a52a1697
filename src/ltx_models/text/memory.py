"""
A language model in less memory than it takes: its layers read in turn, or its weights as integers.

Encoding a prompt passes each layer once, so that layers which are read when their turn comes cost one reading of the
files for a prompt, and give the very numbers that the whole model gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ltx_models.checkpoints import Checkpoint, CheckpointError, read_header
from ltx_models.nn import Array, Backend
from ltx_models.offload import Offload

_KEY = re.compile(
    r"(?:language_model\.model\.|model\.language_model\.|model\.|)((?:layers\.\d+|embed_tokens|norm)\..+)"
)
GROUP_SIZE = 64


def layer_names(path: Path) -> tuple[Checkpoint, dict[str, str]]:
    """
    Find the tensors of a language model.

    Parameters
    ----------
    path : Path
        Its folder or file.

    Returns
    -------
    Checkpoint
        Open for reading.
    dict of str to str
        From names within the text model, such as ``layers.0.mlp.up_proj.weight``, to keys of the files.

    Raises
    ------
    CheckpointError
        If a file is broken.
    """
    parts = [path] if path.is_file() else sorted(path.glob("model*.safetensors"))
    files = {key: stored for file in parts for key, stored in read_header(file)[1].items()}
    names = {match[1]: key for key in files if (match := _KEY.fullmatch(key))}
    return Checkpoint(path, {}, files), names


def size_of(path: Path, itemsize: int, bits: float | None = None) -> tuple[int, int]:
    """
    Forecast what a language model takes.

    Parameters
    ----------
    path : Path
        Its folder; only headers are read.
    itemsize : int
        Bytes of a number.
    bits : float, optional
        Of the numbers of linear layers, where they become integers.

    Returns
    -------
    whole, in_turn : int
        Bytes of all weights, and with two layers at a time in memory.
    """
    checkpoint, names = layer_names(path)
    sizes = {}
    for name, key in names.items():
        stored = checkpoint.files[key]
        packed = stored.dtype == "U32"
        count = stored.size // {"F32": 4, "F64": 8, "U8": 1, "F8_E4M3": 1}.get(stored.dtype, 2)
        width = bits / 8 if bits is not None and _linear(name, len(stored.shape)) else itemsize
        sizes[name] = stored.size if packed else int(count * width)
    layers: dict[str, int] = {}
    for name, size in sizes.items():
        if name.startswith("layers."):
            number = name.split(".")[1]
            layers[number] = layers.get(number, 0) + size
    rest = sum(sizes.values()) - sum(layers.values())
    return sum(sizes.values()), rest + 2 * max(layers.values(), default=0)


def _linear(name: str, axes: int) -> bool:
    return name.startswith("layers.") and name.endswith("_proj.weight") and axes == 2


def in_turn(nn: Backend, inner: Any, path: Path, dtype: Any, device: Any = None) -> Offload:
    """
    Let the layers of a text model be read when their turn comes; the rest is read now.

    Parameters
    ----------
    nn : Backend
        The framework.
    inner : module
        The text model of ``transformers``, without weights, or of ``mlx-lm``, whose weights are lazy.
    path : Path
        Its folder.
    dtype : dtype
        Of the framework.
    device : optional
        A torch device.

    Returns
    -------
    Offload
        By whose turns the layers have weights.

    Raises
    ------
    CheckpointError
        If the files lack weights of the model.
    """
    wanted, tensor = _reader(nn, inner, path, dtype, device)
    model = SimpleNamespace(nn=nn, transformer_blocks=inner.layers, inner=inner)
    for name in wanted:
        if not name.startswith("layers."):
            owner, _, leaf = f"inner.{name}".rpartition(".")
            nn.assign(_find(model, owner), leaf, tensor(name))
    blocks = [[name for name in wanted if name.startswith(f"layers.{i}.")] for i in range(len(inner.layers))]
    return Offload(
        model, blocks, lambda name: {f"transformer_blocks.{name[7:]}": tensor(name)}, wrap=nn.name == "torch"
    )


def all_now(nn: Backend, inner: Any, path: Path, dtype: Any, device: Any = None) -> None:
    """
    Read all weights of a text model, one after the other.

    Parameters
    ----------
    nn, inner, path, dtype, device
        As `in_turn` takes them, with the same errors.
    """
    wanted, tensor = _reader(nn, inner, path, dtype, device)
    nn.load(inner, {name: tensor(name) for name in wanted}, strict=nn.name == "mlx")


def _reader(nn: Backend, inner: Any, path: Path, dtype: Any, device: Any) -> tuple[list[str], Callable[[str], Array]]:
    """Name the weights of a text model, and give what reads one of them; refuse where one is missing."""
    checkpoint, names = layer_names(path)
    checkpoint = Checkpoint(checkpoint.path, {}, checkpoint.files, nn.name)

    def tensor(name: str) -> Array:
        x = checkpoint.tensor(names[name])
        x = nn.cast(x, dtype if nn.xp.isdtype(x.dtype, "real floating") else x.dtype, device)
        nn.synchronize(x)
        return x

    wanted = nn.shapes(inner)
    if missing := sorted(wanted.keys() - names.keys()):
        msg = f"{path}: {len(missing)} weights of the language model are missing, such as {missing[0]}"
        raise CheckpointError(msg)
    wrong = [name for name, shape in wanted.items() if checkpoint.files[names[name]].shape != shape]
    if wrong:
        got = checkpoint.files[names[wrong[0]]].shape
        msg = f"{path}: {wrong[0]} has shape {got}, the configuration says {wanted[wrong[0]]}"
        raise CheckpointError(msg)
    return list(wanted), tensor


def _find(model: Any, path: str) -> Any:
    for part in path.split("."):
        model = getattr(model, part)
    return model


@contextmanager
def without_weights(dtype: Any) -> Iterator[None]:
    """
    Make modules of torch whose parameters take no memory, while buffers are computed as they should be.

    Parameters
    ----------
    dtype : torch.dtype
        Of the parameters.

    Yields
    ------
    None
        For the making.
    """
    import torch

    register, before = torch.nn.Module.register_parameter, torch.get_default_dtype()

    def register_meta(module: Any, name: str, parameter: Any) -> None:
        if parameter is not None:
            parameter = torch.nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        register(module, name, parameter)

    torch.nn.Module.register_parameter = register_meta  # type: ignore[method-assign, assignment]  # until the block ends
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]  # as it was
        torch.set_default_dtype(before)


def to_integers(nn: Backend, inner: Any, bits: int) -> None:
    """
    Quantise the linear layers of a text model of ``mlx-lm``, one layer after the other, so that few are in memory.

    Parameters
    ----------
    nn : Backend
        Of MLX.
    inner : module
        Whose weights are lazy. Layers that are integers already stay as they are.
    bits : int
        4 or 8.
    """
    import mlx.nn

    for layer in inner.layers:
        mlx.nn.quantize(layer, GROUP_SIZE, bits, class_predicate=lambda _, leaf: isinstance(leaf, mlx.nn.Linear))
        nn.synchronize(layer.parameters())
