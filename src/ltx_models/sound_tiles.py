"""
Sound in tiles of time by `tilekit`: each tile is read with the halo that the network sees, and only its core is kept.

So the result equals the whole and there is nothing to blend, hence no click where tiles meet. A stream does the same
without reading anything twice; tiles can be batched, and made in any order.
"""

from __future__ import annotations

from collections.abc import Callable

from ltx_models.audio_vae import AudioDecoder
from ltx_models.audio_vae.layers import refuse_attention
from ltx_models.nn import Array
from ltx_models.vocoder import BandwidthVocoder, GeneratorConfig, Vocoder
from ltx_models.vocoder.generator import Generator
from ltx_models.vocoder.layers import REACH, ResBlock
from tilekit import LTX2_AUDIO_MEL, Axis, Geometry, Linear, Tiling, decode_tiled

Halo = dict[str, tuple[int, int] | None]
RESAMPLER_REACH = 7
ACTIVATION_REACH = 5  # cells to either side; streamed, it is late by one more, as its filters move by whole cells


def decode_audio_tiled(decoder: AudioDecoder, latent: Array, *, frames: int, tile_batch_size: int = 1) -> Array:
    """
    Decode audio latents in tiles of time: equal to the whole.

    Parameters
    ----------
    decoder : AudioDecoder
        What `load_audio_decoder` returned.
    latent : array, shape (B, 8, t, 16)
        Normalised latents.
    frames : int
        Spectrogram frames that each tile gives.
    tile_batch_size : int
        Tiles of one call.

    Returns
    -------
    array, shape (B, 2, 4 t - 3, 64)
        The log-mel spectrogram.

    Raises
    ------
    ValueError
        If the decoder attends over the whole clip or reads ahead, or a size does not fit.
    """
    return decode_tiled(
        decoder,
        latent,
        Tiling(time=(frames, 0)),
        geometry=LTX2_AUDIO_MEL,
        tile_batch_size=tile_batch_size,
        blend="crop",
        halo=audio_decoder_halo(decoder),
    )


def vocode_tiled(vocoder: Vocoder | BandwidthVocoder, mel: Array, *, frames: int, tile_batch_size: int = 1) -> Array:
    """
    Make a waveform in tiles of time: equal to the whole.

    Parameters
    ----------
    vocoder : Vocoder or BandwidthVocoder
        What `load_vocoder` returned.
    mel : array, shape (B, 2, T, 64)
        The log-mel spectrogram.
    frames : int
        Mel frames that each tile is for.
    tile_batch_size : int
        Tiles of one call.

    Returns
    -------
    array, shape (B, 2, N)
        Samples in [-1, 1].

    Raises
    ------
    ValueError
        If a size does not fit, or the frames of the vocoder are no whole number of its inner hops.

    Examples
    --------
    >>> import torch
    >>> from ltx_models.nn import backend
    >>> config = GeneratorConfig(width=8, rates=(4,), sizes=(8,), branch_sizes=(3,), dilations=((1, 3),))
    >>> vocoder = Vocoder(backend("torch"), config).requires_grad_(False)  # random weights
    >>> mel = torch.randn(1, 2, 90, 64)
    >>> bool(torch.allclose(vocode_tiled(vocoder, mel, frames=30), vocoder(mel), atol=1e-5))
    True
    """
    nn = vocoder.nn
    batch, channels, time, bins = mel.shape
    lines = nn.xp.permute_dims(mel, (0, 1, 3, 2)).reshape(batch, channels * bins, time)
    return decode_tiled(
        on_lines(vocoder),
        lines,
        Tiling(time=(frames * vocoder.config.factor, 0)),
        geometry=waveform_geometry(vocoder),
        tile_batch_size=tile_batch_size,
        blend="crop",
        halo=vocoder_halo(vocoder),
    )


def on_lines(vocoder: Vocoder | BandwidthVocoder) -> Callable[[Array], Array]:
    """
    Make a vocoder take spectrograms as (B, 128, T), whose axes are those of its waveforms.

    Parameters
    ----------
    vocoder : Vocoder or BandwidthVocoder
        What `load_vocoder` returned.

    Returns
    -------
    callable
        From (B, channels * bins, T) to (B, channels, N).
    """
    channels = _generator(vocoder).mel_channels

    def run(lines: Array) -> Array:
        batch, rows, time = lines.shape
        mel = lines.reshape(batch, channels, rows // channels, time)
        return vocoder(vocoder.nn.xp.permute_dims(mel, (0, 1, 3, 2)))

    return run


def waveform_geometry(vocoder: Vocoder | BandwidthVocoder) -> Geometry:
    """
    Describe the axes of a vocoder: (B, C, time), so many samples to a mel frame.

    Parameters
    ----------
    vocoder : Vocoder or BandwidthVocoder
        What `load_vocoder` returned.

    Returns
    -------
    Geometry
        For `tilekit`.
    """
    return Geometry(f"waveform-{vocoder.config.factor}", (Axis("time", 2, Linear(vocoder.config.factor)),))


def vocoder_halo(vocoder: Vocoder | BandwidthVocoder) -> Halo:
    """
    Count how far a sample sees.

    Parameters
    ----------
    vocoder : Vocoder or BandwidthVocoder
        What `load_vocoder` returned.

    Returns
    -------
    dict
        ``{"time": (before, after)}`` in mel frames.

    Raises
    ------
    ValueError
        If a mel frame is no whole number of hops of the inner spectrogram: tiles would then begin between two hops.
    """
    if isinstance(vocoder, Vocoder):
        return {"time": _through(vocoder, 0, 0)}
    config = vocoder.config
    if config.vocoder.factor % config.hop:
        msg = (
            f"halo: a mel frame makes {config.vocoder.factor} samples, which are no multiple of the hop of "
            f"{config.hop}; stream this vocoder instead"
        )
        raise ValueError(msg)
    before, after = _through(vocoder.bwe_generator, 0, 0)
    # frames of the inner spectrogram look back over their window; every sample of a frame may be asked for
    low = max(before * config.hop + config.n_fft - 1, RESAMPLER_REACH)
    high = max((after + 1) * config.hop - 1, RESAMPLER_REACH)
    return {"time": _through(vocoder.vocoder, low, high)}


def _through(generator: Generator, before: int, after: int) -> tuple[int, int]:
    """Lead a reach in samples through a generator to one in its frames."""
    config = generator.config
    outer = 3 + (ACTIVATION_REACH if config.activation is not None else 0)
    before, after = before + outer, after + outer
    for unit, rate, size in zip(reversed(generator.units()[1:-1]), config.rates[::-1], config.sizes[::-1], strict=True):
        reach = max(_reach(block) for block in unit.run.blocks)  # type: ignore[attr-defined]  # a Stage
        pad = (size - rate) // 2
        before = (before + reach + size - 1 - pad) // rate
        after = (after + reach + pad + rate - 1) // rate
    return before + 3, after + 3


def _reach(block: ResBlock) -> int:
    activations = 2 * len(block.reaches) if hasattr(block, "acts1") else 0
    return block.lag - activations * (REACH - ACTIVATION_REACH)


def _generator(vocoder: Vocoder | BandwidthVocoder) -> GeneratorConfig:
    config = vocoder.config
    return config if isinstance(config, GeneratorConfig) else config.vocoder


def audio_decoder_halo(decoder: AudioDecoder) -> Halo:
    """
    Count how far a spectrogram frame sees.

    Parameters
    ----------
    decoder : AudioDecoder
        What `load_audio_decoder` returned.

    Returns
    -------
    dict
        ``{"time": (before, 0), "mel": None}`` in latent frames: it looks back only, and over all frequencies.

    Raises
    ------
    ValueError
        If the decoder attends over the whole clip, or reads ahead.
    """
    refuse_attention(decoder.config)
    if not decoder.config.causal:
        msg = "halo: this decoder reads ahead, its frames are not those of the geometry; stream it instead"
        raise ValueError(msg)
    convolutions = 2 * (decoder.config.blocks + 1)
    cells = 2  # the last convolution
    for level in range(len(decoder.config.multipliers)):
        cells += 2 * convolutions
        if level + 1 < len(decoder.config.multipliers):
            cells = (cells + 1) // 2 + 1  # a cell becomes two, of which the convolution behind sees one more
    return {"time": (cells + 2 * 4 + 2, 0), "mel": None}
