"""
Models that write prompts out: the instruction-tuned Gemma of a folder, apart from the text encoder.

The text encoder of 2.5 cannot write, so a run that expands its prompt needs such a folder: a Gemma 3, as 2.0 and 2.3
read prompts with, or a Gemma 4, through the same libraries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltx_models.checkpoints import BackendName, DType
from ltx_models.media.regular import parse_json
from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend
from ltx_models.quantization import Scheme
from ltx_models.text.encoder import TextEncoder, load_text_encoder
from ltx_models.text.folder import KINDS, check_folder, tokenizer_folder
from ltx_models.text.gemma import MlxGemma, TorchGemma, ends_of, needed, without_bars
from ltx_models.text.memory import to_integers

# the classes of transformers that run the kinds of Gemma 4
GEMMA_4 = {"gemma4": "Gemma4ForConditionalGeneration", "gemma4_text": "Gemma4ForCausalLM"}


def check_enhancer(path: Path) -> dict[str, Any]:
    """
    Refuse a folder whose model cannot write a prompt out.

    Parameters
    ----------
    path : Path
        Of a Gemma 3 or 4.

    Returns
    -------
    dict
        Its configuration.

    Raises
    ------
    ValueError
        If files are missing, it is another model, or its tokenizer has no chat template.
    """
    config = check_folder(path, (*KINDS, *GEMMA_4))
    at = tokenizer_folder(path)
    described = at / "tokenizer_config.json"
    inside = parse_json(described.read_bytes()) if described.is_file() else {}
    if not (at / "chat_template.jinja").is_file() and not (isinstance(inside, dict) and inside.get("chat_template")):
        msg = f"{path}: the tokenizer has no chat template; take the folder of an instruction-tuned Gemma ('-it')"
        raise ValueError(msg)
    return config


def load_enhancer(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    quantize: Scheme | None = None,
) -> TextEncoder:
    """
    Load a model for `TextEncoder.enhance`.

    Parameters
    ----------
    path : path
        The folder of an instruction-tuned Gemma 3 or 4. Nothing is downloaded.
    backend, dtype, device, quantize
        As `load_text_encoder` takes them.

    Returns
    -------
    TextEncoder
        Which writes prompts out; that of a Gemma 4 encodes none.

    Raises
    ------
    ValueError
        If the folder is not of such a model.
    ImportError
        If the framework's package is not installed; the text says what to install.
    """
    path, nn = Path(path), get_backend(backend)
    config = check_enhancer(path)
    if config["model_type"] in KINDS:
        return load_text_encoder(path, backend=backend, dtype=dtype, device=device, quantize=quantize)
    transformers = needed("transformers", "the tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tokenizer_folder(path)), local_files_only=True)
    model: Any
    if backend == "torch":
        model = _on_torch(nn, path, GEMMA_4[config["model_type"]], dtype, device, quantize)
    else:
        model = _on_mlx(nn, path, dtype, quantize, tokenizer)
    return TextEncoder(nn, model, tokenizer)


def _on_torch(nn: Backend, path: Path, kind: str, dtype: DType, device: Any, quantize: Scheme | None) -> TorchGemma:
    if quantize is not None:
        msg = f"quantize: got {quantize!r}, but on torch the language model has no integers; leave it out"
        raise ValueError(msg)
    transformers = needed("transformers", "the language model on torch")
    with without_bars(transformers.utils.logging):
        load = getattr(transformers, kind).from_pretrained
        model = load(str(path), dtype=nn.dtype(dtype), local_files_only=True, use_safetensors=True)
    model = model.eval().requires_grad_(False)
    model = model if device is None else model.to(device)
    return TorchGemma(model, None, model.device)


def _on_mlx(nn: Backend, path: Path, dtype: DType, quantize: Scheme | None, tokenizer: Any) -> MlxGemma:
    model, _ = needed("mlx_lm.utils", "the language model on MLX").load_model(path, lazy=True)
    model.set_dtype(nn.dtype(dtype))
    inner = getattr(model, "language_model", model).model
    if quantize is not None:
        to_integers(nn, inner, int(quantize[3:]))
    nn.synchronize(model.parameters())
    ends = [end for end in (tokenizer.eos_token_id, *ends_of(path)) if end is not None]
    return MlxGemma(model, inner, ends)
