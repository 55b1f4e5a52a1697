"""The embedded checkpoint: official in form, and good enough to be recognised."""

import json
import re
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models import default_checkpoint, defaults, load_video_decoder, load_video_encoder
from ltx_models.checkpoints import CheckpointError
from ltx_models.nn import Backend, backend
from ltx_models.video_vae import VideoVAEConfig

TAIL = 32  # frames at the end of bigbuckbunny.mp4 that it was not trained on
# decibels over the middle of the first of them; 28.12 and 23.95 when it was trained, 28.37 and 23.99 in bfloat16
LEAST_PSNR = {"bigbuckbunny.mp4": 27.8, "carphone_pristine.mp4": 23.6}
BLOCKS = {"res_x", "compress_space_res", "compress_time_res", "compress_all_res", "compress_all"}


@pytest.fixture(scope="module")
def stored() -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, str]]:
    """Dtype and shape of every tensor, and the metadata."""
    from safetensors import safe_open

    with safe_open(default_checkpoint(), "numpy") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        return {key: (one.get_dtype(), tuple(one.get_shape())) for key, one in slices.items()}, file.metadata()


def official_keys(config: VideoVAEConfig) -> set[str]:
    """Spell the keys of an official file with this configuration."""
    keys = {f"vae.per_channel_statistics.{name}-of-means" for name in ("mean", "std")}
    for part, blocks, steps in (
        ("encoder", "down_blocks", config.encoder_steps()),
        ("decoder", "up_blocks", config.decoder_steps()),
    ):
        for step in steps:
            assert re.fullmatch(rf"conv_in|conv_out|{blocks}\.\d+(\.res_blocks\.\d+)?", step.name)
            names = ("conv1.conv", "conv2.conv") if "res_blocks" in step.name else ("conv",)
            names = ("conv.conv",) if re.fullmatch(rf"{blocks}\.\d+", step.name) else names
            keys |= {f"vae.{part}.{step.name}.{name}.{leaf}" for name in names for leaf in ("weight", "bias")}
    return keys


def test_keys_dtypes_and_metadata_are_those_of_official_files(stored: Any) -> None:
    tensors, metadata = stored
    section = json.loads(metadata["config"])["vae"]
    assert tensors.keys() == official_keys(VideoVAEConfig.read(section))
    assert {dtype for dtype, _ in tensors.values()} == {"BF16"}
    assert metadata["model_version"] == "2.0"
    assert metadata["license"] == "Apache-2.0"
    assert "demonstration" in metadata["description"]


def test_layout_is_that_of_2_0_with_every_kind_of_block(stored: Any) -> None:
    config = VideoVAEConfig.read(json.loads(stored[1]["config"])["vae"])
    section = json.loads(stored[1]["config"])["vae"]
    assert {name for key in ("encoder_blocks", "decoder_blocks") for name, _ in section[key]} == BLOCKS
    assert config.encoder_scale == config.decoder_scale == (8, 32, 32)
    assert config.latent_channels == 128
    assert (config.encoder_padding, config.decoder_padding, config.causal_decoder) == ("zeros", "reflect", False)
    assert all(block.residual for block in config.decoder_blocks if block.name == "compress_all")


def test_it_is_small() -> None:
    assert default_checkpoint().stat().st_size <= 12_000_000


def test_a_missing_file_is_an_error_with_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(defaults, "files", lambda package: tmp_path / package)
    with pytest.raises(FileNotFoundError, match=r"tiny-video-vae.safetensors: the embedded checkpoint is missing"):
        default_checkpoint()


def test_loading_is_strict(nn: Backend, tmp_path: Path) -> None:
    """One tensor less, and the loader names it."""
    raw = default_checkpoint().read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["vae.decoder.conv_out.conv.another"] = header.pop("vae.decoder.conv_out.conv.bias")
    changed = json.dumps(header).encode()
    (tmp_path / "short.safetensors").write_bytes(len(changed).to_bytes(8, "little") + changed + raw[8 + size :])
    with pytest.raises(CheckpointError, match=r"1 missing: conv_out\.conv\.bias.*1 unexpected"):
        load_video_decoder(tmp_path / "short.safetensors", backend=nn.name)
    load_video_encoder(tmp_path / "short.safetensors", backend=nn.name)


@cache
def unseen(name: str) -> Any:
    """Give (1, 3, 9, 128, 160) in [-1, 1]: frames of a packaged clip that were not trained on."""
    pytest.importorskip("av", reason="clips are read with PyAV")
    from ltx_models.media import MediaError, iter_frames, sample_clip

    try:
        clip = np.stack(deque(iter_frames(sample_clip(name)), maxlen=TAIL))
    except MediaError as error:
        pytest.skip(f"the packaged clips are not here: {error}")
    top, left = (clip.shape[1] - 128) // 2, (clip.shape[2] - 160) // 2
    window = clip[:9, top : top + 128, left : left + 160]
    return np.ascontiguousarray(window.transpose(3, 0, 1, 2)[None], dtype=np.float32) / 127.5 - 1


@cache
def reconstruct(backend_name: Any, name: str, dtype: Any) -> tuple[Any, Any, Any]:
    """Encode and decode; give pixels, latents and decoded pixels, as arrays of the host."""
    nn, path, video = backend(backend_name), default_checkpoint(), unseen(name)
    encoder, decoder = (load(path, backend=nn.name, dtype=dtype) for load in (load_video_encoder, load_video_decoder))
    latent = encoder(nn.cast(nn.asarray(video), nn.dtype(dtype)))
    return video, nn.to_numpy(latent), nn.to_numpy(decoder(latent))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", LEAST_PSNR)
def test_unseen_frames_come_back(nn: Backend, name: str, dtype: str) -> None:
    video, _, decoded = reconstruct(nn.name, name, dtype)
    error = np.mean((np.clip(decoded, -1, 1) - video) ** 2)
    assert 10 * np.log10(4 / error) >= LEAST_PSNR[name]


def test_latents_are_normalised_and_no_channel_is_dead(nn: Backend) -> None:
    """The statistics are those of real latents: each channel varies, by about one where the picture is varied."""
    latents = [reconstruct(nn.name, name, "float32")[1][0].reshape(128, -1) for name in LEAST_PSNR]
    spread = np.concatenate(latents, axis=1).std(axis=1)
    assert spread.min() > 0.1
    assert 0.5 < np.median(spread) < 1.5


@pytest.mark.parametrize("name", LEAST_PSNR)
def test_torch_equals_mlx(name: str, close: Callable[..., None]) -> None:
    for module in ("torch", "mlx.core"):
        pytest.importorskip(module)
    (_, *ours), (_, *theirs) = (reconstruct(one, name, "float32") for one in ("torch", "mlx"))
    # other orders of summation, through dozens of layers
    close(ours[0], theirs[0], 1e-3, "latents")
    close(ours[1], theirs[1], 1e-3, "pixels")
