"""Exact decodes and encodes stay below what a device gets right, and are right."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ltx_models import (
    decode_exact,
    default_checkpoint,
    encode_exact,
    load_video_decoder,
    load_video_encoder,
    plan_exact,
    stream_decode,
)
from ltx_models.nn import Backend
from ltx_models.video_vae import VideoEncoder
from tilekit import DeviceError
from tilekit.backends import canary
from tilekit.backends.flat import is_flat
from tilekit.backends.limits import Limits, pretended
from tilekit.testing import limited

torch: Any = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def decoder() -> Any:
    return load_video_decoder(default_checkpoint(), backend="torch", dtype="float32")


@pytest.fixture(scope="module")
def encoder() -> Any:
    return load_video_encoder(default_checkpoint(), backend="torch", dtype="float32")


@pytest.mark.parametrize("budget", [None, 1 << 40])
def test_a_decode_takes_smaller_pieces_where_arrays_would_be_too_large(decoder: Any, budget: int | None) -> None:
    latent = torch.randn(1, 128, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = plan_exact(decoder, latent.shape, memory_bytes=1 << 40)
    wanted = decoder(latent)
    most = max(whole.peak_bytes // 8, wanted.numel() * 4) // 4
    with limited(Limits(elements=most, convolution=most, unfolded=most * 27)) as faults:
        plan = plan_exact(decoder, latent.shape, memory_bytes=budget)
        got = decode_exact(decoder, latent, memory_bytes=budget)
    assert plan.frames is not None
    assert plan.peak_bytes <= 4 * most < whole.peak_bytes
    assert not faults.played
    assert faults.elements <= most
    assert torch.allclose(got, wanted, atol=1e-5)


def test_an_encode_takes_smaller_pieces_too(encoder: Any) -> None:
    video = torch.rand(1, 3, 41, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = encoder(video)
    whole = plan_exact(encoder, wanted.shape, memory_bytes=1 << 40)
    most = max(whole.peak_bytes // 3, video.numel() * 4) // 4
    with limited(Limits(elements=most, convolution=most)) as faults:
        got = encode_exact(encoder, video, memory_bytes=1 << 40)
    assert not faults.played
    assert torch.allclose(got, wanted, atol=1e-5)


def test_a_result_that_is_too_large_is_refused_and_streamed(decoder: Any) -> None:
    latent = torch.randn(1, 128, 9, 2, 2)
    frames = 3 * 65 * 64 * 64
    with limited(Limits(elements=frames - 1)) as faults:
        with pytest.raises(ValueError, match=f"{frames} elements.*stream_decode"):
            decode_exact(decoder, latent)
        blocks = [block for _, block in stream_decode(decoder, latent)]
    assert not faults.played
    assert torch.allclose(torch.cat(blocks, 2), decoder(latent), atol=1e-5)


def test_a_refusal_says_that_memory_does_not_help(decoder: Any) -> None:
    with limited(Limits(elements=20_000)), pytest.raises(ValueError, match="memory_bytes") as caught:
        plan_exact(decoder, (1, 128, 3, 16, 16), memory_bytes=1 << 40)
    assert "more memory does not help" in caught.value.__notes__[0]


def test_a_bad_device_is_refused_before_the_first_frame(
    decoder: Any, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "TRUSTED", set())
    with limited(Limits(unfolded=1)):
        for begin in (
            lambda: stream_decode(decoder, torch.zeros(1, 128, 2, 2, 2)),
            lambda: decode_exact(decoder, torch.zeros(1, 128, 2, 2, 2)),
            lambda: encode_exact(encoder, torch.zeros(1, 3, 9, 64, 64)),
        ):
            with pytest.raises(DeviceError, match="gets a convolution over 3 axes wrong"):
                begin()


def test_frames_of_one_number_are_an_error_on_such_a_device(decoder: Any, encoder: Any) -> None:
    faults_of = pytest.importorskip("tilekit.backends._faults_torch").TorchFaults
    latent, video = torch.randn(1, 128, 3, 2, 2), torch.rand(1, 3, 17, 96, 96)
    calls: list[tuple[str, Any]] = [
        ("(frames 0 to|the result is)", lambda: list(stream_decode(decoder, latent))),
        ("the result is", lambda: decode_exact(decoder, latent, memory_bytes=1 << 40)),  # a plain call looks as well
        ("(latents 0 to|the result is)", lambda: encode_exact(encoder, video)),
    ]
    for text, call in calls:
        refused = pytest.raises(DeviceError, match=f"{text}.*one number everywhere")
        with pretended(Limits(elements=1 << 40)), faults_of(Limits(convolution=2000)), refused:  # no plan knows of it
            call()
        with faults_of(Limits(convolution=2000)):  # a device of which nothing is known
            call()
    with pretended(Limits(elements=1 << 40)):
        decode_exact(decoder, latent)


@pytest.mark.parametrize("way", ["plain", "exact", "stream"])
def test_one_colour_through_mirrored_borders_is_no_fault(nn: Backend, way: str, oracle: Any, tools: Any) -> None:
    """Its latents are one number for each channel, as where a device gives zeros; a second colour makes them more."""
    config = tools.loaded("encoder", nn, oracle("video_encoder_enc20_single_frame")[0].path).config
    net = nn.build(lambda: VideoEncoder(nn, replace(config, encoder_padding="reflect")))
    draw, shapes = np.random.default_rng(0), nn.shapes(net).items()
    scaled = {key: draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) for key, shape in shapes}
    net = nn.load(net, {key: nn.asarray(value.astype(np.float32)) for key, value in scaled.items()})
    colours = np.array([0.2, -0.4, 0.6], np.float32)[None, :, None, None, None]
    values = np.broadcast_to(colours, (1, 3, 17, 64, 96)).copy()
    plan = replace(plan_exact(net, (1, config.latent_channels, 3, 2, 3)), frames=None if way == "exact" else 8)
    with pretended(Limits(elements=1 << 40)):
        for flat in (True, False):
            x = nn.asarray(values)
            latents = net(x) if way == "plain" else encode_exact(net, x, plan=plan)
            assert is_flat(latents) == flat
            values[:, :, 8:] *= -1
