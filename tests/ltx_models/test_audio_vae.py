"""The audio autoencoder: the reference's outputs, what it keeps and what it refuses, on both backends."""

from __future__ import annotations

import copy
import pickle
from math import prod
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ltx_models import load_audio_decoder, load_audio_encoder
from ltx_models.audio_vae import AudioDecoder, AudioEncoder, AudioVAEConfig
from ltx_models.checkpoints import CheckpointError
from ltx_models.nn import Backend, backend

TINY = AudioVAEConfig(channels=8, multipliers=(1, 2, 4), blocks=1, latent_channels=2, mel_bins=16)
# the reference in float32 and in float64 differ by up to 4e-6 (decoder and encoder alike)
TOLERANCE = 2e-5


def filled(nn: Backend, module: Any, seed: int = 0) -> Any:
    """Give a module random weights of a size that keeps activations near 1."""
    draw = np.random.default_rng(seed)
    weights = {
        key: nn.asarray((draw.standard_normal(shape) / prod(shape[1:]) ** 0.5).astype(np.float32))
        for key, shape in nn.shapes(module).items()
    }
    return nn.load(module, weights)


def noise(nn: Backend, *shape: int) -> Any:
    return nn.asarray(np.random.default_rng(1).standard_normal(shape).astype(np.float32))


def test_decoder_equals_the_reference(nn: Backend, oracle: Any, close: Any) -> None:
    for case in oracle("audio_decoder_*"):
        decoder = load_audio_decoder(case.path, backend=nn.name, dtype="float32")
        got = decoder(nn.asarray(case.get("input.latent")))
        close(got, case.get("output.mel"), TOLERANCE, case.name)


def test_encoder_equals_the_reference(nn: Backend, oracle: Any, close: Any) -> None:
    for case in oracle("audio_encoder_*"):
        encoder = load_audio_encoder(case.path, backend=nn.name, dtype="float32")
        got = encoder(nn.asarray(case.get("input.mel")))
        close(got, case.get("output.latent"), TOLERANCE, case.name)


def test_causal_decoder_looks_back_only(nn: Backend) -> None:
    decoder = filled(nn, AudioDecoder(nn, TINY))
    latent = noise(nn, 1, 2, 6, 4)
    whole, beginning = (nn.to_numpy(decoder(x)) for x in (latent, latent[:, :, :4]))
    assert whole.shape == (1, 2, 21, 16)
    np.testing.assert_allclose(whole[:, :, :13], beginning, atol=1e-5)
    assert np.abs(whole[:, :, 13:]).max() > 1e-3


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (4, 1), (5, 2), (41, 11), (40, 10)])
def test_encoder_gives_a_latent_for_each_four_frames_begun(nn: Backend, frames: int, latents: int) -> None:
    encoder = filled(nn, AudioEncoder(nn, TINY))
    assert tuple(encoder(noise(nn, 2, 2, frames, 16)).shape) == (2, 2, latents, 4)


def test_backends_agree(close: Any) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    results = []
    for name in ("torch", "mlx"):
        nn = backend(name)
        decoder = filled(nn, AudioDecoder(nn, TINY))
        results.append(nn.to_numpy(decoder(noise(nn, 2, 2, 5, 4))))
    close(*results, 2e-5)


def test_copies_and_pickles_give_the_same(nn: Backend, close: Any) -> None:
    decoder = filled(nn, AudioDecoder(nn, TINY))
    latent = noise(nn, 1, 2, 3, 4)
    for other in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        close(nn.to_numpy(other(latent)), nn.to_numpy(decoder(latent)), 0)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 3, 5, 4), r"got shape \(1, 3, 5, 4\), expected \(batch, 2, time, 4\)"),
        ((1, 2, 5, 8), r"expected \(batch, 2, time, 4\)"),
        ((1, 2, 0, 4), r"none of them 0"),
        ((2, 5, 4), r"got shape \(2, 5, 4\)"),
    ],
)
def test_refuses_other_shapes(nn: Backend, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        filled(nn, AudioDecoder(nn, TINY))(nn.xp.zeros(shape, dtype=nn.float32))


def test_refuses_what_is_no_sound(nn: Backend) -> None:
    decoder = filled(nn, AudioDecoder(nn, TINY))
    with pytest.raises(ValueError, match="holds NaN or infinite"):
        decoder(nn.xp.full((1, 2, 3, 4), float("nan"), dtype=nn.float32))
    with pytest.raises(ValueError, match="expected a floating-point"):
        decoder(nn.xp.ones((1, 2, 3, 4), dtype=nn.xp.int32))
    with pytest.raises(ValueError, match=f"takes arrays of {nn.name}"):
        decoder(np.zeros((1, 2, 3, 4), dtype=np.float32))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"norm_type": "group"}, "norm_type: got 'group'"),
        ({"attn_resolutions": [16]}, "attn_resolutions"),
        ({"causality_axis": "width"}, "causality_axis: got 'width'"),
        ({"ch": None}, "ch missing"),
    ],
)
def test_refuses_configurations_that_no_checkpoint_has(changes: dict[str, Any], text: str) -> None:
    known = {"ch": 8, "num_res_blocks": 1, "z_channels": 2, "norm_type": "pixel", "causality_axis": "height"} | changes
    section = {"model": {"params": {"ddconfig": {k: v for k, v in known.items() if v is not None}}}}
    with pytest.raises(ValueError, match=text):
        AudioVAEConfig.read(section)


def test_refuses_missing_and_unexpected_keys(nn: Backend, tmp_path: Any) -> None:
    dd = {"ch": 8, "ch_mult": [1, 2, 4], "num_res_blocks": 1, "z_channels": 2, "norm_type": "pixel", "mel_bins": 16}
    config = {
        "audio_vae": {
            "model": {"params": {"ddconfig": dd | {"causality_axis": "height", "mid_block_add_attention": False}}}
        }
    }
    weights = {
        f"audio_vae.{'' if key.startswith('per_') else 'decoder.'}{key}": np.ones(shape, dtype=np.float32)
        for key, shape in nn.shapes(AudioDecoder(nn, TINY)).items()
    }
    save_file(weights, tmp_path / "whole.safetensors")
    decoder = load_audio_decoder(tmp_path / "whole.safetensors", backend=nn.name, dtype="bfloat16", config=config)
    assert decoder(noise(nn, 1, 2, 2, 4)).dtype == nn.dtype("bfloat16")
    weights["audio_vae.decoder.spare.weight"] = weights.pop("audio_vae.decoder.conv_out.conv.bias")
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing: conv_out\.conv\.bias; 1 unexpected: .*spare\.weight"):
        load_audio_decoder(tmp_path / "other.safetensors", backend=nn.name, dtype="float32", config=config)
