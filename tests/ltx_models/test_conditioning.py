"""Conditioning: positions as the reference has them, tokens and back, and what each condition gives and hides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models import conditioning as c
from ltx_models.nn import Backend, backend
from ltx_models.sampling import Noise


def test_positions_equal_the_reference(oracle: Any) -> None:
    (case,) = oracle("positions")
    assert len(case.args) == 9
    for key, args in case.args.items():
        if key.startswith("video"):
            size = args["frames"], args["height"], args["width"]
            got = c.video_positions(*size, fps=args["fps"], scale=tuple(args["scale"]), causal=args["causal_fix"])
        else:
            names = ("frames", "sample_rate", "hop_length", "downsample", "causal")
            got = c.audio_positions(**{name: args[name] for name in names})
        np.testing.assert_array_equal(got, case.get(f"output.{key}"), err_msg=key)


@settings(max_examples=30, deadline=None)
@given(size=st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5)), fps=st.floats(5, 60))
def test_video_positions_tile_the_clip(size: tuple[int, int, int], fps: float) -> None:
    """Intervals of an axis follow one another without gaps, from 0 to the clip's end."""
    positions = c.video_positions(*size, fps=fps)[0].reshape(3, *size, 2)
    for axis, along in enumerate(np.moveaxis(positions[i], i, 0) for i in range(3)):
        line = along.reshape(size[axis], -1, 2)[:, 0]
        assert line[0, 0] == 0
        np.testing.assert_array_equal(line[1:, 0], line[:-1, 1])
    assert positions[0].max() == pytest.approx((1 + 8 * (size[0] - 1)) / fps, rel=1e-6)
    assert positions[1].max() == 32 * size[1]


@pytest.mark.parametrize(("frames", "fps", "tokens"), [(121, 24, 126), (97, 24, 101), (241, 24, 251), (1, 50, 0)])
def test_audio_tokens_round_halves_to_even(frames: int, fps: float, tokens: int) -> None:
    assert c.audio_tokens(frames, fps) == tokens


@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(1, 4), min_size=4, max_size=5))
def test_tokens_and_back_is_the_identity(shape: list[int]) -> None:
    for name in ("torch", "mlx.core"):
        pytest.importorskip(name)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for nn in (backend("torch"), backend("mlx")):
        tokens = c.patchify(nn.asarray(x))
        np.testing.assert_array_equal(nn.to_numpy(c.unpatchify(tokens, shape)), x)
        if len(shape) == 5:  # cells in raster order, channels last
            np.testing.assert_array_equal(nn.to_numpy(tokens)[0], x[0].reshape(shape[1], -1).T)
        else:  # channel-major within a frame
            np.testing.assert_array_equal(nn.to_numpy(tokens)[0, 0], x[0, :, 0].reshape(-1))


def video(nn: Backend, batch: int = 2, channels: int = 3, size: tuple[int, int, int] = (3, 2, 2)) -> c.LatentState:
    return c.video_state((batch, channels, *size), fps=24, like=nn.asarray(np.zeros(1, np.float32)))


def filled(nn: Backend, value: float, *shape: int) -> Any:
    return nn.asarray(np.full(shape, value, np.float32))


def test_an_image_is_given_and_the_rest_is_noise(nn: Backend) -> None:
    state = c.replace_frames(video(nn), filled(nn, 5, 1, 3, 1, 2, 2), frame=1, strength=0.75)
    np.testing.assert_array_equal(state.mask[0], [1] * 4 + [0.25] * 4 + [1] * 4)
    noise = Noise(0)
    drawn = nn.to_numpy(Noise(0)("", state.latent))
    noisy = nn.to_numpy(c.add_noise(state, 1.0, lambda x: noise("", x)).latent)
    np.testing.assert_allclose(noisy[:, :4], drawn[:, :4], atol=1e-6)
    np.testing.assert_allclose(noisy[:, 4:8], 5 + 0.25 * (drawn[:, 4:8] - 5), atol=1e-6)


def test_partial_noise_starts_between_the_latent_and_noise(nn: Backend) -> None:
    like = nn.asarray(np.zeros(1, np.float32))
    state = c.video_state((1, 3, 1, 2, 2), fps=24, like=like, initial=filled(nn, 2, 1, 3, 1, 2, 2))
    got = nn.to_numpy(c.add_noise(state, 0.25, lambda x: x * 0 + 10).latent)
    np.testing.assert_allclose(got, 2 * 0.75 + 10 * 0.25)


def test_what_is_weakly_given_is_mixed_with_what_is_refined(nn: Backend) -> None:
    like = nn.asarray(np.zeros(1, np.float32))
    state = c.video_state((1, 3, 1, 2, 2), fps=24, like=like, initial=filled(nn, 2, 1, 3, 1, 2, 2))
    state = c.replace_frames(state, filled(nn, 5, 1, 3, 1, 2, 2), strength=0.75)
    state = c.append_keyframe(state, filled(nn, 7, 1, 3, 1, 2, 2), frame=8, fps=24, strength=0.5)
    got = nn.to_numpy(c.add_noise(state, 0.5, lambda x: x * 0 + 10).latent)
    np.testing.assert_allclose(got[:, :4], 5 + 0.25 * ((2 + 10) / 2 - 5))
    np.testing.assert_allclose(got[:, 4:], 7 + 0.5 * (10 / 2 - 7))  # beside it there is nothing to be refined


def test_a_keyframe_is_appended_at_its_time(nn: Backend) -> None:
    state = c.append_keyframe(video(nn), filled(nn, 4, 1, 3, 1, 2, 2), frame=9, fps=24)
    assert state.mask.shape == (2, 16)
    assert state.generated == 12
    np.testing.assert_array_equal(state.mask[:, 12:], 0)
    np.testing.assert_allclose(state.positions[0, 0, 12], [9 / 24, 10 / 24])
    np.testing.assert_array_equal(state.positions[0, 1:, 12:], state.positions[0, 1:, :4])
    tokens = c.unpatchify(state.latent, state.shape)
    assert tuple(tokens.shape) == state.shape
    first = c.append_keyframe(video(nn), filled(nn, 4, 1, 3, 2, 2, 2), frame=0, fps=24)
    np.testing.assert_allclose(first.positions[0, 0, 12:], video(nn).positions[0, 0, :8])


def test_a_reference_is_scaled_in_space_and_time(nn: Backend) -> None:
    state = c.append_reference(video(nn), filled(nn, 4, 1, 3, 2, 1, 1), fps=24, downscale=2, time_scale=3)
    # frames 0, 1, 4, 7, ... of the clip: [0, 1) and [1, 25) at 8 frames a second, 2/24 s earlier
    np.testing.assert_allclose(state.positions[0, 0, 12:], [[0, 1 / 24], [1 / 24, 25 / 24]], atol=1e-6)
    np.testing.assert_array_equal(state.positions[0, 1, 12:], [[0, 64]] * 2)
    assert state.attention_mask is None


def test_references_with_weights_see_the_clip_but_not_each_other(nn: Backend) -> None:
    state = c.append_reference(video(nn), filled(nn, 4, 1, 3, 1, 1, 1), fps=24, attention=0.5)
    state = c.append_reference(state, filled(nn, 4, 1, 3, 1, 1, 1), fps=24, attention=0.25)
    mask = state.attention_mask
    assert mask is not None
    np.testing.assert_array_equal(mask, mask.transpose(0, 2, 1))
    np.testing.assert_array_equal(mask[0, :12, :12], 1)
    np.testing.assert_array_equal(mask[0, 0, 12:], [0.5, 0.25])
    np.testing.assert_array_equal(mask[0, 12:, 12:], np.eye(2))


def test_a_stretch_of_time_is_generated_anew(nn: Backend) -> None:
    state = c.regenerate(video(nn), filled(nn, 1, 2, 3, 3, 2, 2), 1 / 24, 9 / 24)
    np.testing.assert_array_equal(state.mask[0], [0] * 4 + [1] * 4 + [0] * 4)
    audio = c.audio_state((1, 2, 4, 3), like=filled(nn, 0, 1))
    assert c.regenerate(audio, filled(nn, 1, 1, 2, 4, 3), 0.02, 0.04).mask.tolist() == [[0, 1, 0, 0]]


def test_cells_are_painted_in(nn: Backend) -> None:
    keep = np.zeros((3, 2, 2))
    keep[0, 0, 1] = 1
    state = c.inpaint(video(nn), filled(nn, 6, 2, 3, 3, 2, 2), keep)
    assert state.mask[1].tolist() == [1, 0, *[1] * 10]
    assert nn.to_numpy(state.clean)[0, :3, 0].tolist() == [0, 6, 0]


def test_a_frozen_stream_is_given_as_a_whole(nn: Backend) -> None:
    state = c.freeze(video(nn), filled(nn, 6, 2, 3, 3, 2, 2))
    assert state.frozen
    assert not state.mask.any()
    noisy = c.add_noise(state, 1.0, lambda x: x * 0 + 99)
    np.testing.assert_array_equal(nn.to_numpy(noisy.latent), 6)


def test_what_does_not_fit_is_refused(nn: Backend) -> None:
    state = video(nn)
    image = filled(nn, 1, 1, 3, 1, 2, 2)
    for wrong, text in (
        (lambda: c.replace_frames(state, image, frame=3), "1 latent frames at 3 do not lie within the clip's 3"),
        (lambda: c.replace_frames(state, image, strength=1.5), r"strength: got 1\.5"),
        (lambda: c.replace_frames(state, filled(nn, 1, 1, 3, 1, 2, 3)), r"got shape \(1, 3, 1, 2, 3\)"),
        (lambda: c.append_keyframe(state, filled(nn, 1, 1, 4, 1, 2, 2), frame=0, fps=24), "does not go with"),
        (lambda: c.append_keyframe(state, image, frame=-1, fps=24), "frame: got -1"),
        (lambda: c.append_reference(state, image, fps=24, downscale=0), "downscale 0"),
        (lambda: c.append_reference(state, image, fps=24, attention=2), "attention: got 2"),
        (lambda: c.regenerate(state, filled(nn, 1, 2, 3, 3, 2, 2), 1, 1), "1 to 1 seconds"),
        (lambda: c.freeze(state, image), r"expected \(2, 3, 3, 2, 2\)"),
        (lambda: c.inpaint(state, filled(nn, 1, 2, 3, 3, 2, 2), np.ones((3, 2))), r"keep: got shape \(3, 2\)"),
        (lambda: c.add_noise(state, 1.1, lambda x: x), r"scale: got 1\.1"),
        (lambda: c.unpatchify(state.latent, (2, 3, 9, 2, 2)), r"needs \(2, 36, 3\)"),
        (lambda: c.patchify(filled(nn, 1, 2, 3)), r"got shape \(2, 3\)"),
        (lambda: c.video_positions(1, 0, 1, fps=24), "1 x 0 x 1"),
        (lambda: c.audio_positions(0), "0 audio frames"),
        (lambda: c.audio_tokens(10, 0), "10 frames at 0"),
        (lambda: c.video_state((1, 3, 1, 2, 2), fps=24, like=image, initial=state.latent), "initial: got shape"),
    ):
        with pytest.raises(ValueError, match=text):
            wrong()


def test_generated_keyframes_are_those_of_the_reference(nn: Backend, oracle25: Any, close: Any) -> None:
    for case in oracle25("keyframe_state_*"):
        shape, fps = case.args["target"], case.args["fps"]
        state = c.video_state(shape, fps=fps, like=nn.asarray(np.zeros(shape, np.float32)))
        for step in case.args["steps"]:
            if step["kind"] == "given":
                latent = nn.asarray(case.get("input.given"))
                state = c.append_keyframe(state, latent, frame=step["frame"], fps=fps, strength=step["strength"])
            else:
                initial = nn.asarray(case.get("input.initial_keyframes")) if step.get("initial") else None
                state = c.append_slots(state, step["frames"], fps=fps, initial=initial)
        for name in ("keyframes_mask", "positions", "latent"):
            close(getattr(state, name), case.get(f"output.{name}"), 1e-6, f"{case.name} {name}")
        close(state.mask[..., None], case.get("output.denoise_mask"), 1e-6, case.name)
        slots = c.take_slots(state, nn.asarray(case.get("input.denoised_tokens")))
        close(slots, case.get("output.generated_keyframes"), 1e-6, case.name)


def test_keyframes_that_do_not_fit_are_refused(nn: Backend, reference25: Path) -> None:
    for row in json.loads((reference25 / "even_keyframes.json").read_text())["rows"]:
        assert list(c.even_keyframes(row["keyframes"], row["frames"])) == row["positions"]
    with pytest.raises(ValueError, match="got 8 for 9 frames; expected 0 or more, and at least 10 frames"):
        c.even_keyframes(8, 9)
    state = c.video_state((1, 4, 2, 2, 2), fps=24, like=nn.asarray(np.zeros((1,), np.float32)))
    with pytest.raises(ValueError, match=r"slots: got frames \[9\], expected at least one, each from 0 to 8"):
        c.append_slots(state, [9], fps=24)
    with pytest.raises(ValueError, match=r"initial: got shape .*, expected \(1, 4, 2, 2, 2\)"):
        c.append_slots(state, [3, 5], fps=24, initial=nn.asarray(np.zeros((1, 4, 1, 2, 2), np.float32)))
    with pytest.raises(ValueError, match="has slots already"):
        c.append_slots(c.append_slots(state, [3], fps=24), [4], fps=24)
    with pytest.raises(ValueError, match="this state has none"):
        c.take_slots(state, state.latent)
