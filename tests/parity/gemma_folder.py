"""A tiny random Gemma 3 in a folder, written by transformers itself, with a tokenizer that tokenizers trained."""

import json
from pathlib import Path
from typing import Any

import pytest

SPECIAL = "<pad> <eos> <bos> <unk> <start_of_turn> <end_of_turn> <start_of_image> <end_of_image> <image_soft_token>"
SENTENCES = [
    "a red fox runs over the snow at night while rain falls and music plays",
    "low quality, blurred, flickering, a blue ball rolls down the green hill",
]
HIDDEN, LAYERS = 32, 7
TEXT = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 300,
    "sliding_window": 16,
    "query_pre_attn_scalar": 8,
    "max_position_embeddings": 2048,
    "rope_parameters": {  # the full attention of the 12B model
        "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 28,
    "patch_size": 14,
    "vision_use_head": False,
}


def write_gemma(folder: Path) -> Path:
    """Write the folder."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.Gemma3Config(
        text_config=TEXT,
        vision_config=VISION,
        mm_tokens_per_image=1,
        image_token_index=8,
        boi_token_index=6,
        eoi_token_index=7,
        eos_token_id=[1, 5],
    )
    model = transformers.Gemma3ForConditionalGeneration(config).float()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            scale = 0.1 if weight.ndim == 1 else weight.shape[-1] ** -0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    model.save_pretrained(folder)
    described = json.loads((folder / "config.json").read_text())
    described["vocab_size"] = TEXT["vocab_size"]  # mlx-lm takes that of the 12B model unless it is told here
    (folder / "config.json").write_text(json.dumps(described))
    words = tokenizer(transformers)
    words.save_pretrained(folder)
    pictures = transformers.Gemma3ImageProcessor(size={"height": 28, "width": 28})
    transformers.Gemma3Processor(pictures, words, image_seq_length=1).save_pretrained(folder)
    return folder


def tokenizer(transformers: Any) -> Any:
    """Train a tokenizer of pairs of letters on a few sentences."""
    tokenizers = pytest.importorskip("tokenizers")
    special = SPECIAL.split()
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True))
    inner.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=290, special_tokens=special, show_progress=False)
    inner.train_from_iterator(SENTENCES * 4, trainer)
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", special.index("<bos>"))]
    )
    names = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    more = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, padding_side="left", model_max_length=2048, extra_special_tokens=more, **names
    )
