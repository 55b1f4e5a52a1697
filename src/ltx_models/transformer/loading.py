"""
Transformers from files and into files: plain, quantised, or larger than memory.

Tensors are read one by one; each gets its final form and device before the next is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import (
    DTYPES,
    BackendName,
    Checkpoint,
    CheckpointError,
    DType,
    check_keys,
    open_checkpoint,
    weights_wanted,
)
from ltx_models.checkpoints.files import described_by
from ltx_models.media.regular import parse_json
from ltx_models.nn import Array, Backend
from ltx_models.nn import backend as get_backend
from ltx_models.nn.checks import check_device, check_dtype
from ltx_models.offload import Offload
from ltx_models.quantization import Scheme, by_rows, check_scheme, hollow_out, large, quantized
from ltx_models.transformer.config import CrossTimesteps, TransformerConfig
from ltx_models.transformer.model import STREAMS, Transformer

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
MARKER = "quantization"  # metadata of files that `save_transformer` wrote of a quantised model


def load_transformer(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
    cross_timesteps: CrossTimesteps = "own",
    quantize: Scheme | None = None,
    offload: bool = False,
    prefetch: bool = True,
) -> Any:
    """
    Load the transformer of a checkpoint.

    Parameters
    ----------
    path : path
        A safetensors file (whole checkpoint or transformer alone) or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights and of the computation. Scales of quantised weights stay float32.
    device : optional
        A torch device; tensors go there one by one.
    config : mapping, optional
        Used in place of the embedded configuration; with a section ``transformer``, as there.
    cross_timesteps : {"own", "other"}
        Which noise levels scale and shift the input of the attention between the streams; ``"other"`` is the rule of
        the first official release, 1.0.0.
    quantize : {"fp8", "int8", "int4"}, optional
        Quantise the blocks' large layers while reading; see `ltx_models.quantization`. The official fp8 files are
        widened to `dtype` unless this is ``"fp8"``; files that `save_transformer` wrote of an integer model stay as
        they are.
    offload : bool
        Leave the blocks in the file and read each when its turn comes, for models larger than memory. The file must
        stay where it is.
    prefetch : bool
        With `offload`: read the next block while one computes, so that two are in memory instead of one.

    Returns
    -------
    Transformer
        A native module, with the streams that the file has tensors of. With `offload`, its attribute ``offload`` is an
        `ltx_models.offload.Offload`.

    Raises
    ------
    CheckpointError
        If the file is broken, has no transformer or not this one, or is quantised in another way than asked for.
    ValueError
        If an argument is not allowed.
    """
    check_dtype(dtype)
    nn = get_backend(backend)
    check_device(nn, device)
    if quantize is not None:
        check_scheme(nn, quantize)
    with open_checkpoint(path, backend) as checkpoint:
        with described_by(path):
            of = read_config(checkpoint, config, cross_timesteps)
        with described_by(path):
            model = nn.build(lambda: Transformer(nn, of))
        reader = _Reader(nn, checkpoint, nn.dtype(dtype), device, quantize)
        reader.prepare(model)
    if not weights_wanted():
        return model
    blocks = [[name for name in reader.names if name.startswith(f"transformer_blocks.{i}.")] for i in range(of.layers)]
    now = [name for name in reader.names if not (offload and name.startswith("transformer_blocks."))]
    weights: dict[str, Array] = {}
    for name in now:
        weights |= reader.read(name)
    model = nn.load(model, weights, strict=not offload)
    if offload:
        model.offload = Offload(model, blocks, reader.read, prefetch)
    return model


@dataclass
class _Reader:
    """
    Brings what a file holds to the form that a model wants.

    Attributes
    ----------
    quantize : str or None
        What was asked for.
    names : dict of str to str
        From names of the model's parameters to keys of the file, for everything that is read by itself.
    scales : dict of str to str
        The same for the scales of 8-bit weights, by the names of the weights.
    packed : bool
        Whether the file holds integers of MLX.
    """

    nn: Backend
    checkpoint: Checkpoint
    dtype: Any
    device: Any
    quantize: Scheme | None
    names: dict[str, str] = field(default_factory=dict)
    scales: dict[str, str] = field(default_factory=dict)
    packed: bool = False

    def prepare(self, model: Any) -> None:
        """Find out what the file holds, shape the model for it, and refuse what does not fit."""
        prefix = key_prefix(self.checkpoint)
        own = [k for k in self.checkpoint.keys if k.startswith(prefix) and "embeddings_connector." not in k]
        for key in own:
            name = key[len(prefix) :]
            if name.endswith(".weight_scale"):
                self.scales[name.removesuffix("_scale")] = key
            elif not name.endswith(".input_scale"):  # of activations, which are not quantised here
                self.names[name] = key
        self._check_marker(model)
        if self.packed:
            chosen = [name.removesuffix(".scales") for name in self.names if name.endswith(".scales")]
            hollow_out(model, chosen, "int4", self._bits_and_group())
        check_keys(self.checkpoint, self.names, self.nn.shapes(model))
        if lost := sorted(self.scales.keys() - self.names.keys()):
            msg = f"{self.checkpoint.path}: a scale without its weight: {lost[0]}_scale"
            raise CheckpointError(msg)
        if self.quantize is not None and not self.packed:
            chosen = [name for name in self.names if name.endswith(".weight") and self._becomes_quantized(name)]
            hollow_out(model, [name.removesuffix(".weight") for name in chosen], self.quantize)

    def _check_marker(self, model: Any) -> None:
        """Refuse files that are quantised in another way than their marker or the caller says."""
        path, nn = self.checkpoint.path, self.nn
        marked = self.marker.get("scheme")
        self.packed = any(name.endswith(".scales") for name in self.names)
        if self.packed and nn.name != "mlx":
            msg = f"{path}: holds integers packed by MLX; load it with backend='mlx', or load a plain or fp8 file"
            raise CheckpointError(msg)
        if self.packed != (marked in {"int4", "int8"}):
            msg = f"{path}: its metadata says quantization {marked!r}, but its tensors " + (
                "are packed integers" if self.packed else "are not packed integers"
            )
            raise CheckpointError(msg + "; write it again with save_transformer")
        if self.packed and self.quantize not in {None, marked}:
            msg = f"{path}: is quantised as {marked!r}, not as {self.quantize!r}; leave out quantize="
            raise CheckpointError(msg)
        if self.scales and self.quantize in {"int8", "int4"}:
            msg = f"{path}: is quantised as 'fp8', not as {self.quantize!r}; leave quantize= out, or load a plain file"
            raise CheckpointError(msg)

    @property
    def marker(self) -> dict[str, Any]:
        """What `save_transformer` wrote about quantisation."""
        marker = parse_json(self.checkpoint.metadata.get(MARKER, "{}"))
        return marker if isinstance(marker, dict) else {}

    def _bits_and_group(self) -> tuple[int, int]:
        return int(self.marker["bits"]), int(self.marker["group_size"])

    def _becomes_quantized(self, name: str) -> bool:
        # a file that has scales says by them which layers are quantised
        return name in self.scales if self.scales else large(name.removesuffix(".weight"))

    def read(self, name: str) -> dict[str, Array]:
        """Read one tensor, and give the parameters that come of it."""
        nn, path = self.nn, name.removesuffix(".weight")
        x = self.checkpoint.tensor(self.names[name])
        parts = {name: x}
        if name.endswith(".weight") and not self.packed:
            if self.quantize is None:
                parts = {name: self._widened(name, x)}
            elif self.scales and name in self.scales:
                parts = {name: nn.as_fp8(x), f"{path}.weight_scale": self._scale(name)}
            elif self._becomes_quantized(name):
                tensors = quantized(nn, nn.cast(self._widened(name, x), self.dtype, self.device), self.quantize)
                parts = {f"{path}.{part}": value for part, value in tensors.items()}
        parts = {key: self._cast(key, value) for key, value in parts.items()}
        nn.synchronize(*parts.values())
        return parts

    def _widened(self, name: str, x: Array) -> Array:
        """Widen 8-bit floats, folding their scale."""
        key = self.names[name]
        stored = self.checkpoint.dtype(key)
        if not stored.startswith("F8") and name not in self.scales:
            return x
        if stored not in {"F8_E4M3", "U8"}:
            msg = f"{self.checkpoint.path}: {key} is {stored}, only F8_E4M3 is supported of quantised weights"
            raise CheckpointError(msg)
        scale = self._scale(name) if name in self.scales else 1.0
        return by_rows(self.nn, x, lambda part: self.nn.cast(part * scale, self.dtype))

    def _scale(self, name: str) -> Array:
        return self.nn.cast(self.checkpoint.tensor(self.scales[name]), self.nn.float32).reshape(())

    def _cast(self, name: str, x: Array) -> Array:
        kinds = (self.nn.dtype(dtype) for dtype in DTYPES)
        floating = x.ndim > 0 and x.dtype in kinds
        return self.nn.cast(x, self.dtype if floating else x.dtype, self.device)


def save_transformer(model: Any, path: str | Path) -> None:
    """
    Write a transformer in the official layout.

    Parameters
    ----------
    model : Transformer
        Plain, or quantised in a form that files have: fp8 on both frameworks, integers on MLX.
    path : path
        A ``.safetensors`` file, which appears only once it is whole.

    Raises
    ------
    ValueError
        If the model has live LoRA layers, offloaded blocks or torchao weights, which files have no form for.

    Notes
    -----
    The metadata say how it is quantised, and carry the configuration: `load_transformer` needs nothing else.
    """
    nn: Backend = model.nn
    path = Path(path)
    weights = {f"{PREFIXES[0]}{name}": x for name, x in nn.weights(model).items()}
    _check_saveable(model, weights)
    metadata = {
        "config": json.dumps({"transformer": model.config.section()}),
        "format": "mlx" if nn.name == "mlx" else "pt",
    }
    if marker := _marker(model):
        metadata[MARKER] = json.dumps(marker)
    unfinished = path.with_name(f".{path.name}.unfinished.safetensors")
    try:
        if nn.name == "mlx":
            import mlx.core as mx

            mx.save_safetensors(str(unfinished), weights, metadata)
        else:
            from safetensors.torch import save_file

            save_file(weights, unfinished, metadata)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _check_saveable(model: Any, weights: Mapping[str, Array]) -> None:
    wrong = next((key for key in weights if ".lora_" in key), None)
    reason = "has live LoRA layers; remove or fuse them"
    if wrong is None and hasattr(model, "offload"):
        wrong, reason = "model", "has offloaded blocks; copy its file instead"
    if wrong is None and model.nn.name == "torch":
        wrong = next((k for k, x in weights.items() if type(x).__name__ not in {"Tensor", "Parameter"}), None)
        reason = "is quantised by torchao; save it with torch.save, or use fp8"
    if wrong is not None:
        msg = f"save_transformer: {wrong} {reason}"
        raise ValueError(msg)


def _marker(model: Any) -> dict[str, Any]:
    for _, leaf in model.named_modules():
        if hasattr(leaf, "weight_scale"):
            return {"scheme": "fp8"}
        if hasattr(leaf, "bits") and hasattr(leaf, "group_size"):
            return {"scheme": f"int{leaf.bits}", "bits": leaf.bits, "group_size": leaf.group_size}
    return {}


def key_prefix(checkpoint: Checkpoint) -> str:
    """Find where a checkpoint keeps its transformer."""
    for prefix in PREFIXES:
        if any(f"{prefix}{stream}patchify_proj.weight" in checkpoint.files for _, stream in STREAMS):
            return prefix
    msg = f"{checkpoint.path}: no transformer in it: neither patchify_proj.weight nor audio_patchify_proj.weight"
    raise CheckpointError(msg)


def read_config(
    checkpoint: Checkpoint, config: Mapping[str, Any] | None, cross_timesteps: CrossTimesteps = "own"
) -> TransformerConfig:
    """Read the configuration; the tensors say which streams there are."""
    prefix = key_prefix(checkpoint)
    section = (checkpoint.config if config is None else config).get("transformer")
    if section is None:
        msg = (
            f"{checkpoint.path}: no section 'transformer' in the configuration; pass config={{'transformer': {{...}}}}"
        )
        raise CheckpointError(msg)
    streams = {name: f"{prefix}{stream}patchify_proj.weight" in checkpoint.files for name, stream in STREAMS}
    return TransformerConfig.of(section, **streams, cross_timesteps=cross_timesteps)
