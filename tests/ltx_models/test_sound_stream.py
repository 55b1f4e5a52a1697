"""The networks of sound as streams: equal to the whole for every cut, and no larger inside for a longer clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.audio_vae import AudioDecoder, AudioEncoder, AudioVAEConfig
from ltx_models.nn import backend
from ltx_models.nn.stream import Unit
from ltx_models.sound_tiles import (
    audio_decoder_halo,
    decode_audio_tiled,
    on_lines,
    vocode_tiled,
    vocoder_halo,
    waveform_geometry,
)
from ltx_models.vocoder import BandwidthConfig, BandwidthVocoder, GeneratorConfig, Vocoder
from tilekit import measure_halo

BINS = 4
AUDIO = AudioVAEConfig(channels=4, multipliers=(1, 2, 4), blocks=1, latent_channels=2, mel_bins=8)
HIFIGAN = GeneratorConfig(
    width=16, rates=(3, 4), sizes=(7, 8), branch_sizes=(3, 7), dilations=((1, 3), (1, 2)), mel_bins=BINS
)
BIGVGAN = replace(HIFIGAN, rates=(5, 2), sizes=(11, 4), activation="snakebeta", tanh=False, bias=False)
WIDE = BandwidthConfig(
    vocoder=BIGVGAN,
    extension=replace(BIGVGAN, rates=(6, 4), sizes=(12, 4), activation="snakebeta", bounded=False),
    sample_rate=48000,
    low_rate=16000,
    hop=8,  # which does not divide the ten samples of a mel frame
    n_fft=32,
    mel_bins=BINS,
)
ALIGNED = replace(WIDE, hop=10, extension=replace(WIDE.extension, rates=(6, 5), sizes=(12, 7)))
NETWORKS: dict[str, Callable[[Any], Any]] = {
    "decoder": lambda nn: AudioDecoder(nn, AUDIO),
    "decoder that reads ahead": lambda nn: AudioDecoder(nn, replace(AUDIO, causal=False)),
    "encoder": lambda nn: AudioEncoder(nn, AUDIO),
    "hifigan": lambda nn: Vocoder(nn, HIFIGAN),
    "bigvgan": lambda nn: Vocoder(nn, BIGVGAN),
    "snake": lambda nn: Vocoder(nn, replace(BIGVGAN, activation="snake")),
    "bandwidth": lambda nn: BandwidthVocoder(nn, WIDE),
    "aligned": lambda nn: BandwidthVocoder(nn, ALIGNED),
}
# channels and bins of what goes in
SHAPES = {"encoder": (2, 8), **dict.fromkeys(("decoder", "decoder that reads ahead"), (2, 2))}
TOLERANCE = 1e-4  # of waveforms up to 1; sums in another order differ by up to 3e-5, most where logarithms are between


@cache
def network(backend_name: str, kind: str) -> Any:
    """Make a small network with random weights that keep activations near 1."""
    nn = backend(backend_name)
    module = nn.build(lambda: NETWORKS[kind](nn))
    draw = np.random.default_rng(0)
    weights = {}
    for key, shape in nn.shapes(module).items():
        scale = 1.0 if key.endswith(("alpha", "beta", "filter")) else (2 / prod(shape[1:])) ** 0.5
        value = scale * draw.standard_normal(shape)
        weights[key] = nn.asarray((value / abs(value).sum() if "filter" in key else value).astype(np.float32))
    return nn.load(module, weights)


def sound(kind: str, length: int, seed: int = 0) -> Any:
    channels, bins = SHAPES.get(kind, (2, BINS))
    return np.random.default_rng(seed).standard_normal((1, channels, length, bins)).astype(np.float32)


def joined(nn: Any, stream: Iterator[tuple[int, Any]]) -> Any:
    """Put the blocks together; their starts must follow one another."""
    blocks = [(start, nn.to_numpy(block)) for start, block in stream]
    lengths = [block.shape[2] for _, block in blocks]
    assert [start for start, _ in blocks] == [sum(lengths[:i]) for i in range(len(lengths))]
    assert min(lengths) > 0
    return np.concatenate([block for _, block in blocks], axis=2)


@pytest.mark.parametrize("kind", NETWORKS)
@settings(max_examples=14, deadline=None)
@given(length=st.integers(1, 45), chunk=st.integers(1, 50))
def test_a_stream_equals_the_whole_for_every_chunk(kind: str, length: int, chunk: int) -> None:
    pytest.importorskip("torch")
    nn, chunk = backend("torch"), max(chunk, 4) if kind == "encoder" else chunk
    net, x = network("torch", kind), nn.asarray(sound(kind, length))
    whole = nn.to_numpy(net(x))
    assert np.abs(whole).max() > 1e-2
    np.testing.assert_allclose(joined(nn, net.stream(x, frames_per_chunk=chunk)), whole, atol=TOLERANCE)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_stream_equals_the_whole_on_mlx(kind: str) -> None:
    pytest.importorskip("mlx.core")
    nn, net = backend("mlx"), network("mlx", kind)
    for length, chunk in ((1, 4), (23, 5), (40, 17)):
        x = nn.asarray(sound(kind, length))
        got = joined(nn, net.stream(x, frames_per_chunk=chunk))
        np.testing.assert_allclose(got, nn.to_numpy(net(x)), atol=TOLERANCE)


@pytest.mark.parametrize("kind", NETWORKS)
def test_backends_agree(kind: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    results = [backend(b).to_numpy(network(b, kind)(backend(b).asarray(sound(kind, 9)))) for b in ("torch", "mlx")]
    np.testing.assert_allclose(results[0], results[1], atol=TOLERANCE)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 36), max_size=6), kind=st.sampled_from(["decoder", "hifigan", "bandwidth"]))
def test_parts_of_any_lengths_are_one_clip(cuts: list[int], kind: str) -> None:
    pytest.importorskip("torch")
    nn, net = backend("torch"), network("torch", kind)
    x = nn.asarray(sound(kind, 37))
    parts = [x[:, :, a:b] for a, b in pairwise(sorted({0, *cuts, 37}))]
    got = joined(nn, net.stream(iter(parts), frames_per_chunk=6))
    np.testing.assert_allclose(got, nn.to_numpy(net(x)), atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["decoder", "encoder", "hifigan", "bigvgan"])
def test_no_layer_sees_more_of_a_longer_clip(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stream keeps and puts through a layer at once is bounded by the chunk, also when the clip ends."""
    pytest.importorskip("torch")
    nn, net = backend("torch"), network("torch", kind)
    make, seen = net.units, dict[int, tuple[int, int]]()

    def watched(chunk: int | None = None) -> list[Unit]:
        def watch(i: int, unit: Unit) -> Unit:
            def run(x: Any, flow: Any) -> Any:
                kept = sum(array.numel() for array in flow.kept.values())
                most = seen.get(i, (0, 0))
                seen[i] = max(most[0], x.shape[1]), max(most[1], kept)
                assert x.shape[1] <= unit.cap
                return unit.run(x, flow)

            return replace(unit, run=run)

        return [watch(i, unit) for i, unit in enumerate(make(chunk))]

    monkeypatch.setattr(net, "units", watched)
    sizes = []
    for length in (60, 240):
        seen.clear()
        for _ in net.stream(nn.asarray(sound(kind, length)), frames_per_chunk=8):
            pass
        sizes.append(dict(seen))
    assert sizes[0] == sizes[1]


def test_chunks_come_out_before_the_clip_ends() -> None:
    pytest.importorskip("torch")
    nn, net = backend("torch"), network("torch", "bandwidth")
    given_parts = []

    def parts() -> Iterator[Any]:
        for i in range(60):
            given_parts.append(i)
            yield nn.asarray(sound("bandwidth", 1, seed=i))

    start, block = next(net.stream(parts(), frames_per_chunk=1))
    assert start == 0
    assert block.shape[2] > 0
    assert len(given_parts) < 60


def test_what_needs_the_whole_clip_is_refused() -> None:
    nn = pytest.importorskip("torch") and backend("torch")
    attending = AudioDecoder(nn, replace(AUDIO, attention=True))
    with pytest.raises(ValueError, match="attends over the whole clip"):
        attending.stream(nn.asarray(sound("decoder", 4)))
    with pytest.raises(ValueError, match="reads ahead in time"):
        AudioEncoder(nn, replace(AUDIO, causal=False)).stream(nn.asarray(sound("encoder", 8)))
    with pytest.raises(ValueError, match="frames_per_chunk: got 3, expected at least 4"):
        network("torch", "encoder").stream(nn.asarray(sound("encoder", 8)), frames_per_chunk=3)


def test_parts_that_do_not_fit_one_another_are_refused() -> None:
    nn = pytest.importorskip("torch") and backend("torch")
    net = network("torch", "hifigan")
    with pytest.raises(ValueError, match="mel: a part has shape"):
        list(net.stream([nn.xp.zeros((1, 2, 3, BINS)), nn.xp.zeros((2, 2, 3, BINS))]))
    with pytest.raises(ValueError, match="mel: the clip is empty"):
        list(net.stream([]))
    with pytest.raises(ValueError, match="NaN"):
        list(net.stream([nn.xp.zeros((1, 2, 3, BINS)), nn.xp.full((1, 2, 3, BINS), float("nan"))]))


@pytest.mark.parametrize("kind", ["decoder", "hifigan", "bigvgan", "aligned"])
@pytest.mark.parametrize("backend_name", ["torch", "mlx"])
def test_tiles_equal_the_whole(kind: str, backend_name: str) -> None:
    pytest.importorskip(backend_name)
    nn, net = backend(backend_name), network(backend_name, kind)
    x = nn.asarray(sound(kind, 90))
    whole = nn.to_numpy(net(x))
    for frames, batch in ((13, 1), (32, 4)):
        if kind == "decoder":
            got = decode_audio_tiled(net, x, frames=4 * frames, tile_batch_size=batch)
        else:
            got = vocode_tiled(net, x, frames=frames, tile_batch_size=batch)
        np.testing.assert_allclose(nn.to_numpy(got), whole, atol=TOLERANCE)


@pytest.mark.parametrize(("kind", "spare"), [("hifigan", 1), ("bigvgan", 1), ("aligned", 5)])
def test_the_halo_of_a_vocoder_is_what_is_measured(kind: str, spare: int) -> None:
    nn = pytest.importorskip("torch") and backend("torch")
    net = network("torch", kind)
    like, halo = nn.xp.zeros((1,)), vocoder_halo(net)["time"]
    measured = measure_halo(on_lines(net), (1, 2 * BINS, 80), geometry=waveform_geometry(net), like=like)["time"]
    assert halo is not None
    assert measured is not None
    # never less; somewhat more, as a reach is rounded up to whole cells at every change of rate
    assert all(0 <= ours - seen <= spare for ours, seen in zip(halo, measured, strict=True)), (halo, measured)


def test_the_halo_of_the_decoder_is_what_is_measured() -> None:
    """In float64: in float32 the last cells that change do so by less than some processors round."""
    torch = pytest.importorskip("torch")
    net, at = deepcopy(network("torch", "decoder")).double(), 10
    halo = audio_decoder_halo(net)["time"]
    assert halo is not None
    x = torch.from_numpy(sound("decoder", 60)).double()
    other = x.clone()
    other[:, :, at] += 1000
    changed = np.flatnonzero((net(x) - net(other)).abs().amax((0, 1, 3)).numpy())
    assert (int(changed[0]) + 3) // 4 == at
    assert (int(changed[-1]) + 3) // 4 - at == halo[0]


def test_a_halo_between_hops_is_refused() -> None:
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="10 samples, which are no multiple of the hop of 8"):
        vocoder_halo(network("torch", "bandwidth"))
    with pytest.raises(ValueError, match="reads ahead"):
        audio_decoder_halo(network("torch", "decoder that reads ahead"))
