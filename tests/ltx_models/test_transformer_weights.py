"""Weights: dtypes, 8-bit floats and integers, files and back, blocks left in the file, and files that do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models import load_transformer, save_transformer
from ltx_models.checkpoints import CheckpointError
from ltx_models.nn import Backend, BackendName, backend
from ltx_models.quantization import Fp8Linear, large, quantize
from ltx_models.transformer import Modality, StreamConfig, Transformer, TransformerConfig

# Relative error (root mean square) when the large layers are quantised: 8-bit floats keep 3 bits of mantissa.
WORSE = {"fp8": 0.06, "int8": 0.02, "int4": 0.3}
SCHEMES = [("torch", "fp8"), ("torch", "int8"), ("mlx", "fp8"), ("mlx", "int8"), ("mlx", "int4")]


def tiny(layers: int = 3) -> TransformerConfig:
    """Inner widths are multiples of 64, as integer groups need."""
    return TransformerConfig(
        video=StreamConfig(6, 6, 4, 32, 128, (20.0, 2048.0, 2048.0)),
        audio=StreamConfig(5, 5, 4, 16, 64, (20.0,)),
        layers=layers,
        gated=True,
        text_modulation=True,
    )


def given(nn: Backend, of: TransformerConfig, batch: int = 1, tokens: int = 6) -> dict[str, Modality]:
    streams = {}
    for name, s in (("video", of.video), ("audio", of.audio)):
        if s is not None:
            rng = np.random.default_rng(s.in_channels)
            start = rng.uniform(0, 10, (1, len(s.max_pos), tokens, 1)).astype(np.float32)
            streams[name] = Modality(
                latent=nn.asarray(rng.standard_normal((batch, tokens, s.in_channels)).astype(np.float32)),
                sigma=nn.asarray(np.full(batch, 0.7, np.float32)),
                timesteps=np.full((batch, 1), 0.7, np.float32),
                positions=np.concatenate([start, start + 1], -1),
                context=nn.asarray(rng.standard_normal((batch, 4, s.text_channels)).astype(np.float32)),
                keyframes_mask=np.tile(np.arange(tokens)[None, :, None] < 2, (batch, 1, 1)),
            )
    return streams


def outputs(model: Any, streams: dict[str, Modality]) -> Any:
    nn = model.nn
    return np.concatenate([nn.to_numpy(x).reshape(-1) for x in model(**streams) if x is not None])


def error(got: Any, want: Any) -> float:
    return float(np.sqrt(((got - want) ** 2).mean() / (want**2).mean()))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 checkpoint with another component's tensors beside, written by whichever framework is there."""
    path = tmp_path_factory.mktemp("weights") / "plain.safetensors"
    write(path, tensors(tiny()), tiny())
    return path


def tensors(of: TransformerConfig) -> dict[str, Any]:
    """Seeded weights by official keys."""
    name = "torch" if find_spec("torch") else "mlx"
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[name])
    nn = backend(name)
    shapes = nn.shapes(nn.build(lambda: Transformer(nn, of)))
    rng = np.random.default_rng(0)
    found = {
        f"model.diffusion_model.{k}": (rng.standard_normal(s) / max(s[-1], 1) ** 0.5).astype(np.float32)
        for k, s in sorted(shapes.items())
    }
    return found | {"model.diffusion_model.video_embeddings_connector.x": np.ones(3, np.float32), "vae.y": np.ones(2)}


@pytest.fixture(scope="session", params=["2.3", "2.5"])
def trained(request: pytest.FixtureRequest, plain: Path) -> Path:
    """A checkpoint of 2.3, and one of 2.5: without biases in video's feed-forward layers, with marks of keyframes."""
    if request.param == "2.3":
        return plain
    of, path = newer(), plain.parent / "newer.safetensors"
    write(path, tensors(of), of)
    return path


def newer() -> TransformerConfig:
    of = tiny()
    assert of.video is not None
    return replace(of, video=replace(of.video, ff_bias=False), keyframe_marker=True)


def write(path: Path, arrays: dict[str, Any], of: TransformerConfig, **metadata: str) -> None:
    from safetensors.numpy import save_file

    save_file(arrays, path, {"config": json.dumps({"transformer": of.section()}), **metadata})


def test_the_layers_without_biases_have_none(nn: Backend, trained: Path) -> None:
    model = load_transformer(trained, backend=nn.name, dtype="float32", quantize="fp8")
    names = [name for name in nn.weights(model) if ".ff.net" in name and name.endswith("bias")]
    is_2_5 = "newer" in trained.name
    assert bool(names) == (not is_2_5)
    assert ("keyframes_abs_pos_embedding" in nn.weights(model)) == is_2_5
    unmarked = {name: replace(one, keyframes_mask=None) for name, one in given(nn, tiny()).items()}
    assert (error(outputs(model, unmarked), outputs(model, given(nn, tiny()))) > 1e-3) == is_2_5


def test_a_configuration_survives_being_written() -> None:
    of = tiny()
    assert TransformerConfig.of(of.section()) == of
    late = TransformerConfig(None, StreamConfig(5, 5, 4, 16, 64, (20.0,), 30), 2, pairing="interleaved")
    assert TransformerConfig.of(late.section(), video=False) == late


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_loads_and_is_close(nn: Backend, trained: Path, dtype: Any) -> None:
    want = outputs(load_transformer(trained, backend=nn.name, dtype="float32"), given(nn, tiny()))
    model = load_transformer(trained, backend=nn.name, dtype=dtype)
    assert {str(w.dtype).rpartition(".")[2] for w in nn.weights(model).values()} == {dtype}
    assert error(outputs(model, given(nn, tiny())), want) < {"float32": 1e-6, "bfloat16": 0.03, "float16": 0.005}[dtype]


def need(scheme: tuple[str, str]) -> Backend:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[scheme[0]])
    if scheme == ("torch", "int8"):
        pytest.importorskip("torchao", reason="int8 on torch is torchao's")
    return backend(scheme[0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_quantised_while_loading_equals_quantised_afterwards(trained: Path, scheme: Any) -> None:
    nn = need(scheme)
    name, kind = scheme
    of, streams = tiny(), given(nn, tiny())
    exact = load_transformer(trained, backend=name, dtype="float32")
    want = outputs(exact, streams)
    early = outputs(load_transformer(trained, backend=name, dtype="float32", quantize=kind), streams)
    late = outputs(quantize(exact, kind), streams)
    np.testing.assert_allclose(early, late, atol=1e-5)
    assert 1e-5 < error(early, want) < WORSE[kind]
    with pytest.raises(ValueError, match="no plain large linear layer"):
        quantize(exact, kind)
    assert of.layers == 3


def test_the_large_layers_of_the_blocks_are_quantised_and_nothing_else(nn: Backend, trained: Path) -> None:
    model = load_transformer(trained, backend=nn.name, dtype="bfloat16", quantize="fp8")
    found = {path for path, leaf in model.named_modules() if isinstance(leaf, Fp8Linear)}
    assert len(found) == 3 * (6 * 4 + 2 * 2)
    assert found == {path for path, leaf in model.named_modules() if large(path) and hasattr(leaf, "weight")}
    leaf = model.transformer_blocks[0].attn1.to_q
    assert leaf.weight_scale.dtype == nn.float32  # scales do not follow the dtype of the model
    stored = sum(w.nbytes for w in nn.weights(model).values())
    full = sum(w.nbytes for w in nn.weights(load_transformer(trained, backend=nn.name)).values())
    assert stored < 0.75 * full


@pytest.mark.parametrize("scheme", [("torch", None), ("mlx", None), *(s for s in SCHEMES if s != ("torch", "int8"))])
def test_what_is_saved_is_loaded_back_with_its_marker(trained: Path, tmp_path: Path, scheme: Any) -> None:
    nn = need(scheme)
    name, kind = scheme
    model = load_transformer(trained, backend=name, dtype="bfloat16", quantize=kind)
    path = tmp_path / "saved.safetensors"
    save_transformer(model, path)
    assert [p.name for p in tmp_path.iterdir()] == ["saved.safetensors"]
    back = load_transformer(path, backend=name, dtype="bfloat16", quantize=kind if kind == "fp8" else None)
    a, b = nn.weights(model), nn.weights(back)
    assert a.keys() == b.keys()
    for key, w in a.items():
        assert w.dtype == b[key].dtype
        assert bool((as_bytes(nn, w) == as_bytes(nn, b[key])).all()), key
    assert outputs(back, given(nn, tiny())).tolist() == outputs(model, given(nn, tiny())).tolist()


def as_bytes(nn: Backend, x: Any) -> Any:
    if "float8" in str(x.dtype):
        x = nn.from_fp8(x, nn.float32)
    return nn.to_numpy(x)


def test_fp8_files_are_the_same_for_both_frameworks(trained: Path, tmp_path: Path) -> None:
    for module in ("torch", "mlx.core"):
        pytest.importorskip(module)
    found = []
    name: BackendName
    other: BackendName
    for name, other in (("torch", "mlx"), ("mlx", "torch")):
        path = tmp_path / f"{name}.safetensors"
        save_transformer(load_transformer(trained, backend=name, dtype="float32", quantize="fp8"), path)
        for kind in (None, "fp8"):
            model = load_transformer(path, backend=other, dtype="float32", quantize=kind)
            found.append(outputs(model, given(backend(other), tiny())))
    for got in found[1:]:
        np.testing.assert_allclose(got, found[0], atol=2e-5)


def test_official_8_bit_files_are_widened_by_their_scales(plain: Path, tmp_path: Path) -> None:
    """Scales decide which layers are quantised, whatever the names; input scales are of no use here."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    weights = load_file(plain)
    want = dict(weights)
    for path in ("transformer_blocks.1.attn1.to_q", "adaln_single.linear"):
        key = f"model.diffusion_model.{path}.weight"
        weights[f"{key}_scale"] = torch.tensor(0.01)
        weights[f"{key.removesuffix('weight')}input_scale"] = torch.tensor(3.0)
        weights[key] = (weights[key] / 0.01).to(torch.float8_e4m3fn)
        want[key] = weights[key].float() * 0.01
    path8, path32 = tmp_path / "official.safetensors", tmp_path / "widened.safetensors"
    metadata = {"config": json.dumps({"transformer": tiny().section()})}
    save_file(weights, path8, metadata)
    save_file(want, path32, metadata)
    for name in ("torch", "mlx"):
        if name == "mlx":
            pytest.importorskip("mlx.core")
        nn = backend(name)
        exact = outputs(load_transformer(path32, backend=name, dtype="float32"), given(nn, tiny()))
        for kind in (None, "fp8"):
            model = load_transformer(path8, backend=name, dtype="float32", quantize=kind)
            np.testing.assert_allclose(outputs(model, given(nn, tiny())), exact, atol=2e-5)
        found = {p for p, leaf in model.named_modules() if isinstance(leaf, Fp8Linear)}
        assert found == {"transformer_blocks.1.attn1.to_q", "adaln_single.linear"}


def test_files_that_are_not_what_was_asked_for_are_refused(plain: Path, tmp_path: Path) -> None:
    for module in ("torch", "mlx.core"):
        pytest.importorskip(module)
    from safetensors.numpy import load_file

    packed = tmp_path / "int4.safetensors"
    save_transformer(load_transformer(plain, backend="mlx", dtype="float32", quantize="int4"), packed)
    with pytest.raises(CheckpointError, match="holds integers packed by MLX; load it with backend='mlx'"):
        load_transformer(packed, backend="torch")
    with pytest.raises(CheckpointError, match="is quantised as 'int4', not as 'int8'"):
        load_transformer(packed, backend="mlx", quantize="int8")
    unmarked, marked = tmp_path / "unmarked.safetensors", tmp_path / "marked.safetensors"
    write(unmarked, load_file(packed), tiny())
    with pytest.raises(CheckpointError, match="says quantization None, but its tensors are packed"):
        load_transformer(unmarked, backend="mlx")
    write(marked, load_file(plain), tiny(), quantization='{"scheme": "int8", "bits": 8, "group_size": 64}')
    with pytest.raises(CheckpointError, match="says quantization 'int8', but its tensors are not packed"):
        load_transformer(marked, backend="mlx")
    eight = tmp_path / "fp8.safetensors"
    save_transformer(load_transformer(plain, backend="mlx", dtype="float32", quantize="fp8"), eight)
    with pytest.raises(CheckpointError, match="is quantised as 'fp8', not as 'int4'"):
        load_transformer(eight, backend="mlx", quantize="int4")
    with pytest.raises(ValueError, match="quantize: got 'int4', allowed with torch are 'fp8', 'int8'"):
        load_transformer(plain, backend="torch", quantize="int4")
    arrays = load_file(plain)
    lost = tmp_path / "lost.safetensors"
    write(lost, arrays | {"model.diffusion_model.nothing.weight_scale": np.ones((), np.float32)}, tiny())
    with pytest.raises(CheckpointError, match=r"a scale without its weight: nothing\.weight_scale"):
        load_transformer(lost, backend="mlx")


def test_broken_and_foreign_files_are_refused(nn: Backend, plain: Path, tmp_path: Path) -> None:
    name: Any = nn.name
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(plain.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_transformer(broken, backend=name)
    with pytest.raises(CheckpointError, match="no such file"):
        load_transformer(tmp_path / "none.safetensors", backend=name)
    from safetensors.numpy import load_file, save_file

    arrays = load_file(plain)
    save_file({"vae.y": np.ones(2)}, tmp_path / "vae.safetensors")
    with pytest.raises(CheckpointError, match="no transformer in it"):
        load_transformer(tmp_path / "vae.safetensors", backend=name)
    with pytest.raises(ValueError, match="dtype: got 'int8'"):
        load_transformer(plain, backend=name, dtype="int8")  # type: ignore[arg-type]
    # shards, of which one is lost
    keys = sorted(arrays)
    folder = tmp_path / "shards"
    folder.mkdir()
    for i, part in enumerate((keys[::2], keys[1::2])):
        write(folder / f"{i}.safetensors", {k: arrays[k] for k in part}, tiny())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {k: f"{keys.index(k) % 2}.safetensors" for k in keys}})
    )
    whole = outputs(load_transformer(plain, backend=name, dtype="float32"), given(nn, tiny()))
    split = outputs(load_transformer(folder, backend=name, dtype="float32"), given(nn, tiny()))
    np.testing.assert_array_equal(split, whole)
    (folder / "1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shards named by the index are missing: 1\.safetensors"):
        load_transformer(folder, backend=name)
    if name == "mlx":
        with pytest.raises(ValueError, match="belong to no device"):
            load_transformer(plain, backend=name, device="cpu")


# ---- blocks left in the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("kind", [None, "fp8"])
def test_blocks_read_in_turn_give_the_same(nn: Backend, trained: Path, prefetch: bool, kind: Any) -> None:
    options: Any = {"backend": nn.name, "dtype": "float32", "quantize": kind}
    want = outputs(load_transformer(trained, **options), given(nn, tiny()))
    model = load_transformer(trained, **options, offload=True, prefetch=prefetch)
    forward, held = model.transformer_blocks[1].forward._forward, []

    def late(*args: Any) -> Any:
        if prefetch:
            model.offload._coming[1].result(timeout=60)  # while this block is at work, the next one has been read
        held.append(model.offload.resident)
        return forward(*args)

    model.transformer_blocks[1].forward._forward = late
    for _ in range(2):
        np.testing.assert_array_equal(outputs(model, given(nn, tiny())), want)
    assert held == ([2, 2] if prefetch else [1, 1])
    assert model.offload.most_resident == held[0]
    model.offload.close()
    assert model.offload.resident == 0
    with pytest.raises(ValueError, match="has offloaded blocks"):
        save_transformer(model, trained.parent / "never.safetensors")


def test_a_pass_that_was_stopped_leaves_nothing_behind(nn: Backend, trained: Path) -> None:
    options: Any = {"backend": nn.name, "dtype": "float32"}
    streams = given(nn, tiny())
    want = outputs(load_transformer(trained, **options), streams)
    model = load_transformer(trained, **options, offload=True)
    forward = model.transformer_blocks[1].forward._forward

    def stop(*args: Any) -> Any:
        raise KeyboardInterrupt

    model.transformer_blocks[1].forward._forward = stop
    with pytest.raises(KeyboardInterrupt):
        model(**streams)
    assert model.offload.resident <= 1  # the block that the thread was reading
    model.transformer_blocks[1].forward._forward = forward
    np.testing.assert_array_equal(outputs(model, streams), want)
    assert model.offload.most_resident <= 3
    model.offload.close()
