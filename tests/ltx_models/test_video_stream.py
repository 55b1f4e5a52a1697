"""The video autoencoder as a stream in time: exact, lazy, bounded, and free of what it no longer needs."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models import default_checkpoint
from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend

# outliers where a pixel norm divides by little; the fixtures' reason stands in test_video_vae.py
DECODED, ENCODED = 1e-3, 5e-5
DECODERS = ("video_decoder_dec20_two_layers", "video_decoder_dec23_two_layers")
ENCODERS = ("video_encoder_enc20_single_frame", "video_encoder_enc23_single_frame")
CONDITIONED = (
    "video_decoder_dec20_inject_noise",
    "video_decoder_dec20_timestep",
    "video_decoder_dec20_timestep_default",
)


@settings(max_examples=8)
@given(frames=st.integers(1, 9), chunk=st.integers(1, 10), causal=st.booleans())
@pytest.mark.parametrize("name", ["torch", "mlx"])
def test_a_streamed_decode_equals_the_whole(
    name: str, frames: int, chunk: int, causal: bool, oracle: Any, close: Any, tools: Any
) -> None:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[name])
    nn = get_backend(name)
    for (case,) in map(oracle, DECODERS):
        decoder = tools.loaded("decoder", nn, case.path)
        z = tools.clip(nn, 1, decoder.config.latent_channels, frames, 2, 3)
        streamed = tools.joined(nn, decoder.stream(z, frames_per_chunk=chunk, causal=causal))
        close(streamed, decoder(z, causal=causal), DECODED, case.name)


@settings(max_examples=8)
@given(latents=st.integers(1, 5), chunk=st.integers(8, 40), cuts=st.lists(st.integers(1, 12), max_size=6))
@pytest.mark.parametrize("name", ["torch", "mlx"])
def test_a_streamed_encode_equals_the_whole(
    name: str, latents: int, chunk: int, cuts: list[int], oracle: Any, close: Any, tools: Any
) -> None:
    """Whatever the lengths of the parts that come in."""
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[name])
    nn = get_backend(name)
    for (case,) in map(oracle, ENCODERS):
        encoder = tools.loaded("encoder", nn, case.path)
        video = tools.clip(nn, 1, 3, 1 + 8 * (latents - 1), 32, 64)

        def parts(video: Any = video) -> Iterator[Any]:
            start = 0
            for length in [*cuts, video.shape[2]]:
                if start < video.shape[2]:
                    yield video[:, :, start : start + length]
                start += length

        close(tools.joined(nn, encoder.stream(parts(), frames_per_chunk=chunk)), encoder(video), ENCODED, case.name)


def test_noise_and_timesteps_stream_as_in_the_whole_decode(nn: Backend, oracle: Any, close: Any, tools: Any) -> None:
    for (case,) in map(oracle, CONDITIONED):
        if not [key for key in case.arrays if key.startswith("input.noise")]:
            continue
        decoder = tools.loaded("decoder", nn, case.path)
        z = tools.clip(nn, 1, 8, 4, 2, 2)
        sites = len([key for key in case.arrays if key.startswith("input.noise")]) - 1
        draws = [tools.clip(nn, 1, 8, 4, 2, 2, seed=1)]
        draws += [tools.clip(nn, 2 << i // 2, 2 << i // 2, seed=2 + i) for i in range(sites)]
        level = nn.asarray(np.array([0.3], np.float32))
        whole = decoder(z, timestep=level, noise=draws)
        close(
            tools.joined(nn, decoder.stream(z, frames_per_chunk=1, timestep=level, noise=draws)),
            whole,
            DECODED,
            case.name,
        )


def test_half_precision_streams_as_it_decodes_whole(nn: Backend, tools: Any) -> None:
    """Bfloat16 keeps 8 bits; the same sums in another order may round to neighbours, layer after layer."""
    decoder = tools.loaded("decoder", nn, default_checkpoint(), "bfloat16")
    z = tools.clip(nn, 1, 128, 4, 2, 2)
    streamed, whole = tools.joined(nn, decoder.stream(z, frames_per_chunk=1)), decoder(z)
    assert streamed.dtype == whole.dtype == nn.dtype("bfloat16")
    error = nn.cast(streamed, nn.float32) - nn.cast(whole, nn.float32)
    scale = float(nn.xp.mean(nn.xp.abs(nn.cast(whole, nn.float32))))
    assert float(nn.xp.mean(nn.xp.abs(error))) <= 0.01 * scale
    assert float(nn.xp.max(nn.xp.abs(error))) <= 0.5 * scale


@pytest.mark.parametrize(("causal", "behind"), [(False, 24), (True, 2)])
def test_frames_come_before_latents_far_behind_are_read(oracle: Any, causal: bool, behind: int, tools: Any) -> None:
    """The 2.0 layout with one block a stage looks ahead by fewer latents than the real one, which needs 24."""
    pytest.importorskip("torch")
    nn = get_backend("torch")
    (case,) = oracle("video_decoder_dec20_basic")
    decoder = tools.loaded("decoder", nn, case.path)
    read = 0

    def parts() -> Iterator[Any]:
        nonlocal read
        for i in range(60):
            read += 1
            yield tools.clip(nn, 1, 8, 1, 2, 2, seed=i)

    lead = []
    for start, block in decoder.stream(parts(), frames_per_chunk=1, causal=causal):
        lead.append(read - (start + block.shape[2]) / 8)
        if read == 40:
            break
    assert max(lead) <= behind
    assert read == 40, "the rest is not read"


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("chunk", [1, 2])
def test_no_convolution_sees_more_than_its_cap_and_two_kept_frames(
    oracle: Any, causal: bool, chunk: int, tools: Any
) -> None:
    """Neither where a stage doubles the frame rate, nor when all look-ahead is let go at the end of the clip."""
    pytest.importorskip("torch")
    nn = get_backend("torch")
    (case,) = oracle("video_decoder_dec20_two_layers")
    decoder = tools.loaded("decoder", nn, case.path)
    seen: dict[str, int] = {}
    caps = {step.name: step.cap(8, 8 * chunk) for step in decoder.steps}
    hooks = []
    for path, module in decoder.named_modules():
        if path.endswith(("conv.conv", "conv1.conv", "conv2.conv", "conv_in.conv", "conv_out.conv")):

            def record(layer: Any, given: Any, path: str = path) -> None:
                seen[path] = max(seen.get(path, 0), given[0].shape[1])

            hooks.append(module.register_forward_pre_hook(record))
    for _ in decoder.stream(tools.clip(nn, 1, 6, 12, 2, 2), frames_per_chunk=chunk, causal=causal):
        pass
    for hook in hooks:
        hook.remove()
    assert len(seen) == sum(len(step.convolutions) for step in decoder.steps)
    for path, frames in seen.items():
        name = next(name for name in sorted(caps, key=len, reverse=True) if path.startswith(name))
        assert frames <= caps[name] + 2, path


def test_a_stream_convolves_every_frame_once(oracle: Any, tools: Any) -> None:
    """Multiply-adds, counted in the convolutions: no more than those of the whole decode."""
    pytest.importorskip("torch")
    nn = get_backend("torch")
    (case,) = oracle("video_decoder_dec23_basic")
    decoder = tools.loaded("decoder", nn, case.path)
    z = tools.clip(nn, 1, 8, 9, 2, 2)
    assert tools.macs_of(decoder, lambda: decoder(z)) == tools.macs_of(
        decoder, lambda: list(decoder.stream(z, frames_per_chunk=2))
    )


def test_stopping_early_frees_everything(oracle: Any, tools: Any) -> None:
    pytest.importorskip("torch")
    nn = get_backend("torch")
    (case,) = oracle("video_decoder_dec20_basic")
    decoder = tools.loaded("decoder", nn, case.path)
    fed: list[Any] = []

    def parts() -> Iterator[Any]:
        for i in range(30):
            part = tools.clip(nn, 1, 8, 1, 2, 2, seed=i)
            fed.append(weakref.ref(part))
            yield part

    stream = decoder.stream(parts(), frames_per_chunk=1)
    _, block = next(stream)
    held = weakref.ref(block)
    del block
    assert held() is None, "the stream holds no block that it has given"
    stream.close()
    del stream
    gc.collect()
    assert not any(ref() is not None for ref in fed)


def test_two_streams_of_one_decoder_do_not_meet(oracle: Any, close: Any, tools: Any) -> None:
    pytest.importorskip("torch")
    nn = get_backend("torch")
    (case,) = oracle("video_decoder_dec20_basic")
    decoder = tools.loaded("decoder", nn, case.path)
    clips = [tools.clip(nn, 1, 8, 4, 2, 2, seed=seed) for seed in (0, 1)]
    turns = [list(pair) for pair in zip(*(decoder.stream(z, frames_per_chunk=1) for z in clips), strict=True)]
    for z, parts in zip(clips, zip(*turns, strict=True), strict=True):
        close(tools.joined(nn, parts), decoder(z), DECODED)


def test_streams_refuse_what_does_not_fit(nn: Backend, tools: Any) -> None:
    decoder = tools.loaded("decoder", nn, default_checkpoint())
    encoder = tools.loaded("encoder", nn, default_checkpoint())
    z = tools.clip(nn, 1, 128, 2, 2, 2)
    for chunk in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match=rf"frames_per_chunk: got {chunk}, expected a whole number of at least 1"):
            decoder.stream(z, frames_per_chunk=chunk)
    with pytest.raises(ValueError, match="frames_per_chunk: got 4, expected at least 8"):
        encoder.stream(tools.clip(nn, 1, 3, 9, 32, 32), frames_per_chunk=4)
    with pytest.raises(ValueError, match="latent: the clip is empty"):
        list(decoder.stream(iter([])))
    with pytest.raises(ValueError, match=r"a part has shape \(1, 128, 2, 3, 2\), those before it have"):
        list(decoder.stream(iter([z, tools.clip(nn, 1, 128, 2, 3, 2)])))
    with pytest.raises(ValueError, match=r"got 12 frames, expected 1 \+ 8 k"):
        list(encoder.stream(iter([tools.clip(nn, 1, 3, 9, 64, 64), tools.clip(nn, 1, 3, 3, 64, 64)])))
