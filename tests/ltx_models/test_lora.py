"""LoRA: live layers, fused weights, and back; names of other tools; files that fit nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models import load_transformer, save_transformer
from ltx_models.checkpoints import CheckpointError
from ltx_models.checkpoints.layouts._transformer import from_diffusers, to_diffusers
from ltx_models.lora import LoraLinear, apply_lora
from ltx_models.nn import Backend
from ltx_models.transformer import Modality, StreamConfig, Transformer, TransformerConfig

CONFIG = TransformerConfig(
    video=StreamConfig(6, 6, 2, 32, 64, (20.0, 2048.0, 2048.0)), audio=None, layers=2, gated=True, text_modulation=True
)
LAYERS = ("transformer_blocks.0.attn1.to_q", "transformer_blocks.1.ff.net.0.proj", "adaln_single.linear")


@pytest.fixture(params=["2.3", "2.5"])
def path(request: pytest.FixtureRequest, nn: Backend, tmp_path: Path) -> Path:
    """A checkpoint of 2.3, and one of 2.5, whose feed-forward layers have no biases."""
    from safetensors.numpy import save_file

    rng, of = np.random.default_rng(0), CONFIG
    if request.param == "2.5":
        assert of.video is not None
        of = replace(of, video=replace(of.video, ff_bias=False), keyframe_marker=True)
    shapes = nn.shapes(nn.build(lambda: Transformer(nn, of)))
    weights = {k: (rng.standard_normal(s) * 0.1).astype(np.float32) for k, s in sorted(shapes.items())}
    save_file(weights, tmp_path / "model.safetensors", {"config": json.dumps({"transformer": of.section()})})
    return tmp_path / "model.safetensors"


def load(nn: Backend, path: Path, **kw: Any) -> Any:
    return load_transformer(path, **({"backend": nn.name, "dtype": "float32"} | kw))


def weight(nn: Backend, model: Any, layer: str) -> Any:
    return nn.to_numpy(nn.weights(model)[f"{layer}.weight"])


def outputs(nn: Backend, model: Any) -> Any:
    rng = np.random.default_rng(5)
    video = Modality(
        latent=nn.asarray(rng.standard_normal((1, 5, 6)).astype(np.float32)),
        sigma=nn.asarray(np.ones(1, np.float32)),
        timesteps=np.ones((1, 1), np.float32),
        positions=rng.uniform(0, 9, (1, 3, 5, 2)).astype(np.float32),
        context=nn.asarray(rng.standard_normal((1, 3, 64)).astype(np.float32)),
    )
    return nn.to_numpy(model(video=video)[0])


def lora(
    path: Path,
    nn: Backend,
    model: Any,
    *,
    seed: int = 0,
    rank: int = 3,
    alpha: float | None = None,
    style: str = "diffusion_model.{}",
    factors: tuple[str, str] = ("lora_A", "lora_B"),
) -> tuple[Path, dict[str, Any]]:
    """Write a LoRA, and give the change of each layer at strength 1."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for layer in LAYERS:
        outs, ins = weight(nn, model, layer).shape
        down, up = (rng.standard_normal(s).astype(np.float32) * 0.2 for s in ((rank, ins), (outs, rank)))
        name = style.format(layer.replace(".", "_") if "unet" in style else layer)
        arrays |= {f"{name}.{factors[0]}.weight": down, f"{name}.{factors[1]}.weight": up}
        if alpha is not None:
            arrays[f"{name}.alpha"] = np.array(alpha, np.float32)
        changes[layer] = up @ down * (1.0 if alpha is None else alpha / rank)
    file = path.parent / f"lora{seed}.safetensors"
    save_file(arrays, file)
    return file, changes


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_live_fused_and_removed(nn: Backend, path: Path, alpha: float | None) -> None:
    """Several LoRAs at once: live layers and fused weights agree, and removing either gives the model back."""
    model = load(nn, path)
    first, a = lora(path, nn, model, seed=0, alpha=alpha)
    second, b = lora(path, nn, model, seed=1, rank=5)
    both = [(first, 0.5), (second, -0.25)]
    before = {layer: weight(nn, model, layer) for layer in LAYERS}
    want = outputs(nn, model)
    live = apply_lora(model, both)
    assert live.paths == tuple(sorted(LAYERS))
    assert isinstance(model.transformer_blocks[0].attn1.to_q, LoraLinear)
    changed = outputs(nn, model)
    assert np.abs(changed - want).max() > 0.01
    with pytest.raises(ValueError, match="has live LoRA layers already"):
        apply_lora(model, both)
    with pytest.raises(ValueError, match="has live LoRA layers; remove"):
        save_transformer(model, path.parent / "x.safetensors")
    live.remove()
    np.testing.assert_array_equal(outputs(nn, model), want)
    fused = apply_lora(model, both, fuse=True)
    for layer in LAYERS:
        got = weight(nn, model, layer)
        np.testing.assert_allclose(got, before[layer] + 0.5 * a[layer] - 0.25 * b[layer], atol=1e-5)
    np.testing.assert_allclose(outputs(nn, model), changed, atol=1e-4)
    fused.remove()
    for layer in LAYERS:
        np.testing.assert_allclose(weight(nn, model, layer), before[layer], atol=1e-6)
    with pytest.raises(RuntimeError, match="removed before"):
        fused.remove()


@pytest.mark.parametrize(
    ("style", "factors"),
    [
        ("diffusion_model.{}", ("lora_A", "lora_B")),
        ("model.diffusion_model.{}", ("lora_down", "lora_up")),
        ("{}", ("lora_A.default", "lora_B.default")),
        ("lora_unet_{}", ("lora_down", "lora_up")),
        ("diffusers", ("lora_A", "lora_B")),
    ],
)
def test_names_of_other_tools(nn: Backend, path: Path, style: str, factors: tuple[str, str]) -> None:
    model = load(nn, path)
    file, changes = lora(path, nn, model, style="{}" if style == "diffusers" else style, factors=factors)
    if style == "diffusers":
        from safetensors.numpy import load_file, save_file

        save_file({f"transformer.{to_diffusers(k)}": v for k, v in load_file(file).items()}, file)
    before = {layer: weight(nn, model, layer) for layer in LAYERS}
    apply_lora(model, [(file, 1.0)], fuse=True)
    for layer in LAYERS:
        np.testing.assert_allclose(weight(nn, model, layer), before[layer] + changes[layer], atol=1e-5)


def test_names_of_diffusers_and_back(nn: Backend) -> None:
    both = TransformerConfig(CONFIG.video, StreamConfig(6, 6, 2, 16, 32, (20.0,)), 1, text_modulation=True)
    keys = nn.shapes(nn.build(lambda: Transformer(nn, both)))
    assert len({to_diffusers(key) for key in keys}) == len(keys)
    assert [from_diffusers(to_diffusers(key)) for key in keys] == list(keys)


def test_half_precision_weights_come_back_within_rounding(nn: Backend, path: Path) -> None:
    model = load(nn, path, dtype="bfloat16")
    file, _ = lora(path, nn, model)
    before = {layer: weight(nn, model, layer) for layer in LAYERS}
    apply_lora(model, [(file, 1.0)], fuse=True).remove()
    for layer in LAYERS:  # two roundings to 8 bits, of weights of size about 1
        np.testing.assert_allclose(weight(nn, model, layer), before[layer], atol=2**-7)


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_quantised_layers_take_live_loras_only(nn: Backend, path: Path, kind: Any) -> None:
    if (nn.name, kind) == ("torch", "int8"):
        pytest.importorskip("torchao", reason="int8 on torch is torchao's")
    model = load(nn, path, quantize=kind)
    file, _ = lora(path, nn, load(nn, path))
    with pytest.raises(ValueError, match="its weight is quantised"):
        apply_lora(model, [(file, 1.0)], fuse=True)
    want = outputs(nn, model)
    applied = apply_lora(model, [(file, 1.0)])
    assert np.abs(outputs(nn, model) - want).max() > 0.01
    applied.remove()
    np.testing.assert_array_equal(outputs(nn, model), want)


def test_blocks_left_in_the_file_take_live_loras(nn: Backend, path: Path) -> None:
    whole, parts = load(nn, path), load(nn, path, offload=True)
    file, _ = lora(path, nn, whole)
    apply_lora(whole, [(file, 1.0)])
    apply_lora(parts, [(file, 1.0)])
    np.testing.assert_allclose(outputs(nn, parts), outputs(nn, whole), atol=1e-6)
    parts.offload.close()


def test_keys_that_match_nothing_are_listed(nn: Backend, path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = load(nn, path)
    file, _ = lora(path, nn, model)
    arrays = load_file(file)
    extra = {"diffusion_model.audio_proj_out.lora_A.weight": np.ones((2, 3), np.float32)}
    save_file(arrays | extra, file)
    with pytest.raises(CheckpointError, match=r"1 keys match no layer.*audio_proj_out\.lora_A"):
        apply_lora(model, [(file, 1.0)])
    assert len(apply_lora(model, [(file, 1.0)], ignore_unmatched=True).paths) == 3
    other = path.parent / "other.safetensors"
    save_file({"something.weight": np.ones((2, 2), np.float32)}, other)
    with pytest.raises(CheckpointError, match=r"something\.weight; is it a LoRA\?"):
        apply_lora(model, [(other, 1.0)], ignore_unmatched=True)
    key = next(k for k in arrays if "lora_B" in k)
    save_file({k: v for k, v in arrays.items() if k != key}, file)
    with pytest.raises(CheckpointError, match="has 0 factors lora_B or lora_up"):
        apply_lora(load(nn, path), [(file, 1.0)])


def test_shapes_and_strengths_that_do_not_fit(nn: Backend, path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = load(nn, path)
    file, _ = lora(path, nn, model)
    with pytest.raises(ValueError, match="strength is nan"):
        apply_lora(model, [(file, float("nan"))])
    arrays = load_file(file)
    key = next(k for k in arrays if "to_q.lora_B" in k)
    save_file(arrays | {key: np.ones((7, 3), np.float32)}, file)
    before = outputs(nn, model)
    for fuse in (True, False):
        with pytest.raises(ValueError, match=r"LoRA \(7, 3\) x \(3, 64\) for a weight of \(64, 64\)"):
            apply_lora(model, [(file, 1.0)], fuse=fuse)
    np.testing.assert_array_equal(outputs(nn, model), before)
