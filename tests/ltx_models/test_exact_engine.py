"""The networks of this package through `tilekit.exact`: as they are, without a word about their layers."""

from typing import Any

import numpy as np

import tilekit
from ltx_models import (
    default_checkpoint,
    load_audio_decoder,
    load_audio_encoder,
    load_video_decoder,
    load_video_encoder,
    load_vocoder,
)
from ltx_models.nn import Backend


def drawn(nn: Backend, *shape: int) -> Any:
    return nn.asarray(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def agree(nn: Backend, function: Any, x: Any) -> None:
    """The exact result is the plain one, in less memory than that takes."""
    exact = tilekit.exact(function)
    got, want = (np.asarray(nn.to_numpy(y), dtype=np.float64) for y in (exact(x), function(x)))
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    plan = exact.plan(tuple(x.shape))
    assert plan.peak_bytes <= plan.plain_bytes
    assert plan.work <= 1 + 1e-6


def test_the_video_autoencoder_runs_exactly_as_it_is(nn: Backend) -> None:
    decoder = load_video_decoder(default_checkpoint(), backend=nn.name, dtype="float32")
    agree(nn, decoder, drawn(nn, 1, 128, 3, 2, 3))
    encoder = load_video_encoder(default_checkpoint(), backend=nn.name, dtype="float32")
    agree(nn, encoder, drawn(nn, 1, 3, 17, 64, 96))


def test_the_networks_of_sound_run_exactly_as_they_are(nn: Backend, oracle: Any) -> None:
    (case,) = oracle("audio_decoder_basic")
    agree(nn, load_audio_decoder(case.path, backend=nn.name, dtype="float32"), nn.asarray(case.get("input.latent")))
    (case,) = oracle("audio_encoder_basic")
    agree(nn, load_audio_encoder(case.path, backend=nn.name, dtype="float32"), nn.asarray(case.get("input.mel")))
    (case,) = oracle("vocoder_20_basic")
    agree(nn, load_vocoder(case.path, backend=nn.name, dtype="float32"), nn.asarray(case.get("input.mel")))
