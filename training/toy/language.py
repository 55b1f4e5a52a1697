"""The language model of the toy: a tiny Gemma 3 with weights as they are drawn, and a tokenizer of its few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from training.toy.grammar import vocabulary

TOKENS = 48  # of a padded prompt
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
HIDDEN, LAYERS, HEADS, KEY_HEADS, HEAD, INNER = 64, 2, 2, 1, 32, 128


def write_language_model(folder: Path) -> None:
    """Write the folder as ``transformers`` and ``mlx-lm`` read it."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*SPECIAL, *vocabulary()]
    _write_json(folder / "config.json", _config(len(words)))
    _write_json(folder / "tokenizer.json", _tokenizer(words))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "<pad>",
            "eos_token": "<eos>",
            "bos_token": "<bos>",
            "unk_token": "<unk>",
            "padding_side": "left",
            "model_max_length": TOKENS,
            "clean_up_tokenization_spaces": False,
        },
    )
    save_file(_weights(len(words)), folder / "model.safetensors", {"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # readable for all whom it is installed for


def _config(words: int) -> dict[str, Any]:
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": HEAD,
        "vocab_size": words,
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "query_pre_attn_scalar": HEAD,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def _tokenizer(words: list[str]) -> dict[str, Any]:
    special = [
        {"id": i, "content": word, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i, word in enumerate(SPECIAL)
    ]
    begin = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "<unk>"},
    }


def _weights(words: int) -> dict[str, torch.Tensor]:
    draw = np.random.default_rng(0)
    shapes = {"embed_tokens": (words, HIDDEN)}
    for i in range(LAYERS):
        at = f"layers.{i}."
        shapes |= {
            f"{at}self_attn.q_proj": (HEADS * HEAD, HIDDEN),
            f"{at}self_attn.k_proj": (KEY_HEADS * HEAD, HIDDEN),
            f"{at}self_attn.v_proj": (KEY_HEADS * HEAD, HIDDEN),
            f"{at}self_attn.o_proj": (HIDDEN, HEADS * HEAD),
            f"{at}mlp.gate_proj": (INNER, HIDDEN),
            f"{at}mlp.up_proj": (INNER, HIDDEN),
            f"{at}mlp.down_proj": (HIDDEN, INNER),
        }
    found = {}
    for name, (rows, columns) in shapes.items():
        values = draw.standard_normal((rows, columns)) / columns**0.5
        found[f"model.{name}.weight"] = torch.from_numpy(values).to(torch.bfloat16)
    # Gemma's norms multiply by 1 + weight
    for i in range(LAYERS):
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            found[f"model.layers.{i}.{name}_layernorm.weight"] = torch.zeros(HIDDEN, dtype=torch.bfloat16)
        for name in ("q_norm", "k_norm"):
            found[f"model.layers.{i}.self_attn.{name}.weight"] = torch.zeros(HEAD, dtype=torch.bfloat16)
    found["model.norm.weight"] = torch.zeros(HIDDEN, dtype=torch.bfloat16)
    return found


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
