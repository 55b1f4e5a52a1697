"""
The transformer beside those of the diffusers library and of ltx-core, with the same seeded weights.

Run by ``nox -s parity``, which installs diffusers; each test is skipped where its library is missing. Noise levels are
the same for all tokens of both streams, where all implementations mean the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ltx_models.checkpoints.layouts._transformer import to_diffusers  # noqa: E402  # torch first: without it there is nothing to compare
from ltx_models.nn import backend  # noqa: E402
from ltx_models.transformer import (  # noqa: E402
    Modality,
    StreamConfig,
    Transformer,
    TransformerConfig,
)

# float32 of two implementations; the transformer's own float32 noise is larger (see the reference cases)
TOLERANCE = 1e-4
SIGMA = 0.625


def config(late: bool, pairing: Any) -> TransformerConfig:
    text = None if late else 20
    return TransformerConfig(
        video=StreamConfig(8, 8, 4, 16, 64, (20.0, 2048.0, 2048.0), text),
        audio=StreamConfig(6, 6, 4, 8, 32, (20.0,), text),
        layers=3,
        gated=late,
        text_modulation=late,
        pairing=pairing,
    )


def seeded(of: TransformerConfig) -> Any:
    nn = backend("torch")
    model = nn.build(lambda: Transformer(nn, of))
    rng = np.random.default_rng(0)
    shapes = sorted(nn.shapes(model).items())
    return nn.load(
        model, {k: nn.asarray((rng.standard_normal(s) / max(s[-1], 1) ** 0.5).astype(np.float32)) for k, s in shapes}
    )


def streams(of: TransformerConfig, sigmas: tuple[float, float] = (SIGMA, SIGMA)) -> dict[str, Modality]:
    found = {}
    for name, s, tokens, sigma in (("video", of.video, 12, sigmas[0]), ("audio", of.audio, 7, sigmas[1])):
        assert s is not None
        rng = np.random.default_rng(tokens)
        start = rng.uniform(0, 1, (2, len(s.max_pos), tokens, 1)) * np.array(s.max_pos)[:, None, None] * 0.9
        found[name] = Modality(
            latent=torch.from_numpy(rng.standard_normal((2, tokens, s.in_channels)).astype(np.float32)),
            sigma=torch.full((2,), sigma),
            timesteps=torch.full((2, tokens), sigma),
            positions=torch.from_numpy(np.concatenate([start, start + 1], -1).astype(np.float32)),
            context=torch.from_numpy(rng.standard_normal((2, 5, s.text_channels)).astype(np.float32)),
        )
    return found


def close(got: Any, want: Any) -> None:
    assert float((got - want).abs().max()) < TOLERANCE
    assert float(want.abs().max()) > 0.1


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("pairing", ["split", "interleaved"])
def test_diffusers_gives_the_same(late: bool, pairing: Any) -> None:
    diffusers = pytest.importorskip("diffusers", reason="compared in the nox session 'parity'")
    of = config(late, pairing)
    assert of.video is not None
    assert of.audio is not None
    other = diffusers.LTX2VideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=16,
        cross_attention_dim=64,
        audio_in_channels=6,
        audio_out_channels=6,
        audio_num_attention_heads=4,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=32,
        num_layers=3,
        caption_channels=20,
        rope_type=pairing,
        gated_attn=late,
        cross_attn_mod=late,
        audio_gated_attn=late,
        audio_cross_attn_mod=late,
        use_prompt_embeddings=not late,
        perturbed_attn=late,
    ).eval()
    ours = seeded(of)
    other.load_state_dict({to_diffusers(k): w for k, w in ours.state_dict().items()}, strict=True)
    given = streams(of)
    video, audio = given["video"], given["audio"]
    skips: list[Any] = [None]
    if late:  # perturbed self attention came with 2.3
        skips += [[[["SKIP_VIDEO_SELF_ATTN", [1]], ["SKIP_AUDIO_SELF_ATTN", [1]]], []]]
        skips += [[[["SKIP_A2V_CROSS_ATTN", None], ["SKIP_V2A_CROSS_ATTN", None]]] * 2]
    for i, perturbations in enumerate(skips):
        with torch.no_grad():
            want = other(
                hidden_states=video.latent,
                audio_hidden_states=audio.latent,
                encoder_hidden_states=video.context,
                audio_encoder_hidden_states=audio.context,
                timestep=video.timesteps * 1000,
                audio_timestep=audio.timesteps * 1000,
                sigma=video.sigma * 1000,
                audio_sigma=audio.sigma * 1000,
                video_coords=video.positions,
                audio_coords=audio.positions,
                use_cross_timestep=True,
                spatio_temporal_guidance_blocks=[1] if i == 1 else None,
                perturbation_mask=torch.tensor([0.0, 1.0]) if i == 1 else None,
                isolate_modalities=i == 2,
                return_dict=False,
            )
        got = ours(**given, perturbations=perturbations)
        for a, b in zip(got, want, strict=True):
            close(a, b)


@pytest.mark.parametrize("late", [False, True])
def test_ltx_core_gives_the_same(late: bool) -> None:
    """Of the first release, 1.0.0: also with other noise levels for each stream, by its rule."""
    configurator = pytest.importorskip("ltx_core.model.transformer.model_configurator", reason="needs ltx-core 1.0.0")
    modality = pytest.importorskip("ltx_core.model.transformer.modality")
    of = config(late, "split")
    section = of.section()
    other = configurator.LTXModelConfigurator.from_config({"transformer": section}).eval()
    ours = seeded(of)
    ours.config = TransformerConfig.of(section, cross_timesteps="other")
    other.load_state_dict(ours.state_dict(), strict=True, assign=True)
    given = streams(of, (SIGMA, 0.25))
    fields = ("latent", "sigma", "timesteps", "positions", "context")
    theirs = [modality.Modality(**{f: getattr(given[n], f) for f in fields}) for n in ("video", "audio")]
    perturbations = pytest.importorskip("ltx_core.guidance.perturbations")
    with torch.no_grad():
        want = other(*theirs, perturbations.BatchedPerturbationConfig.empty(2))
    for a, b in zip(ours(**given), want, strict=True):
        close(a, b)
