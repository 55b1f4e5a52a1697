"""Exact tiles against diffusers' own AutoencoderKL and vocoder, whole; seeded weights, real structures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: nox -s parity")
torch = pytest.importorskip("torch")

from tests.parity.diffusers_models import EXACT, SHAPES, error, make, make_vocoder, picture  # noqa: E402

from tilekit import BackendError  # noqa: E402  # after the libraries that may be missing
from tilekit.adapters import autoencoder_kl, hifigan  # noqa: E402


@pytest.mark.parametrize("kind", SHAPES)
@settings(max_examples=3)
@given(
    seed=st.integers(0, 99),
    size=st.tuples(st.integers(9, 16), st.integers(9, 16)),
    tile=st.sampled_from([48, (64, None), (None, 56)]),
)
def test_exact_equals_untiled(kind: str, seed: int, size: tuple[int, int], tile: Any) -> None:
    vae = make(kind, seed)
    factor = 2 ** (len(SHAPES[kind]["levels"]) - 1)
    z = picture(2, SHAPES[kind]["latent_channels"], *size, seed=seed)
    x = picture(
        1, SHAPES[kind].get("in_channels", 3), factor * size[0] + seed % 5, factor * size[1] + seed % 7, seed=seed
    )
    tiled = autoencoder_kl(vae, tile=tile)
    with torch.no_grad():
        assert error(tiled.decode(z), vae.decode(z).sample) < EXACT
        assert error(tiled.encode(x), vae.encode(x).latent_dist.parameters) < EXACT


def test_the_tiling_of_diffusers_fails_the_same_test() -> None:
    vae, z = make("sd"), picture(1, 4, 16, 16)
    with torch.no_grad():
        want = vae.decode(z).sample
        vae.enable_tiling()
        vae.tile_latent_min_size, vae.tile_sample_min_size = 8, 64
        assert error(vae.decode(z).sample, want) > 1000 * EXACT


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("kind", SHAPES)
def test_our_model_loads_what_diffusers_saves(kind: str, backend: Any, tmp_path: Path) -> None:
    from ltx_models.autoencoder_kl import load_autoencoder_kl
    from ltx_models.nn import backend as get_backend

    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[backend])
    vae, nn = make(kind), get_backend(backend)
    vae.save_pretrained(tmp_path)
    ours = load_autoencoder_kl(tmp_path, backend=backend)
    z, x = picture(2, SHAPES[kind]["latent_channels"], 9, 12), picture(1, SHAPES[kind].get("in_channels", 3), 75, 96)
    with torch.no_grad():
        wanted = vae.decode(z).sample, vae.encode(x).latent_dist.parameters
    for run, tile in ((ours, None), (autoencoder_kl(ours, tile=48), 48)):
        for got, want in zip(
            (run.decode(nn.asarray(z.numpy())), run.encode(nn.asarray(x.numpy()))), wanted, strict=True
        ):
            assert error(torch.from_numpy(np.asarray(got) + 0), want) < EXACT, tile


@settings(max_examples=4)
@given(frames=st.integers(40, 120), tile=st.integers(40, 60), normalised=st.booleans())
def test_a_vocoder_in_tiles_equals_the_whole(frames: int, tile: int, normalised: bool) -> None:
    vocoder = make_vocoder(normalize_before=normalised)
    mel = torch.randn(2, frames, 16)
    sound = vocoder(mel)
    assert 0.05 < sound.std() < 0.7  # alive, and not hidden by the tanh
    assert error(hifigan(vocoder, tile=tile)(mel), sound) < EXACT
    assert error(hifigan(vocoder, tile=tile)(mel[0]), vocoder(mel[0])) < EXACT


def test_other_autoencoders_are_refused_by_name() -> None:
    with pytest.raises(BackendError, match=r"AutoencoderTiny is not supported: expected an AutoencoderKL"):
        autoencoder_kl(
            diffusers.AutoencoderTiny(encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8)),
            tile=32,
        )


def test_layers_of_other_classes_are_followed() -> None:
    vae, z = make("sd"), picture(1, 4, 16, 16)
    vae.decoder.up_blocks[1].upsamplers[0] = torch.nn.Upsample(scale_factor=2)
    with torch.no_grad():
        assert error(autoencoder_kl(vae, tile=32).decode(z), vae.decode(z).sample) < EXACT
