"""What becomes of each tensor: as it is, in another dtype, or quantised; read and computed when it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from ltx_models.checkpoints import BackendName, Checkpoint, CheckpointError, DType
from ltx_models.checkpoints.layouts import _names
from ltx_models.checkpoints.layouts._values import EIGHT_BITS, FLOATS, NAMES, Bytes, narrow, widen
from ltx_models.convert.write import Entry
from ltx_models.nn import backend as get_backend
from ltx_models.quantization import GROUP_SIZE, Scheme, check_scheme, large, quantized

SCALES = (".weight_scale", ".input_scale")


def layer_of(key: str) -> str:
    """Give the path of the transformer's layer that an official key is the weight of; empty for others."""
    component, name = _names.component_of(key)
    return name.removesuffix(".weight") if component == "transformer" and name.endswith(".weight") else ""


def entries_of(
    checkpoint: Checkpoint, dtype: DType | None, quantize: Scheme | None, backend: BackendName | None
) -> dict[str, Entry]:
    """Say what will be written of each official tensor."""
    quantizer = _Quantizer(checkpoint, dtype, quantize, backend) if quantize else None
    widened = dtype is not None
    entries: dict[str, Entry] = {}
    for key in checkpoint.keys:
        if key.endswith(SCALES) and widened and key.rpartition(".")[0] + ".weight" in checkpoint.files:
            continue
        if quantizer is not None and quantizer.takes(key):
            entries |= quantizer.entries(key)
        else:
            entries[key] = _plain(checkpoint, key, dtype)
    return entries


def _plain(checkpoint: Checkpoint, key: str, dtype: DType | None) -> Entry:
    stored = checkpoint.files[key]
    kept = dtype is None or not stored.shape or stored.dtype not in (*FLOATS, EIGHT_BITS)
    if kept or stored.dtype == NAMES[dtype or "float32"]:
        return Entry(stored.dtype, stored.shape, lambda: checkpoint.buffer(key))
    name = NAMES[dtype or "float32"]
    return Entry(name, stored.shape, lambda: narrow(_wide(checkpoint, key), name, key))


def _wide(checkpoint: Checkpoint, key: str) -> Any:
    """Read one tensor in float32, 8-bit floats with their scale."""
    values = widen(checkpoint.buffer(key), checkpoint.dtype(key))
    scale = f"{key}_scale"
    if key.endswith(".weight") and scale in checkpoint.files:
        factor = widen(checkpoint.buffer(scale), checkpoint.dtype(scale))
        if factor.size != 1:
            msg = f"{checkpoint.path}: {scale} has {factor.size} values; only one scale a weight is known"
            raise CheckpointError(msg)
        values = values * factor[0]
    return values


@dataclass
class _Quantizer:
    """Quantises weights one at a time, with the framework's own functions."""

    checkpoint: Checkpoint
    dtype: DType | None
    scheme: Scheme
    backend: BackendName | None

    def takes(self, key: str) -> bool:
        scaled = f"{key}_scale" in self.checkpoint.files
        return large(layer_of(key)) and not (self.scheme == "fp8" and scaled and self.dtype is None)

    def entries(self, key: str) -> dict[str, Entry]:
        """Say what will take the place of one weight; it is quantised once, when its first part is written."""
        nn = get_backend(self.backend or self._installed())
        check_scheme(nn, self.scheme)
        rows, columns = self.checkpoint.shape(key)
        stored = self.checkpoint.dtype(key)
        number = NAMES[self.dtype] if self.dtype else stored if stored in NAMES.values() else "BF16"
        path = key.removesuffix(".weight")
        if self.scheme == "fp8":
            forms = {"weight": (EIGHT_BITS, (rows, columns)), "weight_scale": ("F32", ())}
        else:
            if nn.name != "mlx":
                msg = f"quantize={self.scheme!r}: files of integers are those of MLX; pass backend='mlx'"
                raise ValueError(msg)
            if columns % GROUP_SIZE:
                msg = f"{key}: {columns} columns are no multiple of MLX's group of {GROUP_SIZE}; use 'fp8'"
                raise CheckpointError(msg)
            packed, groups = columns * int(self.scheme[3:]) // 32, columns // GROUP_SIZE
            forms = {"weight": ("U32", (rows, packed)), "scales": (number, (rows, groups))}
            forms["biases"] = forms["scales"]
        small: dict[str, Bytes] = {}

        def read(part: str) -> Bytes:
            # the parts stand in different places of the file; the large one is not kept until its turn comes
            if part in small:
                return small.pop(part)
            tensors = self._parts(nn, key, number)
            small.update({name: data for name, data in tensors.items() if name not in {part, "weight"}})
            return tensors[part]

        def reader(part: str) -> Callable[[], Bytes]:
            return lambda: read(part)

        return {f"{path}.{part}": Entry(kind, shape, reader(part)) for part, (kind, shape) in forms.items()}

    def _installed(self) -> BackendName:
        return "torch" if self.scheme == "fp8" and find_spec("torch") is not None else "mlx"

    def _parts(self, nn: Any, key: str, number: str) -> dict[str, Bytes]:
        values = narrow(_wide(self.checkpoint, key), number, key)
        weight = nn.from_buffer(values, number, self.checkpoint.shape(key))
        tensors = quantized(nn, weight, self.scheme)
        nn.synchronize(*tensors.values())
        return {part: _bytes(nn, value) for part, value in tensors.items()}


def _bytes(nn: Any, x: Any) -> Bytes:
    """Give the bytes of an array of a framework."""
    if nn.name == "mlx":
        import mlx.core as mx

        flat = np.array(mx.contiguous(x.reshape(-1)).view(mx.uint8))
    else:
        import torch

        flat = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(flat).reshape(-1)
