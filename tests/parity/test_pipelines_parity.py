"""
Whole runs beside the transformer and the scheduler of diffusers: same noise and contexts, same latents.

Run by ``nox -s parity``, which installs diffusers; skipped where it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from tests.ltx_models.pipeline_files import TRANSFORMER, contexts, write_whole  # noqa: E402

from ltx_models.diffusers_names import to_diffusers  # noqa: E402  # after the skips
from ltx_models.nn import backend  # noqa: E402
from ltx_models.pipelines import LTX2Pipeline  # noqa: E402
from ltx_models.sampling import DISTILLED_SIGMAS, Guidance, Noise, ltx2_sigmas  # noqa: E402

TOLERANCE = 5e-3  # float32 after all steps
VIDEO, AUDIO = (1, 128, 2, 2, 3), (1, 8, 9, 16)


def reference(weights: dict[str, Any]) -> Any:
    """Make diffusers' transformer of the same weights."""
    shared = {k: v for k, v in TRANSFORMER.items() if k.endswith(("heads", "head_dim", "attention_dim", "channels"))}
    late = dict.fromkeys(("gated_attn", "cross_attn_mod", "audio_gated_attn", "audio_cross_attn_mod"), True)
    model = diffusers.LTX2VideoTransformer3DModel(
        **shared,
        **late,
        num_layers=TRANSFORMER["num_layers"],
        use_prompt_embeddings=False,
        perturbed_attn=True,
        rope_type="split",
        rope_double_precision=True,
        cross_attn_timestep_scale_multiplier=1000,
    )
    model.load_state_dict({to_diffusers(name): x for name, x in weights.items()}, strict=True)
    return model.eval()


def predict(model: Any, x: Any, sigma: float, context: Any, **more: Any) -> list[Any]:
    """Ask for denoised tokens of both streams."""
    time = torch.full((1,), 1000 * sigma)
    mask = torch.ones(context[0].shape[:2])
    with torch.no_grad():
        velocities = model(
            hidden_states=x[0],
            audio_hidden_states=x[1],
            encoder_hidden_states=context[0],
            audio_encoder_hidden_states=context[1],
            timestep=time,
            sigma=time,
            encoder_attention_mask=mask,
            audio_encoder_attention_mask=mask,
            num_frames=VIDEO[2],
            height=VIDEO[3],
            width=VIDEO[4],
            fps=24.0,
            audio_num_frames=AUDIO[2],
            use_cross_timestep=True,
            return_dict=False,
            **more,
        )
    return [a - v * sigma for a, v in zip(x, velocities, strict=True)]


def run_reference(model: Any, sigmas: Sequence[float], noise: Any, guided: dict[str, Guidance] | None) -> list[Any]:
    """Sample with diffusers' transformer and Euler scheduler; guidance as its pipeline combines it."""
    good, bad = ([torch.tensor(x) for x in contexts(seed)] for seed in (1, 2))
    schedulers = []
    for _ in range(2):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False, shift=1.0)
        scheduler.set_timesteps(sigmas=list(sigmas[:-1]))
        schedulers.append(scheduler)
    x: list[Any] = noise
    for sigma, step in zip(sigmas[:-1], schedulers[0].timesteps, strict=True):
        seen = predict(model, x, sigma, good)
        if guided is not None:
            worse = predict(model, x, sigma, bad)
            skipped = predict(model, x, sigma, good, spatio_temporal_guidance_blocks=[1])
            alone = predict(model, x, sigma, good, isolate_modalities=True)
            seen = [
                combine(g, *four)
                for g, four in zip(guided.values(), zip(seen, worse, skipped, alone, strict=True), strict=True)
            ]
        x = [
            scheduler.step((now - aim) / sigma, step, now, return_dict=False)[0]
            for scheduler, now, aim in zip(schedulers, x, seen, strict=True)
        ]
    return x


def combine(g: Guidance, seen: Any, worse: Any, skipped: Any, alone: Any) -> Any:
    led = seen + (g.cfg_scale - 1) * (seen - worse) + g.stg_scale * (seen - skipped)
    led = led + (g.modality_scale - 1) * (seen - alone)
    return led * (g.rescale_scale * seen.std() / led.std() + 1 - g.rescale_scale)


@pytest.mark.parametrize("name", ["distilled-one-stage", "dev"])
@pytest.mark.parametrize("framework", ["torch", "mlx"])
def test_latents_are_those_of_diffusers(tmp_path: Path, name: str, framework: Any) -> None:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[framework])
    files = write_whole(tmp_path, backend("torch"))
    guided = {"video": Guidance(3, 1, (1,), 3, 0.7), "audio": Guidance(7, 1, (1,), 3, 0.7)} if name == "dev" else None
    sigmas = DISTILLED_SIGMAS if guided is None else ltx2_sigmas(6)
    pipe = LTX2Pipeline.from_pretrained(files["path"], pipeline=name, backend=framework, dtype="float32")
    got = pipe(
        prompt_embeds=contexts(1),
        negative_prompt_embeds=contexts(2),
        height=64,
        width=96,
        num_frames=9,
        num_inference_steps=6,
        guidance=guided,
        output_type="latent",
    ).latents
    draw = Noise(10)
    noise = [draw("", torch.zeros(1, count, 128)) for count in (2 * 2 * 3, 9)]
    plain = LTX2Pipeline.from_pretrained(files["path"], dtype="float32").parts.get("transformer")
    video, audio = run_reference(reference(dict(plain.state_dict())), sigmas, noise, guided)
    wanted = video.permute(0, 2, 1).reshape(VIDEO), audio.reshape(1, 9, 8, 16).permute(0, 2, 1, 3)
    for one, other in zip((got.video, got.audio), wanted, strict=True):
        np.testing.assert_allclose(np.array(one), other.numpy(), atol=TOLERANCE)
