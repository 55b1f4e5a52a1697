"""
Prompts to contexts, with a tiny random Gemma 3 in the official folder layout that the tests make.

The folders of other models, and broken ones, are refused without any of the large packages; the rest needs
``transformers`` (and ``mlx-lm`` for MLX) and is skipped where they are missing: ``nox -s parity`` has them.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ltx_models.nn import Backend, backend
from ltx_models.text import ENHANCER, ConnectorConfig, TextConnectors, TextEncoder, clean, load_text_encoder
from ltx_models.text.folder import check_folder, tokenizer_folder
from ltx_models.text.memory import size_of, to_integers

HIDDEN, LAYERS, HEAD, VOCABULARY, TOKENS = 24, 7, 8, 64, 32
WORDS = [
    "a",
    "cat",
    "dog",
    "runs",
    "over",
    "the",
    "sea",
    "in",
    "rain",
    "at",
    "night",
    "user",
    "prompt",
    "you",
    "rewrite",
]
TEXT = {
    "model_type": "gemma3_text",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": HEAD,
    "vocab_size": VOCABULARY,
    "sliding_window": 16,
    "sliding_window_pattern": 6,
    "query_pre_attn_scalar": 8,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 28,
    "patch_size": 14,
    "vision_use_head": False,
}
CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }} {{ m['content'] }}<end_of_turn>{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model {% endif %}"
)


def weights() -> dict[str, Any]:
    """Draw the tensors of a Gemma 3 by their official names."""
    draw = np.random.default_rng(0)

    def linear(rows: int, columns: int) -> Any:
        return (draw.standard_normal((rows, columns)) / columns**0.5).astype(np.float32)

    def norm(size: int) -> Any:
        return (0.1 * draw.standard_normal(size)).astype(np.float32)

    found = {"language_model.model.embed_tokens.weight": linear(VOCABULARY, HIDDEN)}
    found["language_model.model.norm.weight"] = norm(HIDDEN)
    for i in range(LAYERS):
        at = f"language_model.model.layers.{i}."
        for name, rows, columns in (
            ("self_attn.q_proj", 4 * HEAD, HIDDEN),
            ("self_attn.k_proj", 2 * HEAD, HIDDEN),
            ("self_attn.v_proj", 2 * HEAD, HIDDEN),
            ("self_attn.o_proj", HIDDEN, 4 * HEAD),
            ("mlp.gate_proj", 32, HIDDEN),
            ("mlp.up_proj", 32, HIDDEN),
            ("mlp.down_proj", HIDDEN, 32),
        ):
            found[f"{at}{name}.weight"] = linear(rows, columns)
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            found[f"{at}{name}_layernorm.weight"] = norm(HIDDEN)
        for name in ("q_norm", "k_norm"):
            found[f"{at}self_attn.{name}.weight"] = norm(HEAD)
    return found


def vision_weights() -> dict[str, Any]:
    """Draw what only the pictures of a prompt would need; the folder must hold it, and nothing here reads it."""
    at = "vision_tower.vision_model."
    shapes = {
        "embeddings.patch_embedding.weight": (8, 3, 14, 14),
        "embeddings.patch_embedding.bias": (8,),
        "embeddings.position_embedding.weight": (4, 8),
        "post_layernorm.weight": (8,),
        "post_layernorm.bias": (8,),
    }
    for name in (
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
        "mlp.fc1",
        "mlp.fc2",
    ):
        shapes |= {f"encoder.layers.0.{name}.weight": (8, 8), f"encoder.layers.0.{name}.bias": (8,)}
    for name in ("layer_norm1", "layer_norm2"):
        shapes |= {f"encoder.layers.0.{name}.weight": (8,), f"encoder.layers.0.{name}.bias": (8,)}
    projector = {
        "multi_modal_projector.mm_input_projection_weight": (8, HIDDEN),
        "multi_modal_projector.mm_soft_emb_norm.weight": (8,),
    }
    shapes = {at + name: shape for name, shape in shapes.items()} | projector
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder of a tiny Gemma 3."""
    path = tmp_path_factory.mktemp("gemma")
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": TEXT,
        "vision_config": VISION,
        "vocab_size": VOCABULARY,
        "mm_tokens_per_image": 1,
        "eos_token_id": [1],
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 3]}))
    special = ["<pad>", "<eos>", "<bos>", "<end_of_turn>", "<start_of_turn>", "<unk>"]
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS, *(f"w{i}" for i in range(60))])}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": i,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i, token in enumerate(special)
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": dict(list(vocabulary.items())[:VOCABULARY]), "unk_token": "<unk>"},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    described = names | {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT}
    (path / "tokenizer_config.json").write_text(json.dumps(described))
    save_file(weights() | vision_weights(), path / "model.safetensors", metadata={"format": "pt"})
    return path


def encoder(path: Path, name: Any, **memory: Any) -> TextEncoder:
    pytest.importorskip("transformers", reason="the language model comes from transformers")
    if name == "mlx":
        pytest.importorskip("mlx_lm", reason="on MLX the language model comes from mlx-lm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the packages, about their own doings
        return load_text_encoder(path, backend=name, dtype="float32", max_tokens=TOKENS, **memory)


def connectors(nn: Backend) -> Any:
    """Make connectors of the second kind for the tiny model."""
    video = ConnectorConfig(heads=2, head_dim=8, layers=2, registers=16, max_pos=64.0, gated=True, double=True)
    audio = ConnectorConfig(heads=2, head_dim=4, layers=1, registers=16, max_pos=64.0, gated=True, double=True)
    module = nn.build(lambda: TextConnectors(nn, video, audio, (LAYERS + 1) * HIDDEN))
    draw = np.random.default_rng(3)
    drawn = {
        key: nn.asarray((draw.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32))
        for key, shape in nn.shapes(module).items()
    }
    return nn.load(module, drawn)


PROMPTS = [
    "A cat runs over the sea",
    "rain",
    "the dog runs in the rain at night over the sea in the rain at night the dog",
]


def test_both_backends_give_the_same_contexts(folder: Path) -> None:
    """The tolerance: seven layers in float32 by two libraries, whose rotary tables differ in the last digit."""
    results = {}
    for name in ("torch", "mlx"):
        pytest.importorskip("mlx.core" if name == "mlx" else name)
        nn = backend(name)
        found = encoder(folder, name)
        hidden, mask = found.hidden_states(found.tokenize(PROMPTS))
        contexts = found.encode(PROMPTS, connectors(nn))
        results[name] = [nn.to_numpy(x) for x in (hidden, mask, contexts.video, contexts.audio, contexts.mask)]
        assert contexts.dropped == (0, 0, 0)
    hidden, mask, video, audio, kept = results["torch"]
    assert hidden.shape == (LAYERS + 1, 3, TOKENS, HIDDEN)
    assert mask.sum(axis=1).tolist() == [7, 2, 19]
    assert video.shape == (3, TOKENS, 16)
    assert audio.shape == (3, TOKENS, 8)
    assert kept.min() == 1
    for a, b in zip(results["torch"], results["mlx"], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.parametrize("name", ["torch", "mlx"])
def test_hidden_states_are_those_of_a_padded_run_of_the_ecosystem(folder: Path, name: Any) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", reason="the language model comes from transformers")
    found = encoder(folder, name)
    tokens = found.tokenize(PROMPTS)
    model = transformers.Gemma3ForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32).eval()
    ids = torch.tensor([[0] * (TOKENS - len(row)) + list(row) for row in tokens.ids])
    mask = torch.tensor([[0] * (TOKENS - len(row)) + [1] * len(row) for row in tokens.ids])
    with torch.inference_mode():
        want = torch.stack(model.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states)
    got, got_mask = (found.nn.to_numpy(x) for x in found.hidden_states(tokens))
    np.testing.assert_array_equal(got_mask, mask.numpy())
    np.testing.assert_allclose(got, (want * mask[None, :, :, None]).numpy(), atol=2e-4)


@pytest.mark.parametrize("name", ["torch", "mlx"])
def test_layers_read_in_turn_give_the_same_numbers(folder: Path, name: Any) -> None:
    pytest.importorskip("mlx.core" if name == "mlx" else name)
    whole, parts = encoder(folder, name), encoder(folder, name, offload=True)
    tokens = whole.tokenize(PROMPTS)
    for _ in range(2):  # the second pass reads what the first has let go
        for one, other in zip(whole.hidden_states(tokens), parts.hidden_states(tokens), strict=True):
            np.testing.assert_array_equal(whole.nn.to_numpy(one), parts.nn.to_numpy(other))
    with pytest.raises(ValueError, match="is read layer by layer, which every written token would repeat"):
        parts.enhance("a cat")


def test_integers_are_of_mlx_alone_and_without_turns(folder: Path) -> None:
    pytest.importorskip("mlx.core")
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="on torch the language model has no integers; use offload=True"):
        encoder(folder, "torch", quantize="int8")
    with pytest.raises(ValueError, match="without offload"):
        encoder(folder, "mlx", quantize="int8", offload=True)


@pytest.mark.parametrize("bits", [4, 8])
def test_linear_layers_become_integers_and_norms_stay(bits: int) -> None:
    mlx = pytest.importorskip("mlx.nn")
    layers = [mlx.Sequential(mlx.Linear(64, 64), mlx.RMSNorm(64)) for _ in range(2)]
    x = backend("mlx").asarray(np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32))
    before = [np.array(layer(x)) for layer in layers]
    to_integers(backend("mlx"), SimpleNamespace(layers=layers), bits)
    for layer, wanted in zip(layers, before, strict=True):
        assert type(layer.layers[0]).__name__ == "QuantizedLinear"
        assert (layer.layers[0].bits, type(layer.layers[1]).__name__) == (bits, "RMSNorm")
        error = np.abs(np.array(layer(x)) - wanted).max() / np.abs(wanted).max()
        assert 0 < error < 0.6 * 2.0 ** (2 - bits)


def test_a_tokenizer_in_the_folder_beside_is_found(folder: Path, tmp_path: Path) -> None:
    """As diffusers divides them."""
    shutil.copytree(folder, tmp_path / "text_encoder")
    assert tokenizer_folder(tmp_path / "text_encoder") == tmp_path / "text_encoder"
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "text_encoder" / "tokenizer.json").rename(tmp_path / "tokenizer" / "tokenizer.json")
    assert tokenizer_folder(tmp_path / "text_encoder") == tmp_path / "tokenizer"
    assert check_folder(tmp_path / "text_encoder")["model_type"] == "gemma3"
    (tmp_path / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json or tokenizer\.model missing"):
        check_folder(tmp_path / "text_encoder")


def test_what_a_language_model_takes_is_told_from_its_headers(folder: Path) -> None:
    """All in memory, two layers of seven at a time, and as integers: 4.5 bits in place of 32 for linear layers."""
    count = {
        name: x.size
        for name, x in weights().items()
        if "layers." in name or "embed" in name or name.endswith("norm.weight")
    }
    layers = sum(n for name, n in count.items() if "layers." in name)
    whole, turns = size_of(folder, 4)
    assert whole == 4 * sum(count.values())
    assert turns == 4 * (sum(count.values()) - layers + 2 * layers // LAYERS)
    linear = sum(n for name, n in count.items() if name.endswith("_proj.weight"))
    assert size_of(folder, 4, 4.5)[0] == pytest.approx(whole - linear * (4 - 4.5 / 8), abs=100)


@pytest.mark.parametrize("name", ["torch", "mlx"])
def test_long_prompts_are_cut_and_it_is_said_by_how_much(folder: Path, name: Any) -> None:
    pytest.importorskip("mlx.core" if name == "mlx" else name)
    found = encoder(folder, name)
    with pytest.warns(UserWarning, match="prompt 1 has 41 tokens, the limit is 32; the last 9 are left out"):
        tokens = found.tokenize(["a cat", " rain " * 40])
    assert tokens.dropped == (0, 9)
    assert [len(row) for row in tokens.ids] == [3, 32]
    assert {row[0] for row in tokens.ids} == {2}


def test_the_same_model_writes_prompts_out(folder: Path) -> None:
    texts = []
    for name in ("torch", "mlx"):
        pytest.importorskip("mlx.core" if name == "mlx" else name)
        found = encoder(folder, name)
        texts.append(found.enhance("a cat", temperature=0, max_new_tokens=6, system_prompt="you rewrite"))
        again = [found.enhance("a cat", seed=7, max_new_tokens=8, system_prompt="you rewrite") for _ in range(2)]
        assert again[0] == again[1]
    assert texts[0] == texts[1]
    assert texts[0]


@pytest.mark.parametrize("name", ["torch", "mlx"])
def test_enhancing_leaves_the_generators_of_users_alone(folder: Path, name: Any) -> None:
    random = pytest.importorskip("torch" if name == "torch" else "mlx.core.random")
    seed, draw = (
        (random.manual_seed, random.rand) if name == "torch" else (random.seed, lambda n: random.uniform(shape=[n]))
    )
    found = encoder(folder, name)
    seed(0)
    want = draw(3).tolist()
    seed(0)
    found.enhance("a cat", max_new_tokens=3, system_prompt="you")
    assert draw(3).tolist() == want


def test_refuses_a_tokenizer_without_a_chat_template(folder: Path) -> None:
    pytest.importorskip("torch")
    found = encoder(folder, "torch")
    found.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        found.enhance("a cat", system_prompt=ENHANCER)


def test_refuses_one_string_in_place_of_prompts(folder: Path) -> None:
    pytest.importorskip("torch")
    found = encoder(folder, "torch")
    with pytest.raises(ValueError, match="expected a sequence of at least one string"):
        found.tokenize("a cat")


@pytest.mark.parametrize("gone", ["config.json", "tokenizer.json", "model.safetensors"])
def test_refuses_folders_with_files_missing(folder: Path, tmp_path: Path, gone: str) -> None:
    for file in folder.iterdir():
        if file.name != gone:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(ValueError, match=r"missing; download the folder"):
        check_folder(tmp_path)


def test_refuses_a_folder_whose_index_names_shards_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"model-00001-of-00002\.safetensors missing"):
        check_folder(tmp_path)


@pytest.mark.parametrize("kind", ["gemma2", "gemma4_unified", None])
def test_refuses_another_model(folder: Path, tmp_path: Path, kind: str | None) -> None:
    for file in folder.iterdir():
        if file.name != "config.json":
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ValueError, match=f"model_type is {kind!r}"):
        check_folder(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        check_folder(tmp_path / "nowhere")


def test_generated_text_is_brought_to_plain_characters() -> None:
    assert clean("1. \u2014 Rain\u2019s end \u2026") == "Rain's end ..."
    assert clean(" 42 !") == ""
