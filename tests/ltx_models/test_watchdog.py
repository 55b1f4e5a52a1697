"""No operation of our networks takes longer than the driver of a Mac lets it: it is cut, or refused beforehand."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.ltx_models.test_diffusion_decoder import drawn
from tests.ltx_models.test_limits_everywhere import BACKENDS, available, diffusion, video
from tests.ltx_models.test_transformer import config, make, stream

from ltx_models import decode_exact, encode_exact, plan_exact, stream_decode
from ltx_models.nn import backend
from ltx_models.nn.queries import attention_work
from ltx_models.video_vae import LTX2
from ltx_models.video_vae.exact_costs import Costs
from ltx_models.video_vae.exact_plan import plan_convolutional
from tilekit import PlanError
from tilekit.backends.limits import WATCHED, Limits, pretended
from tilekit.testing import limited

FAR = Limits(elements=1 << 40)
CLIPS = {"decode": (1, 128, 3, 2, 2), "encode": (1, 3, 17, 64, 64)}


@cache
def known(name: str, way: str) -> tuple[Any, Any, Any, int]:
    """A network, a clip, what it gives, and its largest convolution."""
    nn, net = backend(name), video(name, way)
    x = nn.asarray(np.random.default_rng(3).uniform(-1, 1, CLIPS[way]).astype(np.float32))
    with limited(FAR, name) as free:
        wanted = nn.to_numpy(net(x))
    return net, x, wanted, free.work


@BACKENDS
@pytest.mark.parametrize(
    ("way", "share"), [("decode", 1), ("decode", 0.45), ("decode", 0.1), ("stream", 0.45), ("encode", 0.45)]
)
def test_video_is_right_or_refused(name: str, way: str, share: float) -> None:
    available(name)
    (net, x, wanted, heaviest), nn = known(name, "encode" if way == "encode" else "decode"), backend(name)
    most = int(share * heaviest)
    with limited(Limits(work=most), name) as faults:
        try:
            if way == "stream":
                got = np.concatenate([nn.to_numpy(block) for _, block in stream_decode(net, x)], 2)
            else:
                got = nn.to_numpy((encode_exact if way == "encode" else decode_exact)(net, x))
        except ValueError as error:
            assert share == 0.1
            assert f"multiply-adds even in the smallest pieces, of which the device finishes {most}" in str(error)  # noqa: PT017
            assert not faults.played
            return
    assert not faults.played
    assert most // 8 < faults.work <= most
    assert np.allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("by_frames", [True, False])
@settings(max_examples=10, deadline=None)
@given(
    most=st.integers(10**7, 10**13), frames=st.integers(1, 40), sides=st.tuples(st.integers(1, 40), st.integers(1, 40))
)
def test_plans_stay_below_at_any_size(
    decode: bool, by_frames: bool, most: int, frames: int, sides: tuple[int, int]
) -> None:
    shape = (1, 128, frames, *sides)
    costs = Costs(LTX2, shape, decode=decode, itemsize=2, causal=True, by_frames=by_frames)
    least = min(
        costs.heaviest(3, tiled, costs.grid(tiled, *(min(8, n * costs.base(tiled)) for n in sides)))
        for tiled in costs.boundaries()
    )
    for memory in (None, 1 << 50):
        given_: dict[str, Any] = {"decode": decode, "itemsize": 2, "by_frames": by_frames, "memory_bytes": memory}
        try:
            plan = plan_convolutional(LTX2, shape, most_work=most, **given_)
        except ValueError as error:
            assert least > most
            assert "multiply-adds" in str(error)  # noqa: PT017
            continue
        grid = costs.grid(plan.tiled, *plan.tiles) if plan.tiled else None
        assert costs.heaviest(plan.frames, plan.tiled, grid) <= most
        free = plan_convolutional(LTX2, shape, **given_)
        if plan != free:
            assert costs.heaviest(free.frames) > most
            assert f"the device finishes {most} multiply-adds at once" in plan.reason


@pytest.mark.parametrize("by_frames", [True, False])
@pytest.mark.parametrize(
    "shape",
    [(4, 128, 16, 16, 24), (1, 128, 16, 22, 40), (1, 128, 16, 34, 60)],
    ids=["768x512x121, four", "1280x704x121", "1920x1088x121"],
)
def test_usual_clips_are_planned_on_a_mac_as_anywhere(shape: tuple[int, ...], by_frames: bool) -> None:
    """Without a budget, at less than a third of what the driver lets pass; larger ones in smaller pieces."""
    for decode in (True, False):
        given_: dict[str, Any] = {"decode": decode, "itemsize": 2, "by_frames": by_frames}
        free = plan_convolutional(LTX2, shape, **given_)
        assert free == plan_convolutional(LTX2, shape, most_work=WATCHED / 3, **given_)
        for memory in (None, 16 << 30):
            large = plan_convolutional(LTX2, (1, 128, 33, 68, 120), most_work=WATCHED, memory_bytes=memory, **given_)
            assert (large.work, large.tiled) == (1.0, 0)


@BACKENDS
@settings(max_examples=2, deadline=None)
@example(share=0.5, frames=2, stream=False)
@given(share=st.floats(0.1, 1.1), frames=st.integers(2, 3), stream=st.booleans())
def test_a_diffusion_decoder_is_right_or_refused(name: str, share: float, frames: int, stream: bool) -> None:
    available(name)
    nn, decoder, shape = backend(name), diffusion(name), (1, 4, frames, 1, 3)
    latent, noise = drawn(nn, *shape), [drawn(nn, *decoder_noise(decoder, shape), seed=1)]
    with limited(FAR, name) as free:
        wanted = nn.to_numpy(decoder(latent, noise=noise))
    most = int(share * free.work)
    with limited(Limits(work=most), name) as faults:
        try:
            if stream:
                blocks = stream_decode(decoder, latent, noise=noise)
                got = np.concatenate([nn.to_numpy(block) for _, block in blocks], 2)
            else:
                got = nn.to_numpy(decode_exact(decoder, latent, noise=noise))
        except ValueError as error:
            assert "multiply-adds" in str(error) or "more memory does not help" in error.__notes__[0]  # noqa: PT017
            assert not faults.played
            return
    assert not faults.played
    assert faults.work <= most
    assert np.allclose(got, wanted, atol=2e-4)


def decoder_noise(decoder: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    found: tuple[int, ...] = decoder.noise_shape(shape)
    return found


@BACKENDS
@pytest.mark.parametrize("mask", [None, (1, 1, 1, 7), (1, 1, 11, 7), (2, 3, 11, 7)])
@settings(max_examples=6, deadline=None)
@given(share=st.floats(0.05, 1.1))
def test_attention_looks_for_some_queries_at_a_time(name: str, mask: Any, share: float) -> None:
    available(name)
    nn, draw = backend(name), np.random.default_rng(0)
    q, k, v = (nn.asarray(draw.standard_normal((2, 3, n, 5)).astype(np.float32)) for n in (11, 7, 7))
    bias = None if mask is None else nn.asarray(draw.standard_normal(mask).astype(np.float32))
    wanted, work = nn.to_numpy(nn.attention(q, k, v, bias)), attention_work(q, k, v)
    most = max(work // 11, int(share * work))
    with limited(Limits(work=most), name) as faults:
        got = nn.to_numpy(nn.attention(q, k, v, bias))
    assert not faults.played
    assert most // 2 < faults.work <= most or faults.work == work
    assert np.allclose(got, wanted, atol=1e-5)


@BACKENDS
def test_a_transformer_is_right_or_refused_beforehand(name: str) -> None:
    """Its attention is cut; its feed-forward layers are not, and are known before anything runs."""
    available(name)
    nn, of = backend(name), config()
    assert of.video is not None
    modality = replace(stream(nn, of.video, batch=1, tokens=64), timesteps=np.full((1, 1), 0.5, np.float32))
    model, given_ = make(nn, of), {"video": modality}
    with limited(FAR, name) as free:
        wanted = nn.to_numpy(model(**given_)[0])
    width = of.video.width
    product = 64 * 4 * width * width
    assert free.work == 2 * 64 * 64 * width > product  # attention
    with limited(Limits(work=product), name) as faults:
        got = nn.to_numpy(model(**given_)[0])
    assert not faults.played
    assert faults.work == product
    assert np.allclose(got, wanted, atol=1e-5)
    text = (
        f"video: the feed-forward layers make a matrix product of {product} multiply-adds, more than the {product - 1} "
        f"that {name} on cpu finishes before its driver ends them; make fewer or smaller frames, or fewer samples"
    )
    with limited(Limits(work=product - 1), name) as faults, pytest.raises(PlanError, match=text):
        model(**given_)
    assert not faults.played
    elements = 64 * 4 * width
    text = f"video: the feed-forward layers make an array of {elements} elements, more than the {elements - 1} that"
    with pretended(Limits(elements=elements - 1)), pytest.raises(PlanError, match=text):
        model(**given_)


@pytest.mark.parametrize("size", [(768, 512, 121), (1280, 704, 121), (1920, 1088, 121), (1920, 1088, 241)])
def test_usual_clips_are_not_too_long_for_the_transformer(size: tuple[int, int, int]) -> None:
    """Of 4096 channels, as LTX-2 has; of attention, which is cut, one query is enough."""
    width, height, frames = size
    tokens = width // 32 * height // 32 * (1 + (frames - 1) // 8)
    assert tokens * 4 * 4096 * 4096 <= WATCHED
    assert 2 * tokens * 4096 <= WATCHED // 1000


def test_a_plan_for_a_device_says_that_its_driver_decides() -> None:
    available("torch")
    net = video("torch", "decode")
    with pretended(Limits(work=known("torch", "decode")[3] - 1)):
        plan = plan_exact(net, CLIPS["decode"], memory_bytes=1 << 40)
    assert plan.frames is not None
    assert "multiply-adds at once" in str(plan)
