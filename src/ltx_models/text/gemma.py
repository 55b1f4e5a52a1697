"""
Gemma 3 as ``transformers`` runs it on torch and ``mlx-lm`` on MLX, behind one protocol.

Both libraries are imported when a model is loaded, and not before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from ltx_models.checkpoints import DType
from ltx_models.nn import Array, Backend
from ltx_models.offload import Offload
from ltx_models.quantization import Scheme
from ltx_models.text.memory import in_turn, to_integers, without_weights


class LanguageModel(Protocol):
    """What an encoder needs of a framework's Gemma."""

    def states(self, ids: Sequence[int]) -> list[Array]:
        """Give (1, n, D): the scaled embeddings, what each layer but the last gives, and the normed end."""

    def generate(self, ids: Sequence[int], *, tokens: int, temperature: float, seed: int) -> list[int]:
        """Give the tokens that follow, until the model ends or there are so many."""


class TorchGemma:
    """Gemma of ``transformers``."""

    def __init__(self, model: Any, inner: Any, device: Any) -> None:
        import torch

        self.torch, self.model, self.inner, self.device = torch, model, inner, device

    def states(self, ids: Sequence[int]) -> list[Array]:
        torch = self.torch
        with torch.inference_mode():
            tokens = torch.tensor([list(ids)], device=self.device)
            out = self.inner(input_ids=tokens, output_hidden_states=True, use_cache=False)
            return list(out.hidden_states)

    def generate(self, ids: Sequence[int], *, tokens: int, temperature: float, seed: int) -> list[int]:
        _check_whole(self.model)
        torch = self.torch
        prompt = torch.tensor([list(ids)], device=self.model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            out = self.model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, **sampling)
        return [int(token) for token in out[0, prompt.shape[1] :]]


class MlxGemma:
    """Gemma of ``mlx-lm``, whose layers are run one by one since it gives no hidden states."""

    def __init__(self, model: Any, inner: Any, end: Sequence[int], offload: Offload | None = None) -> None:
        import mlx.core as mx

        self.mx, self.model, self.inner, self.end, self.offload = mx, model, inner, set(end), offload

    def states(self, ids: Sequence[int]) -> list[Array]:
        from mlx_lm.models.base import create_attention_mask

        mx, inner = self.mx, self.inner
        x = inner.embed_tokens(mx.array([list(ids)]))
        x = x * mx.array(inner.args.hidden_size**0.5).astype(x.dtype)
        wide = create_attention_mask(x)
        near = create_attention_mask(x, window_size=inner.args.sliding_window)
        states = [x]
        for i, layer in enumerate(inner.layers):
            is_global = (i + 1) % inner.args.sliding_window_pattern == 0
            with nullcontext() if self.offload is None else self.offload.turn(i):
                x = layer(x, wide if is_global else near, None)
                if self.offload is not None:
                    mx.eval(x)
            states.append(x)
        return [*states[:-1], inner.norm(x)]

    def generate(self, ids: Sequence[int], *, tokens: int, temperature: float, seed: int) -> list[int]:
        _check_whole(None if self.offload else self.model)
        from mlx_lm.generate import generate_step

        mx, out = self.mx, list[int]()
        key = mx.random.key(seed)

        def sample(scores: Array) -> Array:
            nonlocal key
            if temperature == 0:
                return mx.argmax(scores, axis=-1)
            key, now = mx.random.split(key)  # keys of our own: the generator of users is left alone
            return mx.random.categorical(scores / temperature, key=now)

        for token, _ in generate_step(mx.array(list(ids)), self.model, max_tokens=tokens, sampler=sample):
            if int(token) in self.end:
                break
            out.append(int(token))
        return out


def _check_whole(model: Any) -> None:
    if model is None:
        msg = (
            "enhance: the language model is read layer by layer, which every written token would repeat; hold it whole"
        )
        raise ValueError(msg)


def torch_gemma(
    nn: Backend,
    path: Path,
    config: dict[str, Any],
    dtype: DType,
    device: Any,
    tokenizer: Any,
    quantize: Scheme | None,
    offload: bool,
) -> LanguageModel:
    """Load Gemma with transformers: whole, or to be read layer by layer."""
    transformers = needed("transformers", "the language model on torch")
    if quantize is not None:
        msg = f"quantize: got {quantize!r}, but on torch the language model has no integers; use offload=True"
        raise ValueError(msg)
    if offload:
        read = transformers.AutoConfig.from_pretrained(str(path), local_files_only=True)
        with without_weights(nn.dtype(dtype)):
            inner = transformers.Gemma3TextModel(getattr(read, "text_config", read)).eval()
        in_turn(nn, inner, path, nn.dtype(dtype), device)
        return TorchGemma(None, inner if device is None else _moved(inner, device), device or "cpu")
    kind = "Gemma3ForConditionalGeneration" if config["model_type"] == "gemma3" else "Gemma3ForCausalLM"
    load = getattr(transformers, kind).from_pretrained
    with without_bars(transformers.utils.logging):
        model = load(str(path), dtype=nn.dtype(dtype), local_files_only=True, use_safetensors=True)
    model = model.eval().requires_grad_(False)
    model = model if device is None else model.to(device)
    return TorchGemma(model, getattr(model.model, "language_model", model.model), model.device)


@contextmanager
def without_bars(logging: Any) -> Iterator[None]:
    """Keep the library's own progress bar out of ours."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _moved(inner: Any, device: Any) -> Any:
    """Bring the buffers of a model to a device; its weights come there when they are read."""
    for leaf in inner.modules():
        for name, buffer in leaf.named_buffers(recurse=False):
            setattr(leaf, name, buffer.to(device))
    return inner


def mlx_gemma(
    nn: Backend,
    path: Path,
    config: dict[str, Any],
    dtype: DType,
    device: Any,
    tokenizer: Any,
    quantize: Scheme | None,
    offload: bool,
) -> LanguageModel:
    """Load Gemma with mlx-lm: whole, as integers, or to be read layer by layer."""
    if quantize not in {None, "int8", "int4"} or (quantize and offload):
        msg = f"quantize: got {quantize!r}, allowed for the language model are 'int8', 'int4', without offload"
        raise ValueError(msg)
    load_model: Callable[..., Any] = needed("mlx_lm.utils", "the language model on MLX").load_model
    model, _ = load_model(path, lazy=True, model_config=rotary_of(config))
    model.set_dtype(nn.dtype(dtype))
    inner = getattr(model, "language_model", model).model
    turns = in_turn(nn, inner, path, nn.dtype(dtype)) if offload else None
    if quantize is not None:
        to_integers(nn, inner, int(quantize[3:]))
    if not offload:
        nn.synchronize(model.parameters())
    ends = [tokenizer.eos_token_id, *ends_of(path)]
    return MlxGemma(model, inner, [end for end in ends if end is not None], turns)


def rotary_of(config: dict[str, Any]) -> dict[str, Any]:
    """
    Say how positions are rotated in the words that mlx-lm reads, which are those of older releases of transformers.

    Transformers 5 writes ``rope_parameters``; mlx-lm would not see the scaling in there, and give other contexts.

    Parameters
    ----------
    config : dict
        Of Gemma 3.

    Returns
    -------
    dict
        What is to be changed in it; nothing where it is written in the older words.

    Examples
    --------
    >>> parts = {"full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}}
    >>> rotary_of({"model_type": "gemma3_text", "rope_parameters": parts})
    {'rope_theta': 1000000.0, 'rope_scaling': {'rope_type': 'linear', 'factor': 8.0}}
    """
    text = config.get("text_config", config)
    parameters = text.get("rope_parameters") or {}
    wide, near = parameters.get("full_attention", {}), parameters.get("sliding_attention", {})
    changes: dict[str, Any] = {}
    if "rope_theta" in wide:
        changes["rope_theta"] = wide["rope_theta"]
    if "rope_theta" in near:
        changes["rope_local_base_freq"] = near["rope_theta"]
    if wide.get("rope_type", "default") != "default":
        changes["rope_scaling"] = {key: value for key, value in wide.items() if key != "rope_theta"}
    if "_sliding_window_pattern" in text:
        changes["sliding_window_pattern"] = text["_sliding_window_pattern"]
    return {"text_config": text | changes} if "text_config" in config and changes else changes


def ends_of(path: Path) -> list[int]:
    """List the tokens that end a turn, which the generation config names."""
    file = path / "generation_config.json"
    ends = json.loads(file.read_text()).get("eos_token_id", []) if file.is_file() else []
    return ends if isinstance(ends, list) else [ends]


def check_libraries(backend: str) -> None:
    """Refuse to go on where a library that reads prompts is missing, saying how to install it."""
    needed("transformers", "the tokenizer")
    if backend == "mlx":
        needed("mlx_lm", "the language model on MLX")


def needed(module: str, what: str) -> Any:
    """Import a library of the extra ``text``, or say how to install it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        msg = f"{what} needs {package}, which cannot be imported ({error}); pip install 'tilekit-vae[text]'"
        raise ImportError(msg) from error
