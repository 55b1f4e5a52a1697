"""Every way to decode and encode stays below what a device gets right, for any size, or is refused; torch and MLX."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ltx_models.test_diffusion_decoder import FEWER, drawn, made
from tests.ltx_models.test_sound_stream import joined, network, sound

from ltx_models import (
    decode_exact,
    default_checkpoint,
    encode_exact,
    load_video_decoder,
    load_video_encoder,
    plan_exact,
    stream_decode,
)
from ltx_models.nn import backend as get_backend
from ltx_models.sound_tiles import decode_audio_tiled, vocode_tiled
from tilekit import InputError, PlanError, exact
from tilekit.backends.limits import Limits
from tilekit.testing import Library, limited


def explained(error: ValueError) -> None:
    """The refusal says how many elements are too many, or that memory does not help."""
    assert "elements" in str(error) or "more memory does not help" in error.__notes__[0]


def weights(net: Any) -> int:
    """The largest array that is there whatever the plan."""
    return max(int(np.prod(shape)) for shape in net.nn.shapes(net).values())


BACKENDS = pytest.mark.parametrize("name", ["torch", "mlx"])


def available(name: str) -> Library:
    library = Library(name)
    if library.missing:
        pytest.skip(library.missing)
    return library


@cache
def video(name: Any, kind: str) -> Any:
    load: Any = load_video_encoder if kind == "encode" else load_video_decoder
    return load(default_checkpoint(), backend=name, dtype="float32")


@BACKENDS
@settings(max_examples=3, deadline=None)
@given(
    frames=st.integers(2, 4),
    sides=st.tuples(st.integers(2, 2), st.integers(2, 3)),
    share=st.floats(0.3, 1.1),
    way=st.sampled_from(["decode", "stream", "encode"]),
)
def test_video_is_right_or_refused(name: str, frames: int, sides: tuple[int, int], share: float, way: str) -> None:
    library, net, shape = available(name), video(name, way), (1, 128, frames, *sides)
    clip = (1, 3, 1 + 8 * (frames - 1), *(32 * n for n in sides))
    values = np.random.default_rng(frames).uniform(-1, 1, clip if way == "encode" else shape)
    x = library.array(values.astype(np.float32))
    wanted = library.numpy(net(x))
    most = max(weights(net), int(share * plan_exact(net, shape, memory_bytes=1 << 40).peak_bytes / 4))
    with limited(Limits(elements=most, convolution=most), name) as faults:
        try:
            if way == "stream":
                got = np.concatenate([library.numpy(block) for _, block in stream_decode(net, x)], 2)
            else:
                got = library.numpy((encode_exact if way == "encode" else decode_exact)(net, x))
        except ValueError as error:
            explained(error)
            return
    assert not faults.played
    assert faults.elements <= most
    assert np.allclose(got, wanted, atol=1e-4)


@BACKENDS
@settings(max_examples=3, deadline=None)
@given(share=st.floats(0.25, 1.1), frames=st.integers(2, 4), width=st.integers(3, 6), stream=st.booleans())
def test_a_diffusion_decoder_is_right_or_refused(
    name: str, share: float, frames: int, width: int, stream: bool
) -> None:
    available(name)
    nn = get_backend(name)
    decoder, shape = diffusion(name), (1, 4, frames, 1, width)
    latent, noise = drawn(nn, *shape), [drawn(nn, *decoder.noise_shape(shape), seed=1)]
    wanted = nn.to_numpy(decoder(latent, noise=noise))
    most = max(weights(decoder), int(share * plan_exact(decoder, shape, memory_bytes=1 << 40).peak_bytes / 4))
    with limited(Limits(elements=most, convolution=most), name) as faults:
        try:
            if stream:
                got = np.concatenate(
                    [nn.to_numpy(block) for _, block in stream_decode(decoder, latent, noise=noise)], 2
                )
            else:
                got = nn.to_numpy(decode_exact(decoder, latent, noise=noise))
        except ValueError as error:
            explained(error)
            return
    assert not faults.played
    assert faults.elements <= most
    assert np.allclose(got, wanted, atol=2e-4)


@cache
def diffusion(name: Any) -> Any:
    return made(get_backend(name), FEWER)


def test_the_noise_of_a_diffusion_decoder_is_refused_where_it_is_too_large() -> None:
    available("torch")
    nn, decoder, shape = get_backend("torch"), diffusion("torch"), (1, 4, 2, 1, 3)
    field = int(np.prod(decoder.noise_shape(shape)))
    with limited(Limits(elements=field - 1)), pytest.raises(ValueError, match=f"noise: .* would have {field} elements"):
        stream_decode(decoder, drawn(nn, *shape))


SOUNDS = ["decoder", "encoder", "hifigan", "bandwidth"]


@BACKENDS
@pytest.mark.parametrize("kind", SOUNDS)
@settings(max_examples=3, deadline=None)
@given(length=st.integers(40, 90))
def test_streams_of_sound_make_no_larger_arrays_for_longer_clips(name: str, kind: str, length: int) -> None:
    available(name)
    nn, net = get_backend(name), network(name, kind)
    chunk = 8
    with limited(Limits(elements=1 << 40), name) as short:
        joined(nn, net.stream(pieces(nn, sound(kind, 40), chunk), frames_per_chunk=chunk))
    wanted = nn.to_numpy(net(nn.asarray(sound(kind, length))))
    with limited(Limits(elements=short.elements), name) as faults:
        got = joined(nn, net.stream(pieces(nn, sound(kind, length), chunk), frames_per_chunk=chunk))
    assert not faults.played
    assert np.allclose(got, wanted, atol=1e-4)


def pieces(nn: Any, values: Any, chunk: int) -> Any:
    """A clip as it comes: the whole of it is never on the device."""
    return (nn.asarray(values[:, :, i : i + chunk].copy()) for i in range(0, values.shape[2], chunk))


@BACKENDS
@pytest.mark.parametrize("kind", ["decoder", "hifigan"])
@settings(max_examples=2, deadline=None)
@given(length=st.integers(20, 40), share=st.floats(0.3, 1.2))
def test_exact_sound_is_right_or_refused(name: str, kind: str, length: int, share: float) -> None:
    available(name)
    nn, net = get_backend(name), network(name, kind)
    x = nn.asarray(sound(kind, length))
    with limited(Limits(elements=1 << 40), name) as free:
        wanted = nn.to_numpy(net(x))
    most = max(weights(net), int(share * free.elements))
    with limited(Limits(elements=most), name) as faults:
        try:
            got = nn.to_numpy(exact(net)(x))
        except (InputError, PlanError):
            return
    assert not faults.played
    assert faults.elements <= most
    assert np.allclose(got, wanted, atol=1e-4)


@BACKENDS
@pytest.mark.parametrize("kind", ["decoder", "hifigan"])
def test_tiles_of_sound_make_no_larger_arrays_for_longer_clips(name: str, kind: str) -> None:
    available(name)
    nn, net = get_backend(name), network(name, kind)

    def tiled(length: int) -> Any:
        x = nn.asarray(sound(kind, length))
        made = decode_audio_tiled(net, x, frames=4 * 13) if kind == "decoder" else vocode_tiled(net, x, frames=13)
        return nn.to_numpy(made)

    with limited(Limits(elements=1 << 40), name):
        tiled(60)  # the canary asks once
    with limited(Limits(elements=1 << 40), name) as short:
        tiled(60)
    wanted = nn.to_numpy(net(nn.asarray(sound(kind, 90))))
    with limited(Limits(elements=max(short.elements, wanted.size)), name) as faults:
        got = tiled(90)
    assert not faults.played
    assert np.allclose(got, wanted, atol=1e-4)
    with limited(Limits(elements=wanted.size - 1), name), pytest.raises((PlanError, InputError), match="elements"):
        tiled(90)
