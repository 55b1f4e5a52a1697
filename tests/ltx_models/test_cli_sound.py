"""The verbs of sound and of latent upsampling, as their users call them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra 'video'")

from safetensors.numpy import save_file
from tests.ltx_models.command_line import run

import ltx_models
from ltx_models import media
from ltx_models.audio_vae import AudioDecoder, AudioEncoder, AudioVAEConfig
from ltx_models.checkpoints.latent_space import latent_space
from ltx_models.nn import BackendName, backend
from ltx_models.sound_files import read_mel, wav_writer
from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig
from ltx_models.vocoder import GeneratorConfig, Vocoder

DDCONFIG = {
    "ch": 4,
    "ch_mult": [1, 2, 4],
    "num_res_blocks": 1,
    "z_channels": 2,
    "norm_type": "pixel",
    "causality_axis": "height",
    "mid_block_add_attention": False,
    "mel_bins": 64,
}
VOCODER = {
    "upsample_rates": [10, 8],
    "upsample_kernel_sizes": [20, 16],
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
    "output_sampling_rate": 8000,
}
CONFIG: dict[str, Any] = {"audio_vae": {"model": {"params": {"ddconfig": DDCONFIG}}}, "vocoder": VOCODER}


@pytest.fixture(params=["torch", "mlx"])
def name(request: pytest.FixtureRequest) -> str:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[request.param])
    return str(request.param)


def drawn(nn: Any, module: Any, prefix: str = "") -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {
        prefix + key: (draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:], initial=1.0))).astype(np.float32)
        for key, shape in nn.shapes(module).items()
    }


@pytest.fixture
def checkpoint(name: BackendName, tmp_path: Path) -> Path:
    """Make a checkpoint with tiny random networks of sound."""
    pytest.importorskip("mlx.core" if name == "mlx" else name)
    nn = backend(name)
    audio = AudioVAEConfig.read(CONFIG["audio_vae"])
    weights = drawn(nn, AudioDecoder(nn, audio), "audio_vae.decoder.")
    weights |= drawn(nn, AudioEncoder(nn, audio), "audio_vae.encoder.")
    for part in ("mean-of-means", "std-of-means"):
        for side in ("decoder", "encoder"):
            found = weights.pop(f"audio_vae.{side}.per_channel_statistics.{part}")
        weights[f"audio_vae.per_channel_statistics.{part}"] = np.abs(found) + 0.5
    weights |= drawn(nn, Vocoder(nn, GeneratorConfig.read(VOCODER)), "vocoder.")
    save_file(weights, tmp_path / "sound.safetensors", metadata={"config": json.dumps(CONFIG)})
    return tmp_path / "sound.safetensors"


def test_vocode_writes_what_the_vocoder_gives(
    name: BackendName, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mel = np.random.default_rng(1).standard_normal((1, 2, 61, 64)).astype(np.float32)
    save_file({"mel": mel}, tmp_path / "mel.safetensors")
    out = tmp_path / "out.wav"
    code, said, error = run(
        capsys,
        "vocode",
        tmp_path / "mel.safetensors",
        "-o",
        out,
        "--checkpoint",
        checkpoint,
        "--backend",
        name,
        "--frames-per-chunk",
        7,
        "--json",
    )
    assert (code, error) == (0, "")
    facts = json.loads(said)
    assert (facts["samples"], facts["rate"]) == (61 * 80, 8000)
    vocoder = ltx_models.load_vocoder(checkpoint, backend=name, dtype="float32")
    samples, rate = media.read_audio(out)
    assert rate == 8000
    np.testing.assert_allclose(samples, vocoder.nn.to_numpy(vocoder(vocoder.nn.asarray(mel))), atol=1e-5)


def test_roundtrip_passes_sound_through_every_network(
    name: BackendName, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wave = 0.3 * np.sin(np.arange(30000) / 20, dtype=np.float32)[None, None]
    media.write_audio(tmp_path / "in.wav", wave, 24000)
    code, said, error = run(
        capsys,
        "audio-roundtrip",
        tmp_path / "in.wav",
        "-o",
        tmp_path / "out.wav",
        "--checkpoint",
        checkpoint,
        "--backend",
        name,
        "--frames-per-chunk",
        20,
    )
    assert (code, error) == (0, "")
    assert "mono; both sides are the same" in said
    encoder, decoder, vocoder = (
        getattr(ltx_models, f"load_{part}")(checkpoint, backend=name, dtype="float32")
        for part in ("audio_encoder", "audio_decoder", "vocoder")
    )
    nn = encoder.nn
    mel = ltx_models.log_mel(nn.asarray(np.concatenate([wave, wave], axis=1)), 24000)
    want = nn.to_numpy(vocoder(decoder(encoder(mel))))
    samples, _ = media.read_audio(tmp_path / "out.wav")
    assert samples.shape == want.shape == (1, 2, 80 * (4 * 32 - 3))  # 126 mel frames are 32 latents
    np.testing.assert_allclose(samples, want, atol=1e-4)


def test_upscale_latents_doubles_them(name: BackendName, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nn = backend(name)
    config = {"in_channels": 128, "mid_channels": 32, "num_blocks_per_stage": 1, "temporal_upsample": True}
    config |= {"spatial_upsample": False}
    weights = drawn(nn, LatentUpsampler(nn, UpsamplerConfig.read(config)))
    save_file(weights, tmp_path / "up.safetensors", metadata={"config": json.dumps(config)})
    latents = np.random.default_rng(2).standard_normal((1, 128, 3, 2, 4)).astype(np.float32)
    sound = np.random.default_rng(3).standard_normal((1, 8, 6, 16)).astype(np.float32)
    kept: dict[str, Any] = {
        "source": "clip.mp4",
        "audio": sound,
        "pixel_aspect": Fraction(4, 3),
        "space": latent_space(ltx_models.default_checkpoint()),
        "audio_space": media.LatentSpace("owner/LTX", "0123456789abcdef"),
    }
    media.write_latents(tmp_path / "small.safetensors", latents, fps=12, **kept)
    code, said, error = run(
        capsys,
        "upscale-latents",
        tmp_path / "small.safetensors",
        "--upsampler",
        tmp_path / "up.safetensors",
        "-o",
        tmp_path / "large.safetensors",
        "--backend",
        name,
    )
    assert (code, error) == (0, "")
    assert "became (1, 128, 5, 2, 4) at 24 fps" in said
    upsampler = ltx_models.load_upsampler(tmp_path / "up.safetensors", backend=name, dtype="float32")
    statistics = ltx_models.load_statistics(ltx_models.default_checkpoint(), backend=name)
    want = nn.to_numpy(ltx_models.upsample_latent(upsampler, nn.asarray(latents), statistics))
    got = media.read_latents(tmp_path / "large.safetensors")
    assert got.fps == 24
    np.testing.assert_allclose(got.latents, want, atol=1e-4)
    np.testing.assert_array_equal(got.audio, sound)  # it was dropped
    for field in ("source", "pixel_aspect", "space", "audio_space"):
        assert getattr(got, field) == kept[field]


def test_sound_passes_through_the_networks_that_the_package_ships(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was said that there are none."""
    pytest.importorskip("torch")
    tone = 0.3 * np.sin(np.arange(8000, dtype=np.float32) / 9)[None, None].repeat(2, 1)
    media.write_audio(tmp_path / "tone.wav", tone, 16000)
    code, _, error = run(capsys, "audio-roundtrip", tmp_path / "tone.wav", "-o", tmp_path / "out.wav")
    assert (code, error) == (0, "")
    assert media.read_audio(tmp_path / "out.wav")[0].shape[2] > 8000


@pytest.mark.parametrize("name", ["torch"])
def test_errors_are_one_line(
    name: BackendName, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    media.write_audio(tmp_path / "six.wav", np.zeros((1, 6, 4000), dtype=np.float32), 16000)
    media.write_audio(tmp_path / "short.wav", np.zeros((1, 2, 100), dtype=np.float32), 16000)
    save_file({"mel": np.zeros((1, 2, 5, 80), dtype=np.float32)}, tmp_path / "bins.safetensors")
    save_file({"spectrum": np.zeros(3, dtype=np.float32)}, tmp_path / "other.safetensors")
    network = ("--checkpoint", checkpoint, "-o", tmp_path / "out.wav")
    for arguments, text in (
        (("audio-roundtrip", tmp_path / "six.wav", *network), "has 6 channels"),
        (("audio-roundtrip", tmp_path / "six.wav", "--channels", 0, 6, *network), "has channels 0 to 5"),
        (("audio-roundtrip", tmp_path / "short.wav", *network), "100 samples at the target rate are too few"),
        (("audio-roundtrip", tmp_path / "nothing.wav", *network), "nothing.wav"),
        (("vocode", tmp_path / "bins.safetensors", *network), "expected (batch, 2, time, 64)"),
        (("vocode", tmp_path / "other.safetensors", *network), "holds no tensor 'mel'"),
        (("vocode", tmp_path / "bins.safetensors", *network[2:]), "expected (batch, 2, time, 64)"),
        (("vocode", tmp_path / "bins.safetensors", *network[:2], "-o", tmp_path / "a.mp3"), "must end in .wav"),
    ):
        code, _, error = run(capsys, *arguments)
        assert code == 2
        assert text in error
        assert error.count("\n") == 1
        assert not (tmp_path / "out.wav").exists()


def test_a_wav_that_is_not_finished_bears_no_name(tmp_path: Path) -> None:
    def write(*blocks: Any) -> None:
        with wav_writer(tmp_path / "a.wav", 8000) as file:
            for block in blocks:
                file.write(block)

    good = np.zeros((1, 2, 5), dtype=np.float32)
    with pytest.raises(media.MediaError, match=r"got samples of shape \(1, 1, 5\), expected \(1, 2, n\)"):
        write(good, good[:, :1])
    with pytest.raises(media.MediaError, match="samples 5 and on are not all finite"):
        write(good, good + np.float32("nan"))
    with pytest.raises(media.MediaError, match="no samples were written"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lengths", [[1], [5, 4096, 1], [10_000]])
def test_a_wav_written_in_blocks_is_the_wav_written_at_once(lengths: list[int], tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (1, 2, sum(lengths))).astype(np.float32)
    media.write_audio(tmp_path / "whole.wav", samples, 24000)
    with wav_writer(tmp_path / "blocks.wav", 24000) as file:
        for block in np.split(samples, np.cumsum(lengths)[:-1], axis=2):
            file.write(block)
    assert (tmp_path / "blocks.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_a_spectrogram_is_read_part_by_part(tmp_path: Path) -> None:
    mel = np.random.default_rng(0).standard_normal((1, 2, 25, 64)).astype(np.float32)
    save_file({"mel": mel}, tmp_path / "mel.safetensors")
    parts = list(read_mel(tmp_path / "mel.safetensors", 10))
    assert [part.shape[2] for part in parts] == [10, 10, 5]
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), mel)
