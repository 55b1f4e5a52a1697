"""LoRA: low-rank changes to linear layers, as live layers beside the weights or fused into them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import Checkpoint, CheckpointError, open_checkpoint
from ltx_models.checkpoints.layouts._transformer import from_diffusers
from ltx_models.nn import Array, Backend, Module
from ltx_models.quantization import GROUP_SIZE, find, is_plain, swap
from ltx_models.transformer.loading import MARKER, key_prefix

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "base_model.model.", "transformer.", "lora_unet_", "")
_DOWN = re.compile(r"(.+?)\.(?:lora_A|lora_down)(?:\.[^.]+)?\.weight")
_PARTS = {"down": ("lora_A", "lora_down"), "up": ("lora_B", "lora_up")}


@dataclass(frozen=True, slots=True)
class Factors:
    """The change of one layer: up (out, r) @ down (r, in), times `scale`."""

    down: Array
    up: Array
    scale: float


class LoraLinear(Module):
    """
    A linear layer of any kind, plain or quantised, and a low-rank change beside it.

    Parameters
    ----------
    nn : Backend
        The framework.
    base : module
        The layer.
    down : array, shape (r, in)
        First factor; those of several LoRAs follow one another.
    up : array, shape (out, r)
        Second factor, with strengths multiplied in.
    """

    def __init__(self, nn: Backend, base: Any, down: Array, up: Array) -> None:
        super().__init__()
        self.base = base
        self.lora_down: Array
        self.lora_up: Array
        nn.buffer(self, "lora_down", down)
        nn.buffer(self, "lora_up", up)

    def forward(self, x: Array) -> Array:
        """
        Apply the layer and its change.

        Parameters
        ----------
        x : array, shape (..., in)
            Input.

        Returns
        -------
        array, shape (..., out)
            Output.
        """
        xp = self.nn.xp
        low = xp.matmul(x, xp.permute_dims(self.lora_down, (1, 0)))
        return self.base(x) + xp.matmul(low, xp.permute_dims(self.lora_up, (1, 0)))


class AppliedLora:
    """
    LoRAs that a model has, until `remove` is called.

    Attributes
    ----------
    paths : tuple of str
        The layers that are changed.
    fused : bool
        Whether the weights themselves are.
    """

    def __init__(self, model: Any, changes: dict[str, list[tuple[Factors, float]]], fused: bool) -> None:
        self.paths = tuple(sorted(changes))
        self.fused = fused
        self._model = model
        self._changes = changes

    def remove(self) -> None:
        """
        Take the LoRAs out of the model.

        Live layers leave the weights as they were; fused ones are subtracted, which gives them back within rounding.

        Raises
        ------
        RuntimeError
            If they were removed before.
        """
        if not self._changes:
            msg = "these LoRAs were removed before"
            raise RuntimeError(msg)
        for path, factors in self._changes.items():
            if self.fused:
                _add(self._model, path, factors, -1.0)
            else:
                swap(self._model, path, find(self._model, path).base)
        self._changes = {}


def apply_lora(
    model: Any,
    loras: Sequence[tuple[str | Path, float]],
    *,
    fuse: bool = False,
    ignore_unmatched: bool = False,
) -> AppliedLora:
    """
    Change a transformer by LoRAs.

    Parameters
    ----------
    model : Transformer
        On torch or MLX; changed in place.
    loras : sequence of (path, float)
        Safetensors files and strengths. Keys may have the official names or those of diffusers, ``lora_A``/``lora_B``
        or ``lora_down``/``lora_up``, and ``alpha``.
    fuse : bool
        Add to the weights, which costs nothing later but needs plain weights in memory. Otherwise layers compute the
        change beside the weights, whatever their form.
    ignore_unmatched : bool
        Leave out keys that match no layer of this model, such as audio's of a video-only one.

    Returns
    -------
    AppliedLora
        Whose `remove` undoes this.

    Raises
    ------
    CheckpointError
        If a file is no LoRA or its keys match nothing; the text lists them.
    ValueError
        If a strength is not finite, shapes do not fit, live LoRAs are there already, or weights to be fused are
        quantised.
    """
    nn: Backend = model.nn
    changes: dict[str, list[tuple[Factors, float]]] = {}
    for path, strength in loras:
        if not math.isfinite(strength):
            msg = f"{path}: strength is {strength}, expected a finite number"
            raise ValueError(msg)
        for layer, change in read_lora(path, model, ignore_unmatched=ignore_unmatched).items():
            changes.setdefault(layer, []).append((change, strength))
    for layer, factors in changes.items():
        _check_layer(nn, layer, find(model, layer), factors, fuse)
    # biases are never quantised, so they have the dtype of computation; not every layer has one
    dtype = next(x.dtype for name, x in nn.weights(model).items() if name.endswith(".bias"))
    for layer, factors in changes.items():
        if fuse:
            _add(model, layer, factors, 1.0)
        else:
            swap(model, layer, _live(nn, find(model, layer), factors, dtype))
    return AppliedLora(model, changes, fuse)


def read_lora(path: str | Path, model: Any, *, ignore_unmatched: bool = False) -> dict[str, Factors]:
    """
    Read a LoRA file and find the layers that it changes.

    Parameters
    ----------
    path : path
        A safetensors file.
    model : Transformer
        Whose layers are looked up.
    ignore_unmatched : bool
        Leave out keys that match no layer.

    Returns
    -------
    dict of str to Factors
        By path of layer.

    Raises
    ------
    CheckpointError
        If it is no LoRA file, or keys match nothing.
    """
    nn: Backend = model.nn
    layers = {name: leaf for name, leaf in model.named_modules() if hasattr(leaf, "weight") or hasattr(leaf, "base")}
    factors: dict[str, Factors] = {}
    with open_checkpoint(path, nn.name) as checkpoint:
        for layer, (down, up, alpha) in _matched(checkpoint, layers, ignore_unmatched).items():
            rank = checkpoint.shape(down)[0]
            scale = 1.0 if alpha is None else _number(nn.to_numpy(checkpoint.tensor(alpha)), f"{path}: {alpha}") / rank
            factors[layer] = Factors(checkpoint.tensor(down), checkpoint.tensor(up), scale)
            for key, factor in ((down, factors[layer].down), (up, factors[layer].up)):
                if not bool(nn.xp.all(nn.xp.isfinite(factor))):
                    msg = f"{path}: {key} has values that are not finite; the file is damaged"
                    raise CheckpointError(msg)
    return factors


def _number(values: Any, what: str) -> float:
    """Give the number that an array of one element holds."""
    value = float(values.reshape(-1)[0]) if values.size == 1 else math.nan
    if not math.isfinite(value):
        msg = f"{what} is of shape {values.shape} or not finite, expected one finite number; the file is damaged"
        raise CheckpointError(msg)
    return value


def check_lora(path: str | Path, transformer: str | Path) -> None:
    """
    Refuse a LoRA that does not belong to a checkpoint, by the headers of both: before anything is computed.

    Parameters
    ----------
    path : path
        The LoRA's file.
    transformer : path
        The checkpoint. Keys of its sound may be left over where it has none.

    Raises
    ------
    CheckpointError
        If the file is no LoRA, its keys match nothing, or its shapes do not fit; the text names the layer.

    Examples
    --------
    >>> check_lora("ltx-2-19b-ic-lora-depth-control.safetensors", "ltx-2-19b-dev.safetensors")  # doctest: +SKIP
    """
    with open_checkpoint(transformer, "numpy") as whole:
        shapes = _shapes(whole)
    alone = "audio_patchify_proj" not in shapes
    with open_checkpoint(path, "numpy") as checkpoint:
        for layer, (down, up, _) in _matched(checkpoint, shapes, alone).items():
            try:
                _check_shapes(layer, shapes[layer], checkpoint.shape(up), checkpoint.shape(down))
            except ValueError as error:
                msg = f"{path}: {error}; is it of another version of LTX-2 than {transformer}?"
                raise CheckpointError(msg) from error


def _shapes(whole: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Give the shapes of a transformer's weights by layer, as if none were packed."""
    prefix = key_prefix(whole)
    group = int(json.loads(whole.metadata.get(MARKER, "{}")).get("group_size", GROUP_SIZE))
    shapes = {}
    for key in whole.keys:
        if key.startswith(prefix) and key.endswith(".weight"):
            name, shape = key[len(prefix) :].removesuffix(".weight"), whole.shape(key)
            scales = f"{prefix}{name}.scales"  # of integers, several in a word
            shapes[name] = (shape[0], whole.shape(scales)[1] * group) if scales in whole.files else shape
    return shapes


def _matched(
    checkpoint: Checkpoint, layers: Mapping[str, Any], ignore_unmatched: bool
) -> dict[str, tuple[str, str, str | None]]:
    """Find for each layer the keys of both factors and of alpha; refuse what is left over."""
    flat = {name.replace(".", "_"): name for name in layers}
    matched: dict[str, tuple[str, str, str | None]] = {}
    used: set[str] = set()
    for key in checkpoint.keys:
        match = _DOWN.fullmatch(key)
        layer = None if match is None else _layer(match[1], layers, flat)
        if match is not None and layer is not None:
            matched[layer] = _keys(checkpoint, match[1])
            used |= {key for key in matched[layer] if key is not None}
    left = [key for key in checkpoint.keys if key not in used]
    if left and not (ignore_unmatched and matched):
        some = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        remedy = "is it of another version of LTX-2? pass ignore_unmatched=True to leave them out"
        remedy = remedy if matched else "is it a LoRA?"
        msg = f"{checkpoint.path}: {len(left)} keys match no layer of this model: {some}; {remedy}"
        raise CheckpointError(msg)
    return matched


def _layer(name: str, layers: Mapping[str, Any], flat: dict[str, str]) -> str | None:
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            rest = name[len(prefix) :]
            for candidate in (rest, from_diffusers(rest), flat.get(rest, "")):
                if candidate in layers:
                    return candidate
    return None


def _keys(checkpoint: Checkpoint, base: str) -> tuple[str, str, str | None]:
    """Give the keys of both factors, and of alpha if there is one."""
    both = []
    for part in ("down", "up"):
        pattern = re.compile(rf"{re.escape(base)}\.({'|'.join(_PARTS[part])})(\.[^.]+)?\.weight")
        fits = [key for key in checkpoint.keys if key.startswith(base) and pattern.fullmatch(key)]
        if len(fits) != 1:
            msg = f"{checkpoint.path}: {base} has {len(fits)} factors {' or '.join(_PARTS[part])}, expected one"
            raise CheckpointError(msg)
        if 0 in (checkpoint.shape(fits[0]) or (0,)):
            msg = f"{checkpoint.path}: {fits[0]} has shape {checkpoint.shape(fits[0])}, expected a rank of at least 1"
            raise CheckpointError(msg)
        both.append(fits[0])
    alpha = f"{base}.alpha"
    return both[0], both[1], alpha if alpha in checkpoint.files else None


def _check_layer(nn: Backend, path: str, leaf: Any, factors: list[tuple[Factors, float]], fuse: bool) -> None:
    if hasattr(leaf, "base"):
        msg = f"{path}: has live LoRA layers already; remove them first, or give all LoRAs in one call"
        raise ValueError(msg)
    shape = tuple(leaf.weight.shape)
    if hasattr(leaf, "scales"):  # integers, several in a word
        shape = (shape[0], leaf.scales.shape[1] * leaf.group_size)
    for f, _ in factors:
        _check_shapes(path, shape, tuple(f.up.shape), tuple(f.down.shape))
    if fuse and not is_plain(nn, leaf):
        msg = f"{path}: its weight is quantised ({type(leaf).__name__}); use live layers, fuse=False"
        raise ValueError(msg)
    if fuse and getattr(leaf.weight, "is_meta", False):
        msg = f"{path}: its weight is not in memory; use live layers, fuse=False"
        raise ValueError(msg)


def _check_shapes(path: str, shape: tuple[int, ...], up: tuple[int, ...], down: tuple[int, ...]) -> None:
    """Refuse factors that are not (out, r) and (r, in) for a weight of (out, in)."""
    if len(up) != 2 or len(down) != 2 or (up[0], down[1]) != shape or up[1] != down[0]:
        msg = f"{path}: LoRA {up} x {down} for a weight of {shape}, expected (out, r) x (r, in)"
        raise ValueError(msg)


def _live(nn: Backend, leaf: Any, factors: list[tuple[Factors, float]], dtype: Any) -> LoraLinear:
    device = getattr(leaf.weight, "device", None)
    down = nn.xp.concat([nn.cast(f.down, nn.float32) for f, _ in factors], axis=0)
    up = nn.xp.concat([nn.cast(f.up, nn.float32) * (f.scale * strength) for f, strength in factors], axis=1)
    device = None if str(device) == "meta" else device
    return LoraLinear(nn, leaf, nn.cast(down, dtype, device), nn.cast(up, dtype, device))


def _add(model: Any, path: str, factors: list[tuple[Factors, float]], sign: float) -> None:
    """Add the product of all factors to a weight, in float32."""
    nn: Backend = model.nn
    leaf = find(model, path)
    device = getattr(leaf.weight, "device", None)
    change = nn.cast(leaf.weight, nn.float32)
    for f, strength in factors:
        down, up = (nn.cast(x, nn.float32, device) for x in (f.down, f.up))
        change = change + nn.xp.matmul(up, down) * (f.scale * strength * sign)
    weight = nn.cast(change, leaf.weight.dtype)
    nn.synchronize(weight)
    nn.assign(leaf, "weight", weight)
