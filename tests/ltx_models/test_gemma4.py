"""The text encoder of LTX-2.5 in one file, and which transformers it belongs to, against the reference."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models import CheckpointError, load_connectors, load_text_encoder
from ltx_models.checkpoints import open_checkpoint
from ltx_models.nn import Backend
from ltx_models.text.gemma4 import check_pair, version_of

LIBRARY = {"torch": "transformers", "mlx": "mlx_lm"}
STATES = 3e-3  # positions from 0 in place of those behind the padding: float32 rounds angles near 1000 coarsely
EMBEDDINGS = 1e-3


@pytest.fixture(autouse=True)
def _installed(nn: Backend) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip(LIBRARY[nn.name])


@pytest.mark.parametrize("offload", [False, True])
def test_tokens_and_hidden_states_are_those_of_the_reference(nn: Backend, oracle25: Any, offload: bool) -> None:
    for case in oracle25("te25_*.text_encoder"):
        encoder = load_text_encoder(case.path, backend=nn.name, dtype="float32", offload=offload)
        tokens = encoder.tokenize(case.args["prompts"])
        mask, tail = case.get("output.attention_mask"), case.args["tail"]
        for row, ids, there in zip(tokens.ids, case.get("output.token_ids"), mask, strict=True):
            assert list(row) == ids[there > 0].tolist()
        states = np.asarray(nn.to_numpy(encoder.hidden_states(tokens)[0]))[:, :, -tail:]
        real = (mask[:, -tail:] > 0)[None, :, :, None]
        assert np.abs((states - case.get("output.hidden_states_tail")) * real).max() < STATES


def test_embeddings_of_two_files_are_those_of_the_reference(nn: Backend, oracle25: Any, close: Any) -> None:
    for case in oracle25("te25_*.transformer"):
        other = case.path.with_name(case.path.name.replace(".transformer.", ".text_encoder."))
        encoder = load_text_encoder(other, backend=nn.name, dtype="float32")
        connectors = load_connectors(case.path, projections=other, backend=nn.name, dtype="float32")
        contexts = encoder.encode(case.args["prompts"], connectors)
        close(contexts.video, case.get("output.video_encoding"), EMBEDDINGS, case.name)
        close(contexts.audio, case.get("output.audio_encoding"), EMBEDDINGS, case.name)
        with pytest.raises(CheckpointError, match="holds no text connectors"):
            load_connectors(case.path, backend=nn.name)
        with pytest.raises(ValueError, match="encodes prompts and does not write"):
            encoder.model.generate([2], tokens=1, temperature=0.0, seed=0)


def test_a_text_encoder_goes_with_the_transformers_of_the_reference(reference25: Path) -> None:
    for row in json.loads((reference25 / "gemma_version_gate.json").read_text())["rows"]:
        metadata = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key in ("model_version", "gemma_source_checkpoint")
            if (value := row[key]) is not None
        }
        config = {key: row[f"gemma_config.{key}"] for key in ("gemma_version", "model_type")}
        if row["verdict"] == "error":
            with pytest.raises(ValueError, match="the pair: "):
                check_pair(metadata, config, "the pair")
        else:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                check_pair(metadata, config, "the pair")
            assert bool(caught) == (row["verdict"] == "warning"), row
    assert version_of({"model_version": "2.5.0"}) > version_of({"model_version": "2.3"}) > version_of({})


def rewritten(path: Path, target: Path, *, drop: str = "", metadata: dict[str, str | None] | None = None) -> Path:
    """Write a file again without a tensor, or with other metadata."""
    from safetensors.numpy import save_file

    with open_checkpoint(path, "numpy") as checkpoint:
        kept = [key for key in checkpoint.keys if key != drop]
        # numbers in bfloat16 stay bytes: only what stands beside them is read
        tensors = {key: np.frombuffer(checkpoint.buffer(key).tobytes(), np.uint8) for key in kept}
        both = {**checkpoint.metadata, **(metadata or {})}
    save_file(tensors, target, {key: value for key, value in both.items() if value is not None})
    return target


def test_files_that_lack_a_part_are_refused(nn: Backend, oracle25: Any, tmp_path: Path) -> None:
    (case,) = oracle25("te25_nested_metadata.text_encoder")
    changes: list[tuple[str, dict[str, str | None], str]] = [
        ("tokenizer_json", {}, "tokenizer_json missing; a text encoder's file has its tokenizer inside"),
        ("", {"processor_config.json": None}, r"processor_config\.json missing"),
        ("", {"gemma_config": None}, "no gemma_config in its metadata; give the text encoder's file of LTX-2.5"),
        ("", {"gemma_config": "{"}, "its gemma_config is not JSON"),
        ("", {"gemma_config": '{"model_type": "gemma4"}'}, "gemma_config is of 'gemma4', expected 'gemma4_unified'"),
        ("model.language_model.norm.weight", {}, "1 weights of the language model are missing, such as norm.weight"),
    ]
    for i, (drop, metadata, text) in enumerate(changes):
        path = rewritten(case.path, tmp_path / f"{i}.safetensors", drop=drop, metadata=metadata)
        with pytest.raises(CheckpointError, match=text):
            load_text_encoder(path, backend=nn.name)


def test_a_folder_of_a_stock_gemma_4_is_refused(nn: Backend, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_bytes(b"{}")
    (tmp_path / "config.json").write_text('{"model_type": "gemma4"}')
    with pytest.raises(ValueError, match=r"model_type is 'gemma4'"):
        load_text_encoder(tmp_path, backend=nn.name)
