"""Exact streams that begin again at any of their blocks: bit-equal to the whole stream, after a warm-up."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ltx_models.test_diffusion_decoder import FEWER, made
from tests.ltx_models.test_exact import tiled

from ltx_models import default_checkpoint, load_video_decoder, stream_decode
from ltx_models.media import as_float32
from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend
from ltx_models.video_vae import restart
from ltx_models.video_vae.diffusion import DiffusionPlan

CASE = "video_decoder_dec20_basic"


def torch_backend() -> Backend:
    pytest.importorskip("torch")
    return get_backend("torch")


def blocks(decoder: Any, z: Any, plan: Any, **options: Any) -> list[tuple[int, Any]]:
    return [(start, as_float32(frames)) for start, frames in stream_decode(decoder, z, plan=plan, **options)]


def same(got: list[tuple[int, Any]], want: list[tuple[int, Any]]) -> None:
    assert [(start, frames.shape) for start, frames in got] == [(start, frames.shape) for start, frames in want]
    for (start, one), (_, other) in zip(got, want, strict=True):
        assert np.array_equal(one, other), f"the block from {start} on differs by {np.abs(one - other).max()}"


@pytest.mark.parametrize("steps", [0, 3])
def test_a_stream_that_begins_at_a_block_is_the_rest_of_the_whole_stream(
    nn: Backend, steps: int, oracle: Any, tools: Any
) -> None:
    decoder = tools.loaded("decoder", nn, oracle(CASE)[0].path)
    z = tools.clip(nn, 1, decoder.config.latent_channels, 29, 2, 2)
    plan = tiled(True, z.shape, 16, steps, (1, 2) if steps else (1, 1))
    whole = blocks(decoder, z, plan)
    total = 1 + 28 * decoder.config.decoder_scale[0]
    for number, (start, _) in enumerate(whole):
        if number % 9 == 1 or number > len(whole) - 3:
            same(blocks(decoder, z, plan, start=start), whole[number:])
    assert blocks(decoder, z, plan, start=total) == []


@settings(max_examples=30)
@given(latents=st.integers(1, 60), most=st.integers(1, 40))
@pytest.mark.parametrize("causal", [False, True])
def test_the_blocks_that_are_foretold_come(latents: int, most: int, causal: bool) -> None:
    """On counts of cells: every border can be begun at, within its reach, and no block differs."""
    pytest.importorskip("torch")
    decoder: Any = SHIPPED[0] if SHIPPED else load_video_decoder(default_checkpoint(), dtype="float32")
    SHIPPED[:] = [decoder]
    law: Any = {"time": 8, "chunk": max(1, most // 8), "most": most, "causal": causal}
    found = list(restart.decoded_blocks(decoder.steps, latents=latents, **law))
    assert [block.start for block in found] == [0, *(block.stop for block in found[:-1])]
    assert found[-1].stop == 1 + 8 * (latents - 1)
    for block in found:
        begin = restart.restart(decoder.steps, block.start, latents=latents, **law)
        assert begin % law["chunk"] == 0
        needed = restart.first_latent(decoder.steps, block.start, causal=causal)
        assert begin <= max(0, needed)
        # no more than two chunks beyond what the network sees, once the stream has come into its stride
        assert begin == 0 or begin > needed - 3 * law["chunk"]


SHIPPED: list[Any] = []


def test_the_shipped_decoder_begins_again_too() -> None:
    nn = torch_backend()
    decoder: Any = load_video_decoder(default_checkpoint(), dtype="float32")
    z = nn.asarray(np.random.default_rng(0).standard_normal((1, 128, 36, 2, 2), dtype=np.float32))
    whole = blocks(decoder, z, plan := tiled(True, z.shape, 16, 0, (1, 1)))
    law: Any = {"time": 8, "latents": 36, "chunk": 2, "most": 16, "causal": decoder.config.causal_decoder}
    begun = [restart.restart(decoder.steps, start, **law) for start, _ in whole]
    assert max(begun) > 0  # or nothing would be saved
    number = next(i for i, begin in enumerate(begun) if begin > 0)
    same(blocks(decoder, z, plan, start=whole[number][0]), whole[number:])


def test_one_latent_less_of_warming_up_is_not_enough(oracle: Any, tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the reach is tight to a chunk, and the tests above can fail."""
    nn = torch_backend()
    decoder = tools.loaded("decoder", nn, oracle(CASE)[0].path)
    z = tools.clip(nn, 1, decoder.config.latent_channels, 30, 2, 2)
    plan = tiled(True, z.shape, 8, 0, (1, 1))
    whole = blocks(decoder, z, plan)
    found = restart.first_latent
    monkeypatch.setattr(restart, "first_latent", lambda *a, **k: found(*a, **k) + 2)

    def wrong(number: int) -> bool:
        got = blocks(decoder, z, plan, start=whole[number][0])
        return not all(np.array_equal(a[1], b[1]) for a, b in zip(got, whole[number:], strict=True))

    assert any(map(wrong, reversed(range(len(whole)))))


@pytest.mark.parametrize("start", [-1, 1, 5, 300])
def test_a_start_within_a_block_is_refused(start: int, oracle: Any, tools: Any) -> None:
    decoder = tools.loaded("decoder", nn := torch_backend(), oracle(CASE)[0].path)
    z = tools.clip(nn, 1, decoder.config.latent_channels, 12, 2, 2)
    for frames in (16, None):
        plan = tiled(True, z.shape, frames, 0, (1, 1))  # type: ignore[arg-type]  # None is the whole
        borders = [first for first, _ in blocks(decoder, z, plan)]
        assert start not in borders
        with pytest.raises(
            ValueError, match=rf"start: got {start}, where no block begins; nearest .* is the end; give"
        ):
            stream_decode(decoder, z, plan=plan, start=start)


def test_noise_that_is_given_goes_on_and_noise_that_is_drawn_is_refused(nn: Backend, oracle: Any, tools: Any) -> None:
    decoder = tools.loaded("decoder", nn, oracle("video_decoder_dec20_inject_noise")[0].path)
    z = tools.clip(nn, 1, decoder.config.latent_channels, 30, 2, 2)
    noise = [tools.clip(nn, *z.shape, seed=1)]
    noise += [tools.clip(nn, 2 * k, 2 * k, seed=2 + i) for i, k in enumerate((1, 1, 2, 2, 4, 4, 8, 8))]
    plan = tiled(True, z.shape, 16, 0, (1, 1))
    whole = blocks(decoder, z, plan, noise=noise)
    for number in (1, len(whole) // 2, len(whole) - 1):
        same(blocks(decoder, z, plan, noise=noise, start=whole[number][0]), whole[number:])
    with pytest.raises(ValueError, match=r"noise: this decoder draws noise, and start is .*; give noise="):
        stream_decode(decoder, z, plan=plan, start=whole[1][0])


def test_a_diffusion_decoder_begins_again_from_its_first_frame(nn: Backend) -> None:
    decoder = made(nn, FEWER)
    shape = (1, FEWER.latent_channels, 3, 1, 2)
    rng = np.random.default_rng(0)
    z = nn.cast(nn.asarray(rng.standard_normal(shape).astype(np.float32)), nn.float32)
    noise = [nn.asarray(rng.standard_normal(decoder.noise_shape(shape)).astype(np.float32))]
    plan = DiffusionPlan(shape, 0, 4, 0, 1.0, "a test asked for it")
    whole = blocks(decoder, z, plan, noise=noise)
    assert len(whole) > 2
    for number in range(len(whole)):
        same(blocks(decoder, z, plan, noise=noise, start=whole[number][0]), whole[number:])
    within = whole[1][0] + 1
    assert within < whole[2][0]
    with pytest.raises(ValueError, match=rf"start: got {within}, where no block begins"):
        next(iter(stream_decode(decoder, z, plan=plan, noise=noise, start=within)))
