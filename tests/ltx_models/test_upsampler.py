"""The latent upsamplers: the reference's outputs, tiles that equal the whole, and what is refused."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models import load_statistics, load_upsampler, upsample_latent
from ltx_models.checkpoints import CheckpointError
from ltx_models.nn import Backend, backend
from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig

TOLERANCE = 3e-5  # the reference in float32 and in float64 differ by up to 4e-6; values reach 5
KINDS = {
    "twice": UpsamplerConfig(4, 32, 1, "spatial"),
    "one and a half": UpsamplerConfig(4, 32, 1, "rational", 1.5),
    "rational twice": UpsamplerConfig(4, 32, 1, "rational", 2.0),
    "frames": UpsamplerConfig(4, 32, 1, "temporal"),
}


@cache
def network(backend_name: str, kind: str) -> Any:
    nn = backend(backend_name)
    module = nn.build(lambda: LatentUpsampler(nn, KINDS[kind]))
    draw = np.random.default_rng(0)
    weights = {
        key: (draw.standard_normal(shape) / prod(shape[1:]) ** 0.5).astype(np.float32)
        for key, shape in nn.shapes(module).items()
    }
    return nn.load(module, {key: nn.asarray(value) for key, value in weights.items()})


def latent(*shape: int) -> Any:
    # a brightness that grows over the clip: tiles that took their own statistics would be far off
    ramp = np.linspace(-2, 2, shape[2])[:, None, None] + np.linspace(-2, 2, shape[4])
    return (np.random.default_rng(1).standard_normal(shape) + ramp).astype(np.float32)


def test_equals_the_reference_around_the_statistics_too(nn: Backend, oracle: Any, close: Any) -> None:
    for case in oracle("upsampler_*"):
        upsampler = load_upsampler(case.path, backend=nn.name, dtype="float32")
        x = nn.asarray(case.get("input.latent"))
        close(upsampler(x), case.get("output.raw"), TOLERANCE, case.name)
        statistics = load_statistics(case.path, backend=nn.name)
        close(upsample_latent(upsampler, x, statistics), case.get("output.normalized"), TOLERANCE, case.name)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3, deadline=None)
@given(frames=st.integers(16, 19), height=st.integers(14, 24), width=st.integers(16, 24), offload=st.booleans())
def test_tiles_equal_the_whole(kind: str, frames: int, height: int, width: int, offload: bool) -> None:
    pytest.importorskip("torch")
    nn, net = backend("torch"), network("torch", kind)
    x = nn.asarray(latent(1, 4, 9, 10, 12))
    got = net.tiled(x, frames=frames, height=height, width=width, offload="host" if offload else None)
    np.testing.assert_allclose(nn.to_numpy(got), nn.to_numpy(net(x)), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_equal_the_whole(nn: Backend, kind: str) -> None:
    net, x = network(nn.name, kind), nn.asarray(latent(1, 4, 17, 4, 5))
    blocks = [(start, nn.to_numpy(block)) for start, block in net.stream(x, frames_per_chunk=18)]
    assert [start for start, _ in blocks] == list(range(0, blocks[-1][0] + 1, 18))
    whole = nn.to_numpy(net(x))
    np.testing.assert_allclose(np.concatenate([block for _, block in blocks], axis=2), whole, atol=1e-4)


def test_tiles_with_their_own_statistics_would_differ(nn: Backend) -> None:
    net, x = network(nn.name, "twice"), latent(1, 4, 12, 6, 6)
    whole = nn.to_numpy(net(nn.asarray(x)))
    part = nn.to_numpy(net(nn.asarray(x[:, :, :8])))
    assert np.abs(part[:, :, :2] - whole[:, :, :2]).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_one_frame_stays_one(nn: Backend, kind: str) -> None:
    shape = network(nn.name, kind)(nn.asarray(latent(2, 4, 1, 3, 5))).shape
    expected = {"one and a half": (5, 8), "frames": (3, 5)}.get(kind, (6, 10))
    assert tuple(shape) == (2, 4, 1, *expected)


@pytest.mark.parametrize(
    ("given_config", "text"),
    [
        ({"spatial_upsample": True, "temporal_upsample": True}, "known are three dimensions and one of the two"),
        ({"dims": 2}, "dims=2"),
        ({"rational_resampler": True, "spatial_scale": 1.7}, "spatial_scale: got 1.7"),
    ],
)
def test_refuses_configurations_that_are_not_known(given_config: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        UpsamplerConfig.read(given_config)


def test_refuses_other_latents_and_files(nn: Backend, oracle: Any) -> None:
    with pytest.raises(ValueError, match=r"got shape \(1, 3, 2, 2, 2\), expected \(batch, 4"):
        network(nn.name, "twice")(nn.asarray(latent(1, 3, 2, 2, 2)))
    (case,) = oracle("vocoder_20_batch2")
    with pytest.raises(CheckpointError, match="upsamplers bring none"):
        load_statistics(case.path, backend=nn.name)
    (case,) = oracle("upsampler_temporal")
    upsampler = load_upsampler(case.path, backend=nn.name, dtype="float32")
    with pytest.raises(ValueError, match="the statistics are of"):
        upsample_latent(upsampler, nn.asarray(latent(1, 4, 2, 2, 2)), load_statistics(case.path, backend=nn.name))
