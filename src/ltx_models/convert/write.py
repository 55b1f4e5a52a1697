"""Writing safetensors tensor by tensor: one is in memory at a time, and only whole files bear their names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ltx_models.checkpoints.layouts._values import Bytes

WIDTHS = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One tensor that will be written.

    Attributes
    ----------
    dtype : str
        As safetensors names it.
    shape : tuple of int
        As it will lie in the file.
    read : callable
        Gives its bytes, when its turn comes.
    """

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Bytes]

    @property
    def size(self) -> int:
        """Its bytes."""
        return prod(self.shape) * WIDTHS[self.dtype]


def header_of(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """
    Lay out a file.

    Parameters
    ----------
    entries : mapping of str to Entry
        The tensors.
    metadata : mapping of str to str
        The file's metadata.

    Returns
    -------
    header : bytes
        With its length before it.
    order : list of str
        The tensors in the order in which their bytes follow: the widest numbers first, so that all are aligned.
    """
    order = sorted(entries, key=lambda key: (-WIDTHS[entries[key].dtype], key))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for key in order:
        entry = entries[key]
        header[key] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [start, start + entry.size]}
        start += entry.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, order


def write_file(
    path: Path,
    entries: Mapping[str, Entry],
    metadata: Mapping[str, str],
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """
    Write one safetensors file; it is no whole one until the last byte.

    Parameters
    ----------
    path : Path
        A temporary name: the caller renames it.
    entries : mapping of str to Entry
        The tensors; each is read when its turn comes, and then let go.
    metadata : mapping of str to str
        The file's metadata.
    progress : callable, optional
        Called with the bytes of each tensor.

    Raises
    ------
    OSError
        If the disk is full or cannot be written.
    ValueError
        If a tensor's bytes are not as many as its entry says.
    """
    header, order = header_of(entries, metadata)
    with path.open("wb") as file:
        file.write(header)
        for key in order:
            data = entries[key].read()
            if data.nbytes != entries[key].size:
                msg = f"{key}: {data.nbytes} bytes, but {entries[key].size} belong to {entries[key].shape}"
                raise ValueError(msg)
            file.write(data.data)
            progress(data.nbytes)
        file.flush()
        os.fsync(file.fileno())


def shards_of(entries: Mapping[str, Entry], most: int | None) -> list[list[str]]:
    """
    Divide tensors among files.

    Parameters
    ----------
    entries : mapping of str to Entry
        The tensors.
    most : int or None
        Bytes of a shard, which a larger tensor alone exceeds; None for one file.

    Returns
    -------
    list of list of str
        Their names, in alphabetical order.
    """
    shards: list[list[str]] = [[]]
    filled = 0
    for key in sorted(entries):
        size = entries[key].size
        if most is not None and shards[-1] and filled + size > most:
            shards.append([])
            filled = 0
        shards[-1].append(key)
        filled += size
    return shards


def shard_names(stem: str, count: int) -> Sequence[str]:
    """Name the files as Hugging Face's libraries do."""
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]


def index_of(entries: Mapping[str, Entry], shards: Sequence[Sequence[str]], names: Sequence[str]) -> str:
    """Write the index of shards."""
    where = {key: name for keys, name in zip(shards, names, strict=True) for key in keys}
    total = sum(entry.size for entry in entries.values())
    return json.dumps({"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}, indent=2) + "\n"
