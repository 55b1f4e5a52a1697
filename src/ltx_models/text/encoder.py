"""Prompts to text embeddings, by a language model and the text connectors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import BackendName, DType
from ltx_models.nn import Array, Backend
from ltx_models.nn import backend as get_backend
from ltx_models.nn.checks import check_dtype
from ltx_models.quantization import Scheme
from ltx_models.text.folder import check_folder, tokenizer_folder
from ltx_models.text.gemma import LanguageModel, mlx_gemma, needed, torch_gemma
from ltx_models.text.gemma4 import TextEncoderFile, mlx_gemma4, torch_gemma4

MAX_TOKENS = 1024
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


class TextEncoder:
    """
    A language model as an encoder of prompts: Gemma 3, or the Gemma 4 of LTX-2.5.

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
            begin = self.tokenizer.bos_token_id  # Gemma 4 adds none
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
            nn.synchronize(samples[-1])
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
    Load the language model that reads prompts: a folder of Gemma 3, or the text encoder's file of LTX-2.5.

    Parameters
    ----------
    path : path
        A folder with ``config.json``, the tokenizer's files and ``model*.safetensors``, as
        ``google/gemma-3-12b-it-qat-q4_0-unquantized`` has them, or with the tokenizer in a folder ``tokenizer`` beside
        it, as diffusers has. Or a safetensors file of LTX-2.5, which holds a fine-tuned Gemma 4 with its tokenizer.
        Nothing is downloaded.
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
    CheckpointError
        If the file is no text encoder of LTX-2.5, or lacks a part.
    ImportError
        If the framework's package is not installed; the text says what to install.

    Examples
    --------
    >>> encoder = load_text_encoder("gemma-3-12b-it-qat-q4_0-unquantized", backend="mlx")  # doctest: +SKIP
    >>> contexts = encoder.encode(["a cat at sea", ""], connectors)  # doctest: +SKIP
    """
    path = Path(path)
    check_dtype(dtype)
    nn = get_backend(backend)
    if path.is_file():
        return _from_file(nn, path, dtype, device, max_tokens, quantize, offload)
    config = check_folder(path)
    transformers = needed("transformers", "the tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tokenizer_folder(path)), local_files_only=True)
    max_tokens = min(MAX_TOKENS, tokenizer.model_max_length) if max_tokens is None else max_tokens
    make = torch_gemma if backend == "torch" else mlx_gemma
    return TextEncoder(nn, make(nn, path, config, dtype, device, tokenizer, quantize, offload), tokenizer, max_tokens)


def _from_file(
    nn: Backend,
    path: Path,
    dtype: DType,
    device: Any,
    max_tokens: int | None,
    quantize: Scheme | None,
    offload: bool,
) -> TextEncoder:
    """Load the text encoder's file of LTX-2.5."""
    file = TextEncoderFile.read(path)
    make = torch_gemma4 if nn.name == "torch" else mlx_gemma4
    model = make(nn, file, dtype, device, quantize, offload)
    return TextEncoder(nn, model, file.tokenizer(), MAX_TOKENS if max_tokens is None else max_tokens)
