"""The video autoencoder against the reference, and what it refuses."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models import CheckpointError, default_checkpoint, load_video_decoder, load_video_encoder
from ltx_models.nn import Backend
from ltx_models.video_vae import LTX2, LTX2_3, VideoVAEConfig

# (largest, root mean square) differences: float32 against float64 of the official network reaches (5.6e-5, 2e-6) in
# the decoder, where a pixel norm may divide by little, and (9e-6, 4e-6) in the encoder
VIDEO = (2e-4, 2e-5)
LATENT = (5e-5, 2e-5)


def agree(got: Any, want: Any, most: float, rms: float, what: str) -> None:
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    assert got.shape == want.shape, what
    error = np.abs(got - want)
    assert error.max() <= most, f"{what}: {error.max():.1e}"
    assert np.sqrt((error**2).mean()) <= rms, what


def host(nn: Backend, x: Any) -> Any:
    if nn.name == "torch":
        return x.detach().float().numpy()
    return np.asarray(x.astype(nn.float32))


def test_the_decoder_gives_the_reference_pixels(nn: Backend, oracle: Any) -> None:
    for case in oracle("video_decoder_*"):
        decoder = load_video_decoder(case.path, backend=nn.name, dtype="float32")
        draws = [nn.asarray(case.get(key)) for key in sorted(case.arrays) if key.startswith("input.noise.")]
        timestep = case.get("input.timestep")
        given = {"noise": draws or None, "timestep": None if timestep is None else nn.asarray(timestep)}
        video = decoder(nn.asarray(case.get("input.latent")), **given)
        agree(host(nn, video), case.get("output.video"), *VIDEO, case.name)


def test_the_encoder_gives_the_reference_latents(nn: Backend, oracle: Any, oracle25: Any) -> None:
    for case in [*oracle("video_encoder_*"), *oracle25("video_encoder_*")]:
        encoder = load_video_encoder(case.path, backend=nn.name, dtype="float32")
        video = case.get("input.video_u8").astype(np.float32) / 127.5 - 1
        frames = (video.shape[2] - 1) // 8 * 8 + 1
        latent = encoder(nn.asarray(video[:, :, :frames]))
        agree(host(nn, latent), case.get("output.latent"), *LATENT, case.name)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["video_decoder_dec20_basic", "video_decoder_dec23_wide"])
def test_half_precision_stays_close_to_float32(nn: Backend, oracle: Any, name: str, dtype: Any) -> None:
    """Within a few steps of the format, which has 8 or 11 bits, through all layers."""
    path = oracle(name)[0].path
    full, half = (load_video_decoder(path, backend=nn.name, dtype=kind) for kind in ("float32", dtype))
    z = np.random.default_rng(0).standard_normal((1, full.config.latent_channels, 2, 2, 2), dtype=np.float32)
    want, got = full(nn.asarray(z)), half(nn.asarray(z))
    assert got.dtype == nn.dtype(dtype)
    error = np.abs(host(nn, got) - host(nn, want))
    assert error.mean() <= (0.02 if dtype == "bfloat16" else 0.003) * np.abs(host(nn, want)).mean()


def test_half_precision_costs_the_shipped_autoencoder_little(nn: Backend) -> None:
    """In dB of a clip that it decodes: one of its channels is nearly constant, which enlarges rounding."""
    f, y, x = np.meshgrid(np.arange(9), np.arange(64), np.arange(96), indexing="ij")
    clip = np.stack([np.sin(x / 17 + f / 5 + c) * np.cos(y / 13 - f / 7 + c) for c in range(3)])[None]
    z = load_video_encoder(default_checkpoint(), backend=nn.name, dtype="float32")(nn.asarray(clip.astype(np.float32)))

    def psnr(dtype: Any) -> float:
        video = host(nn, load_video_decoder(default_checkpoint(), backend=nn.name, dtype=dtype)(z))
        return float(-10 * np.log10(((video.clip(-1, 1) - clip) ** 2).mean() / 4))

    whole = psnr("float32")
    assert whole > 20
    assert psnr("bfloat16") > whole - 0.25
    assert psnr("float16") > whole - 0.025


def test_a_single_sample_decodes_as_within_a_batch(nn: Backend, close: Any) -> None:
    decoder = load_video_decoder(default_checkpoint(), backend=nn.name, dtype="float32")
    z = nn.asarray(np.random.default_rng(0).standard_normal((2, 128, 1, 2, 3), dtype=np.float32))
    close(decoder(z)[1:], decoder(z[1:]), 1e-4)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 128, 2, 2), r"latent: got shape \(1, 128, 2, 2\), expected \(batch, 128, frames, height, width\)"),
        ((1, 64, 1, 2, 2), r"got shape \(1, 64, 1, 2, 2\), expected \(batch, 128"),
        ((1, 128, 0, 2, 2), r"none of them 0"),
        (
            (1, 128, 1, 1, 4),
            r"height and width are \(1, 4\) cells, this decoder mirrors its borders",
        ),
    ],
)
def test_the_decoder_refuses_shapes_that_do_not_fit(nn: Backend, shape: tuple[int, ...], said: str) -> None:
    decoder = load_video_decoder(default_checkpoint(), backend=nn.name, dtype="float32")
    with pytest.raises(ValueError, match=said):
        decoder(nn.asarray(np.zeros(shape, np.float32)))


def test_arrays_of_another_library_are_refused(nn: Backend) -> None:
    decoder = load_video_decoder(default_checkpoint(), backend=nn.name, dtype="float32")
    with pytest.raises(ValueError, match=rf"latent: got a numpy.ndarray, this network takes arrays of {nn.name}"):
        decoder(np.zeros((1, 128, 1, 2, 2), np.float32))
    with pytest.raises(ValueError, match=r"latent: got dtype .*int.*, expected a floating-point one"):
        decoder(nn.asarray(np.zeros((1, 128, 1, 2, 2), np.int32)))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 3, 12, 32, 32), r"got 12 frames, expected 1 \+ 8 k; cut to 9 or extend to 17 frames"),
        ((1, 3, 9, 40, 32), r"got 40 x 32 pixels, expected multiples of 32 x 32; crop to \(32, 32\)"),
        ((1, 4, 9, 32, 32), r"got shape \(1, 4, 9, 32, 32\), expected \(batch, 3"),
    ],
)
def test_the_encoder_refuses_clips_that_do_not_fit(nn: Backend, shape: tuple[int, ...], said: str) -> None:
    encoder = load_video_encoder(default_checkpoint(), backend=nn.name, dtype="float32")
    with pytest.raises(ValueError, match=said):
        encoder(nn.asarray(np.zeros(shape, np.float32)))


def test_noise_and_timesteps_must_fit_the_decoder(nn: Backend, oracle: Any) -> None:
    (case,) = oracle("video_decoder_dec20_timestep")
    decoder = load_video_decoder(case.path, backend=nn.name, dtype="float32")
    z = nn.asarray(case.get("input.latent"))
    with pytest.raises(ValueError, match=r"noise: got 2 draws, this decoder makes 1"):
        decoder(z, noise=[z, z])
    with pytest.raises(ValueError, match=r"the first draw has shape \(2, 8, 1, 2, 2\)"):
        decoder(z, noise=[z[:, :, :1]])
    with pytest.raises(ValueError, match=r"timestep: got shape \(3,\), expected \(2,\)"):
        decoder(z, timestep=nn.asarray(np.zeros(3, np.float32)))
    plain = load_video_decoder(default_checkpoint(), backend=nn.name, dtype="float32")
    with pytest.raises(ValueError, match="this decoder is not conditioned on a timestep"):
        plain(nn.asarray(np.zeros((1, 128, 1, 2, 2), np.float32)), timestep=nn.asarray(np.zeros(1, np.float32)))


def test_noise_is_drawn_by_the_framework_where_none_is_given(nn: Backend, oracle: Any) -> None:
    (case,) = oracle("video_decoder_dec20_inject_noise")
    decoder = load_video_decoder(case.path, backend=nn.name, dtype="float32")
    z = nn.asarray(case.get("input.latent"))
    first, second = (host(nn, decoder(z)) for _ in range(2))
    assert np.abs(first - second).max() > 0


def parameters(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for key, shape in shapes.items() if not key.startswith("per_channel"))


@pytest.mark.parametrize(("config", "encoder", "decoder"), [(LTX2, 694, 528), (LTX2_3, 319, 407)], ids=["2.0", "2.3"])
def test_the_real_configurations_have_the_published_sizes(
    nn: Backend, config: VideoVAEConfig, encoder: int, decoder: int
) -> None:
    from ltx_models.video_vae import VideoDecoder, VideoEncoder

    kinds: list[Any] = [VideoEncoder, VideoDecoder]
    networks = [nn.build(partial(kind, nn, config)) for kind in kinds]
    assert [round(parameters(nn.shapes(network)) / 1e6) for network in networks] == [encoder, decoder]


# ---- checkpoints ----------------------------------------------------------------------------------------------------
def rewritten(path: Path, change: Any, config: Any = None) -> Path:
    """Write the embedded checkpoint anew, changed."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(default_checkpoint(), "numpy") as file:
        metadata = file.metadata()
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    weights = {key: value.float().numpy() for key, value in load_file(default_checkpoint()).items()}
    change(weights)
    if config is not None:
        metadata["config"] = json.dumps(config)
    save_file(weights, path, metadata)
    return path


def test_missing_extra_and_misshapen_tensors_are_listed(tmp_path: Path) -> None:
    def change(weights: dict[str, Any]) -> None:
        weights.pop("vae.decoder.conv_in.conv.bias")
        weights["vae.decoder.conv_middle.weight"] = np.zeros(3, np.float32)
        weights["vae.decoder.conv_out.conv.bias"] = np.zeros(5, np.float32)
        weights["vae.per_channel_statistics.mean-of-stds"] = np.zeros(5, np.float32)  # files carry it, nobody reads it
        weights["vocoder.conv_pre.bias"] = np.zeros(5, np.float32)  # another component

    path = rewritten(tmp_path / "changed.safetensors", change)
    with pytest.raises(CheckpointError) as caught:
        load_video_decoder(path)
    said = str(caught.value)
    assert "1 missing: conv_in.conv.bias" in said
    assert "1 unexpected: vae.decoder.conv_middle.weight" in said
    assert "1 of another shape: vae.decoder.conv_out.conv.bias (5,) instead of (48,)" in said
    load_video_encoder(path)


def test_a_folder_of_shards_and_bare_prefixes_load_alike(nn: Backend, tmp_path: Path, close: Any) -> None:
    from safetensors.numpy import save_file

    weights: dict[str, Any] = {}
    rewritten(tmp_path / "whole.safetensors", weights.update)
    (tmp_path / "shards").mkdir()
    from safetensors import safe_open

    with safe_open(default_checkpoint(), "numpy") as file:
        metadata = file.metadata()
    bare = {key.removeprefix("vae."): value for key, value in weights.items()}
    half = len(bare) // 2
    save_file(dict(list(bare.items())[:half]), tmp_path / "shards" / "a.safetensors", metadata)
    save_file(dict(list(bare.items())[half:]), tmp_path / "shards" / "b.safetensors")
    z = nn.asarray(np.random.default_rng(0).standard_normal((1, 128, 1, 2, 2), dtype=np.float32))
    whole = load_video_decoder(default_checkpoint(), backend=nn.name, dtype="float32")
    shards = load_video_decoder(tmp_path / "shards", backend=nn.name, dtype="float32")
    close(shards(z), whole(z), 0.0)


def test_what_is_no_checkpoint_is_refused(nn: Backend, tmp_path: Path) -> None:
    whole = default_checkpoint().read_bytes()
    truncated, foreign = tmp_path / "truncated.safetensors", tmp_path / "foreign.safetensors"
    truncated.write_bytes(whole[: len(whole) // 2])
    foreign.write_bytes(b"GGUF" + bytes(100))
    for path, said in [
        (truncated, r"truncated\.safetensors: not a whole safetensors file .*; download it again"),
        (foreign, r"foreign\.safetensors: not a whole safetensors file"),
        (tmp_path / "none.safetensors", "no such file or folder"),
    ]:
        with pytest.raises(CheckpointError, match=said):
            load_video_decoder(path, backend=nn.name)
    (tmp_path / "weights.ckpt").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match=r"expected a \.safetensors file or a folder of them; other formats"):
        load_video_decoder(tmp_path / "weights.ckpt", backend=nn.name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors in this folder"):
        load_video_decoder(tmp_path / "empty", backend=nn.name)


def test_a_config_that_is_not_understood_is_refused(nn: Backend) -> None:
    blocks = {"encoder_blocks": [["res_x", 1]], "decoder_blocks": [["res_x", 1]]}
    for section, said in [
        ({}, r"vae\.encoder_blocks: missing"),
        ({**blocks, "decoder_blocks": [["attn_res_x", {}]]}, r"unknown block 'attn_res_x', known are compress_all"),
        ({**blocks, "spatial_padding_mode": "circular"}, r"got 'circular', allowed are 'zeros' and 'reflect'"),
        ({**blocks, "_class_name": "CausalDiffusionVAE"}, r"vae.decoder: missing; .* diffusion decoder"),
    ]:
        with pytest.raises(ValueError, match=said):
            load_video_decoder(default_checkpoint(), backend=nn.name, config={"vae": section})
    with pytest.raises(ValueError, match=r"dtype: got 'int8', allowed are 'bfloat16', 'float16', 'float32'"):
        load_video_decoder(default_checkpoint(), backend=nn.name, dtype="int8")  # type: ignore[arg-type]
