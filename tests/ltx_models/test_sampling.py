"""Sampling: schedules, steps and loops as the reference has them, guidance, and the loop around a transformer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models import sampling
from ltx_models.conditioning import LatentState, add_noise, audio_state, freeze, replace_frames, video_state
from ltx_models.nn import Backend
from ltx_models.sampling import Ancestral, Blend, Cancelled, Euler, Guidance, Noise, Prediction, Res2s, State, Text

# The reference's float32 outputs; ours differ by how coefficients are rounded.
STEP = 1e-5
# Loops: seven steps, and in MLX float32 where the reference has float64.
LOOP = {"torch": 2e-6, "mlx": 3e-5}


# ---- schedules -----------------------------------------------------------------------------------------------


def test_schedules_equal_the_reference(oracle_table: Callable[[str], Any]) -> None:
    table = oracle_table("scheduler_sigmas")
    compared = 0
    for row in table["ltx2"]:
        kw = {k: row[k] for k in ("tokens", "max_shift", "base_shift", "stretch", "terminal") if k in row}
        # there the reference gives NaN, or rounding noise: sigmas that round to 1 in float32
        if row["sigmas"] is None or row["steps"] == 1 or (row["tokens"] > 20000 and row.get("stretch", True)):
            continue
        np.testing.assert_allclose(sampling.ltx2_sigmas(row["steps"], **kw), row["sigmas"], atol=2e-6)
        compared += 1
    assert compared > 100
    for row in table["linear_quadratic"]:
        np.testing.assert_allclose(sampling.linear_quadratic_sigmas(row["steps"]), row["sigmas"], atol=1e-6)
    for row in table["beta"]:
        np.testing.assert_allclose(sampling.beta_sigmas(row["steps"]), row["sigmas"], atol=1e-6)
    np.testing.assert_array_equal(sampling.DISTILLED_SIGMAS, table["distilled"]["stage1"])
    np.testing.assert_array_equal(sampling.STAGE_2_SIGMAS, table["distilled"]["stage2"])


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 60), tokens=st.integers(1, 20000), terminal=st.floats(0.01, 0.5))
def test_a_schedule_falls_from_one_to_its_terminal_and_zero(steps: int, tokens: int, terminal: float) -> None:
    sigmas = sampling.ltx2_sigmas(steps, tokens=tokens, terminal=terminal)
    assert sampling.check_sigmas(sigmas) == sigmas
    assert len(sigmas) == steps + 1
    assert sigmas[0] == pytest.approx(1, abs=1e-6)
    if steps > 1:
        assert sigmas[-2] == pytest.approx(terminal, abs=1e-6)


def test_schedules_refuse_what_they_cannot_make() -> None:
    with pytest.raises(ValueError, match="steps: got 0"):
        sampling.ltx2_sigmas(0)
    with pytest.raises(ValueError, match=r"terminal: got 1\.5"):
        sampling.ltx2_sigmas(4, terminal=1.5)
    with pytest.raises(ValueError, match="every sigma rounds to 1"):
        sampling.ltx2_sigmas(4, tokens=80000)
    with pytest.raises(ValueError, match="linear_steps: got 9"):
        sampling.linear_quadratic_sigmas(4, linear_steps=9)
    with pytest.raises(ValueError, match="alpha and beta"):
        sampling.beta_sigmas(4, alpha=0)
    for wrong, text in (
        ([1.0, math.nan, 0.0], "number 1 is nan"),
        ([0.5, 0.6], "to go down"),
        ([1.0], "at least two"),
        ([1.5, 0.0], "to go down"),
    ):
        with pytest.raises(ValueError, match=text):
            sampling.check_sigmas(wrong)


# ---- steps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["diffusion_steps", "diffusion_steps_core120"])
def test_steps_equal_the_reference(nn: Backend, oracle: Any, close: Any, name: str) -> None:
    (case,) = oracle(name)
    sigmas = [float(s) for s in case.get("input.sigmas")]
    sample, denoised, noise = (nn.asarray(case.get(f"input.{n}")) for n in ("sample", "denoised", "noise"))
    uncond = denoised * 0.5 + sample * 0.1
    compared = set()
    for key, want in case.arrays.items():
        kind, _, i = key.removeprefix("output.").rpartition(".")
        if not key.startswith("output.") or kind == "euler_loop":
            continue
        now, after = sigmas[int(i)], sigmas[int(i) + 1]
        eta = float(kind.split("eta")[1]) if "eta" in kind else 0.5
        got = {
            "euler": lambda: sampling.euler_step(sample, denoised, now, after),  # noqa: B023
            "euler_ancestral": lambda: sampling.ancestral_step(sample, denoised, now, after, noise, eta=eta),  # noqa: B023
            "euler_cfg_pp": lambda: sampling.cfg_pp_step(sample, denoised, uncond, now, after, noise, eta=eta),  # noqa: B023
            "res2s": lambda: sampling.renoise(sample, denoised, now, after, noise, eta=eta),  # noqa: B023
        }[kind.split("_eta")[0]]()
        # CFG++ divides by 1 - sigma, res_2s by the step: rounding of sigma to float32 is seen magnified
        close(got, want, 2e-4 if kind.startswith(("res2s", "euler_cfg_pp")) else STEP, key)
        compared.add(kind)
    assert compared >= {"euler", "res2s"}
    x = sample
    for i, (now, after) in enumerate(pairwise(sigmas)):
        x = sampling.euler_step(x, nn.xp.tanh(x) * (1 - now), now, after)
        close(x, case.get(f"output.euler_loop.{i}"), STEP, f"euler_loop.{i}")


def test_coefficients_equal_the_reference(oracle: Any) -> None:
    (case,) = oracle("samplers_res2s_euler_core120")
    for row in case.args["coefficients"]:
        np.testing.assert_allclose(sampling.res2s_coefficients(row["h"], row["c2"]), row["a21_b1_b2"], rtol=1e-12)
        assert sampling.phi(1, -row["h"]) == pytest.approx(row["phi1"], rel=1e-12)
        assert sampling.phi(2, -row["h"]) == pytest.approx(row["phi2"], rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(sigma=st.floats(0.05, 1), share=st.floats(0, 0.99), eta=st.floats(0, 1))
def test_noise_of_a_perfect_prediction_has_the_level_of_the_schedule(sigma: float, share: float, eta: float) -> None:
    """With x = (1 - s) * data + s * noise and data predicted exactly, every stochastic step keeps the level s."""
    torch = pytest.importorskip("torch")
    after = sigma * share
    old, new = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    data = torch.zeros(2, dtype=torch.float64)
    sample = old * sigma  # signal 0: what is left is noise, old and new in a coordinate each
    stepped = sampling.ancestral_step(sample, data, sigma, after, new, eta=eta)
    assert float(stepped.norm()) == pytest.approx(after, abs=1e-6)
    if sigma < 0.999:
        stepped = sampling.cfg_pp_step(sample, data, data, sigma, after, new, eta=eta)
        assert float(stepped.norm()) == pytest.approx(after, abs=1e-6)


def test_steps_refuse_a_sample_without_noise_and_missing_noise(nn: Backend) -> None:
    x = nn.asarray(np.zeros((1, 2, 3), np.float32))
    with pytest.raises(ValueError, match=r"sigma: got 0\.0"):
        sampling.euler_step(x, x, 0.0, 0.0)
    with pytest.raises(ValueError, match="sigma: got nan"):
        sampling.velocity_of(x, x, math.nan)
    with pytest.raises(ValueError, match=r"noise: got None with eta=0\.5"):
        sampling.ancestral_step(x, x, 0.5, 0.25, eta=0.5)


@settings(max_examples=20, deadline=None)
@given(sigma=st.floats(0.01, 1), values=st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=2))
def test_velocity_and_denoised_are_inverse(sigma: float, values: list[float]) -> None:
    torch = pytest.importorskip("torch")
    x, denoised = (torch.tensor([v], dtype=torch.float64) for v in values)
    back = sampling.denoised_of(x, sampling.velocity_of(x, denoised, sigma), sigma)
    assert float(back) == pytest.approx(float(denoised), abs=1e-9)


# ---- loops ---------------------------------------------------------------------------------------------------

SAMPLERS: dict[str, sampling.Sampler] = {
    "euler": Euler(),
    "ge": Euler(gamma=2.0),
    "res2s": Res2s(normalise=False),
    "res2s_nobong": Res2s(refine=False, normalise=False),
    "res2s_eta0": Res2s(eta=0.0, normalise=False),
    "res2s_newmode": Res2s(by_token=True, normalise=False),
}


@pytest.mark.parametrize("variant", SAMPLERS)
@pytest.mark.parametrize("scenario", ["full", "cond"])
def test_loops_equal_the_reference(nn: Backend, oracle: Any, close: Any, scenario: str, variant: str) -> None:
    (case,) = oracle("samplers_res2s_euler_core120")
    sigmas = [float(s) for s in case.get("input.sigmas")]
    latents, blends = {}, {}
    for name in ("video", "audio"):
        latents[name], clean, mask = (
            nn.asarray(case.get(f"input.{scenario}.{name}.{f}")) for f in ("latent", "clean_latent", "denoise_mask")
        )
        on_host = case.get(f"input.{scenario}.{name}.denoise_mask")
        blends[name] = Blend(clean, mask, bool((on_host != 1).any()), bool((on_host == 0).any()))
    noises = iter(sorted(k for k in case.arrays if k.startswith(f"input.{scenario}.{variant}.noise.")))

    def draw(name: str, like: Any) -> Any:
        return nn.asarray(case.get(next(noises)))

    def predict(x: dict[str, Any], sigma: float) -> Prediction:
        slopes = {"video": 1.3, "audio": 0.7}
        return Prediction({n: nn.xp.tanh(x[n] * slopes[n]) * (1 - 0.5 * sigma) for n in x}, {})

    *_, last = SAMPLERS[variant].run(predict, latents, blends, sigmas, draw)
    for name, got in last.latents.items():
        close(got, case.get(f"output.{scenario}.{variant}.{name}"), LOOP[nn.name], name)
    assert next(noises, None) is None


@pytest.mark.parametrize("name", ["ancestral_loop_eta1", "ancestral_loop_eta_half"])
def test_the_ancestral_loop_of_2_5_equals_the_reference(nn: Backend, oracle25: Any, close: Any, name: str) -> None:
    (case,) = oracle25(name)
    latents = {stream: nn.asarray(case.get(f"input.{stream}")) for stream in ("video", "audio")}
    mask = case.get("input.video_denoise_mask")
    everything = nn.asarray(np.ones((*latents["audio"].shape[:2], 1), np.float32))
    blends = {
        "video": Blend(nn.asarray(case.get("input.video_clean")), nn.asarray(mask), True, bool((mask == 0).any())),
        "audio": Blend(latents["audio"], everything, False, False),
    }
    noises = iter(sorted(key for key in case.arrays if key.startswith("input.noise.")))

    def predict(x: dict[str, Any], sigma: float) -> Prediction:
        turned = {n: nn.xp.concat([y[:, -1:], y[:, :-1]], axis=1) for n, y in x.items()}
        return Prediction({n: y * (0.7 - 0.4 * sigma) + 0.1 * nn.xp.tanh(turned[n]) for n, y in x.items()}, {})

    sampler, sigmas = Ancestral(eta=case.args["eta"]), case.args["sigmas"]
    *_, last = sampler.run(predict, latents, blends, sigmas, lambda stream, like: nn.asarray(case.get(next(noises))))
    for stream, got in last.latents.items():
        close(got, case.get(f"output.{stream}"), STEP, stream)
    assert next(noises, None) is None


@pytest.mark.parametrize("sampler", [Euler(), Euler(gamma=2.0), Ancestral(), Ancestral(cfg_pp=True), Res2s()])
def test_every_sampler_reaches_a_known_answer_and_keeps_what_is_given(nn: Backend, sampler: Any, close: Any) -> None:
    """A model that always predicts the same data leads every sampler to it, and clean tokens stay."""
    rng = np.random.default_rng(0)
    data, x, clean = (rng.standard_normal((2, 6, 4)).astype(np.float32) for _ in range(3))
    mask = np.ones((2, 6, 1), np.float32)
    mask[:, :2] = 0
    want = data * mask + clean * (1 - mask)

    def predict(latents: dict[str, Any], sigma: float) -> Prediction:
        return Prediction({"video": nn.asarray(data)}, {"video": nn.asarray(data)})

    blend = Blend(nn.asarray(clean), nn.asarray(mask), True, True)
    start = nn.asarray(x * mask + clean * (1 - mask))
    found = list(sampler.run(predict, {"video": start}, {"video": blend}, (1.0, 0.7, 0.3, 0.0), Noise(3)))
    assert [step.index for step in found] == [0, 1, 2]
    close(found[-1].latents["video"], want, 1e-5)
    close(found[1].latents["video"][:, :2], clean[:, :2], 1e-5)


# ---- guidance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["guiders", "guiders_core120"])
def test_guidance_equals_the_reference(nn: Backend, oracle: Any, close: Any, name: str) -> None:
    (case,) = oracle(name)
    cond, uncond, perturbed, modality = (
        nn.asarray(case.get(f"input.{n}")) for n in ("cond", "uncond", "perturbed", "modality")
    )
    for key, scales in case.args.items():
        if key.startswith("multimodal.") and isinstance(scales, dict):
            got = sampling.guide(cond, uncond=uncond, perturbed=perturbed, modality=modality, **scales)
            close(got, case.get(f"output.{key}"), STEP, key)
    got = sampling.guide(cond, uncond=uncond, perturbed=0.0, modality=0.0, cfg_scale=3.0, rescale_scale=0.7)
    close(got, case.get("output.multimodal.scalars"), STEP)
    one, other = cond[:1], uncond[:1]
    for text in ("2.0", "4.5"):
        scale = float(text)
        close(sampling.guide(cond, uncond=uncond, cfg_scale=scale), case.get(f"output.cfg.{text}"), STEP)
        got = sampling.guide(cond, perturbed=perturbed, stg_scale=scale)
        close(got, case.get(f"output.stg.{text}"), STEP)
        close(one + sampling.star_delta(one, other, scale), case.get(f"output.cfg_star.{text}"), STEP)
        got = one + sampling.apg_delta(one, other, scale, eta=0.6, norm_threshold=3.0)
        close(got, case.get(f"output.apg.{text}"), STEP)


def test_guidance_of_a_batch_is_that_of_its_samples(nn: Backend, close: Any) -> None:
    """CFG* and APG project each sample by itself; the reference only takes one sample."""
    rng = np.random.default_rng(1)
    cond, uncond = (nn.asarray(rng.standard_normal((3, 5, 4)).astype(np.float32)) for _ in range(2))
    for guidance in (Guidance(3.0, kind="star"), Guidance(3.0, kind="apg", apg_eta=0.5, apg_norm_threshold=2.0)):
        whole = guidance.apply(cond, uncond)
        for i in range(3):
            close(whole[i : i + 1], guidance.apply(cond[i : i + 1], uncond[i : i + 1]), 1e-5)


def test_rescaling_fully_gives_the_spread_of_the_unguided_prediction(nn: Backend) -> None:
    rng = np.random.default_rng(2)
    cond, uncond = (nn.asarray(rng.standard_normal((1, 50, 8)).astype(np.float32)) for _ in range(2))
    got = nn.to_numpy(sampling.guide(cond, uncond=uncond, cfg_scale=5.0, rescale_scale=1.0))
    assert float(np.std(got)) == pytest.approx(float(np.std(nn.to_numpy(cond))), rel=1e-4)


def test_guidance_refuses_what_it_cannot_do(nn: Backend) -> None:
    x = nn.asarray(np.ones((1, 2, 3), np.float32))
    with pytest.raises(ValueError, match="uncond: got None"):
        sampling.guide(x, cfg_scale=3.0)
    with pytest.raises(ValueError, match="stg_blocks is empty"):
        Guidance(stg_scale=1.0)
    with pytest.raises(ValueError, match="kind is 'cfgx'"):
        Guidance(kind="cfgx")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(ValueError, match="not finite"):
        Guidance(cfg_scale=math.nan)


# ---- the loop around a transformer ---------------------------------------------------------------------------


class Model:
    """A stand-in with a known answer: velocity x - data, where data depends on text and on what is left out."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, video: Any = None, audio: Any = None, perturbations: Any = None) -> tuple[Any, Any]:
        self.calls.append({"video": video, "audio": audio, "perturbations": perturbations})
        shift = 0.0 if perturbations is None else 10.0
        return tuple(  # type: ignore[return-value]  # two of them
            None if m is None else (m.latent - m.context.mean() - shift) / max(self.level(m), 1e-6)
            for m in (video, audio)
        )

    @staticmethod
    def level(m: Any) -> float:
        return float(np.max(m.timesteps.values))


def made(nn: Backend) -> State:
    like = nn.asarray(np.zeros(1, np.float32))
    video = video_state((2, 4, 3, 2, 2), fps=24, like=like)
    image = nn.asarray(np.full((1, 4, 1, 2, 2), 7, np.float32))
    video = replace_frames(video, image)
    audio = audio_state((2, 2, 5, 3), like=like)
    noise = Noise(0)
    text = Text(nn.asarray(np.full((2, 3, 4), 2.0, np.float32)), nn.asarray(np.full((2, 3, 4), 1.0, np.float32)))
    states = {n: add_noise(s, 1.0, lambda x: noise("", x)) for n, s in (("video", video), ("audio", audio))}
    return State(**states, text={"video": text, "audio": text})


def test_denoise_runs_the_passes_that_guidance_asks_for(nn: Backend, close: Any) -> None:
    model, state = Model(), made(nn)
    guidance = {"video": Guidance(3.0, 1.0, (1,), 2.0), "audio": Guidance(2.0)}
    done = sampling.denoise(model, state, (1.0, 0.5, 0.0), guidance=guidance)
    assert len(model.calls) == 8
    cond, uncond, perturbed, alone = model.calls[:4]
    assert cond["perturbations"] is uncond["perturbations"] is None
    assert float(nn.to_numpy(uncond["video"].context).mean()) == 1
    assert perturbed["perturbations"] == [[["SKIP_VIDEO_SELF_ATTN", [1]]]] * 2
    assert {name for name, _ in alone["perturbations"][0]} == {"SKIP_A2V_CROSS_ATTN", "SKIP_V2A_CROSS_ATTN"}
    # video: 2 + 2 * (2 - 1) + (2 - 12) + (2 - 12); audio: 2 + (2 - 1)
    assert done.video is not None
    assert done.audio is not None
    close(done.video.latent[:, 4:], np.full((2, 8, 4), -16, np.float32), 1e-4)
    close(done.video.latent[:, :4], np.full((2, 4, 4), 7, np.float32), 1e-6)
    close(done.audio.latent, np.full((2, 5, 6), 3, np.float32), 1e-4)


def test_a_given_image_has_noise_level_zero_and_is_told_once(nn: Backend) -> None:
    model, state = Model(), made(nn)
    sampling.denoise(model, state, (1.0, 0.5))
    m = model.calls[0]["video"]
    assert m.timesteps.values.tolist() == [0, 1]
    assert m.timesteps.index.tolist() == [[0] * 4 + [1] * 8] * 2
    assert model.calls[0]["audio"].timesteps.index is None


def test_a_frozen_stream_conditions_without_changing(nn: Backend, close: Any) -> None:
    model, state = Model(), made(nn)
    assert state.audio is not None
    given_audio = nn.asarray(np.random.default_rng(5).standard_normal((2, 2, 5, 3)).astype(np.float32))
    frozen = freeze(state.audio, given_audio)
    done = sampling.denoise(model, State(state.video, frozen, state.text), (1.0, 0.5, 0.0))
    assert done.audio is not None
    close(done.audio.latent, nn.to_numpy(frozen.latent), 0)
    sent = model.calls[1]["audio"]
    assert nn.to_numpy(sent.sigma).tolist() == [0, 0]
    assert np.max(sent.timesteps.values) == 0


def test_skipped_steps_use_the_last_prediction(nn: Backend) -> None:
    model, state = Model(), made(nn)
    guidance = {"video": Guidance(skip_step=1), "audio": Guidance()}
    sampling.denoise(model, state, (1.0, 0.75, 0.5, 0.25, 0.0), guidance=guidance)
    assert [call["video"].enabled for call in model.calls] == [True, False, True, False]
    assert all(call["audio"].enabled for call in model.calls)
    model = Model()
    sampling.denoise(model, state, (1.0, 0.75, 0.5, 0.0), guidance=Guidance(skip_step=2))
    assert len(model.calls) == 1


def test_progress_previews_and_cancelling(nn: Backend) -> None:
    seen: list[Any] = []

    def on_step(step: sampling.Step) -> bool:
        seen.append((step.index, step.total, step.sigma_next, tuple(step.denoised["video"].shape)))
        return step.index < 1

    with pytest.raises(Cancelled, match="after step 2 of 3") as stopped:
        sampling.denoise(Model(), made(nn), (1.0, 0.6, 0.3, 0.0), on_step=on_step)
    assert seen == [(0, 3, 0.6, (2, 12, 4)), (1, 3, 0.3, (2, 12, 4))]
    assert isinstance(stopped.value.state.video, LatentState)


def test_what_is_drawn_does_not_depend_on_the_framework() -> None:
    torch, mx = pytest.importorskip("torch"), pytest.importorskip("mlx.core")
    a, b = Noise(7)("video", torch.zeros(3, 4)), Noise(7)("video", mx.zeros((3, 4)))
    np.testing.assert_array_equal(a.numpy(), np.array(b))


def test_denoise_refuses_a_state_without_text_and_a_broken_schedule(nn: Backend) -> None:
    state = made(nn)
    with pytest.raises(ValueError, match="no text for audio"):
        sampling.denoise(Model(), State(state.video, state.audio, {"video": state.text["video"]}), (1.0, 0.0))
    text = {name: Text(t.context) for name, t in state.text.items()}
    with pytest.raises(ValueError, match="needs TextEmbeddings"):
        sampling.denoise(Model(), State(state.video, state.audio, text), (1.0, 0.0), guidance=Guidance(3.0))
    with pytest.raises(ValueError, match="neither video nor audio"):
        sampling.denoise(Model(), State(), (1.0, 0.0))
    with pytest.raises(ValueError, match="is nan"):
        sampling.denoise(Model(), state, (1.0, math.nan))


def test_cfg_pp_needs_a_negative_prediction(nn: Backend) -> None:
    with pytest.raises(ValueError, match="cfg_pp: no prediction of video"):
        sampling.denoise(Model(), made(nn), (1.0, 0.5, 0.0), Ancestral(cfg_pp=True))
    sampling.denoise(Model(), made(nn), (0.9, 0.5, 0.0), Ancestral(cfg_pp=True), Guidance(2.0))


def test_a_sampler_of_ones_own_will_do(nn: Backend) -> None:
    class Once:
        def run(self, predict: Any, latents: Any, blends: Any, sigmas: Any, draw: Any) -> Iterator[sampling.Step]:
            found = predict(latents, sigmas[0]).denoised
            yield sampling.Step(0, 1, sigmas[0], 0.0, found, found)

    done = sampling.denoise(Model(), made(nn), (1.0, 0.0), Once())
    assert done.audio is not None
    assert float(nn.to_numpy(done.audio.latent).max()) == pytest.approx(2)
