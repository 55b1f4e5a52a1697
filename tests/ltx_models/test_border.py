"""A plain call of any network is right on a device with limits, or refused; streams end where they would be wrong."""

from collections.abc import Callable
from functools import cache
from math import inf
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ltx_models.test_diffusion_decoder import SMALL, made
from tests.ltx_models.test_limits_everywhere import available, pieces, weights
from tests.ltx_models.test_sound_stream import network as of_sound
from tests.ltx_models.test_sound_stream import sound
from tests.ltx_models.test_upsampler import network as upsampler

from ltx_models import default_checkpoint, load_video_decoder, load_video_encoder
from ltx_models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from ltx_models.nn import backend
from ltx_models.nn.border import check_widest
from tilekit import DeviceError, InputError, PlanError, exact
from tilekit.backends import canary
from tilekit.backends.limits import Limits, pretended
from tilekit.testing import limited

FAR = Limits(elements=1 << 40)
"""A device that has limits, which nothing here comes near."""


class Case(NamedTuple):
    """A network, what is called, and the shape of what it takes."""

    call: Any
    shape: tuple[int, ...]

    @property
    def given(self) -> Any:
        return np.random.default_rng(1).standard_normal(self.shape).astype(np.float32)


@cache
def image(name: Any) -> Any:
    nn = backend(name)
    net = nn.build(lambda: AutoencoderKL(nn, AutoencoderKLConfig(block_out_channels=(8, 8), norm_num_groups=4)))
    draw = np.random.default_rng(0)
    values = {key: draw.standard_normal(shape) / 6 for key, shape in nn.shapes(net).items()}
    return nn.load(net, {key: nn.asarray(value.astype(np.float32)) for key, value in values.items()})


@cache
def video(name: Any, load: Any) -> Any:
    return load(default_checkpoint(), backend=name, dtype="float32")


@cache
def noised(name: Any) -> Any:
    nn, decoder = backend(name), made(backend(name), SMALL)
    draw = np.random.default_rng(2).standard_normal(decoder.noise_shape((1, 4, 2, 1, 3))).astype(np.float32)
    return lambda x: decoder(x, noise=[nn.asarray(draw)])


CASES: dict[str, Callable[[Any], Case]] = {
    "video decoder": lambda name: Case(video(name, load_video_decoder), (1, 128, 1, 2, 2)),
    "video encoder": lambda name: Case(video(name, load_video_encoder), (1, 3, 1, 128, 128)),
    "diffusion decoder": lambda name: Case(noised(name), (1, 4, 2, 1, 3)),
    "audio decoder": lambda name: Case(of_sound(name, "decoder"), sound("decoder", 40).shape),
    "audio encoder": lambda name: Case(of_sound(name, "encoder"), sound("encoder", 72).shape),
    "vocoder": lambda name: Case(of_sound(name, "hifigan"), sound("hifigan", 40).shape),
    "wide vocoder": lambda name: Case(of_sound(name, "bandwidth"), sound("bandwidth", 40).shape),
    "spatial upsampler": lambda name: Case(upsampler(name, "twice"), (1, 4, 3, 4, 5)),
    "temporal upsampler": lambda name: Case(upsampler(name, "frames"), (1, 4, 3, 4, 5)),
    "image decoder": lambda name: Case(image(name).decode, (1, 4, 8, 10)),
    "image encoder": lambda name: Case(image(name).encode, (1, 3, 16, 20)),
}
EVERY = pytest.mark.parametrize("kind", CASES)
BACKENDS = pytest.mark.parametrize("name", ["torch", "mlx"])


@EVERY
@BACKENDS
def test_a_plain_call_is_right_or_refused(name: str, kind: str) -> None:
    available(name)
    nn, case = backend(name), CASES[kind](name)
    x = nn.asarray(case.given)
    with pretended(FAR):
        canary.check(x)
        if kind == "wide vocoder":
            case.call(x)  # makes its filters, once
    with limited(FAR, name) as free:
        wanted = nn.to_numpy(case.call(x))
    most = Limits(elements=free.elements, convolution=free.convolution or inf, work=free.work)  # some do not convolve
    with limited(most, name) as faults:
        got = nn.to_numpy(case.call(x))
    assert not faults.played
    assert np.allclose(got, wanted, atol=1e-4)
    for limits in (Limits(elements=free.elements - 1), Limits(convolution=most.convolution - 1)):
        if not limits.any:
            continue
        text = r"\w+\.\w+: the plain call makes (an array|the output of a convolution).* elements, more than the .*"
        with pretended(limits), pytest.raises(PlanError, match=text + "makes it in pieces that are right"):
            case.call(x)
    text = rf"(a convolution|a matrix product) of {free.work} multiply-adds, more than the {free.work - 1} .*"
    refused = pytest.raises(PlanError, match=text + "makes it in pieces that are right")
    with limited(Limits(work=free.work - 1), name) as faults, refused:
        case.call(x)
    assert not faults.played  # what would take too long is refused before it runs


@EVERY
@BACKENDS
def test_one_number_everywhere_is_no_result(name: str, kind: str) -> None:
    """On a device that gets less right than is known."""
    available(name)
    nn, case = backend(name), CASES[kind](name)
    x = nn.asarray(case.given)
    module = pytest.importorskip(f"tilekit.backends._faults_{name}")
    fault = Limits(elements=100) if kind == "diffusion decoder" else Limits(convolution=100)
    with pretended(FAR):
        canary.check(x)  # which finds nothing: faults are not played yet
        with getattr(module, f"{name.title()}Faults")(fault) as faults:
            with pytest.raises(DeviceError, match=r"the result is one number everywhere, though the input varies"):
                case.call(x)
            assert faults.played
    assert nn.to_numpy(case.call(x)).std() > 0


@BACKENDS
@pytest.mark.parametrize("kind", ["decoder", "encoder", "hifigan", "bandwidth"])
def test_a_stream_ends_before_it_is_wrong(name: str, kind: str) -> None:
    available(name)
    chunk = 40 if kind == "encoder" else 8
    nn, net, values = backend(name), of_sound(name, kind), sound(kind, 2 * chunk)

    def streamed() -> None:
        for _ in net.stream(pieces(nn, values, chunk), frames_per_chunk=chunk):
            pass

    with pretended(FAR):
        canary.check(nn.asarray(values))
    with limited(FAR, name) as free:
        streamed()
    with limited(Limits(elements=free.elements, convolution=free.convolution, work=free.work), name) as faults:
        streamed()
    assert not faults.played
    for limits in (Limits(convolution=free.convolution - 1), Limits(work=free.work - 1)):
        refused = pytest.raises(PlanError, match=r"a piece of the stream makes .*smaller frames_per_chunk")
        with pretended(limits), refused:
            streamed()
    module = pytest.importorskip(f"tilekit.backends._faults_{name}")
    flat = pytest.raises(DeviceError, match=r"block 0 to .* of the stream is one number everywhere")
    with pretended(FAR), getattr(module, f"{name.title()}Faults")(Limits(convolution=20)), flat:
        streamed()


@BACKENDS
def test_silence_is_no_fault(name: str) -> None:
    available(name)
    nn, net = backend(name), of_sound(name, "hifigan")
    values = np.zeros_like(sound("hifigan", 40))
    with pretended(FAR):
        assert list(net.stream(pieces(nn, values, 16), frames_per_chunk=16))
        net(nn.asarray(values))


@BACKENDS
def test_a_bad_device_is_refused_by_plain_calls_and_streams(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    available(name)
    nn = backend(name)
    vocoder, latent = of_sound(name, "hifigan"), nn.asarray(CASES["spatial upsampler"](name).given)
    mel = nn.asarray(sound("hifigan", 40))
    monkeypatch.setattr(canary, "TRUSTED", set())
    for begin in (
        lambda: vocoder(mel),
        lambda: list(vocoder.stream(mel)),
        lambda: upsampler(name, "twice")(latent),
        lambda: upsampler(name, "twice").tiled(latent, frames=2),
        lambda: check_widest(nn, latent, 1, "it makes", "make less"),
    ):
        with limited(Limits(unfolded=1, unfolds=True), name), pytest.raises(DeviceError, match="gets a convolution"):
            begin()


def test_tokens_of_a_transformer_are_refused_beforehand() -> None:
    available("torch")
    nn = backend("torch")
    x = nn.asarray(np.zeros(3, np.float32))
    with pretended(Limits(elements=999)), pytest.raises(PlanError, match="layers make an array of 1000 elements, more"):
        check_widest(nn, x, 1000, "video: the feed-forward layers make", "make less")
    check_widest(nn, x, 1000, "video: the feed-forward layers make", "make less")


@BACKENDS
def test_who_follows_a_network_sees_no_guard(name: str) -> None:
    """What compiles or follows a call hands in arrays without numbers, at which nobody may look."""
    available(name)
    nn, case = backend(name), CASES["spatial upsampler"](name)
    x = nn.asarray(case.given)
    wanted = nn.to_numpy(case.call(x))
    assert np.allclose(nn.to_numpy(case.call(latent=x)), wanted)  # by name as well
    with pytest.raises(TypeError, match="latent"):
        case.call()
    with pretended(FAR):
        assert np.allclose(nn.to_numpy(exact(case.call)(x)), wanted, atol=1e-4)
        if name == "mlx":
            import mlx.core as mx

            assert np.allclose(nn.to_numpy(mx.compile(case.call)(x)), wanted, atol=1e-4)


@BACKENDS
@pytest.mark.parametrize("kind", ["twice", "one and a half", "frames"])
@settings(max_examples=2, deadline=None)
@given(frames=st.integers(3, 4), share=st.floats(0.4, 1.1), stream=st.booleans())
def test_an_upsampler_in_tiles_is_right_or_refused(
    name: str, kind: str, frames: int, share: float, stream: bool
) -> None:
    available(name)
    nn, net = backend(name), upsampler(name, kind)
    x = nn.asarray(np.random.default_rng(frames).standard_normal((1, 4, frames, 16, 14)).astype(np.float32))
    with limited(FAR, name) as free:
        wanted = nn.to_numpy(net(x))
    most = max(weights(net), int(share * free.elements))
    with limited(Limits(elements=most, convolution=most), name) as faults:
        try:
            if stream:
                got = np.concatenate([nn.to_numpy(block) for _, block in net.stream(x, frames_per_chunk=2)], 2)
            else:
                got = nn.to_numpy(net.tiled(x, frames=2))
        except (PlanError, InputError) as error:
            assert "elements" in str(error)  # noqa: PT017
            return
    assert not faults.played
    assert faults.elements <= most
    assert np.allclose(got, wanted, atol=1e-4)
