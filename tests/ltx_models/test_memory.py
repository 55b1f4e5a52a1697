"""What is chosen for an amount of memory, and what is foretold: held against files whose sizes are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.ltx_models.pipeline_files import contexts, write_whole

from ltx_models.convert import convert
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import LTX2Pipeline, memory, plan_memory
from ltx_models.pipelines.forecast import COPIES, forecast
from ltx_models.pipelines.grid import Size

ROOM = 1 - memory.SPARE
WIDE = {"cross_attention_dim": 128, "num_attention_heads": 8, "audio_num_attention_heads": 8} | {
    "audio_attention_head_dim": 16,
    "audio_cross_attention_dim": 128,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    return write_whole(tmp_path_factory.mktemp("memory"), get_backend("torch"), WIDE)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four layers of 64 x 64 numbers and an embedding, in 16 bits: 2 * (4 * 4096 + 640) bytes."""
    folder = tmp_path_factory.mktemp("gemma")
    layers = {f"language_model.model.layers.{i}.mlp.up_proj.weight": np.zeros((64, 64), np.float16) for i in range(4)}
    save_file(
        layers | {"language_model.model.embed_tokens.weight": np.zeros((10, 64), np.float16)},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def transformer_bytes(path: Path, itemsize: int) -> int:
    prefix = "model.diffusion_model."
    return sum(itemsize * x.size for key, x in load_file(path).items() if key.startswith(prefix))


def plan(files: dict[str, Path], n_bytes: float, **more: Any) -> memory.MemoryPlan:
    return plan_memory(files["path"], int(n_bytes / ROOM) + 2, **more)


def test_the_language_model_counts(files: dict[str, Path], gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_Weights", type("Small", (), {"read": lambda path: Small()}))
    whole, layer, rest = 2 * (4 * 4096 + 640), 2 * 4096, 2 * 640
    cases: list[tuple[str, float, tuple[Any, bool, int]]] = [
        ("torch", whole, (None, False, whole)),
        ("torch", whole - 10, (None, True, rest + 2 * layer)),
        ("mlx", whole - 10, ("int8", False, int(4 * 4096 * 8.5 / 8) + rest)),
        ("mlx", 4 * 4096 * 0.7 + rest, ("int4", False, int(4 * 4096 * 4.5 / 8) + rest)),
    ]
    for backend, n_bytes, wanted in cases:
        found = plan(files, n_bytes, backend=backend, text_encoder=gemma)
        assert (found.text_quantize, found.text_offload, found.text_bytes) == wanted
        assert "language model" in str(found)
    with pytest.raises(ValueError, match=r"is too little; the language model needs at least 23\.\d KiB"):
        plan(files, rest + 2 * layer - 100, backend="torch", text_encoder=gemma)
    assert "language model" not in str(plan(files, whole))


class Small:
    """A transformer that is in nobody's way."""

    def schemes(self, backend: str) -> list[Any]:
        return [None]

    def bytes(self, scheme: Any, itemsize: int) -> int:
        return 1


@pytest.mark.parametrize(("there", "scheme"), [(True, "int8"), (False, "fp8")])
def test_torch_takes_integers_where_it_has_them(
    files: dict[str, Path], there: bool, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "find_spec", lambda name: object() if there else None)
    whole = transformer_bytes(files["path"], 2)
    assert plan(files, whole).quantize is None
    assert plan(files, whole - 100).quantize == scheme
    assert plan(files, whole - 100, backend="mlx").quantize == "int8"


def test_what_is_quantised_already_is_not_quantised_in_another_way(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    convert(files["path"], tmp_path / "fp8.safetensors", quantize="fp8")
    for backend in ("torch", "mlx"):
        wide = plan({"path": tmp_path / "fp8.safetensors"}, 1e9, backend=backend)
        narrow = plan({"path": tmp_path / "fp8.safetensors"}, wide.transformer_bytes - 100, backend=backend)
        assert (wide.quantize, narrow.quantize) == (None, "fp8")
    convert(files["path"], tmp_path / "mlx", layout="mlx", quantize="int4", dtype="bfloat16")
    found = plan({"path": tmp_path / "mlx"}, 1e9, backend="mlx")
    held = sum(f.stat().st_size for f in (tmp_path / "mlx/transformer").glob("*.safetensors"))
    assert found.quantize is None
    assert found.transformer_bytes == pytest.approx(held, rel=0.1), "what is packed is counted as it is packed"


def test_the_forecast_is_of_weights_and_tokens(files: dict[str, Path]) -> None:
    pipe = LTX2Pipeline.from_pretrained(files["path"], pipeline="distilled", upsampler=files["upsampler"])
    size = Size(128, 192, 17, 24.0)
    found = forecast(pipe.components, pipe.recipe, size, pipe.config, 2**30)
    assert list(found) == ["stage 1", "upsample", "stage 2", "decode"]
    weights = transformer_bytes(files["path"], 2)
    audio = size.audio_frames * 128
    assert found["stage 1"] == weights + 2 * COPIES * (3 * 2 * 3 * 128 + audio)
    assert found["stage 2"] == weights + 2 * COPIES * (3 * 4 * 6 * 128 + audio)
    assert found["decode"] > 2**20
    larger = forecast(pipe.components, pipe.recipe, Size(256, 384, 33, 24.0), pipe.config, 2**30)
    assert all(larger[step] >= found[step] for step in found)


def test_choice_and_forecast_are_said_before_the_run(files: dict[str, Path]) -> None:
    said: list[str] = []
    options: dict[str, Any] = {"pipeline": "distilled-one-stage", "memory_bytes": 2**30, "say": said.append}
    pipe = LTX2Pipeline.from_pretrained(files["path"], **options)
    text = tuple(np.tile(x, (1, 1, times)) for x, times in zip(contexts(1), (4, 8), strict=True))
    pipe(prompt_embeds=text, height=64, width=64, num_frames=9, output_type="latent")  # type: ignore[arg-type]  # two
    assert said[-1].startswith("forecast of the peaks: denoise ")
    pipe.memory = memory.MemoryPlan(2**20, None, False, 2**29, 0, "")
    pipe(prompt_embeds=text, height=64, width=64, num_frames=9, output_type="latent")  # type: ignore[arg-type]  # two
    assert "may need more than the 1.0 MiB given; a smaller picture or fewer frames need less" in said[-1]
