"""Conversions: exact there and back, the same twice, whole or not there at all."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ltx_models
from ltx_models import default_checkpoint
from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.checkpoints import CheckpointError, open_checkpoint, read_header
from ltx_models.checkpoints.layouts._values import narrow, widen
from ltx_models.convert import Layout, convert
from ltx_models.convert.forms import LAYOUTS
from ltx_models.convert.write import Entry, write_file
from ltx_models.defaults import toy_checkpoint
from ltx_models.nn.statistics import STATISTICS
from ltx_models.pipelines.finding import find_files
from ltx_models.pipelines.listing import Criteria
from ltx_models.text import ConnectorConfig
from ltx_models.transformer import TransformerConfig
from ltx_models.video_vae import VideoVAEConfig
from ltx_models.vocoder import config as vocoder_config

SOUND = ("audio_encoder_basic", "audio_decoder_basic")
PIECES = {
    "20": ("dit_av20_split", "connectors_20_full", *SOUND, "vocoder_20_basic"),
    "23": ("dit_av23_split", "connectors_23_left_pad", *SOUND, "vocoder_23_six_stage"),
}
VIDEO = {version: [f"video_{x}coder_{x}c{version}_basic" for x in ("en", "de")] for version in PIECES}
Raw = dict[str, tuple[str, tuple[int, ...], bytes]]


def raw(path: Path) -> Raw:
    """Read everything of a checkpoint, to the bit, under its official names."""
    with open_checkpoint(path, "numpy") as checkpoint:
        return {
            key: (stored.dtype, stored.shape, checkpoint.buffer(key).tobytes())
            for key, stored in checkpoint.files.items()
        }


def config_of(path: Path) -> dict[str, Any]:
    with open_checkpoint(path, "numpy") as checkpoint:
        return checkpoint.config


def _bytes(data: bytes) -> Any:
    return np.frombuffer(data, np.uint8)


def save(path: Path, tensors: Raw, metadata: dict[str, str]) -> Path:
    entries = {key: Entry(kind, shape, partial(_bytes, data)) for key, (kind, shape, data) in tensors.items()}
    write_file(path, entries, metadata)
    return path


@pytest.fixture(params=sorted(PIECES), scope="module")
def whole(
    request: pytest.FixtureRequest, oracle: Callable[[str], list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A complete small checkpoint, put together from the reference cases."""
    tensors: Raw = {}
    config: dict[str, Any] = {}
    for name in (*PIECES[request.param], *VIDEO[request.param]):
        (case,) = oracle(name)
        found = raw(case.path)
        tensors |= {k: x for k, x in found.items() if k.split(".")[0] not in {"input", "output", "debug"}}
        for section, given in config_of(case.path).items():
            wanted = {k: v for k, v in given.items() if "connector" in k} if "connectors" in name else given
            config[section] = {**config.get(section, {}), **wanted}
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    return save(path, tensors, {"config": json.dumps(config), "model_version": "2.3.0"})


def used(tensors: Raw) -> Raw:
    """Leave out the statistics that no network reads."""
    return {
        key: x
        for key, x in tensors.items()
        if "per_channel_statistics." not in key or key.rpartition(".")[2] in STATISTICS
    }


@pytest.mark.parametrize("layout", ["split", "diffusers", "mlx"])
def test_there_and_back_is_equal_to_the_bit(layout: Layout, whole: Path, tmp_path: Path) -> None:
    there = convert(whole, tmp_path / "there", layout=layout)
    back = convert(there.target, tmp_path / "back.safetensors")
    assert raw(tmp_path / "there") == used(raw(whole)) | ({} if layout != "split" else raw(whole))
    assert raw(back.target) == raw(tmp_path / "there")
    assert config_of(back.target) == config_of(whole)
    assert set(raw(whole)) - set(raw(back.target)) == set(there.dropped)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_converting_twice_writes_the_same_bytes(layout: Layout, whole: Path, tmp_path: Path) -> None:
    suffix = ".safetensors" if layout == "official" else ""
    first = convert(whole, tmp_path / f"one{suffix}", layout=layout)
    second = convert(first.target, tmp_path / f"two{suffix}", layout=layout)
    assert len(first.files) == len(second.files) > 0
    for one, two in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


@pytest.mark.parametrize("layout", ["split", "diffusers", "mlx"])
def test_a_state_dict_of_autoencoder_or_vocoder_in_any_layout_is_what_the_file_is(
    layout: Layout, whole: Path, tmp_path: Path
) -> None:
    load_file = pytest.importorskip("safetensors.torch").load_file  # that of NumPy knows no bfloat16
    want, found = raw(whole), set()
    for file in convert(whole, tmp_path / "there", layout=layout).files:
        if not re.search(r"vae|vocoder|audio|^video", str(file.relative_to(tmp_path / "there"))):
            continue
        with open_checkpoint(load_file(file), "torch") as checkpoint:
            for key in checkpoint.keys:
                kind, shape, data = want[key]
                assert (checkpoint.dtype(key), checkpoint.shape(key)) == (kind, shape)
                assert checkpoint.buffer(key).tobytes() == data, key
                assert tuple(checkpoint.tensor(key).shape) == shape
            found |= set(checkpoint.keys)
    assert found >= {key for key in used(want) if key.startswith(("vae.", "audio_vae.", "vocoder."))}


@pytest.mark.parametrize("layout", ["diffusers", "mlx"])
def test_folders_without_an_embedded_configuration_are_read(layout: Layout, whole: Path, tmp_path: Path) -> None:
    """What other tools write has only a config.json; that of diffusers says everything."""
    convert(whole, tmp_path / "there", layout=layout)
    for file in (tmp_path / "there").rglob("*.safetensors"):
        metadata, stored = read_header(file)
        data = file.read_bytes()
        bare = {k: (s.dtype, s.shape, data[s.start : s.start + s.size]) for k, s in stored.items()}
        save(file, bare, {"format": metadata["format"]})
    assert raw(tmp_path / "there") == used(raw(whole))
    if layout == "diffusers":
        got, want = config_of(tmp_path / "there"), config_of(whole)
        assert VideoVAEConfig.read(got["vae"]) == VideoVAEConfig.read(want["vae"])
        assert AudioVAEConfig.read(got["audio_vae"]) == AudioVAEConfig.read(want["audio_vae"])
        assert vocoder_config.read_config(got["vocoder"]) == vocoder_config.read_config(want["vocoder"])
        assert TransformerConfig.of(got["transformer"]) == TransformerConfig.of(want["transformer"])
        for prefix in ("", "audio_"):
            one, two = (ConnectorConfig.read(x["transformer"], prefix) for x in (got, want))
            assert one == two


@pytest.mark.parametrize(
    "layout", sorted(LAYOUTS.keys() - {"diffusers"})
)  # this network's encoder is too narrow for it
def test_every_layout_gives_the_same_network(layout: Layout, nn: Any, tmp_path: Path) -> None:
    """The strict loaders read each of them, on both frameworks, to equal weights."""
    target = tmp_path / ("x.safetensors" if layout == "official" else "x")
    convert(default_checkpoint(), target, layout=layout)
    want = ltx_models.load_video_decoder(default_checkpoint(), backend=nn.name, dtype="bfloat16")
    got = ltx_models.load_video_decoder(target, backend=nn.name, dtype="bfloat16")
    weights = nn.weights(want)
    assert weights.keys() == nn.weights(got).keys()
    for key, x in nn.weights(got).items():
        np.testing.assert_array_equal(nn.to_numpy(x), nn.to_numpy(weights[key]), err_msg=key)


def test_shards_hold_everything_and_have_an_index(whole: Path, tmp_path: Path) -> None:
    report = convert(whole, tmp_path / "shards", shard_bytes=1 << 20)
    assert len(report.files) > 4
    index = json.loads((report.target / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {file.name for file in report.files}
    assert raw(report.target) == raw(whole)
    report.files[1].unlink()
    with pytest.raises(CheckpointError, match=rf"shards named by the index are missing: {report.files[1].name}"):
        raw(report.target)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_dtype_concerns_all_tensors_with_axes(name: Any, whole: Path, tmp_path: Path) -> None:
    report = convert(whole, tmp_path / "x.safetensors", dtype=name)
    short = {"bfloat16": "BF16", "float16": "F16"}[name]
    before = raw(whole)
    for key, (kind, shape, data) in raw(report.target).items():
        old, _, was = before[key]
        assert kind == (short if shape and old in {"F32", "F16", "BF16"} else old)
        want = narrow(widen(np.frombuffer(was, np.uint8), old), kind) if old in {"F32", "BF16"} else None
        assert want is None or want.tobytes() == data, key


@pytest.mark.parametrize(("scheme", "library"), [("fp8", "torch"), ("fp8", "mlx"), ("int4", "mlx"), ("int8", "mlx")])
def test_quantised_files_load_as_the_loader_quantises(
    scheme: Any, library: Any, oracle: Callable[[str], list[Any]], tmp_path: Path
) -> None:
    pytest.importorskip("mlx.core" if library == "mlx" else "torch")
    (case,) = oracle("dit_av23_split")
    kept = {k: x for k, x in raw(case.path).items() if k.startswith("model.diffusion_model.")}
    path = save(tmp_path / "plain.safetensors", kept, {"config": json.dumps(config_of(case.path))})
    target = tmp_path / "q.safetensors"
    if scheme != "fp8":  # groups of 64 columns: some layers of this small network are narrower
        with pytest.raises(CheckpointError, match=r"32 columns are no multiple of MLX's group of 64; use 'fp8'"):
            convert(path, target, quantize=scheme)
        return
    convert(path, target, quantize=scheme, backend=library, dtype="bfloat16")
    want = ltx_models.load_transformer(path, backend=library, dtype="bfloat16", quantize=scheme)
    got = ltx_models.load_transformer(target, backend=library, dtype="bfloat16", quantize=scheme)
    weights = got.nn.weights(want)
    for key, x in got.nn.weights(got).items():
        np.testing.assert_array_equal(_host(got.nn, x), _host(got.nn, weights[key]), err_msg=key)
    convert(target, tmp_path / "mlx", layout="mlx")
    convert(tmp_path / "mlx", tmp_path / "back.safetensors")
    assert raw(tmp_path / "back.safetensors") == raw(target)
    plain = convert(target, tmp_path / "wide.safetensors", dtype="float32")
    assert not any(key.endswith("_scale") for key in raw(plain.target))
    with open_checkpoint(plain.target, "numpy") as opened:
        assert "quantization" not in opened.metadata


def _host(nn: Any, x: Any) -> Any:
    if nn.name == "torch" and "float8" in str(x.dtype):
        return x.float().numpy()
    return nn.to_numpy(x)


@pytest.mark.parametrize("bits", [4, 8])
def test_integers_of_mlx_are_those_of_the_ecosystem(bits: int, tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    x = np.random.default_rng(0).normal(size=(8, 128)).astype(np.float32)
    key = "model.diffusion_model.transformer_blocks.0.attn1.to_q.weight"
    beside = "model.diffusion_model.patchify_proj.weight"  # by which a transformer is known
    tensors = {key: ("F32", x.shape, x.tobytes()), beside: ("F32", (1, 1), b"\0" * 4)}
    path = save(tmp_path / "x.safetensors", tensors, {})
    scheme: Any = f"int{bits}"
    convert(path, tmp_path / "q.safetensors", quantize=scheme)
    found = raw(tmp_path / "q.safetensors")
    stem = key.removesuffix("weight")
    for part, value in zip(("weight", "scales", "biases"), mx.quantize(mx.array(x), 64, bits), strict=True):
        kind, shape, data = found[stem + part]
        assert (kind, shape) == ("U32" if part == "weight" else "F32", tuple(value.shape))
        assert data == np.array(value).tobytes()
    for layout, target in (("mlx", tmp_path / "mlx"), ("official", tmp_path / "back.safetensors")):
        convert(tmp_path / ("q.safetensors" if layout == "mlx" else "mlx"), target, layout=layout)  # type: ignore[arg-type]  # both are layouts
    assert raw(tmp_path / "back.safetensors") == found
    with pytest.raises(CheckpointError, match="packed by MLX, which only change their layout"):
        convert(tmp_path / "q.safetensors", tmp_path / "z.safetensors", dtype="float16")


def test_killed_at_any_moment_nothing_looks_finished(tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    convert(default_checkpoint(), source)
    code = (
        "import sys, time; from pathlib import Path; from ltx_models.convert import convert\n"
        "slow = lambda done, total: time.sleep(0.004)\n"
        "print('ready', flush=True)\n"
        "convert(sys.argv[1], sys.argv[2], layout='mlx', progress=slow); print('done', flush=True)"
    )
    want = used(raw(source))
    finished = 0
    for trial in range(5):
        target = tmp_path / f"out{trial}"
        with subprocess.Popen([sys.executable, "-c", code, source, target], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(random.Random(trial).uniform(0, 0.9))
            process.send_signal(signal.SIGKILL)
        if target.exists():
            assert raw(target) == want
            finished += 1
        else:
            assert all(p.name.endswith(".part") for p in tmp_path.glob(f".out{trial}*"))
    assert finished < 5


def test_an_error_leaves_what_stood_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "there"
    convert(default_checkpoint(), target, layout="mlx")
    before = raw(target)
    with pytest.raises(FileExistsError, match="exists; choose another name, or say overwrite"):
        convert(default_checkpoint(), target, layout="mlx")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        convert(default_checkpoint(), target, layout="mlx", dtype="float32", overwrite=True)
    monkeypatch.undo()
    assert raw(target) == before
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    convert(default_checkpoint(), target, layout="mlx", dtype="float32", overwrite=True)
    assert {kind for kind, _, _ in raw(target).values()} == {"F32"}
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_a_disk_that_is_too_small_is_refused_before_writing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"10\.\d MiB are needed, 1.0 KiB are free there"):
        convert(default_checkpoint(), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    source = default_checkpoint()
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"layout": "onnx"}, "x", "got 'onnx', allowed are 'official', 'split', 'diffusers', 'mlx'"),
        ({"dtype": "int3"}, "x.safetensors", "dtype: got 'int3'"),
        ({"shard_bytes": 0}, "x", "shard_bytes: got 0"),
        ({}, "x", "is a file whose name ends in .safetensors"),
        ({"layout": "mlx"}, "x.safetensors", "is a folder, a name without .safetensors"),
        ({"quantize": "fp8"}, "x.safetensors", "no large layers of a transformer"),
    ]
    for options, name, text in wrong:
        with pytest.raises(ValueError, match=text):
            convert(source, tmp_path / name, **options)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        convert(source, tmp_path / "no" / "x.safetensors")
    lora = save(tmp_path / "lora.safetensors", {"diffusion_model.a.lora_A.weight": ("F32", (1,), b"\0" * 4)}, {})
    with pytest.raises(CheckpointError, match="is a LoRA"):
        convert(lora, tmp_path / "x.safetensors")
    other = save(tmp_path / "other.safetensors", {"a.weight": ("F32", (1,), b"\0" * 4)}, {})
    with pytest.raises(CheckpointError, match="nothing in it belongs to a component of LTX-2"):
        convert(other, tmp_path / "x", layout="mlx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lora.safetensors", "other.safetensors"]


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path) -> None:
    """Read and written in turn: two reads never follow one another without the first having been written."""
    log: list[str] = []
    entries = {}
    for name in "ab":

        def read(name: str = name) -> Any:
            log.append(f"read {name}")
            return np.zeros(4, np.uint8)

        entries[name] = Entry("F32", (1,), read)
    write_file(tmp_path / "x.safetensors", entries, {}, lambda _: log.append("written"))
    assert log == ["read a", "written", "read b", "written"]


@pytest.mark.parametrize("layout", ["official", "split", "mlx"])
@pytest.mark.parametrize("kind", ["dev", "distilled"])
def test_what_was_converted_is_known_for_dev_or_distilled(tmp_path: Path, layout: Any, kind: str) -> None:
    """`generate` refused such a folder, and took a file for distilled; twice converted it is known all the same."""
    source = tmp_path / f"ltx-2.3-{kind}.safetensors"
    source.write_bytes(toy_checkpoint().read_bytes())
    names = [f"{n}.safetensors" if layout == "official" else f"{n}" for n in ("one", "two")]
    convert(source, tmp_path / names[0], layout=layout)
    convert(tmp_path / names[0], tmp_path / names[1], layout=layout)
    criteria = Criteria(upsampler=False, distilled_lora=False, text_encoder=False)
    for name in names:
        assert find_files(tmp_path / name, criteria)[0].name.partition("-")[0] == kind
