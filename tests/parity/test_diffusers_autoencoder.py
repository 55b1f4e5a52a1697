"""Exact tiles against diffusers' own AutoencoderKL, pipelines and vocoder, whole; seeded weights, real structures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: nox -s parity")
torch = pytest.importorskip("torch")

from tilekit import BackendError  # noqa: E402  # after the libraries that may be missing
from tilekit.adapters import autoencoder_kl, disable_exact_tiling, enable_exact_tiling, hifigan  # noqa: E402

EXACT = 1e-4  # float32 rounding through the network, at outputs of scale 1
SHAPES: dict[str, dict[str, Any]] = {
    "sd": {"latent_channels": 4, "levels": (8, 16, 16, 16)},
    "flux": {"latent_channels": 16, "levels": (8, 16, 16, 16), "use_quant_conv": False, "use_post_quant_conv": False},
    "no attention": {"latent_channels": 4, "levels": (8, 16, 16), "mid_block_add_attention": False},
    "audioldm": {"latent_channels": 8, "levels": (8, 16, 32), "in_channels": 1, "out_channels": 1},
}


def make(kind: str, seed: int = 0) -> Any:
    """An AutoencoderKL of diffusers whose activations are alive: its own initialisation makes them fade."""
    config: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "norm_num_groups": 4, "layers_per_block": 1}
    config |= SHAPES[kind]
    levels = config.pop("levels")
    torch.manual_seed(seed)
    vae = diffusers.AutoencoderKL(
        block_out_channels=levels,
        down_block_types=("DownEncoderBlock2D",) * len(levels),
        up_block_types=("UpDecoderBlock2D",) * len(levels),
        **config,
    )
    enliven(vae)
    return vae.eval().requires_grad_(False)


def enliven(module: Any) -> None:
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=float(np.prod(weight.shape[1:])) ** -0.5)
        else:
            torch.nn.init.normal_(weight, mean=float("norm" in name and name.endswith("weight")), std=0.2)


def picture(*shape: int, seed: int = 0) -> Any:
    """Noise on slopes, so that the tiles differ in mean and in variance."""
    torch.manual_seed(seed)
    across, down = torch.linspace(0.2, 1.5, shape[3]), torch.linspace(-1, 1, shape[2])[:, None]
    return (torch.randn(shape) + down) * across


def error(got: Any, want: Any) -> float:
    assert got.shape == want.shape
    return float((got - want).abs().max() / want.std())


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


def test_one_line_switches_a_pipeline_and_another_switches_it_back() -> None:
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=8,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    pipe = diffusers.StableDiffusionPipeline(
        vae=make("sd"),
        unet=unet.eval(),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)

    def generate() -> Any:
        words = torch.ones(1, 3, 8)
        noise = torch.Generator().manual_seed(1)
        made = pipe(
            prompt_embeds=words,
            negative_prompt_embeds=-words,
            num_inference_steps=2,
            height=128,
            width=96,
            generator=noise,
            output_type="pt",
        )
        return made.images

    whole = generate()
    pipe.vae.enable_slicing()
    enable_exact_tiling(pipe, tile=48)
    assert "_decode" in vars(pipe.vae)
    assert error(generate(), whole) < EXACT
    x = picture(2, 3, 80, 72)
    with torch.no_grad():
        latents = pipe.vae.encode(x).latent_dist.mean
        assert len(pipe.vae.decode(latents, return_dict=False)) == 1
        disable_exact_tiling(pipe)
        assert "_decode" not in vars(pipe.vae)
        assert error(latents, pipe.vae.encode(x).latent_dist.mean) < EXACT


def make_vocoder(**config: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    rates = {"upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4], "model_in_dim": 16}
    structure = transformers.SpeechT5HifiGanConfig(upsample_initial_channel=32, **{**rates, **config})
    vocoder = transformers.SpeechT5HifiGan(structure)
    enliven(vocoder)
    vocoder.conv_post.weight.data *= 3
    vocoder.conv_post.bias.data *= 0
    torch.nn.init.normal_(vocoder.mean)
    return vocoder.eval().requires_grad_(False)


@settings(max_examples=4)
@given(frames=st.integers(40, 120), tile=st.integers(40, 60), normalised=st.booleans())
def test_a_vocoder_in_tiles_equals_the_whole(frames: int, tile: int, normalised: bool) -> None:
    vocoder = make_vocoder(normalize_before=normalised)
    mel = torch.randn(2, frames, 16)
    sound = vocoder(mel)
    assert 0.05 < sound.std() < 0.7  # alive, and not hidden by the tanh
    assert error(hifigan(vocoder, tile=tile)(mel), sound) < EXACT
    assert error(hifigan(vocoder, tile=tile)(mel[0]), vocoder(mel[0])) < EXACT


def test_a_pipeline_with_a_vocoder_is_tiled_in_time_only() -> None:
    pipe = SimpleNamespace(vae=make("audioldm"), vocoder=make_vocoder())
    z = picture(1, 8, 60, 4)
    with torch.no_grad():
        mel = pipe.vae.decode(z).sample
        sound = pipe.vocoder(mel[:, 0])
        enable_exact_tiling(pipe, tile=(64, None))
        assert error(pipe.vae.decode(z).sample, mel) < EXACT
        assert error(pipe.vocoder(mel[:, 0]), sound) < EXACT
        disable_exact_tiling(pipe)
        assert torch.equal(pipe.vocoder(mel[:, 0]), sound)


def test_other_autoencoders_are_refused_by_name() -> None:
    with pytest.raises(BackendError, match=r"AutoencoderTiny is not understood: expected an AutoencoderKL"):
        autoencoder_kl(
            diffusers.AutoencoderTiny(encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8)),
            tile=32,
        )
    vae = make("sd")
    vae.decoder.up_blocks[1].upsamplers[0] = torch.nn.Upsample(scale_factor=2)
    with pytest.raises(BackendError, match=r"decoder.up_blocks.1.upsamplers.0: torch.*Upsample is not understood"):
        autoencoder_kl(vae, tile=32)
