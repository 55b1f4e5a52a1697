"""The transformer: the reference's outputs, and laws that hold for any weights, on both backends."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models import Modality, load_transformer
from ltx_models.checkpoints import CheckpointError, open_checkpoint
from ltx_models.compilation import compile_blocks
from ltx_models.nn import Backend, backend
from ltx_models.transformer import StreamConfig, Timesteps, Transformer, TransformerConfig
from ltx_models.transformer.rope import Rotary

# The reference in float32 and in float64 differ by up to (7e-4, 2.6e-4); ours is this close to it in float32.
MOST, RMS = 2e-4, 5e-5
FIELDS = ("latent", "sigma", "timesteps", "positions", "context", "context_mask", "attention_mask", "keyframes_mask")


def inputs(nn: Backend, case: Any, name: str) -> Modality | None:
    if case.get(f"input.{name}.latent") is None:
        return None
    arrays = {f: case.get(f"input.{name}.{f}") for f in FIELDS}
    given_arrays: dict[str, Any] = {f: None if x is None else nn.asarray(x) for f, x in arrays.items()}
    return Modality(**given_arrays, enabled=case.args.get(f"{name}_enabled", True))


def perturbations(case: Any) -> Any:
    lists = case.args.get("perturbations")
    return lists if lists is not None and any(lists) else None


def run_case(nn: Backend, case: Any, rule: Any = "own") -> None:
    model = load_transformer(case.path, backend=nn.name, dtype="float32", cross_timesteps=rule)
    given_streams = {name: inputs(nn, case, name) for name in ("video", "audio")}
    found = model(**given_streams, perturbations=perturbations(case))
    for name, got in zip(("video", "audio"), found, strict=True):
        want = case.get(f"output.{name}")
        assert (got is None) == (want is None)
        if got is not None:
            error = np.abs(nn.to_numpy(got).astype(np.float64) - want)
            assert error.max() < MOST, (case.name, name, error.max())
            assert np.sqrt((error**2).mean()) < RMS, (case.name, name)


def test_outputs_equal_the_reference(nn: Backend, oracle: Any, complete: bool) -> None:
    cases = [c for c in oracle("dit_*") if not c.name.endswith("core100")]
    assert len(cases) == (30 if complete else 6)
    for case in cases:
        run_case(nn, case)


def test_outputs_of_2_5_equal_the_reference(nn: Backend, oracle25: Any) -> None:
    for case in oracle25("dit_*"):
        run_case(nn, case)


def test_a_transformer_of_2_5_looks_at_the_marks_of_keyframes(nn: Backend, oracle25: Any) -> None:
    (case,) = oracle25("dit_video25_slots")
    mask = case.arrays.pop("input.video.keyframes_mask")
    with pytest.raises(AssertionError):  # a transformer of 2.5 is told which tokens are keyframes
        run_case(nn, case)
    case.arrays["input.video.keyframes_mask"] = mask[:, :-1]
    with pytest.raises(ValueError, match=r"video\.keyframes_mask: got shape .*, expected \(1, 30, 1\)"):
        run_case(nn, case)


def test_outputs_by_the_first_release_equal_it(nn: Backend, oracle: Any, complete: bool) -> None:
    cases = oracle("dit_*_core100")
    assert len(cases) == (3 if complete else 1)
    for case in cases:
        run_case(nn, case, rule="other")
        with pytest.raises(AssertionError):  # the rules do differ there
            run_case(nn, case)


def test_rotary_tables_equal_the_reference(oracle: Any, complete: bool) -> None:
    compared = 0
    for case in oracle("dit_*"):
        want = case.get("debug.video.rope_cos")
        if want is None or want.ndim != 4:
            continue
        _, heads, _, half = want.shape
        # the reference's tables have heads before tokens
        rotary = Rotary(heads * half * 2, heads, (20.0, 2048.0, 2048.0), double="f32" not in case.name)
        cos, sin = rotary.tables(case.get("input.video.positions"))
        for got, name in ((cos, "cos"), (sin, "sin")):
            want = case.get(f"debug.video.rope_{name}").transpose(0, 2, 1, 3)
            np.testing.assert_allclose(
                np.broadcast_to(got, want.shape), want, atol=2e-3 if "f32" in case.name else 1e-6
            )
        compared += 1
    assert compared >= (11 if complete else 4)


# ---- laws ----------------------------------------------------------------------------------------------------


def config(*, video: bool = True, audio: bool = True, late: bool = True, **others: Any) -> TransformerConfig:
    """A small 2.3 (late) or 2.0 transformer."""
    text = None if late else 10
    return TransformerConfig(
        video=StreamConfig(6, 6, 2, 12, 24, (20.0, 2048.0, 2048.0), text) if video else None,
        audio=StreamConfig(5, 5, 2, 6, 12, (20.0,), text) if audio else None,
        layers=2,
        gated=late,
        text_modulation=late,
        **others,
    )


def weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {key: (rng.standard_normal(shape) * 0.2).astype(np.float32) for key, shape in sorted(shapes.items())}


def make(nn: Backend, of: TransformerConfig) -> Any:
    model = nn.build(lambda: Transformer(nn, of))
    return nn.load(model, {k: nn.asarray(w) for k, w in weights(nn.shapes(model)).items()})


def stream(nn: Backend, stream_config: StreamConfig, batch: int = 2, tokens: int = 5, seed: int = 0) -> Modality:
    rng = np.random.default_rng([seed, stream_config.in_channels])
    axes = len(stream_config.max_pos)
    start = rng.uniform(0, 1, (batch, axes, tokens, 1)) * np.array(stream_config.max_pos)[:, None, None]
    f = np.float32
    return Modality(
        latent=nn.asarray(rng.standard_normal((batch, tokens, stream_config.in_channels)).astype(f)),
        sigma=nn.asarray(rng.uniform(0.2, 1, batch).astype(f)),
        timesteps=rng.uniform(0, 1, (batch, tokens)).astype(f),
        positions=np.concatenate([start, start + 0.5], axis=-1).astype(f),
        context=nn.asarray(rng.standard_normal((batch, 3, stream_config.text_channels)).astype(f)),
    )


def both(nn: Backend, of: TransformerConfig, **kw: Any) -> dict[str, Modality]:
    return {name: stream(nn, s, **kw) for name, s in (("video", of.video), ("audio", of.audio)) if s is not None}


def outputs(nn: Backend, model: Any, streams: dict[str, Modality], **kw: Any) -> list[Any]:
    return [None if x is None else nn.to_numpy(x) for x in model(**streams, **kw)]


def same(got: list[Any], want: list[Any], tolerance: float = 2e-5) -> None:
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, atol=tolerance)


@settings(max_examples=12, deadline=None)
@given(
    late=st.booleans(),
    pairing=st.sampled_from(["split", "interleaved"]),
    rule=st.sampled_from(["own", "other"]),
    skips=st.lists(
        st.tuples(
            st.sampled_from(
                ["SKIP_VIDEO_SELF_ATTN", "SKIP_AUDIO_SELF_ATTN", "SKIP_A2V_CROSS_ATTN", "SKIP_V2A_CROSS_ATTN"]
            ),
            st.sampled_from([None, [0], [1], [0, 1]]),
        ),
        max_size=3,
    ),
    enabled=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_backends_agree(late: bool, pairing: Any, rule: Any, skips: Any, enabled: bool, seed: int) -> None:
    for module in ("torch", "mlx.core"):
        pytest.importorskip(module)
    of = config(late=late, pairing=pairing, cross_timesteps=rule)
    found = []
    for name in ("torch", "mlx"):
        nn = backend(name)
        streams = both(nn, of, seed=seed)
        streams["audio"] = replace(streams["audio"], enabled=enabled)
        found.append(outputs(nn, make(nn, of), streams, perturbations=[skips, []]))
    same(found[0], found[1], 1e-4)


def test_the_backends_sample_the_same() -> None:
    """The same seed, weights, picture and guidance lead to the same clip and sound."""
    for module in ("torch", "mlx.core"):
        pytest.importorskip(module)
    from ltx_models.conditioning import add_noise, audio_state, replace_frames, video_state
    from ltx_models.sampling import Guidance, Noise, Res2s, State, Text, denoise, ltx2_sigmas

    of, found = config(), []
    assert of.video is not None
    assert of.audio is not None
    for name in ("torch", "mlx"):
        nn, noise, rng = backend(name), Noise(1), np.random.default_rng(2)
        like = nn.asarray(np.zeros(1, np.float32))
        image = nn.asarray(rng.standard_normal((1, 6, 1, 2, 2)).astype(np.float32))
        video = replace_frames(video_state((1, 6, 2, 2, 2), fps=24, like=like), image)
        text = {
            n: Text(*(nn.asarray(rng.standard_normal((1, 3, s.text_channels)).astype(np.float32)) for _ in range(2)))
            for n, s in (("video", of.video), ("audio", of.audio))
        }
        audio = audio_state((1, 1, 4, 5), like=like)
        draw = partial(noise, "")
        video, audio = add_noise(video, 1.0, draw), add_noise(audio, 1.0, draw)
        guidance = Guidance(3.0, 1.0, (1,), 3.0, 0.7)
        done = denoise(make(nn, of), State(video, audio, text), ltx2_sigmas(4), Res2s(), guidance)
        assert done.video is not None
        assert done.audio is not None
        found.append([nn.to_numpy(done.video.latent), nn.to_numpy(done.audio.latent)])
    same(found[0], found[1], 1e-3)


def test_samples_of_a_batch_do_not_see_each_other(nn: Backend) -> None:
    of = config()
    model, streams = make(nn, of), both(nn, of)
    skips: list[Any] = [[["SKIP_VIDEO_SELF_ATTN", [1]], ["SKIP_V2A_CROSS_ATTN", None]], [["SKIP_AUDIO_SELF_ATTN", [0]]]]
    whole = outputs(nn, model, streams, perturbations=skips)
    for i in range(2):
        one = {
            name: replace(m, **{f: getattr(m, f)[i : i + 1] for f in FIELDS if getattr(m, f) is not None})
            for name, m in streams.items()
        }
        same(outputs(nn, model, one, perturbations=skips[i : i + 1]), [x[i : i + 1] for x in whole])


def test_an_absent_stream_is_one_that_is_not_listened_to(nn: Backend) -> None:
    of = config()
    model, streams = make(nn, of), both(nn, of)
    alone = outputs(nn, model, {"video": streams["video"]})
    deaf = outputs(nn, model, streams, perturbations=[[["SKIP_A2V_CROSS_ATTN", None]]] * 2)
    np.testing.assert_allclose(alone[0], deaf[0], atol=2e-5)
    assert alone[1] is None
    heard = outputs(nn, model, streams)
    assert np.abs(heard[0] - deaf[0]).max() > 1e-2


def test_order_of_tokens_does_not_matter(nn: Backend) -> None:
    of = config(audio=False)
    model, m = make(nn, of), both(nn, of)["video"]
    order = [3, 0, 4, 1, 2]
    moved = replace(
        m,
        latent=m.latent[:, nn.asarray(np.array(order))],
        timesteps=m.timesteps[:, order],
        positions=m.positions[:, :, order],
    )
    got, want = (outputs(nn, model, {"video": x})[0] for x in (moved, m))
    np.testing.assert_allclose(got, want[:, order], atol=2e-5)


def test_masked_text_and_masked_tokens_are_not_seen(nn: Backend) -> None:
    of = config(audio=False)
    model, m = make(nn, of), both(nn, of)["video"]
    keep = np.array([[1, 0, 1], [1, 1, 0]])
    changed = nn.to_numpy(m.context) + 100 * (1 - keep[..., None]).astype(np.float32)
    for mask in (keep, keep.astype(bool), np.where(keep, 0, -1e30).astype(np.float32)):
        pair = [replace(m, context=x, context_mask=nn.asarray(mask)) for x in (m.context, nn.asarray(changed))]
        got, want = (outputs(nn, model, {"video": x}) for x in pair)
        same(got, want)
    attend = np.ones((2, 5, 5), np.float32)
    attend[:, :4, 4] = 0
    latent = nn.to_numpy(m.latent).copy()
    latent[:, 4] += 3
    for mask in (attend, attend.astype(bool)):
        pair = [replace(m, latent=x, attention_mask=nn.asarray(mask)) for x in (m.latent, nn.asarray(latent))]
        got, want = (outputs(nn, model, {"video": x})[0] for x in pair)
        np.testing.assert_allclose(got[:, :4], want[:, :4], atol=2e-5)
        assert np.abs(got[:, 4] - want[:, 4]).max() > 1e-2
    half, full = (replace(m, attention_mask=nn.asarray(np.full((2, 5, 5), x, np.float32))) for x in (0.5, 1.0))
    same(outputs(nn, model, {"video": half}), outputs(nn, model, {"video": full}))  # the same weight for all is none


@pytest.mark.parametrize("uniform", [True, False])
def test_noise_levels_in_any_form_are_the_same(nn: Backend, uniform: bool) -> None:
    of = config()
    model, streams = make(nn, of), both(nn, of)
    levels = np.array([[0.5, 0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25, 0.25]], np.float32)
    if not uniform:
        levels[:, :2] = 0
    forms = [levels, levels[..., None], nn.asarray(levels), nn.asarray(levels[..., None])]
    forms += [Timesteps(np.array([0, 0.5, 0.25], np.float32), np.searchsorted([0, 0.25, 0.5], levels)[...] % 3)]
    forms[-1] = Timesteps(np.array([0, 0.25, 0.5], np.float32), np.searchsorted([0, 0.25, 0.5], levels))
    forms += [Timesteps(nn.asarray(levels.reshape(-1)))]
    if uniform:
        forms += [levels[:, 0], levels[:, :1], nn.asarray(levels[:, 0])]
    found = [outputs(nn, model, {n: replace(m, timesteps=form) for n, m in streams.items()}) for form in forms]
    for got in found[1:]:
        same(got, found[0])


def test_equal_noise_levels_are_embedded_once() -> None:
    torch = pytest.importorskip("torch")
    nn = backend("torch")
    of = config(audio=False)
    model, m = make(nn, of), both(nn, of)["video"]
    rows: list[int] = []
    model.adaln_single.linear.register_forward_hook(lambda _, args, __: rows.append(args[0].shape[0]))
    image = np.array([[0, 0.5, 0.5, 0.5, 0.5]] * 2, np.float32)
    for levels in (image, torch.from_numpy(image), torch.full((2, 1), 0.5).expand(2, 5), np.full((2, 5), 0.5)):
        model(video=replace(m, timesteps=levels))
    assert rows == [2, 2, 2, 2]


def test_rotary_tables_are_computed_once_and_follow_what_positions_say(
    nn: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = config()
    model, streams = make(nn, of), both(nn, of)
    calls: list[Rotary] = []
    tables = Rotary.tables

    def counted(self: Rotary, positions: Any) -> Any:
        calls.append(self)
        return tables(self, positions)

    monkeypatch.setattr(Rotary, "tables", counted)
    first = outputs(nn, model, streams)
    outputs(nn, model, {n: replace(m, positions=nn.asarray(m.positions)) for n, m in streams.items()})
    assert len(calls) == 3  # each stream's own, and video's in time: audio's in time is its own
    streams["video"].positions[:] += 1  # written in place: the old tables must not be used
    assert np.abs(outputs(nn, model, streams)[0] - first[0]).max() > 1e-3
    assert len(calls) == 5


def test_equal_positions_of_a_batch_share_a_table() -> None:
    positions = np.zeros((3, 1, 4, 2), np.float32)
    assert Rotary(8, 2, (20.0,)).tables(positions)[0].shape == (1, 4, 2, 2)
    positions[1] += 1
    assert Rotary(8, 2, (20.0,)).tables(positions)[0].shape == (3, 4, 2, 2)


def test_a_step_never_waits_for_the_device_and_copies_no_weight() -> None:
    """On the meta device no value exists: whatever would fetch one to the host raises."""
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode

    from ltx_models.conditioning import add_noise, audio_state, replace_frames, video_state
    from ltx_models.sampling import Ancestral, Guidance, Noise, Res2s, State, Text, denoise

    nn = backend("torch")
    of = replace(config(), layers=1)
    model = nn.build(lambda: Transformer(nn, of)).eval().requires_grad_(False)
    owned = {p.untyped_storage()._cdata for p in model.state_dict().values()}
    copies: list[str] = []
    names = {"aten::_to_copy", "aten::clone", "aten::copy_", "aten::_local_scalar_dense"}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            tensors = [x for x in args if isinstance(x, torch.Tensor)]
            if func._schema.name in names and any(x.untyped_storage()._cdata in owned for x in tensors):
                copies.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    like = torch.zeros(1, device="meta")
    video = video_state((1, 6, 2, 2, 2), fps=24, like=like)
    video = replace_frames(video, torch.zeros(1, 6, 1, 2, 2, device="meta"))
    audio = audio_state((1, 1, 3, 5), like=like)
    texts = {
        n: Text(*(torch.zeros(1, 3, s.text_channels, device="meta") for _ in range(2)))
        for n, s in (("video", of.video), ("audio", of.audio))
        if s is not None
    }
    streams = {n: add_noise(s, 1.0, torch.randn_like) for n, s in (("video", video), ("audio", audio))}
    with Watch():  # type: ignore[no-untyped-call]  # torch's base has no types
        for sampler in (None, Ancestral(cfg_pp=True), Res2s()):
            done = denoise(
                model,
                State(**streams, text=texts),
                (0.9, 0.0) if sampler is None else (0.9, 0.5),
                sampler,
                Guidance(3.0, 1.0, (0,), 3.0, 0.7) if sampler is None else Guidance(3.0),
                draw=Noise(0),
            )
    assert copies == []
    with Watch():  # type: ignore[no-untyped-call]  # torch's base has no types
        model.scale_shift_table.clone()
    assert copies == ["aten::clone"]  # the watch does see weights
    assert done.video is not None
    assert done.video.latent.device.type == "meta"


# ---- native modules ------------------------------------------------------------------------------------------


def test_a_copy_and_a_pickled_model_give_the_same(nn: Backend) -> None:
    of = config()
    model, streams = make(nn, of), both(nn, of)
    want = outputs(nn, model, streams)
    same(outputs(nn, copy.deepcopy(model), streams), want)
    if nn.name == "torch":
        same(outputs(nn, pickle.loads(pickle.dumps(model)), streams), want)


def test_compiled_blocks_give_the_same(nn: Backend) -> None:
    # MLX compiles every fused operation by a C++ compiler on this device, so its model is as small as can be
    of = config() if nn.name == "torch" else replace(config(audio=False, late=False), layers=1)
    model, streams = make(nn, of), both(nn, of)
    calls: list[Any] = [None, [[["SKIP_VIDEO_SELF_ATTN", [0]]], []]]
    want = [outputs(nn, model, streams, perturbations=skips) for skips in calls]
    options = {"backend": "eager", "fullgraph": True} if nn.name == "torch" else {}
    compile_blocks(model, **options)
    for skips, first in zip(calls, want, strict=True):
        for _ in range(2):
            same(outputs(nn, model, streams, perturbations=skips), first)
    if nn.name == "mlx":
        with pytest.raises(ValueError, match="MLX takes no options"):
            compile_blocks(model, mode="max-autotune")


REAL = {
    "2.0": (config(late=False), 3510, 18_876e6),
    "2.3": (config(late=True), 4186, 18_989e6),
}


@pytest.mark.parametrize("version", REAL)
def test_real_sizes(nn: Backend, version: str) -> None:
    """Number, names and shapes of tensors of the released models, without memory for them."""
    small, count, parameters = REAL[version]
    late = version == "2.3"
    of = replace(
        small,
        layers=48,
        video=StreamConfig(128, 128, 32, 128, 4096, (20.0, 2048.0, 2048.0), None if late else 3840),
        audio=StreamConfig(128, 128, 32, 64, 2048, (20.0,), None if late else 3840),
    )
    shapes = nn.shapes(nn.build(lambda: Transformer(nn, of)))
    assert len(shapes) == count
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    assert round(total / 1e6) == round(parameters / 1e6)
    block = "transformer_blocks.47."
    expected = {
        "patchify_proj.weight": (4096, 128),
        "audio_proj_out.weight": (128, 2048),
        "adaln_single.linear.weight": ((9 if late else 6) * 4096, 4096),
        "adaln_single.emb.timestep_embedder.linear_1.weight": (4096, 256),
        "av_ca_video_scale_shift_adaln_single.linear.weight": (4 * 4096, 4096),
        "av_ca_a2v_gate_adaln_single.linear.weight": (4096, 4096),
        "av_ca_v2a_gate_adaln_single.linear.weight": (2048, 2048),
        "scale_shift_table": (2, 4096),
        f"{block}attn1.to_out.0.weight": (4096, 4096),
        f"{block}audio_to_video_attn.to_q.weight": (2048, 4096),
        f"{block}audio_to_video_attn.to_out.0.weight": (4096, 2048),
        f"{block}video_to_audio_attn.to_k.weight": (2048, 4096),
        f"{block}video_to_audio_attn.k_norm.weight": (2048,),
        f"{block}ff.net.0.proj.weight": (16384, 4096),
        f"{block}audio_ff.net.2.weight": (2048, 8192),
        f"{block}scale_shift_table": (9 if late else 6, 4096),
        f"{block}scale_shift_table_a2v_ca_audio": (5, 2048),
    }
    if late:
        expected |= {f"{block}audio_to_video_attn.to_gate_logits.weight": (32, 4096)}
        expected |= {f"{block}audio_prompt_scale_shift_table": (2, 2048), "prompt_adaln_single.linear.bias": (8192,)}
    else:
        expected |= {"caption_projection.linear_1.weight": (4096, 3840)}
        expected |= {"audio_caption_projection.linear_2.weight": (2048, 2048)}
    assert {key: shapes[key] for key in expected} == expected


# ---- refusals ------------------------------------------------------------------------------------------------


def test_inputs_that_do_not_fit_are_refused(nn: Backend) -> None:
    of = config()
    model, streams = make(nn, of), both(nn, of)
    video = streams["video"]
    ones = np.ones((2, 5, 5), np.float32)
    for change, text in (
        ({"latent": video.latent[..., :5]}, r"video\.latent: got shape \(2, 5, 5\), expected \(B, T, 6\)"),
        ({"positions": video.positions[:, :2]}, r"positions: got shape \(2, 2, 5, 2\), expected \(2, 3, 5, 2\)"),
        ({"positions": video.positions[:, :, :4]}, r"expected \(2, 3, 5, 2\)"),
        ({"sigma": video.sigma[:1]}, r"sigma: got shape \(1,\)"),
        ({"timesteps": np.ones((2, 4), np.float32)}, r"timesteps: got shape \(2, 4\)"),
        ({"timesteps": np.full((2, 5), np.nan, np.float32)}, "10 of 10 noise levels are not finite"),
        ({"timesteps": nn.asarray(np.array([0.5, np.inf], np.float32))}, "1 of 2 noise levels are not finite"),
        ({"context": video.context[..., :7]}, r"context: got shape \(2, 3, 7\), expected \(2, S, 24\)"),
        ({"context_mask": nn.asarray(np.ones((2, 4), np.int32))}, r"context_mask: got integers of shape \(2, 4\)"),
        ({"context_mask": nn.asarray(np.ones((2, 1, 1, 3), np.int32))}, "of other shapes are floats"),
        ({"context_mask": nn.asarray(np.ones((2, 2, 1, 3), np.float32))}, "got floats of shape"),
        ({"attention_mask": nn.asarray(ones[:, :4])}, r"attention_mask: got shape \(2, 4, 5\)"),
        ({"attention_mask": nn.asarray(ones.astype(np.int32))}, "expected floats in"),
    ):
        with pytest.raises(ValueError, match=text):
            model(video=replace(video, **change), audio=streams["audio"])
    with pytest.raises(ValueError, match="batch sizes: got"):
        model(video=video, audio=stream(nn, of.audio, batch=3))  # type: ignore[arg-type]  # there is audio
    with pytest.raises(ValueError, match="give video, audio, or both"):
        model()
    with pytest.raises(ValueError, match="has no audio stream"):
        make(nn, config(audio=False))(**streams)
    for skips, text in (
        ([[["SKIP_EVERYTHING", None]], []], "got 'SKIP_EVERYTHING' for sample 0"),
        ([[["SKIP_VIDEO_SELF_ATTN", [2]]], []], "names block 2, but blocks are 0 to 1"),
        ([[]], "got 1 lists for 2 samples"),
    ):
        with pytest.raises(ValueError, match=text):
            model(**streams, perturbations=skips)


def test_configurations_that_do_not_fit_are_refused(oracle: Any) -> None:
    pytest.importorskip("torch")
    (case,) = oracle("dit_av20_split")
    with pytest.raises(ValueError, match="missing num_attention_heads"):
        TransformerConfig.of({"num_layers": 2, "attention_head_dim": 4, "cross_attention_dim": 8}, audio=False)
    with pytest.raises(ValueError, match="rope_type is 'learned'"):
        config(pairing="learned")
    with pytest.raises(ValueError, match="cross_timesteps is 'both'"):
        load_transformer(case.path, dtype="float32", cross_timesteps="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="neither video nor audio"):
        config(video=False, audio=False)
    with open_checkpoint(case.path) as checkpoint:
        section = checkpoint.config["transformer"]
    for change, text in (
        ({"num_attention_heads": 2}, "of another shape"),
        ({"in_channels": 15}, "patchify_proj"),
        ({"num_layers": 3}, "missing"),
        ({"num_layers": 1}, "unexpected"),
        ({"apply_gated_attention": True}, "to_gate_logits"),
    ):
        with pytest.raises(CheckpointError, match=text):
            load_transformer(case.path, dtype="float32", config={"transformer": section | change})
    with pytest.raises(CheckpointError, match="no section 'transformer'"):
        load_transformer(case.path, dtype="float32", config={})
