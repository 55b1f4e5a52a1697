"""The log-mel front end: the reference's numbers, laws of sound, and what it refuses."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models import log_mel
from ltx_models.audio_vae import mel_filters, mel_stream
from ltx_models.nn import Backend, backend

# logarithms of float32 spectra: near the floor a rounding error of 1e-9 in a magnitude of 1e-5 is 1e-4
TOLERANCE = 1e-3


def tone(nn: Backend, rate: int, hertz: float, seconds: float = 0.5, level: float = 0.5) -> Any:
    time = np.arange(round(rate * seconds)) / rate
    return nn.asarray((level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)[None, None].repeat(2, 1))


def test_equals_the_reference_at_every_rate(nn: Backend, oracle: Any, close: Any) -> None:
    (case,) = oracle("audio_mel")
    for i, spec in case.args["cases"].items():
        got = log_mel(nn.asarray(case.get(f"input.waveform.{i}")), spec["sampling_rate"])
        close(got, case.get(f"output.mel.{i}"), TOLERANCE, f"{spec['sampling_rate']} Hz")


def test_bands_equal_the_reference(oracle: Any, close: Any) -> None:
    (case,) = oracle("audio_mel")
    close(mel_filters(64), case.get("output.mel_filterbank"), 1e-6)


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_a_tone_has_the_same_spectrum_at_every_rate(nn: Backend, rate: int) -> None:
    want = nn.to_numpy(log_mel(tone(nn, 16000, 1000.0), 16000))
    got = nn.to_numpy(log_mel(tone(nn, rate, 1000.0), rate))
    band = want[0, 0, 20].argmax()
    # the ends hold the edges of the tone, which filters of different rates smooth differently
    np.testing.assert_allclose(got[:, :, 5:-5, band], want[:, :, 5:-5, band], atol=2e-3)
    assert mel_filters(64)[64].argmax() == band  # frequency 64 of 513 is 1 kHz


def test_levels_are_kept(nn: Backend) -> None:
    loud, quiet = (nn.to_numpy(log_mel(tone(nn, 16000, 1000.0, level=level), 16000)) for level in (0.5, 0.05))
    band = loud[0, 0, 20].argmax()
    np.testing.assert_allclose((loud - quiet)[:, :, 5:-5, band], np.log(10), atol=1e-3)


def test_silence_is_the_floor(nn: Backend) -> None:
    mel = nn.to_numpy(log_mel(nn.xp.zeros((1, 2, 4000), dtype=nn.float32), 16000))
    assert mel.shape == (1, 2, 26, 64)
    np.testing.assert_allclose(mel, np.log(1e-5), atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(1, 5999), max_size=4), rate=st.sampled_from([16000, 24000, 44100]))
def test_chunks_give_the_same_as_the_whole(cuts: list[int], rate: int) -> None:
    pytest.importorskip("torch")
    nn = backend("torch")
    wave = nn.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 2, 6000)).astype(np.float32))
    chunks = [wave[..., a:b] for a, b in pairwise(sorted({0, *cuts, 6000}))]
    parts = list(mel_stream(chunks, rate))
    lengths = [mel.shape[2] for _, mel in parts]
    assert [start for start, _ in parts] == [sum(lengths[:i]) for i in range(len(parts))]
    whole = nn.to_numpy(log_mel(wave, rate))
    np.testing.assert_allclose(np.concatenate([nn.to_numpy(mel) for _, mel in parts], axis=2), whole, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("shape", "rate", "text"),
    [
        ((1, 2, 0), 16000, r"got \(1, 2, 0\)"),
        ((1, 2, 1), 16000, "1 samples at the target rate are too few .* at least 513"),
        ((1, 2, 1000), 48000, "334 samples at the target rate are too few"),
        ((2, 4000), 16000, r"got \(2, 4000\), expected \(batch, channels, samples\)"),
        ((1, 2, 4000), 44101, "only the factor 1 in common"),
        ((1, 2, 4000), 0, "sample_rate: got 0"),
        ((1, 2, 4000), 48000.5, "expected a whole number"),
    ],
)
def test_refuses_what_has_no_spectrum(nn: Backend, shape: tuple[int, ...], rate: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        log_mel(nn.xp.zeros(shape, dtype=nn.float32), rate)


def test_refuses_what_is_no_sound(nn: Backend) -> None:
    with pytest.raises(ValueError, match="NaN or infinite samples"):
        log_mel(nn.xp.full((1, 2, 4000), float("inf"), dtype=nn.float32), 16000)
    with pytest.raises(ValueError, match="divide int16 samples by 32768"):
        log_mel(nn.xp.zeros((1, 2, 4000), dtype=nn.xp.int16), 16000)
    with pytest.raises(ValueError, match="hop: got 600"):
        log_mel(nn.xp.zeros((1, 2, 4000), dtype=nn.float32), 16000, hop=600)
    with pytest.raises(ValueError, match=r"expected an array of torch or mlx"):
        log_mel(np.zeros((1, 2, 4000), dtype=np.float32), 16000)
