"""Networks in the official layout whose weights are drawn again: for tests that compare a network with itself."""

import gzip
import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

__all__ = ["KEPT_VALUES", "make", "read_table", "widened"]

KEPT_VALUES = 16  # a tensor of at most so many numbers is kept as it is: filters, scales
Numbers = np.ndarray[Any, Any]


def widened(path: Path) -> dict[str, tuple[str, list[int], Numbers]]:
    """Dtype, shape and numbers in float32 of every tensor of a file of BF16 and F32."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for key, row in json.loads(data[8:begin]).items():
        if key != "__metadata__" and row["dtype"] in {"BF16", "F32"}:
            first, last = (begin + offset for offset in row["data_offsets"])
            raw = np.frombuffer(data[first:last], np.uint16 if row["dtype"] == "BF16" else np.float32)
            numbers = (raw.astype(np.uint32) << 16).view(np.float32) if row["dtype"] == "BF16" else raw
            found[key] = (row["dtype"], row["shape"], numbers)
    return found


def read_table(table: Path) -> dict[str, Any]:
    """Configurations and distributions by name."""
    found: dict[str, Any] = json.loads(gzip.decompress(table.read_bytes()))
    return found


def make(table: Path, name: str, folder: Path) -> Path:
    """Write the network `name` of the table as a safetensors file into the folder, unless it is there."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.safetensors"
    if not path.exists():
        row = read_table(table)[name]
        header: dict[str, Any] = {"__metadata__": row["metadata"]}
        blocks, offset = [], 0
        for key, (dtype, shape, *given) in row["tensors"].items():
            block = _stored(dtype, _drawn(key, shape, given))
            header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(block)]}
            blocks.append(block)
            offset += len(block)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))
    return path


def _drawn(key: str, shape: list[int], given: list[Any]) -> Numbers:
    """Numbers of one tensor: those kept, or normal ones of the same mean, spread and range."""
    if isinstance(given[0], list):
        return np.array(given[0], np.float32)
    mean, spread, low, high = given
    drawn = np.random.default_rng(crc32(key.encode())).standard_normal(shape, dtype=np.float32)
    numbers: Numbers = np.clip(mean + spread * drawn, low, high).astype(np.float32)
    return numbers


def _stored(dtype: str, numbers: Numbers) -> bytes:
    bits = np.ascontiguousarray(numbers, np.float32)
    return (bits.view(np.uint32) >> 16).astype(np.uint16).tobytes() if dtype == "BF16" else bits.tobytes()
