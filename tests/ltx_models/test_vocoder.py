"""The vocoders: the reference's outputs, what they keep and what they refuse, on both backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ltx_models import load_vocoder
from ltx_models.nn import Backend
from ltx_models.vocoder import GeneratorConfig, read_config


def flat(**changes: Any) -> dict[str, Any]:
    known = {"upsample_rates": [4, 2], "upsample_kernel_sizes": [8, 4], "upsample_initial_channel": 16}
    return known | changes


def test_equals_the_reference(nn: Backend, oracle: Any, close: Any) -> None:
    # the reference in float32 and in float64 differ by up to 2e-6
    for case in oracle("vocoder_*"):
        vocoder = load_vocoder(case.path, backend=nn.name, dtype="float32")
        got = vocoder(nn.asarray(case.get("input.mel")))
        close(got, case.get("output.waveform"), 1e-5, case.name)
        assert vocoder.sample_rate == (48000 if "_23_" in case.name else 24000)


def test_bandwidth_extension_computes_in_float32(nn: Backend, oracle: Any, close: Any) -> None:
    (case,) = oracle("vocoder_23_hop_remainder")
    vocoder = load_vocoder(case.path, backend=nn.name, dtype="bfloat16")
    assert vocoder.vocoder.conv_pre.weight.dtype == nn.float32
    mel = nn.cast(nn.asarray(case.get("input.mel")), nn.dtype("bfloat16"))
    got = vocoder(mel)
    assert got.dtype == nn.dtype("bfloat16")
    want = vocoder(nn.cast(mel, nn.float32))
    close(nn.to_numpy(got), nn.to_numpy(want), 2**-8)  # only the samples themselves are rounded, and they are below 1


def test_the_first_vocoder_takes_the_dtype_asked_for(nn: Backend, oracle: Any, close: Any) -> None:
    (case,) = oracle("vocoder_20_batch2")
    vocoder = load_vocoder(case.path, backend=nn.name, dtype="bfloat16")
    got = vocoder(nn.asarray(case.get("input.mel")))
    assert got.dtype == nn.dtype("bfloat16")
    close(nn.to_numpy(got), case.get("output.waveform"), 0.1)  # eight bits through sixty layers, of samples below 1


def test_silence_is_finite_and_quiet_mel_of_any_length_has_its_samples(nn: Backend, oracle: Any) -> None:
    (case,) = oracle("vocoder_20_batch2")
    vocoder = load_vocoder(case.path, backend=nn.name, dtype="float32")
    for frames in (1, 2, 5):
        wave = nn.to_numpy(vocoder(nn.xp.full((1, 2, frames, 64), float(np.log(1e-5)), dtype=nn.float32)))
        assert wave.shape == (1, 2, 240 * frames)
        assert np.isfinite(wave).all()
        assert np.abs(wave).max() <= 1


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 1, 5, 64), r"got shape \(1, 1, 5, 64\), expected \(batch, 2, time, 64\)"),
        ((1, 2, 5, 80), r"expected \(batch, 2, time, 64\)"),
        ((1, 2, 0, 64), "none of them 0"),
    ],
)
@pytest.mark.parametrize("name", ["vocoder_20_batch2", "vocoder_23_hop_remainder"])
def test_refuses_other_spectrograms(nn: Backend, oracle: Any, name: str, shape: tuple[int, ...], text: str) -> None:
    (case,) = oracle(name)
    vocoder = load_vocoder(case.path, backend=nn.name, dtype="float32")
    with pytest.raises(ValueError, match=text):
        vocoder(nn.xp.zeros(shape, dtype=nn.float32))
    with pytest.raises(ValueError, match="NaN"):
        vocoder(nn.xp.full((1, 2, 5, 64), float("nan"), dtype=nn.float32))
    with pytest.raises(ValueError, match="frames_per_chunk: got 0"):
        vocoder.stream(nn.xp.zeros((1, 2, 5, 64), dtype=nn.float32), frames_per_chunk=0)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({}, "no such section"),
        (flat(resblock="2"), "resblock: got '2'"),
        (flat(resblock="AMP1", activation="relu"), "activation: got 'relu'"),
        (flat(upsample_kernel_sizes=[8, 3]), "rate 2 and 3 taps"),
        (flat(resblock_kernel_sizes=[3, 4, 5]), r"got \[4\], expected odd"),
        ({"vocoder": flat(), "bwe": flat()}, "input_sampling_rate, output_sampling_rate, hop_length, n_fft missing"),
        (
            {
                "vocoder": flat(),
                "bwe": flat(input_sampling_rate=16000, output_sampling_rate=48000, hop_length=80, n_fft=512),
            },
            "does not fit a generator of 8 samples a frame",
        ),
    ],
)
def test_refuses_configurations_that_are_no_vocoder(section: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_config(section)


def test_the_clamp_of_the_extension_is_not_taken_from_its_configuration() -> None:
    assert not GeneratorConfig.read(flat(apply_final_activation=True), bounded=False).bounded
    assert GeneratorConfig.read(flat(apply_final_activation=False)).bounded
