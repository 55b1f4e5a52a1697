"""Networks of transformers and diffusers that were not made with tiles in mind: sound codecs, a vocoder, a U-Net."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="transformers is not installed")

from tests.tilekit.exact._live import Live  # noqa: E402  # needs torch

import tilekit  # noqa: E402

ROUNDING = 1e-5


def numbers(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def ready(model: Any) -> Any:
    """Turn dropout off."""
    return model.eval()


def exact_and_smaller(function: Any, x: Any) -> tilekit.ExactPlan:
    """See that a function is exact in less memory than its plain call; give the plan."""
    with Live() as plain:
        want = function(x)
    exact = tilekit.exact(function)
    got = exact(x)
    assert got.shape == want.shape
    assert float((got - want).abs().max() / want.abs().max()) < ROUNDING
    del got
    with Live() as live:
        exact(x)
    assert live.peak <= plain.peak
    return exact.plan(x)


def test_dac_encodes_and_decodes() -> None:
    from transformers import DacConfig, DacModel

    sizes: dict[str, Any] = {"encoder_hidden_size": 8, "decoder_hidden_size": 32, "hidden_size": 16, "n_codebooks": 1}
    model = ready(DacModel(DacConfig(**sizes, downsampling_ratios=[2, 4, 4])))
    exact_and_smaller(model.encoder, numbers(1, 1, 32 * 60))
    plan = exact_and_smaller(model.decoder, numbers(1, model.config.hidden_size, 60))
    assert not plan.notes
    assert plan.peak_bytes < plan.plain_bytes / 2


def test_encodec_decodes_with_its_lstm_whole() -> None:
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(num_filters=4, hidden_size=16, codebook_dim=16, upsampling_ratios=[4, 2])
    model = ready(EncodecModel(config))
    plan = exact_and_smaller(model.decoder, numbers(1, 16, 200))
    assert any("runs whole" in note and "lstm" in note.lower() for note in plan.notes)
    exact_and_smaller(model.encoder, numbers(1, 1, 8 * 200))


def test_mimi_decodes_codes_through_its_transformer() -> None:
    """Transformers asks whether a tensor is a stand-in, and leaves a look at numbers out for one."""
    from transformers import MimiConfig, MimiModel

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_filters": 4, "head_dim": 8}
    heads: dict[str, Any] = {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_hidden_layers": 1,
        "sliding_window": 20,
    }
    codes: dict[str, Any] = {
        "codebook_size": 32,
        "codebook_dim": 8,
        "vector_quantization_hidden_dimension": 8,
        "num_quantizers": 2,
    }
    more: dict[str, Any] = {
        "num_semantic_quantizers": 1,
        "upsampling_ratios": [4, 2],
        "upsample_groups": 16,
        "use_cache": False,
    }
    model = ready(MimiModel(MimiConfig(**sizes, **heads, **codes, **more)))
    given = torch.randint(0, 32, (1, 2, 31))
    want = model.decode(given).audio_values
    got = tilekit.exact(lambda codes: model.decode(codes).audio_values)(given)
    assert float((got - want).abs().max() / want.abs().max()) < ROUNDING


def test_a_vocoder_turns_long_spectrograms_into_sound() -> None:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    rates: dict[str, Any] = {"upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8], "model_in_dim": 16}
    vocoder = ready(SpeechT5HifiGan(SpeechT5HifiGanConfig(upsample_initial_channel=16, **rates)))
    plan = exact_and_smaller(vocoder, numbers(1, 150, 16))
    assert not plan.notes
    assert plan.peak_bytes < plan.plain_bytes / 2


def test_an_audioldm_pipeline_switches_its_vocoder_too() -> None:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    from tests.tilekit.exact._autoencoders import TWO

    from tilekit.adapters import disable_exact_tiling, enable_exact_tiling

    class Pipeline(diffusers.DiffusionPipeline):  # type: ignore[name-defined, misc]  # comes by importorskip
        def __init__(self, vae: Any, vocoder: Any) -> None:
            super().__init__()
            self.register_modules(vae=vae, vocoder=vocoder)

    rates: dict[str, Any] = {"upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8], "model_in_dim": 16}
    vocoder = ready(SpeechT5HifiGan(SpeechT5HifiGanConfig(upsample_initial_channel=16, **rates)))
    vae = diffusers.AutoencoderKL(1, 1, **TWO, block_out_channels=(8, 16), latent_channels=4, sample_size=32)
    pipe, mel = Pipeline(vae.eval(), vocoder), numbers(2, 70, 16)
    want = vocoder(mel), vocoder(mel[0])
    enable_exact_tiling(pipe)
    for given, sound in zip((mel, mel[0]), want, strict=True):
        assert (pipe.vocoder(given) - sound).abs().max() < ROUNDING
    assert "forward" in vars(pipe.vocoder)
    disable_exact_tiling(pipe)
    assert "forward" not in vars(pipe.vocoder)


def test_a_unet_equals_itself_whole() -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    unet = diffusers.UNet2DModel(24, 3, 3, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, **blocks)
    exact_and_smaller(lambda x: unet.eval()(x, 7).sample, numbers(1, 3, 24, 32))
