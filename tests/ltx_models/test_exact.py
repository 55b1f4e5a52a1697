"""Exact decoding and encoding within a budget: plans, tiles with exact margins, and what they cost."""

import math
from collections import deque
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models import decode_exact, default_checkpoint, encode_exact, plan_exact, stream_decode
from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend
from ltx_models.nn.space import cuts
from ltx_models.video_vae import LTX2, LTX2_3, ExactPlan, VideoVAEConfig
from ltx_models.video_vae.exact_costs import Costs, macs, reach

# outliers where a pixel norm divides by little; the fixtures' reason stands in test_video_vae.py
DECODED, ENCODED = 1e-3, 5e-5
CLIP = (1, 128, 16, 34, 60)  # 1088 x 1920, 121 frames


@given(length=st.integers(1, 200), count=st.integers(1, 20), halo=st.integers(0, 40))
def test_cores_cover_an_axis_and_windows_share_a_size(length: int, count: int, halo: int) -> None:
    count = min(count, length)
    found = cuts(length, count, halo)
    assert [cut.core_start for cut in found] == [0, *(cut.core_stop for cut in found[:-1])]
    assert found[-1].core_stop == length
    assert len({cut.stop - cut.start for cut in found}) == 1
    for cut in found:
        assert 0 <= cut.start <= max(0, cut.core_start - halo)
        assert min(length, cut.core_stop + halo) <= cut.stop <= length


def tiled(decode: bool, shape: Any, frames: int, steps: int, tiles: tuple[int, int]) -> ExactPlan:
    return ExactPlan(decode, tuple(shape), frames, steps, tiles, 0, 1.0, "a test asked for it")


@settings(max_examples=6)
@given(
    frames=st.integers(3, 20),
    boundary=st.integers(0, 2),
    tiles=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 9),
)
@pytest.mark.parametrize("case", ["video_decoder_dec20_basic", "video_decoder_dec23_wide"])
def test_tiles_with_their_reach_equal_the_whole_decode(
    case: str, frames: int, boundary: int, tiles: tuple[int, int], seed: int, oracle: Any, close: Any, tools: Any
) -> None:
    pytest.importorskip("torch")
    nn = get_backend("torch")
    decoder = tools.loaded("decoder", nn, oracle(case)[0].path)
    z = tools.clip(nn, 1, decoder.config.latent_channels, 3, 5, 7, seed=seed)
    costs = Costs(decoder.config, z.shape, decode=True, itemsize=4, causal=False)
    plan = tiled(True, z.shape, frames, costs.boundaries()[boundary], tiles)
    close(decode_exact(decoder, z, plan=plan), decoder(z), DECODED, str(plan))


@settings(max_examples=5)
@given(frames=st.integers(3, 20), boundary=st.integers(0, 2), tiles=st.tuples(st.integers(1, 3), st.integers(1, 3)))
@pytest.mark.parametrize("case", ["video_encoder_enc20_single_frame", "video_encoder_enc23_reflect_pad"])
def test_tiles_with_their_reach_equal_the_whole_encode(
    case: str, frames: int, boundary: int, tiles: tuple[int, int], oracle: Any, close: Any, tools: Any
) -> None:
    pytest.importorskip("torch")
    nn = get_backend("torch")
    encoder = tools.loaded("encoder", nn, oracle(case)[0].path)
    video = tools.clip(nn, 1, 3, 9, 128, 160)
    shape = (1, encoder.config.latent_channels, 2, 4, 5)
    costs = Costs(encoder.config, shape, decode=False, itemsize=4, causal=True)
    plan = tiled(False, shape, frames, costs.boundaries()[boundary], tiles)
    close(encode_exact(encoder, video, plan=plan), encoder(video), ENCODED, str(plan))


def test_tiles_equal_the_whole_on_mlx_too(oracle: Any, close: Any, tools: Any) -> None:
    pytest.importorskip("mlx.core")
    nn = get_backend("mlx")
    decoder = tools.loaded("decoder", nn, oracle("video_decoder_dec23_wide")[0].path)
    z = tools.clip(nn, 1, 16, 2, 3, 4)
    steps = Costs(decoder.config, z.shape, decode=True, itemsize=4, causal=False).boundaries()[0]
    close(decode_exact(decoder, z, plan=tiled(True, z.shape, 8, steps, (2, 2))), decoder(z), DECODED)
    encoder = tools.loaded("encoder", nn, oracle("video_encoder_enc20_single_frame")[0].path)
    video = tools.clip(nn, 1, 3, 9, 64, 96)
    close(encode_exact(encoder, video, plan=tiled(False, (1, 2, 2, 2, 3), 8, 2, (2, 2))), encoder(video), ENCODED)


def test_one_neighbour_less_is_not_enough(oracle: Any, monkeypatch: pytest.MonkeyPatch, tools: Any) -> None:
    """So the reach is tight, and the tests above can fail."""
    pytest.importorskip("torch")
    nn = get_backend("torch")
    decoder = tools.loaded("decoder", nn, oracle("video_decoder_dec20_basic")[0].path)
    z = tools.clip(nn, 1, 8, 2, 8, 9)
    costs = Costs(decoder.config, z.shape, decode=True, itemsize=4, causal=False)
    monkeypatch.setattr("ltx_models.video_vae.exact_costs.reach", lambda steps, scale: reach(steps, scale) - 1)
    for steps in costs.boundaries():
        video = decode_exact(decoder, z, plan=tiled(True, z.shape, 8, steps, (2, 2)))
        assert float((video - decoder(z)).abs().max()) > 1e-3


def test_noise_lies_where_it_lies_in_the_whole_frame(oracle: Any, close: Any, tools: Any) -> None:
    pytest.importorskip("torch")
    nn = get_backend("torch")
    decoder = tools.loaded("decoder", nn, oracle("video_decoder_dec20_inject_noise")[0].path)
    z = tools.clip(nn, 2, 8, 2, 5, 6)
    noise = [tools.clip(nn, *z.shape, seed=1)]
    noise += [tools.clip(nn, 5 * k, 6 * k, seed=2 + i) for i, k in enumerate((1, 1, 2, 2, 4, 4, 8, 8))]
    for steps in Costs(decoder.config, z.shape, decode=True, itemsize=4, causal=False).boundaries():
        plan = tiled(True, z.shape, 8, steps, (2, 3))
        close(decode_exact(decoder, z, noise=noise, plan=plan), decoder(z, noise=noise), DECODED)


@pytest.mark.parametrize("frames", [1, 3])
def test_noise_of_another_length_than_the_clip_is_refused_by_every_way(
    frames: int, nn: Backend, oracle: Any, tools: Any
) -> None:
    decoder = tools.loaded("decoder", nn, oracle("video_decoder_dec20_inject_noise")[0].path)
    z = tools.clip(nn, 1, decoder.config.latent_channels, 2, 2, 2)
    noise = [tools.clip(nn, *z.shape[:2], frames, 2, 2)]
    noise += [tools.clip(nn, 2 * k, 2 * k) for k in (1, 1, 2, 2, 4, 4, 8, 8)]
    stream = replace(plan_exact(decoder.config, z.shape), frames=8)
    ways = (
        lambda: decoder(z, noise=noise),
        lambda: decoder.stream(z, frames_per_chunk=1, noise=noise),
        lambda: decode_exact(decoder, z, noise=noise),
        lambda: decode_exact(decoder, z, noise=noise, plan=stream),
        lambda: stream_decode(decoder, z, noise=noise, plan=stream),
    )
    for way in ways:
        with pytest.raises(ValueError, match=rf"the first draw has shape \(1, 8, {frames}, 2, 2\), the latents have"):
            way()
    chunks = (z[:, :, i : i + 1] for i in range(2))
    with pytest.raises(ValueError, match="noise: the first draw has"):
        deque(decoder.stream(chunks, noise=noise))


# ---- counts ---------------------------------------------------------------------------------------------------------
def test_counted_work_is_the_work_done(oracle: Any, tools: Any) -> None:
    """Formula and hooks agree, whole, streamed and tiled: decode and encode."""
    pytest.importorskip("torch")
    nn = get_backend("torch")
    decoder = tools.loaded("decoder", nn, oracle("video_decoder_dec20_basic")[0].path)
    z = tools.clip(nn, 1, 8, 4, 5, 6)
    whole = macs(decoder.config.decoder_steps(), 4, 5, 6)
    assert tools.macs_of(decoder, lambda: decoder(z)) == whole
    costs = Costs(decoder.config, z.shape, decode=True, itemsize=4, causal=False)
    for steps in costs.boundaries():
        plan = tiled(True, z.shape, 8, steps, (2, 2))
        done = tools.macs_of(decoder, lambda plan=plan: decode_exact(decoder, z, plan=plan))
        assert done / whole == pytest.approx(costs.tiled_work(costs.grid(steps, 2, 2), steps))
    encoder = tools.loaded("encoder", nn, oracle("video_encoder_enc20_single_frame")[0].path)
    video = tools.clip(nn, 1, 3, 17, 64, 96)
    assert tools.macs_of(encoder, lambda: encoder(video)) == macs(encoder.config.encoder_steps(), 3, 2, 3)


def test_the_real_networks_cost_what_was_published() -> None:
    """Multiply-adds of 1088x1920x121: 160 T for 2.0 and 312 T for 2.3."""
    assert [round(macs(config.decoder_steps(), 16, 34, 60) / 1e12) for config in (LTX2, LTX2_3)] == [160, 312]


@pytest.mark.parametrize("config", [LTX2, LTX2_3], ids=["2.0", "2.3"])
@pytest.mark.parametrize(("height", "width"), [(22, 40), (68, 120)], ids=["720p", "4K"])
def test_work_stays_within_bounds(config: VideoVAEConfig, height: int, width: int) -> None:
    """Time alone: nothing twice. With tiles of a quarter of the frame: at most 1.35 times the work."""
    shape = (1, 128, 16, height, width)
    assert plan_exact(config, shape).work <= 1.01
    costs = Costs(config, shape, decode=True, itemsize=2, causal=False)
    steps = costs.boundaries()[0]
    assert 1 < costs.tiled_work(costs.grid(steps, 2, 2), steps) <= 1.35


@pytest.mark.parametrize("config", [LTX2, LTX2_3], ids=["2.0", "2.3"])
@pytest.mark.parametrize("decode", [True, False], ids=["decode", "encode"])
def test_memory_of_a_stream_does_not_grow_with_the_clip(config: VideoVAEConfig, decode: bool) -> None:
    peaks = [
        Costs(config, (1, 128, frames, 34, 60), decode=decode, itemsize=2, causal=not decode).peak(8)
        for frames in (33, 65, 257)
    ]
    assert len(set(peaks)) == 1
    assert peaks[0] < Costs(config, CLIP, decode=decode, itemsize=2, causal=not decode).peak(None) / 3


# ---- choice ---------------------------------------------------------------------------------------------------------
@given(gigabytes=st.floats(0.5, 20), decode=st.booleans())
def test_a_plan_fits_its_budget_or_says_what_would(gigabytes: float, decode: bool) -> None:
    budget = int(gigabytes * 2**30)
    try:
        plan = plan_exact(LTX2, CLIP, decode=decode, itemsize=2, memory_bytes=budget)
    except ValueError as error:
        assert "the least that an exact" in str(error)  # noqa: PT017  # either outcome is lawful
        assert gigabytes < 2.5
    else:
        assert plan.peak_bytes <= budget
        assert plan.work < 2.5


def test_the_order_of_choice() -> None:
    """Whole where it fits, then the longest pieces, then tiles; never more work than needed."""

    def choose(gigabytes: float) -> ExactPlan:
        plan: ExactPlan = plan_exact(LTX2, CLIP, itemsize=2, memory_bytes=int(gigabytes * 2**30))
        return plan

    assert choose(16).frames is None
    large, small = choose(4), choose(2.2)
    assert large.frames is not None
    assert small.frames is not None
    assert large.frames > small.frames >= 8
    assert large.tiled == small.tiled == 0
    least = Costs(LTX2, CLIP, decode=True, itemsize=2, causal=False).peak(3)
    tiles = plan_exact(LTX2, CLIP, itemsize=2, memory_bytes=least - 1)
    assert tiles.tiled > 0
    assert tiles.work > 1
    assert "a stream of whole frames needs" in tiles.reason
    assert "tiles" in str(tiles)


def test_pieces_grow_where_frames_are_small() -> None:
    sizes = [plan_exact(LTX2, (1, 128, 200, side, side)).frames for side in (2, 8, 16, 32)]
    assert sizes == sorted(sizes, key=lambda frames: -(frames or math.inf))
    assert sizes[-1] == 8


def test_frames_are_handed_out_once_in_order_and_progress_is_told(nn: Backend, close: Any, tools: Any) -> None:
    decoder = tools.loaded("decoder", nn, default_checkpoint())
    z = tools.clip(nn, 1, 128, 3, 2, 2)
    plan = tiled(True, z.shape, 8, 0, (1, 1))
    blocks: list[Any] = []
    told: list[tuple[int, int]] = []
    out = decode_exact(
        decoder,
        z,
        plan=plan,
        on_frames_ready=lambda frames, start: blocks.append((start, frames)),
        progress=lambda done, total: told.append((done, total)),
    )
    assert out is None
    assert [start for start, _ in blocks] == [0, *np.cumsum([b.shape[2] for _, b in blocks])[:-1].tolist()]
    close(nn.xp.concat([frames for _, frames in blocks], axis=2), decoder(z), DECODED)
    assert told[-1] == (17, 17)
    assert told == sorted(told)


def test_a_callback_that_raises_leaves_nothing_behind(oracle: Any, close: Any, tools: Any) -> None:
    pytest.importorskip("torch")
    nn = get_backend("torch")
    decoder = tools.loaded("decoder", nn, oracle("video_decoder_dec20_basic")[0].path)
    z = tools.clip(nn, 1, 8, 4, 2, 2)
    plan = tiled(True, z.shape, 8, 0, (1, 1))

    def full(frames: Any, start: int) -> None:
        msg = "no space left on device"
        raise OSError(msg)

    with pytest.raises(OSError, match="no space left"):
        decode_exact(decoder, z, plan=plan, on_frames_ready=full)
    close(decode_exact(decoder, z, plan=plan), decoder(z), DECODED)


def test_the_forecast_is_what_is_held(oracle: Any, tools: Any) -> None:
    """Bytes of live tensors, followed through every operation, within a quarter of the forecast."""
    pytest.importorskip("torch")
    from tests.tilekit.exact._live import Live

    from ltx_models.video_vae import VideoDecoder

    nn = get_backend("torch")
    decoder: Any = VideoDecoder(nn, replace(LTX2, decoder_base_channels=8))
    decoder.eval().requires_grad_(False)
    peaks = []
    whole, tiles = (8, 0, (1, 1)), (8, 7, (2, 2))
    # the first is short of the look-ahead of 24
    for frames, side, how in ((9, 4, tiles), (25, 2, whole), (32, 2, whole)):
        z = tools.clip(nn, 1, 128, frames, side, side)
        plan = tiled(True, z.shape, *how)
        with Live() as watch:
            # a loop variable would hold each block while the next is made
            deque(map(itemgetter(0), stream_decode(decoder, z, plan=plan)), maxlen=0)
        costs = Costs(decoder.config, z.shape, decode=True, itemsize=4, causal=False)
        grid = costs.grid(plan.tiled, *plan.tiles) if plan.tiled else None
        assert watch.peak == pytest.approx(costs.peak(plan.frames, plan.tiled, grid), rel=0.25), str(plan)
        peaks.append(watch.peak)
    assert peaks[2] <= 1.02 * peaks[1], "live memory does not grow with the clip"


def test_an_exact_decode_never_takes_more_than_the_whole(monkeypatch: pytest.MonkeyPatch, tools: Any) -> None:
    """Short clips hardly fill what a stream keeps, and beside it stands the result: they run whole then."""
    pytest.importorskip("torch")
    from tests.tilekit.exact._live import Live

    from ltx_models import load_video_decoder
    from ltx_models.video_vae import exact_plan

    monkeypatch.setattr(exact_plan, "PIECE_CELLS", 4)
    nn = get_backend("torch")
    decoder: Any = load_video_decoder(default_checkpoint(), dtype="float32")
    streamed = set()
    for frames in (2, 3, 5, 9):
        z = tools.clip(nn, 1, 128, frames, 2, 2)
        peaks = []
        for decode in (
            lambda z=z: decoder(z),
            lambda z=z: decode_exact(decoder, z),
            lambda z=z: deque(map(itemgetter(0), stream_decode(decoder, z)), maxlen=0),
        ):
            with Live() as watch:
                decode()
            peaks.append(watch.peak)
        assert peaks[1] <= peaks[0]
        assert peaks[2] <= peaks[0]
        streamed.add(plan_exact(decoder, z.shape).frames)
    assert len(streamed) == 2, "short clips run whole, long ones as a stream"
