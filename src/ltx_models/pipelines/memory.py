"""Memory: giving it back, measuring it, and presets that make a pipeline fit into it."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import open_checkpoint
from ltx_models.quantization import SCHEMES, Scheme, large
from ltx_models.transformer_loading import key_prefix

GIB = 2**30
BITS = {"fp8": 8.0, "int8": 8.5, "int4": 4.5}  # with their scales
SPARE = 0.25  # share of the memory left to activations, text and the system


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """
    How a pipeline fits into memory.

    Attributes
    ----------
    memory_bytes : int
        What there is.
    quantize : {"fp8", "int8", "int4"} or None
        Of the transformer.
    offload : bool
        Whether its blocks are read from the file as they are needed.
    decode_bytes : int
        What decoding may take beside the weights.
    transformer_bytes : int
        Forecast of the transformer's weights in memory.
    reason : str
        Why, in words.
    """

    memory_bytes: int
    quantize: Scheme | None
    offload: bool
    decode_bytes: int
    transformer_bytes: int
    reason: str

    def __str__(self) -> str:
        """Say what was chosen."""
        how = "transformer " + (f"quantised to {self.quantize}" if self.quantize else "as it is")
        how += ", its blocks read from the file in turn" if self.offload else ", whole in memory"
        return (
            f"memory {_size(self.memory_bytes)}: {how} ({_size(self.transformer_bytes)}); exact decode within "
            f"{_size(self.decode_bytes)}; {self.reason}"
        )


def read_memory(text: str) -> int:
    """
    Read an amount of memory.

    Parameters
    ----------
    text : str
        A number with GB, GiB, MB or MiB; GB and GiB alike mean 2**30 bytes, as memory is sold.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ValueError
        If it is no such text.

    Examples
    --------
    >>> read_memory("16GB") == 16 * 2**30
    True
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([GM])i?B?\s*", text, re.IGNORECASE)
    if not found or float(found[1]) == 0:
        msg = f"memory: got {text!r}, expected an amount such as 16GB or 900MB"
        raise ValueError(msg)
    return int(float(found[1]) * (GIB if found[2].upper() == "G" else 2**20))


def plan_memory(path: str | Path, memory_bytes: int, *, backend: str = "torch", itemsize: int = 2) -> MemoryPlan:
    """
    Choose how a checkpoint's transformer is held, for an amount of memory.

    Parameters
    ----------
    path : path
        The checkpoint; only its header is read.
    memory_bytes : int
        Memory of the device.
    backend : {"torch", "mlx"}
        The framework, which has its own quantisation.
    itemsize : int
        Bytes of a number in the dtype of the networks.

    Returns
    -------
    MemoryPlan
        The first that fits of: as it is; quantised; quantised to 4 bits (MLX); blocks read in turn, quantised if
        even two of them are too large.

    Raises
    ------
    CheckpointError
        If there is no transformer in the file.
    ValueError
        If nothing fits; the text says the least that would.
    """
    weights = _weights(path)
    room = int(memory_bytes * (1 - SPARE))
    decode = int(memory_bytes * (1 - SPARE))
    schemes: list[Scheme | None] = [None, "int8" if backend == "mlx" else "fp8"]
    schemes += ["int4"] if "int4" in SCHEMES[backend] else []
    for scheme in schemes:
        taken = _bytes(weights, scheme, itemsize)
        if taken <= room:
            why = "the first choice that fits" if scheme else "it fits as it is"
            return MemoryPlan(memory_bytes, scheme, False, decode, taken, why)
    blocks = {name: size for name, size in weights.items() if name.startswith("transformer_blocks.")}
    rest = {name: size for name, size in weights.items() if name not in blocks}
    count = len({name.split(".")[1] for name in blocks})
    for scheme in schemes:
        taken = _bytes(rest, None, itemsize) + 2 * _bytes(blocks, scheme, itemsize) // count
        if taken <= room:
            return MemoryPlan(memory_bytes, scheme, True, decode, taken, "even quantised it is larger than memory")
    msg = f"memory: {_size(memory_bytes)} is too little; this checkpoint needs at least {_size(taken / (1 - SPARE))}"
    raise ValueError(msg)


def _weights(path: str | Path) -> dict[str, int]:
    """Count the numbers of each tensor of the transformer."""
    with open_checkpoint(path, "numpy") as checkpoint:
        prefix = key_prefix(checkpoint)
        return {
            key[len(prefix) :]: math.prod(checkpoint.shape(key))
            for key in checkpoint.keys
            if key.startswith(prefix) and "embeddings_connector." not in key
        }


def _bytes(weights: dict[str, int], scheme: Scheme | None, itemsize: int) -> int:
    total = 0.0
    for name, count in weights.items():
        quantized = scheme is not None and large(name.removesuffix(".weight"))
        total += count * (BITS[scheme] / 8 if scheme is not None and quantized else itemsize)
    return int(total)


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.1f} MiB"


def give_back(name: str) -> None:
    """
    Give cached memory of a framework back to the device.

    Parameters
    ----------
    name : {"torch", "mlx"}
        The framework.
    """
    if name == "mlx":
        import mlx.core as mx

        mx.clear_cache()
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def device_peak(name: str) -> int:
    """
    Give the most memory that a framework held on its accelerator so far.

    Parameters
    ----------
    name : {"torch", "mlx"}
        The framework.

    Returns
    -------
    int
        Bytes; 0 where there is no accelerator or the framework does not count.
    """
    module: Any = sys.modules.get("mlx.core" if name == "mlx" else "torch")
    if module is None:
        return 0
    if name == "mlx":
        return int(module.get_peak_memory())
    return int(module.cuda.max_memory_allocated()) if module.cuda.is_available() else 0
