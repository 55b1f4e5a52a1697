"""Memory: giving it back, and presets that make a pipeline fit into it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ltx_models.byte_sizes import format_bytes, parse_bytes
from ltx_models.checkpoints import open_checkpoint
from ltx_models.notebook import ShownAsText
from ltx_models.quantization import Scheme, large
from ltx_models.text.memory import size_of
from ltx_models.transformer.loading import key_prefix

GIB = 2**30
BITS = {"fp8": 8.0, "int8": 8.5, "int4": 4.5}  # with their scales
SPARE = 0.25  # share of the memory left to activations and the system
SPARE_OF_CUDA = 0.1  # which the system does not share


@dataclass(frozen=True, slots=True)
class MemoryPlan(ShownAsText):
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
    text_quantize : {"int8", "int4"} or None
        Of the language model.
    text_offload : bool
        Whether its layers are read from the files as they are needed.
    text_bytes : int
        Forecast of its weights in memory; 0 where there is none.
    """

    memory_bytes: int
    quantize: Scheme | None
    offload: bool
    decode_bytes: int
    transformer_bytes: int
    reason: str
    text_quantize: Scheme | None = None
    text_offload: bool = False
    text_bytes: int = 0

    def __str__(self) -> str:
        """Say what was chosen."""
        said = _how("transformer", self.quantize, self.offload, self.transformer_bytes, "blocks")
        if self.text_bytes:
            said += "; " + _how("language model", self.text_quantize, self.text_offload, self.text_bytes, "layers")
        return (
            f"memory {format_bytes(self.memory_bytes)}: {said}; exact decode within {format_bytes(self.decode_bytes)}; "
            f"{self.reason}"
        )


def _how(what: str, quantize: Scheme | None, offload: bool, n_bytes: int, parts: str) -> str:
    form = f"quantised to {quantize}" if quantize else "as it is"
    place = f"its {parts} read from the file in turn" if offload else "whole in memory"
    return f"{what} {form}, {place} ({format_bytes(n_bytes)})"


def read_memory(text: str) -> int:
    """
    Read an amount of memory.

    Parameters
    ----------
    text : str
        A number with a unit: MB or GB, powers of 1000, or MiB or GiB, powers of 1024, in which memory is sold.

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
    >>> read_memory("16GiB") == 16 * 2**30, read_memory("16GB") == 16 * 10**9
    (True, True)
    """
    return parse_bytes(text, "memory")


def plan_memory(
    path: str | Path,
    memory_bytes: int,
    *,
    backend: str = "torch",
    itemsize: int = 2,
    text_encoder: str | Path | None = None,
    device: Any = None,
) -> MemoryPlan:
    """
    Choose how the two largest networks are held, for an amount of memory. They are never in memory together.

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
    text_encoder : path, optional
        The folder of the language model; only headers are read.
    device : optional
        A torch device. Of the memory of CUDA a tenth is left to activations, of memory shared with the system a
        quarter.

    Returns
    -------
    MemoryPlan
        For the transformer the first that fits of: as it is; quantised to 8 bits; quantised to 4 bits (MLX); blocks
        read in turn, quantised if even two of them are too large. For the language model the first of: as it is;
        integers of 8 and 4 bits (MLX); layers read in turn.

    Raises
    ------
    CheckpointError
        If there is no transformer in the file.
    ValueError
        If nothing fits; the text says the least that would.

    Notes
    -----
    8 bits are integers of MLX or of torchao, where that is installed, else 8-bit floats: integers have a scale for
    each row and so a third of the error. What a file holds in 8 bits or integers already stays of that kind.
    """
    share = 1 - (SPARE_OF_CUDA if str(device).startswith("cuda") else SPARE)
    room = int(memory_bytes * share)
    weights = _Weights.read(path)
    schemes = weights.schemes(backend)
    text = _plan_text(text_encoder, room, share, backend, itemsize)
    for scheme in schemes:
        taken = weights.bytes(scheme, itemsize)
        if taken <= room:
            why = "the first choice that fits" if scheme else "it fits as it is"
            return MemoryPlan(memory_bytes, scheme, False, room, taken, why, *text)
    for scheme in schemes:
        taken = weights.in_turn(scheme, itemsize)
        if taken <= room:
            return MemoryPlan(memory_bytes, scheme, True, room, taken, "even quantised it is larger than memory", *text)
    least = format_bytes(taken / share, up=True)
    msg = f"memory: {format_bytes(memory_bytes)} is too little; this checkpoint needs at least {least}"
    raise ValueError(msg)


def _plan_text(
    folder: str | Path | None, room: int, share: float, backend: str, itemsize: int
) -> tuple[Scheme | None, bool, int]:
    """Choose how the language model is held."""
    if folder is None:
        return None, False, 0
    integers: list[Scheme] = ["int8", "int4"] if backend == "mlx" else []
    for scheme in (None, *integers):
        whole, _ = size_of(Path(folder), itemsize, None if scheme is None else BITS[scheme])
        if whole <= room:
            return scheme, False, whole
    taken = size_of(Path(folder), itemsize)[1]
    if taken > room:
        needed, given = format_bytes(taken / share, up=True), format_bytes(room / share)
        msg = f"memory: {given} is too little; the language model needs at least {needed}"
        raise ValueError(msg)
    return None, True, taken


@dataclass(frozen=True, slots=True)
class _Weights:
    """
    A transformer's tensors by name.

    Attributes
    ----------
    counts : dict of str to int
        Numbers of each that is plain or of 8-bit floats.
    packed : dict of str to int
        Bytes of each that is part of packed integers, which stay as they are.
    scaled : bool
        Whether there are 8-bit floats with scales.
    """

    counts: dict[str, int]
    packed: dict[str, int]
    scaled: bool

    @classmethod
    def read(cls, path: str | Path) -> _Weights:
        with open_checkpoint(path, "numpy") as checkpoint:
            prefix = key_prefix(checkpoint)
            own = {k[len(prefix) :]: k for k in checkpoint.keys if k.startswith(prefix)}
            own = {name: key for name, key in own.items() if "embeddings_connector." not in name}
            layers = {name.removesuffix(".scales") for name in own if name.endswith(".scales")}
            kept = {name: name.rpartition(".")[0] in layers and not name.endswith(".bias") for name in own}
            return cls(
                {name: math.prod(checkpoint.shape(key)) for name, key in own.items() if not kept[name]},
                {name: checkpoint.files[key].size for name, key in own.items() if kept[name]},
                any(name.endswith(".weight_scale") for name in own),
            )

    def schemes(self, backend: str) -> list[Scheme | None]:
        """List the ways to hold them, the most exact first."""
        if self.packed:
            return [None]
        if self.scaled:
            return [None, "fp8"]
        if backend == "mlx":
            return [None, "int8", "int4"]
        return [None, "int8" if find_spec("torchao") is not None else "fp8"]

    def bytes(self, scheme: Scheme | None, itemsize: int, only: Callable[[str], bool] = lambda _: True) -> int:
        """Count the bytes of those tensors in memory."""
        total = float(sum(size for name, size in self.packed.items() if only(name)))
        for name, count in self.counts.items():
            quantized = scheme is not None and large(name.removesuffix(".weight"))
            if only(name):
                total += count * (BITS[scheme] / 8 if scheme is not None and quantized else itemsize)
        return int(total)

    def in_turn(self, scheme: Scheme | None, itemsize: int) -> int:
        """Count the bytes with two blocks in memory at a time."""

        def block(name: str) -> bool:
            return name.startswith("transformer_blocks.")

        number = len({name.split(".")[1] for name in (*self.counts, *self.packed) if block(name)})
        rest = self.bytes(None, itemsize, lambda name: not block(name))
        return rest + 2 * self.bytes(scheme, itemsize, block) // max(1, number)


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
