"""What is wrong with files and calls is said before the first step, and every recipe runs with every set of streams."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.ltx_models.pipeline_files import contexts, write_whole

from ltx_models import load_audio_decoder, load_upsampler, load_video_decoder
from ltx_models.checkpoints import CheckpointError, open_checkpoint
from ltx_models.checkpoints.layouts import _names
from ltx_models.convert import convert
from ltx_models.media import as_float32
from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import RECIPES, Image, LTX2Pipeline
from ltx_models.sampling import Guidance

SMALL: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9, "prompt_embeds": contexts(1)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    return write_whole(tmp_path_factory.mktemp("whole"), get_backend("torch"))


def pipeline(files: dict[str, Path], name: str, **more: Any) -> LTX2Pipeline:
    lora = files["lora"] if RECIPES[name].needs_lora else None
    options: dict[str, Any] = {"upsampler": files["upsampler"], "distilled_lora": lora} | more
    return LTX2Pipeline.from_pretrained(files["path"], pipeline=name, dtype="float32", **options)


def metadata(path: Path) -> dict[str, str]:
    with open_checkpoint(path, "numpy") as checkpoint:
        return dict(checkpoint.metadata)


@pytest.mark.parametrize("streams", [("video",), ("audio",), ("video", "audio")], ids="+".join)
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_runs_with_every_set_of_streams(
    files: dict[str, Path], name: str, streams: tuple[str, ...]
) -> None:
    guided: dict[str, Any] = (
        {"num_inference_steps": 2, "negative_prompt_embeds": contexts(2)} if RECIPES[name].guided else {}
    )
    guidance = {"video": Guidance(3, 1, (0,), 3, 0.7), "audio": Guidance(7, 1, (0,), 3, 0.7)}
    out = pipeline(files, name)(**SMALL, **guided, guidance=guidance, streams=streams)
    assert (out.frames is not None, out.audio is not None) == ("video" in streams, "audio" in streams)
    if "video" in streams:
        assert out.frames.shape == (1, 9, 64, 64, 3)
    if "audio" in streams:
        assert out.audio.shape[:2] == (1, 2)
        assert np.isfinite(out.audio).all()


LOST: dict[str, dict[str, Any]] = {
    "vae.decoder.conv_in.conv.bias": {},
    "audio_vae.decoder.conv_in.conv.bias": {},
    "vocoder.conv_pre.bias": {},
    "model.diffusion_model.proj_out.bias": {},
    "vae.encoder.conv_in.conv.bias": {"images": [Image(np.zeros((64, 64, 3), np.uint8), crf=0)]},
}


@pytest.mark.parametrize("key", LOST)
def test_a_file_that_lacks_a_tensor_is_refused_before_the_first_step(
    files: dict[str, Path], tmp_path: Path, key: str
) -> None:
    tensors = load_file(files["path"])
    del tensors[key]
    save_file(tensors, tmp_path / "tiny-2.3.safetensors", metadata(files["path"]))
    pipe = pipeline({**files, "path": tmp_path / "tiny-2.3.safetensors"}, "distilled-one-stage")
    seen: list[Any] = []
    with pytest.raises(CheckpointError, match="1 missing: "):
        pipe(**SMALL, **LOST[key], progress=lambda *now: seen.append(now))
    assert not seen
    assert pipe.components.held == ()


def test_a_configuration_of_another_network_is_refused_before_the_first_step(
    files: dict[str, Path], tmp_path: Path
) -> None:
    kept = metadata(files["path"])
    config = json.loads(kept["config"])
    config["audio_vae"]["model"]["params"]["ddconfig"]["norm_type"] = "group"
    path = tmp_path / "tiny-2.3.safetensors"
    save_file(load_file(files["path"]), path, {**kept, "config": json.dumps(config)})
    pipe = pipeline({**files, "path": path}, "distilled-one-stage")
    seen: list[Any] = []
    with pytest.raises(ValueError, match="norm_type"):
        pipe(**SMALL, progress=lambda *now: seen.append(now))
    assert not seen
    assert pipe(**SMALL, streams=("video",)).frames is not None, "what a run does not need is not checked"


def test_an_upsampler_of_another_kind_is_refused_before_the_first_step(files: dict[str, Path], tmp_path: Path) -> None:
    tensors = load_file(files["upsampler"])
    del tensors["final_conv.bias"]
    save_file(tensors, tmp_path / "upsampler.safetensors", metadata(files["upsampler"]))
    pipe = pipeline(files, "distilled", upsampler=tmp_path / "upsampler.safetensors")
    with pytest.raises(CheckpointError, match=r"final_conv\.bias"):
        pipe(**SMALL, progress=lambda *now: pytest.fail(str(now)))


def test_folders_of_diffusers_whose_audio_vae_has_no_attention_resolutions_load(
    files: dict[str, Path], tmp_path: Path, nn: Backend
) -> None:
    """Its converter writes null for none; what is converted from there loads too."""
    tensors = {key: value for key, value in load_file(files["path"]).items() if key.startswith("audio_vae.")}
    section = {"audio_vae": json.loads(metadata(files["path"])["config"])["audio_vae"]}
    save_file(tensors, tmp_path / "audio_vae.safetensors", {"config": json.dumps(section)})
    folder = convert(tmp_path / "audio_vae.safetensors", tmp_path / "folder", layout="diffusers").files[0].parent
    weights = next(folder.glob("*.safetensors"))
    save_file(load_file(weights), weights)  # diffusers writes no configuration into the weights
    described = folder / "config.json"
    config = json.loads(described.read_text()) | {"attn_resolutions": None}
    described.write_text(json.dumps(config))
    official = convert(folder, tmp_path / "whole.safetensors", layout="official").files[0]
    with open_checkpoint(official, "numpy") as checkpoint:
        assert checkpoint.config["audio_vae"]["model"]["params"]["ddconfig"]["attn_resolutions"] == []
    latent = np.random.default_rng(0).normal(size=(1, 8, 3, 16)).astype(np.float32)
    results = []
    for path in (files["path"], folder, official):
        decoder = load_audio_decoder(path, backend=nn.name, dtype="float32")
        results.append(as_float32(decoder(nn.asarray(latent))))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_the_upsampler_of_a_folder_of_a_pipeline_is_found(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "latent_upsampler").mkdir()
    (tmp_path / "latent_upsampler" / "diffusion_pytorch_model.safetensors").write_bytes(files["upsampler"].read_bytes())
    (tmp_path / "transformer").mkdir()
    model = load_upsampler(tmp_path, backend="torch", dtype="float32")
    assert tuple(model.initial_conv.weight.shape[:2]) == (32, 128)


def test_names_of_diffusers_under_the_official_prefix_load(files: dict[str, Path], tmp_path: Path, nn: Backend) -> None:
    kept = metadata(files["path"])
    to_diffusers = _names.DIFFUSERS["video_vae"].there
    tensors = {
        f"vae.{to_diffusers(key.removeprefix('vae.'))}": value
        for key, value in load_file(files["path"]).items()
        if key.startswith("vae.")
    }
    assert any(".resnets." in key for key in tensors)
    save_file(tensors, tmp_path / "vae.safetensors", {"config": kept["config"]})
    latent = nn.asarray(np.random.default_rng(0).normal(size=(1, 128, 2, 2, 2)).astype(np.float32))
    one, other = (
        as_float32(load_video_decoder(path, backend=nn.name, dtype="float32")(latent))
        for path in (files["path"], tmp_path / "vae.safetensors")
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["distilled", "distilled-one-stage"])
def test_the_smallest_clip_runs(files: dict[str, Path], name: str, nn: Backend) -> None:
    """The first of two stages has a single cell, and so has each group of the upsampler's norms."""
    out = pipeline(files, name, backend=nn.name)(**SMALL | {"num_frames": 1}, streams=("video",))
    assert out.frames.shape == (1, 1, 64, 64, 3)
    assert np.isfinite(out.frames).all()


def test_steps_that_a_distilled_recipe_does_not_use_are_said(files: dict[str, Path]) -> None:
    out = pipeline(files, "distilled-one-stage")(**SMALL, num_inference_steps=20, output_type="latent")
    assert out.notes == ("num_inference_steps: not used by the pipeline 'distilled-one-stage'",)


def test_progress_may_be_true(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    pipeline(files, "distilled-one-stage")(**SMALL, progress=True, output_type="latent")
    assert "denoise" in capsys.readouterr().err


def test_levels_of_a_configuration_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    """One level has one change of size and two rows of layers."""
    one_level = {
        "_class_name": "AutoencoderKLLTX2Video",
        "block_out_channels": [128],
        "layers_per_block": [1],
        "downsample_type": ["spatial"],
        "decoder_block_out_channels": [128],
        "decoder_layers_per_block": [1, 1],
        "upsample_type": ["spatial"],
        "upsample_factor": [2],
    }
    save_file({"encoder.conv_in.conv.weight": np.zeros((1, 1), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(one_level))
    with pytest.raises(CheckpointError, match="layers_per_block 1, downsample_type 1, block_out_channels 1; expected"):
        load_video_decoder(tmp_path, backend="torch")
    (tmp_path / "config.json").write_text(json.dumps(one_level | {"layers_per_block": [1, 1]}))
    with open_checkpoint(tmp_path, "numpy") as checkpoint:
        blocks = checkpoint.config["vae"]["encoder_blocks"]
    assert [name for name, _ in blocks] == ["res_x", "compress_space_res", "res_x"]
