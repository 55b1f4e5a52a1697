"""
Gemma 4 as LTX-2.5 has it: fine-tuned, in one safetensors file with its tokenizer and configuration inside.

It encodes prompts and does not write: prompts are written out by a separate instruction-tuned model.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ltx_models.checkpoints import Checkpoint, CheckpointError, DType, open_checkpoint
from ltx_models.media.regular import parse_json
from ltx_models.nn import Array, Backend
from ltx_models.offload import Offload
from ltx_models.quantization import Scheme
from ltx_models.text.gemma import LanguageModel, needed
from ltx_models.text.memory import all_now, in_turn, layer_names, to_integers, without_weights

KIND = "gemma4_unified"
ASSETS = ("tokenizer_config.json", "processor_config.json", "chat_template.jinja", "generation_config.json")
REQUIRED = ("tokenizer_config.json", "processor_config.json")


@dataclass(frozen=True)
class TextEncoderFile:
    """
    What a text encoder's file holds beside its weights.

    Attributes
    ----------
    path : Path
        The file.
    config : dict
        The configuration of the language model.
    assets : dict of str to bytes
        The tokenizer's files by their names.
    """

    path: Path
    config: dict[str, Any]
    assets: dict[str, bytes]

    @classmethod
    def read(cls, path: Path) -> TextEncoderFile:
        """
        Read a file.

        Parameters
        ----------
        path : Path
            A safetensors file.

        Returns
        -------
        TextEncoderFile
            Its configuration and tokenizer.

        Raises
        ------
        CheckpointError
            If it is no file of a Gemma 4, or a part is missing.
        """
        with open_checkpoint(path, "numpy") as checkpoint:
            config = _config(checkpoint)
            assets = {name: found for name in ASSETS if (found := _asset(checkpoint, name)) is not None}
            tokenizer = _bytes(checkpoint, "tokenizer_json")
        missing = [name for name in REQUIRED if name not in assets]
        if tokenizer is None or missing:
            names = ", ".join([*([] if tokenizer else ["tokenizer_json"]), *missing])
            msg = f"{path}: {names} missing; a text encoder's file has its tokenizer inside, download it again"
            raise CheckpointError(msg)
        assets["tokenizer.json"] = tokenizer
        _check_assets(path, assets)
        _check_layers(path, config["text_config"])
        return cls(path, config, assets)

    def tokenizer(self) -> Any:
        """Make the tokenizer of ``transformers``."""
        transformers = needed("transformers", "the tokenizer")
        with TemporaryDirectory() as folder:
            for name, data in self.assets.items():
                (Path(folder) / name).write_bytes(data)
            return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    text = checkpoint.metadata.get("gemma_config")
    if text is None:
        msg = (
            f"{checkpoint.path}: no gemma_config in its metadata; give the text encoder's file of LTX-2.5, or the "
            "folder of a Gemma 3 for 2.0 and 2.3"
        )
        raise CheckpointError(msg)
    try:
        config = parse_json(text)
    except ValueError as error:
        msg = f"{checkpoint.path}: its gemma_config is not JSON ({error}); download it again"
        raise CheckpointError(msg) from error
    if (
        not isinstance(config, dict)
        or config.get("model_type") != KIND
        or not isinstance(config.get("text_config"), dict)
    ):
        kind = config.get("model_type") if isinstance(config, dict) else type(config).__name__
        msg = f"{checkpoint.path}: gemma_config is of {kind!r}, expected {KIND!r} with a text_config"
        raise CheckpointError(msg)
    return config


def _asset(checkpoint: Checkpoint, name: str) -> bytes | None:
    """Find a file of the tokenizer: as bytes in a tensor, or as text in the metadata."""
    text = checkpoint.metadata.get(name)
    return _bytes(checkpoint, f"hf_asset__{name}") if text is None else text.encode()


def _bytes(checkpoint: Checkpoint, key: str) -> bytes | None:
    if key not in checkpoint.files:
        return None
    data: bytes = checkpoint.tensor(key).tobytes()
    return data


def _check_assets(path: Path, assets: dict[str, bytes]) -> None:
    """Refuse files of the tokenizer that were cut off."""
    for name, data in assets.items():
        if not name.endswith(".json"):
            continue
        try:
            found = json.loads(data)  # tens of megabytes: not through the careful reader, which takes seconds
        except (ValueError, RecursionError) as error:
            msg = f"{path}: its {name} is no whole JSON ({error}); download it again"
            raise CheckpointError(msg) from error
        if not isinstance(found, dict) or (name == "tokenizer.json" and "model" not in found):
            msg = f"{path}: its {name} is no {name.removesuffix('.json').replace('_', ' ')}; download it again"
            raise CheckpointError(msg)


def _check_layers(path: Path, section: dict[str, Any]) -> None:
    """Refuse a file that has other layers of the language model than its configuration says."""
    names = layer_names(path)[1]
    there = len({name.split(".")[1] for name in names if name.startswith("layers.")})
    if there != section.get("num_hidden_layers"):
        msg = (
            f"{path}: has {there} layers of the language model, its configuration says "
            f"{section.get('num_hidden_layers')}; download it again"
        )
        raise CheckpointError(msg)


def torch_gemma4(
    nn: Backend, file: TextEncoderFile, dtype: DType, device: Any, quantize: Scheme | None, offload: bool
) -> LanguageModel:
    """Load Gemma 4 with transformers: whole, or to be read layer by layer."""
    if quantize is not None:
        msg = f"quantize: got {quantize!r}, but on torch the language model has no integers; use offload=True"
        raise ValueError(msg)
    models = needed("transformers.models.gemma4_unified.modeling_gemma4_unified", "Gemma 4 on torch")
    configs = needed("transformers.models.gemma4_unified.configuration_gemma4_unified", "Gemma 4 on torch")
    target = nn.dtype(dtype)
    with without_weights(target):
        inner = models.Gemma4UnifiedTextModel(configs.Gemma4UnifiedTextConfig(**file.config["text_config"])).eval()
    # a configuration in bfloat16 rounds the factor, also where the weights are float32
    inner.embed_tokens.embed_scale = inner.embed_tokens.embed_scale.new_tensor(
        file.config["text_config"]["hidden_size"] ** 0.5, dtype=nn.float32
    )
    if offload:
        in_turn(nn, inner, file.path, target, device)
    else:
        all_now(nn, inner, file.path, target, device)
    for leaf in inner.modules():
        for name, buffer in leaf.named_buffers(recurse=False):
            if device is not None:
                setattr(leaf, name, buffer.to(device))
    return _TorchGemma4(inner.requires_grad_(False), device or "cpu")


class _TorchGemma4:
    """Gemma 4 of ``transformers``."""

    def __init__(self, inner: Any, device: Any) -> None:
        import torch

        self.torch, self.inner, self.device = torch, inner, device

    def states(self, ids: Sequence[int]) -> list[Array]:
        torch = self.torch
        with torch.inference_mode():
            tokens = torch.tensor([list(ids)], device=self.device)
            return list(self.inner(input_ids=tokens, output_hidden_states=True, use_cache=False).hidden_states)

    def generate(self, ids: Sequence[int], *, tokens: int, temperature: float, seed: int) -> list[int]:
        raise _writes_not()


def mlx_gemma4(
    nn: Backend, file: TextEncoderFile, dtype: DType, device: Any, quantize: Scheme | None, offload: bool
) -> LanguageModel:
    """Load Gemma 4 with mlx-lm: whole, as integers, or to be read layer by layer."""
    del device
    if quantize not in {None, "int8", "int4"} or (quantize and offload):
        msg = f"quantize: got {quantize!r}, allowed for the language model are 'int8', 'int4', without offload"
        raise ValueError(msg)
    gemma = needed("mlx_lm.models.gemma4_text", "Gemma 4 on MLX")
    # mlx-lm's defaults are those of the small models, which the keys that this one lacks would bring in
    own = {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, **file.config["text_config"]}
    inner = gemma.Gemma4TextModel(gemma.ModelArgs.from_dict(own))
    target = nn.dtype(dtype)
    turns = in_turn(nn, inner, file.path, target) if offload else None
    if turns is None:
        all_now(nn, inner, file.path, target)
    if quantize is not None:
        to_integers(nn, inner, int(quantize[3:]))
    return _MlxGemma4(inner, turns)


class _MlxGemma4:
    """Gemma 4 of ``mlx-lm``, whose layers are run one by one since it gives no hidden states."""

    def __init__(self, inner: Any, offload: Offload | None) -> None:
        self.inner, self.offload = inner, offload

    def states(self, ids: Sequence[int]) -> list[Array]:
        import mlx.core as mx
        from mlx_lm.models.base import create_attention_mask

        inner = self.inner
        x = inner.embed_tokens(mx.array([list(ids)])) * inner.embed_scale
        masks = {
            "full_attention": create_attention_mask(x),
            "sliding_attention": create_attention_mask(x, window_size=inner.window_size),
        }
        states = [x]
        for i, layer in enumerate(inner.layers):
            if self.offload is None:
                x = layer(x, masks[layer.layer_type])[0]
            else:
                with self.offload.turn(i):
                    x = layer(x, masks[layer.layer_type])[0]
                    mx.eval(x)
            states.append(x)
        return [*states[:-1], inner.norm(x)]

    def generate(self, ids: Sequence[int], *, tokens: int, temperature: float, seed: int) -> list[int]:
        raise _writes_not()


def _writes_not() -> ValueError:
    return ValueError(
        "enhance: the Gemma of LTX-2.5 encodes prompts and does not write; expand prompts by an instruction-tuned model"
    )


def check_pair(metadata: dict[str, str], gemma: dict[str, Any], where: str) -> None:
    """
    Refuse a text encoder that does not belong to a transformer.

    Parameters
    ----------
    metadata : dict of str to str
        Of the transformer's file: ``gemma_source_checkpoint`` and ``model_version`` are read.
    gemma : dict
        The configuration of the language model.
    where : str
        The two files, for the error.

    Raises
    ------
    ValueError
        If they do not belong together; the text says which belong.

    Notes
    -----
    Source: the rule of Lightricks/LTX-2. Up to 2.3 a transformer belongs to any Gemma 3; from 2.5 on its file names the
    version of the fine-tuned Gemma 4.
    """
    own, kind = gemma.get("gemma_version"), gemma.get("model_type")
    source = _source(metadata, where)
    if source is not None:
        wanted = source.get("gemma_version")
        if wanted != own:
            is_it = f"this text encoder is {own!r}" if own else f"this one of kind {kind!r} names none"
            msg = (
                f"{where}: the transformer was trained with the Gemma {wanted!r}, {is_it}; its own is fine-tuned and "
                "published as one file beside it, no stock Gemma takes its place (--text-encoder-path)"
            )
            raise ValueError(msg)
    elif version_of(metadata) >= (2, 4, 0):
        if own is not None:
            msg = f"{where}: the transformer names no Gemma, this text encoder is {own!r}; take both of one release"
            raise ValueError(msg)
        msg = f"{where}: neither file says whether they belong together; take both of one release"
        warnings.warn(msg, stacklevel=2)
    elif kind not in {"gemma3", "gemma3_text"} or own is not None:
        version = metadata.get("model_version", "LTX-2")
        msg = f"{where}: a transformer of {version} reads Gemma 3, this text encoder is {own or kind!r}"
        raise ValueError(msg)


def _source(metadata: dict[str, str], where: str) -> dict[str, Any] | None:
    """Read which Gemma a transformer's file names."""
    try:
        source = parse_json(metadata.get("gemma_source_checkpoint") or "null")
    except ValueError as error:
        msg = f"{where}: the transformer's gemma_source_checkpoint is not JSON ({error}); download it again"
        raise ValueError(msg) from error
    if source is not None and not isinstance(source, dict):
        msg = f"{where}: the transformer's gemma_source_checkpoint is no object; download it again"
        raise ValueError(msg)
    return source


def version_of(metadata: dict[str, str]) -> tuple[int, ...]:
    """
    Read the version of a model's file.

    Parameters
    ----------
    metadata : dict of str to str
        Its metadata.

    Returns
    -------
    tuple of int
        Such as (2, 5, 0); (0,) where there is none.

    Examples
    --------
    >>> version_of({"model_version": "2.5.0"}), version_of({})
    ((2, 5, 0), (0,))
    """
    numbers = (part for part in metadata.get("model_version", "0").split("."))
    return tuple(int(number) if number.isdigit() else 0 for number in numbers)
