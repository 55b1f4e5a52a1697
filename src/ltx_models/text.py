"""
Prompts to contexts: Gemma 3 from the ecosystem, and the text connectors of a checkpoint.

The language model itself is not part of this project: on torch it comes from ``transformers``, on MLX from ``mlx-lm``
(which uses the tokenizer of ``transformers`` too). Both are imported when an encoder is loaded, and not before.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ltx_models.checkpoints import DTYPES, BackendName, DType
from ltx_models.nn import Array, Backend
from ltx_models.nn import backend as backend_named
from ltx_models.offload import Offload
from ltx_models.quantization import Scheme
from ltx_models.text_memory import in_turn, to_integers, without_weights

MAX_TOKENS = 1024
KINDS = ("gemma3", "gemma3_text")
ENHANCER = (
    "You rewrite short ideas as descriptions of a video clip. Write one paragraph of at most 150 words, in the present "
    "tense: the scene and its light, who or what is in it, what happens from beginning to end, how the camera moves, "
    "and what is heard. Keep to what the idea says; add only what makes it concrete. Answer with the paragraph alone."
)
_PLAIN = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\u2026": "..."}
)


@dataclass(frozen=True)
class Tokens:
    """
    Prompts as numbers.

    Attributes
    ----------
    ids : tuple of tuple of int
        The tokens of each prompt, the beginning-of-sequence token first; none of them padding.
    dropped : tuple of int
        How many tokens of each prompt were left out because it is too long.
    """

    ids: tuple[tuple[int, ...], ...]
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class Contexts:
    """
    What a transformer attends to.

    Attributes
    ----------
    video : array, shape (B, T, C)
        For the video stream.
    audio : array, shape (B, T, C'), or None
        For the audio stream; None where the checkpoint has no audio.
    mask : array, shape (B, T)
        All ones.
    dropped : tuple of int
        How many tokens of each prompt were left out.
    """

    video: Array
    audio: Array | None
    mask: Array
    dropped: tuple[int, ...]


class LanguageModel(Protocol):
    """What an encoder needs of a framework's Gemma."""

    def states(self, ids: Sequence[int]) -> list[Array]:
        """Give (1, n, D): the scaled embeddings, what each layer but the last gives, and the normed end."""

    def generate(self, ids: Sequence[int], *, tokens: int, temperature: float, seed: int) -> list[int]:
        """Give the tokens that follow, until the model ends or there are so many."""


class TextEncoder:
    """
    Gemma 3 as an encoder of prompts.

    Parameters
    ----------
    nn : Backend
        The framework.
    model : LanguageModel
        The network.
    tokenizer : object
        A tokenizer of ``transformers``.
    max_tokens : int
        To how many tokens prompts are padded, and cut.
    """

    def __init__(self, nn: Backend, model: LanguageModel, tokenizer: Any, max_tokens: int = MAX_TOKENS) -> None:
        self.nn, self.model, self.tokenizer, self.max_tokens = nn, model, tokenizer, max_tokens

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """
        Turn prompts into numbers.

        Parameters
        ----------
        prompts : sequence of str
            Space around them does not count.

        Returns
        -------
        Tokens
            At most `max_tokens` for each prompt. A prompt that is cut is warned of.

        Raises
        ------
        ValueError
            If there are no prompts, or `prompts` is one string.
        """
        if isinstance(prompts, str) or not prompts:
            msg = f"prompts: got {prompts!r}, expected a sequence of at least one string"
            raise ValueError(msg)
        kept, dropped = [], []
        for i, prompt in enumerate(prompts):
            ids = [int(token) for token in self.tokenizer(prompt.strip(), truncation=False)["input_ids"]]
            begin = self.tokenizer.bos_token_id
            if begin is not None and ids[:1] != [begin]:
                ids = [begin, *ids]
            excess = max(0, len(ids) - self.max_tokens)
            if excess:
                msg = (
                    f"prompt {i} has {len(ids)} tokens, the limit is {self.max_tokens}; the last {excess} are left out"
                )
                warnings.warn(msg, stacklevel=2)
            kept.append(tuple(ids[: self.max_tokens]))
            dropped.append(excess)
        return Tokens(tuple(kept), tuple(dropped))

    def hidden_states(self, tokens: Tokens) -> tuple[Array, Array]:
        """
        Run the network.

        Parameters
        ----------
        tokens : Tokens
            What `tokenize` returned.

        Returns
        -------
        hidden_states : array, shape (layers + 1, B, max_tokens, D)
            Zeros stand in the padding, which is on the left.
        attention_mask : array, shape (B, max_tokens)
            1 where a token is.

        Notes
        -----
        Each prompt runs by itself, without padding: Gemma's rotary positions are relative and padding is never attended
        to, so this gives what padded prompts give, in the time of the tokens there are.
        """
        nn, samples, masks = self.nn, [], []
        for ids in tokens.ids:
            states = nn.xp.stack(self.model.states(ids))
            pad = self.max_tokens - len(ids)
            samples.append(nn.pad(states, ((0, 0), (0, 0), (pad, 0), (0, 0))))
            nn.settle(samples[-1])
            mask = nn.cast(nn.xp.ones_like(states[:1, 0, :, 0]), nn.xp.int32)
            masks.append(nn.pad(mask, ((0, 0), (pad, 0))))
        return nn.xp.concat(samples, axis=1), nn.xp.concat(masks, axis=0)

    def encode(self, prompts: Sequence[str], connectors: Any) -> Contexts:
        """
        Make the contexts of prompts.

        Parameters
        ----------
        prompts : sequence of str
            Such as the prompt and the negative prompt.
        connectors : TextConnectors
            What `load_connectors` returned, of the same backend.

        Returns
        -------
        Contexts
            In the order of the prompts.

        Raises
        ------
        ValueError
            If the connectors do not fit the language model.
        """
        tokens = self.tokenize(prompts)
        hidden, mask = self.hidden_states(tokens)
        video, audio, mask = connectors(hidden, mask, padding_side="left")
        return Contexts(video, audio, mask, tokens.dropped)

    def enhance(
        self,
        prompt: str,
        *,
        system_prompt: str = ENHANCER,
        max_new_tokens: int = 512,
        temperature: float = 0.7,
        seed: int = 10,
    ) -> str:
        """
        Let the same model write a prompt out.

        Parameters
        ----------
        prompt : str
            An idea for a clip.
        system_prompt : str
            What the model is told to do with it.
        max_new_tokens : int
            The most tokens to write.
        temperature : float
            Of the sampling; 0 for the likeliest token each time.
        seed : int
            Of the sampling. The same seed gives different text on different backends.

        Returns
        -------
        str
            The new prompt, in plain quotes and dashes; `prompt` itself where the model writes nothing of use.

        Raises
        ------
        ValueError
            If the tokenizer has no chat template.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            msg = "enhance: the tokenizer has no chat template; take the folder of an instruction-tuned Gemma ('-it')"
            raise ValueError(msg)
        turns = [{"role": "system", "content": system_prompt}, {"role": "user", "content": f"user prompt: {prompt}"}]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        out = self.model.generate(ids, tokens=max_new_tokens, temperature=temperature, seed=seed)
        return clean(self.tokenizer.decode(out, skip_special_tokens=True)) or prompt


def clean(text: str) -> str:
    """
    Bring generated text to plain quotes and dashes, and drop what stands before its first letter.

    Examples
    --------
    >>> clean("  ** “A day” – at sea… ")
    'A day" - at sea...'
    """
    return re.sub(r"^[\W\d_]+", "", text.translate(_PLAIN)).strip()


class _TorchGemma:
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
        given = torch.tensor([list(ids)], device=self.model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            out = self.model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=tokens, **sampling)
        return [int(token) for token in out[0, given.shape[1] :]]


class _MlxGemma:
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


def load_text_encoder(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    max_tokens: int | None = None,
    quantize: Scheme | None = None,
    offload: bool = False,
) -> TextEncoder:
    """
    Load Gemma 3 from a folder.

    Parameters
    ----------
    path : path
        A folder with ``config.json``, the tokenizer's files and ``model*.safetensors``, as
        ``google/gemma-3-12b-it-qat-q4_0-unquantized`` has them, or with the tokenizer in a folder ``tokenizer`` beside
        it, as diffusers has. Nothing is downloaded.
    backend : {"torch", "mlx"}
        The framework: ``transformers`` or ``mlx-lm``.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights. Gemma's activations overflow in float16.
    device : optional
        A torch device.
    max_tokens : int, optional
        To how many tokens prompts are padded, and cut. By default 1024, as in the official pipelines, or the
        ``model_max_length`` of the tokenizer's configuration where that is less.
    quantize : {"int8", "int4"}, optional
        Make the layers' weights integers, on MLX; folders of integers are read as they are, without this.
    offload : bool
        Leave the layers in the files and read each when its turn comes: the same numbers from two layers' memory, at
        the cost of reading the files for each prompt. Prompts cannot be written out then.

    Returns
    -------
    TextEncoder
        Ready for inference.

    Raises
    ------
    ValueError
        If `quantize` is not for the backend, or both it and `offload` are wanted.
    ValueError
        If the folder lacks files or holds another model, or the backend or dtype is not known.
    ImportError
        If the framework's package is not installed; the text says what to install.

    Examples
    --------
    >>> encoder = load_text_encoder("gemma-3-12b-it-qat-q4_0-unquantized", backend="mlx")  # doctest: +SKIP
    >>> contexts = encoder.encode(["a cat at sea", ""], connectors)  # doctest: +SKIP
    """
    path = Path(path)
    if dtype not in DTYPES:
        msg = f"dtype: got {dtype!r}, allowed are {', '.join(map(repr, DTYPES))}"
        raise ValueError(msg)
    nn = backend_named(backend)
    config = check_folder(path)
    transformers = _needed("transformers", "the tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tokenizer_folder(path)), local_files_only=True)
    max_tokens = min(MAX_TOKENS, tokenizer.model_max_length) if max_tokens is None else max_tokens
    make = _torch_gemma if backend == "torch" else _mlx_gemma
    return TextEncoder(nn, make(nn, path, config, dtype, device, tokenizer, quantize, offload), tokenizer, max_tokens)


def _torch_gemma(
    nn: Backend,
    path: Path,
    config: dict[str, Any],
    dtype: DType,
    device: Any,
    tokenizer: Any,
    quantize: Scheme | None,
    offload: bool,
) -> LanguageModel:
    transformers = _needed("transformers", "the language model on torch")
    if quantize is not None:
        msg = f"quantize: got {quantize!r}, but on torch the language model has no integers; use offload=True"
        raise ValueError(msg)
    if offload:
        read = transformers.AutoConfig.from_pretrained(str(path), local_files_only=True)
        with without_weights(nn.dtype(dtype)):
            inner = transformers.Gemma3TextModel(getattr(read, "text_config", read)).eval()
        in_turn(nn, inner, path, nn.dtype(dtype), device)
        return _TorchGemma(None, inner if device is None else _moved(inner, device), device or "cpu")
    kind = "Gemma3ForConditionalGeneration" if config["model_type"] == "gemma3" else "Gemma3ForCausalLM"
    load = getattr(transformers, kind).from_pretrained
    with _quiet(transformers.utils.logging):
        model = load(str(path), dtype=nn.dtype(dtype), local_files_only=True, use_safetensors=True)
    model = model.eval().requires_grad_(False)
    model = model if device is None else model.to(device)
    return _TorchGemma(model, getattr(model.model, "language_model", model.model), model.device)


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
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


def _mlx_gemma(
    nn: Backend,
    path: Path,
    config: dict[str, Any],
    dtype: DType,
    device: Any,
    tokenizer: Any,
    quantize: Scheme | None,
    offload: bool,
) -> LanguageModel:
    if quantize not in {None, "int8", "int4"} or (quantize and offload):
        msg = f"quantize: got {quantize!r}, allowed for the language model are 'int8', 'int4', without offload"
        raise ValueError(msg)
    load_model: Callable[..., Any] = _needed("mlx_lm.utils", "the language model on MLX").load_model
    model, _ = load_model(path, lazy=True, model_config=rotary_of(config))
    model.set_dtype(nn.dtype(dtype))
    inner = getattr(model, "language_model", model).model
    turns = in_turn(nn, inner, path, nn.dtype(dtype)) if offload else None
    if quantize is not None:
        to_integers(nn, inner, int(quantize[3:]))
    if not offload:
        nn.settle(model.parameters())
    ends = [tokenizer.eos_token_id, *_ends(path)]
    return _MlxGemma(model, inner, [end for end in ends if end is not None], turns)


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
    found = text.get("rope_parameters") or {}
    wide, near = found.get("full_attention", {}), found.get("sliding_attention", {})
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


def check_folder(path: Path) -> dict[str, Any]:
    """
    Refuse a folder that is no Gemma 3, saying what is missing.

    Returns
    -------
    dict
        Its configuration.

    Raises
    ------
    ValueError
        If files are missing, or the configuration speaks of another model.
    """
    if not path.is_dir():
        msg = f"{path}: no such folder; give that of Gemma 3, downloaded whole (--gemma-root or text_encoder=)"
        raise ValueError(msg)
    wanted = {
        "config.json": (path / "config.json").is_file(),
        "tokenizer.json or tokenizer.model": _has_tokenizer(tokenizer_folder(path)),
        "model*.safetensors": any(path.glob("model*.safetensors")),
    }
    for index in path.glob("*.safetensors.index.json"):
        shards = set(json.loads(index.read_text())["weight_map"].values())
        wanted |= {shard: (path / shard).is_file() for shard in shards}
    if missing := [name for name, there in wanted.items() if not there]:
        msg = f"{path}: {', '.join(missing)} missing; download the folder of Gemma 3 again"
        raise ValueError(msg)
    config: dict[str, Any] = json.loads((path / "config.json").read_text())
    if config.get("model_type") not in KINDS:
        msg = (
            f"{path}: model_type is {config.get('model_type')!r}, the prompts of LTX-2 and 2.3 are read by {KINDS[0]!r}"
        )
        raise ValueError(msg)
    return config


def tokenizer_folder(path: Path) -> Path:
    """
    Find the tokenizer of a language model.

    Returns
    -------
    Path
        Its folder, or ``tokenizer`` beside it where that alone has one.
    """
    beside = path.parent / "tokenizer"
    return beside if _has_tokenizer(beside) and not _has_tokenizer(path) else path


def _has_tokenizer(path: Path) -> bool:
    return any((path / f"tokenizer.{end}").is_file() for end in ("json", "model"))


def _ends(path: Path) -> list[int]:
    """List the tokens that end a turn, which the generation config names."""
    file = path / "generation_config.json"
    found = json.loads(file.read_text()).get("eos_token_id", []) if file.is_file() else []
    return found if isinstance(found, list) else [found]


def _needed(module: str, what: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        msg = f"{what} needs {package}, which cannot be imported ({error}); pip install {package}"
        raise ImportError(msg) from error
