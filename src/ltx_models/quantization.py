"""
Quantised linear layers: 8-bit floats on both frameworks, and each ecosystem's own integers.

=========  =====================================================  ==========================================
scheme     torch                                                  MLX
=========  =====================================================  ==========================================
``fp8``    `Fp8Linear`, stored as in the official fp8 files       the same, the 8-bit floats held as bytes
``int8``   torchao's ``Int8WeightOnlyConfig``                     ``mlx.nn.quantize``, groups of 64
``int4``                                                          ``mlx.nn.quantize``, groups of 64
=========  =====================================================  ==========================================

Quantised are the large layers of the blocks: projections of attention and feed-forward networks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from ltx_models.nn import Array, Backend, Module

Scheme = Literal["fp8", "int8", "int4"]
SCHEMES = {"torch": ("fp8", "int8"), "mlx": ("fp8", "int8", "int4")}
GROUP_SIZE = 64
_LARGE = re.compile(r"transformer_blocks\.\d+\..*(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2)")
FP8_MOST = 448.0
ROWS_OF = 1 << 20  # cells that are converted at a time


class Fp8Linear(Module):
    """
    A linear layer whose weight is stored in 8-bit floats (e4m3) with one scale, and widened at use.

    Parameters
    ----------
    nn : Backend
        The framework.
    inputs, outputs : int
        Channels.
    bias : bool
        Whether there is a bias.
    """

    def __init__(self, nn: Backend, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.parameter((outputs, inputs))
        self.weight_scale = nn.parameter((), 1.0)
        if bias:
            self.bias = nn.parameter((outputs,))
        self.biased = bias

    def forward(self, x: Array) -> Array:
        """
        Apply the layer in the dtype of `x`.

        Parameters
        ----------
        x : array, shape (..., inputs)
            Input.

        Returns
        -------
        array, shape (..., outputs)
            Output.
        """
        nn = self.nn
        weight = nn.from_fp8(self.weight, x.dtype) * nn.cast(self.weight_scale, x.dtype)
        y = nn.xp.matmul(x, nn.xp.permute_dims(weight, (1, 0)))
        return y + self.bias if self.biased else y


def large(path: str) -> bool:
    """
    Say whether a layer is among those that are quantised.

    Parameters
    ----------
    path : str
        Of the layer within the transformer.

    Returns
    -------
    bool
        Whether it is one of the blocks' large ones.

    Examples
    --------
    >>> large("transformer_blocks.3.audio_ff.net.2"), large("transformer_blocks.3.attn1.to_gate_logits")
    (True, False)
    """
    return _LARGE.fullmatch(path) is not None


def check_scheme(nn: Backend, scheme: str) -> None:
    """Refuse a scheme that the framework does not have."""
    if scheme not in SCHEMES[nn.name]:
        msg = f"quantize: got {scheme!r}, allowed with {nn.name} are {', '.join(map(repr, SCHEMES[nn.name]))}"
        raise ValueError(msg)


def find(module: Any, path: str) -> Any:
    """Walk from a module to one of its descendants."""
    for part in path.split("."):
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    return module


def swap(module: Any, path: str, leaf: Any) -> None:
    """Put another module in the place of a descendant."""
    parent, _, name = path.rpartition(".")
    owner = find(module, parent) if parent else module
    if name.isdigit():
        owner[int(name)] = leaf
    else:
        setattr(owner, name, leaf)


def is_plain(nn: Backend, leaf: Any) -> bool:
    """Say whether a layer is the framework's linear layer with a weight of ordinary numbers."""
    return type(leaf) is nn.Linear and type(leaf.weight).__name__ in {"Parameter", "array"}


def bias_of(leaf: Any) -> Array | None:
    """Give the bias of a linear layer; the feed-forward layers of video have none from 2.5 on."""
    return getattr(leaf, "bias", None)


def hollow_out(model: Any, paths: list[str], scheme: Scheme, bits_and_group: tuple[int, int] | None = None) -> None:
    """Give linear layers the form of a scheme, with weights that have yet to come; torchao keeps plain layers."""
    nn = model.nn
    if scheme == "fp8":
        for path in paths:
            leaf = find(model, path)
            (outputs, inputs), biased = leaf.weight.shape, bias_of(leaf) is not None
            swap(model, path, nn.build(lambda i=inputs, o=outputs, b=biased: Fp8Linear(nn, i, o, b)))
    elif nn.name == "mlx":
        import mlx.nn

        bits, group = bits_and_group or (int(scheme[3:]), GROUP_SIZE)
        chosen = set(paths)
        mlx.nn.quantize(model, group_size=group, bits=bits, class_predicate=lambda path, _: path in chosen)


def quantized(nn: Backend, weight: Array, scheme: Scheme) -> dict[str, Array]:
    """
    Quantise one weight.

    Parameters
    ----------
    nn : Backend
        The framework.
    weight : array, shape (out, in)
        The weight.
    scheme : str
        See the table at the top of this module.

    Returns
    -------
    dict of str to array
        What takes the place of ``weight`` in the layer.
    """
    if scheme == "fp8":
        high, low = (nn.cast(x, nn.float32) for x in (nn.xp.max(weight), nn.xp.min(weight)))
        scale = (nn.xp.where(high > -low, high, -low) + 1e-12) / FP8_MOST
        return {"weight": by_rows(nn, weight, lambda x: nn.to_fp8(x / scale)), "weight_scale": scale}
    if nn.name == "mlx":
        import mlx.core as mx

        packed, scales, biases = mx.quantize(weight, group_size=GROUP_SIZE, bits=int(scheme[3:]))
        return {"weight": packed, "scales": scales, "biases": biases}
    return {"weight": _torchao(weight)}


def by_rows(nn: Backend, x: Array, convert: Callable[[Array], Array]) -> Array:
    """Convert float32 copies of a few rows at a time, so that no wide copy of the whole is ever made."""

    def widened(part: Array) -> Array:
        return convert(nn.from_fp8(part, nn.float32) if nn.is_fp8(part) else nn.cast(part, nn.float32))

    rows = max(1, ROWS_OF // max(x.shape[-1], 1)) if x.ndim == 2 else x.shape[0]
    return nn.convert_rows(x, rows, widened)


def _torchao(weight: Any) -> Any:
    import torch

    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        msg = f"quantize='int8' on torch needs torchao ({error}); pip install torchao"
        raise ImportError(msg) from error
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    quantize_(layer, Int8WeightOnlyConfig())
    return layer.weight.data


def quantize(model: Any, scheme: Scheme) -> Any:
    """
    Quantise the large layers of a loaded transformer.

    Parameters
    ----------
    model : Transformer
        On torch or MLX; changed in place.
    scheme : {"fp8", "int8", "int4"}
        See the table at the top of this module.

    Returns
    -------
    Transformer
        The same model.

    Raises
    ------
    ValueError
        If the framework has no such scheme, or no plain large layer is left.
    ImportError
        If ``"int8"`` on torch lacks torchao.

    Notes
    -----
    `load_transformer` with ``quantize=`` does the same while reading, so that the plain weights are never all in
    memory.
    """
    nn = model.nn
    check_scheme(nn, scheme)
    leaves = {path: leaf for path, leaf in model.named_modules() if large(path) and is_plain(nn, leaf)}
    if not leaves:
        msg = "quantize: no plain large linear layer in this model; is it quantised already, or wrapped by LoRA layers?"
        raise ValueError(msg)
    for path, leaf in leaves.items():
        bias = bias_of(leaf)
        parts = quantized(nn, leaf.weight, scheme) | ({} if bias is None else {"bias": bias})
        nn.synchronize(*parts.values())
        hollow_out(model, [path], scheme)
        put(nn, find(model, path), parts)
    model.eval()
    return model


def put(nn: Backend, leaf: Any, parts: dict[str, Array]) -> None:
    """Give a layer its parameters."""
    for name, value in parts.items():
        nn.assign(leaf, name, value)
