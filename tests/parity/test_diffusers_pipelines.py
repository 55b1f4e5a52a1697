"""One line switches whole pipelines of diffusers to exact tiles, another switches them back; small seeded models."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: nox -s parity")
torch = pytest.importorskip("torch")

from tests.parity.diffusers_models import EXACT, error, make, make_vocoder, picture  # noqa: E402

from tilekit.adapters import disable_exact_tiling, enable_exact_tiling  # noqa: E402

Generate = Callable[[], Any]
WORDS = {"height": 128, "width": 96, "num_inference_steps": 2, "output_type": "pt"}


def scheduler() -> Any:
    return diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)


def unet(**config: Any) -> Any:
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    sizes = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    return diffusers.UNet2DConditionModel(
        **{**blocks, **sizes, "cross_attention_dim": 8, "attention_head_dim": 4, **config}
    ).eval()


def stable_diffusion() -> tuple[Any, Generate]:
    pipe = diffusers.StableDiffusionPipeline(
        vae=make("sd"),
        unet=unet(),
        scheduler=scheduler(),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    words = torch.ones(1, 3, 8)
    given = {"prompt_embeds": words, "negative_prompt_embeds": -words, **WORDS}
    return pipe, lambda: pipe(**given, generator=torch.Generator().manual_seed(1)).images


def stable_diffusion_xl() -> tuple[Any, Generate]:
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=make("sd"),
        unet=unet(
            addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=8 + 6 * 4
        ),
        scheduler=scheduler(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        add_watermarker=False,
    )
    words, pooled = torch.ones(1, 3, 8), torch.ones(1, 8)
    given = {"prompt_embeds": words, "negative_prompt_embeds": -words, **WORDS}
    given |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": -pooled}
    return pipe, lambda: pipe(**given, generator=torch.Generator().manual_seed(1)).images


def flux() -> tuple[Any, Generate]:
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
    )
    pipe = diffusers.FluxPipeline(
        vae=make("flux"),
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
    )
    given = {"prompt_embeds": torch.ones(1, 3, 8), "pooled_prompt_embeds": torch.ones(1, 8), **WORDS}
    return pipe, lambda: pipe(**given, generator=torch.Generator().manual_seed(1)).images


def audioldm2() -> tuple[Any, Generate]:
    transformers = pytest.importorskip("transformers")
    pipe = diffusers.AudioLDM2Pipeline(
        vae=make("audioldm"),
        unet=diffusers.AudioLDM2UNet2DConditionModel(
            sample_size=4,
            in_channels=8,
            out_channels=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=((None, 8, 16),) * 2,
            attention_head_dim=4,
        ).eval(),
        scheduler=scheduler(),
        vocoder=make_vocoder(),
        # The two are asked for their kind and dtype alone: the words are given.
        text_encoder_2=transformers.T5EncoderModel(
            transformers.T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        ),
        text_encoder=None,
        language_model=transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
        ),
        projection_model=None,
        tokenizer=None,
        tokenizer_2=None,
        feature_extractor=None,
    )
    words, made, mask = torch.ones(1, 3, 16), torch.ones(1, 3, 8), torch.ones(1, 3, dtype=torch.long)
    given = {"prompt_embeds": words, "negative_prompt_embeds": -words, "attention_mask": mask}
    given |= {"generated_prompt_embeds": made, "negative_generated_prompt_embeds": -made}
    given |= {"negative_attention_mask": mask, "audio_length_in_s": 2.4, "num_inference_steps": 2, "output_type": "pt"}
    return pipe, lambda: pipe(**given, generator=torch.Generator().manual_seed(1)).audios


PIPELINES: dict[str, tuple[Callable[[], tuple[Any, Generate]], Any]] = {
    "Stable Diffusion": (stable_diffusion, 48),
    "Stable Diffusion XL": (stable_diffusion_xl, 48),
    "Flux": (flux, 48),
    "AudioLDM2": (audioldm2, (64, None)),
}


@pytest.mark.parametrize("kind", PIPELINES)
def test_one_line_switches_a_pipeline_and_another_switches_it_back(kind: str) -> None:
    construct, tile = PIPELINES[kind]
    torch.manual_seed(0)
    pipe, generate = construct()
    pipe.set_progress_bar_config(disable=True)
    whole = generate()
    assert whole.std() > 0.05  # there is something to see or to hear
    enable_exact_tiling(pipe, tile=tile)
    assert "_decode" in vars(pipe.vae)
    assert error(generate(), whole) < EXACT
    enable_exact_tiling(pipe, tile=tile, norm="tile")
    assert error(generate(), whole) > 100 * EXACT  # the comparison can tell
    disable_exact_tiling(pipe)
    assert "_decode" not in vars(pipe.vae)
    assert torch.equal(generate(), whole)


def test_slices_and_encoding_go_through_the_tiles_too() -> None:
    vae, x = make("sd"), picture(2, 3, 80, 72)
    with torch.no_grad():
        want = vae.encode(x).latent_dist.mean
        vae.enable_slicing()
        enable_exact_tiling(vae, tile=48)
        latents = vae.encode(x).latent_dist.mean
        assert not torch.equal(latents, want)  # other work
        assert error(latents, want) < EXACT
        assert len(vae.decode(latents, return_dict=False)) == 1
        disable_exact_tiling(vae)
        vae.disable_slicing()
        assert torch.equal(vae.encode(x).latent_dist.mean, want)


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
