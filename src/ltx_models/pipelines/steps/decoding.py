"""From latents to larger latents, frames and sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ltx_models.media import MediaError, as_float32
from ltx_models.nn import Array
from ltx_models.pipelines.callbacks import Callbacks
from ltx_models.pipelines.components import Components
from ltx_models.pipelines.kept import KeptRun
from ltx_models.pipelines.run import Run
from ltx_models.pipelines.sound import Sound
from ltx_models.upsampler import upsample_latent
from ltx_models.video_vae import decode_exact, plan_exact, stream_decode
from ltx_models.video_vae.diffusion import DiffusionDecoder
from ltx_models.video_vae.diffusion.field import seeded_field
from ltx_models.video_vae.exact import draws_noise

DECODER_SEED = (
    20000  # added to the seed, so that a decoder's noise is neither that of the first latents nor a sampler's
)


def preview_picture(components: Components, latent: Array) -> Array:
    """
    Decode the middle of a clip to one picture.

    Parameters
    ----------
    components : Components
        The networks.
    latent : array, shape (1, 128, f, h, w)
        Normalised latents.

    Returns
    -------
    array, shape (3, 32 h, 32 w)
        In about [-1, 1].
    """
    middle = latent.shape[2] // 2
    decoder, frame = components.get("video_decoder"), components.adapted(latent[:, :, middle : middle + 1])
    return decoder(frame, noise=decoder_noise(decoder, frame, seed=0))[0, :, 0]


def upsample(run: Run, latent: Array) -> Array:
    """
    Give latents of twice the height and width.

    Parameters
    ----------
    run : Run
        Whose networks are used.
    latent : array, shape (1, 128, f, h, w)
        Normalised latents.

    Returns
    -------
    array, shape (1, 128, f, 2 h, 2 w)
        Normalised latents, in float32.

    Raises
    ------
    ValueError
        If the upsampler gives another size.
    """
    components = run.components
    with run.callbacks.phase("upsample"), components.using("upsampler") as upsampler:
        large = components.array(upsample_latent(upsampler, latent, components.get("statistics")))
        components.nn.synchronize(large)
    expected = (*latent.shape[:3], 2 * latent.shape[3], 2 * latent.shape[4])
    if tuple(large.shape) != expected:
        msg = f"upsampler: gave {tuple(large.shape)} where {expected} is needed; take a spatial x2 one"
        raise ValueError(msg)
    return large


def decode_video(
    run: Run, latent: Array, *, memory_bytes: int | None = None, sink: Callable[[Array, int], object] | None = None
) -> Array | None:
    """
    Decode exactly, within a budget; a diffusion decoder with the noise of the run's seed.

    Parameters
    ----------
    run : Run
        Whose networks are used.
    latent : array, shape (1, 128, f, h, w)
        Normalised latents.
    memory_bytes : int, optional
        What decoding may take beside the weights.
    sink : callable, optional
        Takes (frames, start) as they are done; otherwise the clip is returned.

    Returns
    -------
    array, shape (1, 3, F, H, W), or None
        In about [-1, 1].
    """
    with run.components.using("video_decoder") as decoder:
        adapted = run.components.adapted(latent)
        noise = decoder_noise(decoder, adapted, run.request.seed)
        report = partial(run.callbacks.report, "decode")
        if run.kept is not None and sink is not None and (noise is not None or not draws_noise(decoder)):
            _decode_kept(run.kept, decoder, adapted, memory_bytes, noise, sink, report)
            return None
        return decode_exact(
            decoder, adapted, memory_bytes=memory_bytes, noise=noise, on_frames_ready=sink, progress=report
        )


def _decode_kept(
    kept: KeptRun,
    decoder: Any,
    latent: Array,
    memory_bytes: int | None,
    noise: list[Array] | None,
    sink: Callable[[Array, int], object],
    report: Callable[[int, int], object],
) -> None:
    """Decode, keep every block, and take those that are kept."""
    plan = plan_exact(decoder, latent.shape, memory_bytes=memory_bytes)
    frames = 1 + (latent.shape[2] - 1) * decoder.config.decoder_scale[0]

    def stream(start: int) -> Iterator[tuple[int, Array]]:
        return stream_decode(decoder, latent, plan=plan, noise=noise, start=start)

    for start, block in kept.frames(replace(plan, reason="", peak_bytes=0)).resume(stream):
        sink(block, start)
        report(start + block.shape[2], frames)


def decoder_noise(decoder: Any, latent: Array, seed: int) -> list[Array] | None:
    """
    Give the noise that a diffusion decoder makes pixels of: one field, so that a budget does not change the picture.

    Parameters
    ----------
    decoder : VideoDecoder or DiffusionDecoder
        The network.
    latent : array, shape (1, 128, f, h, w)
        What is decoded, in the dtype of the network.
    seed : int
        Of the run that generated it.

    Returns
    -------
    list of one array, or None
        None for other decoders.
    """
    if not isinstance(decoder, DiffusionDecoder):
        return None
    return [seeded_field(decoder.noise_shape(latent.shape), seed + DECODER_SEED, latent)]


def decode_sound(components: Components, latent: Array, callbacks: Callbacks | None = None) -> Sound:
    """
    Decode sound, as a stream.

    Parameters
    ----------
    components : Components
        The networks.
    latent : array, shape (1, 8, T, 16)
        Normalised latents.
    callbacks : Callbacks, optional
        What is told of the progress.

    Returns
    -------
    Sound
        As NumPy arrays.

    Raises
    ------
    MediaError
        If values are not finite.
    """
    callbacks = callbacks or Callbacks()
    with (
        callbacks.phase("decode sound"),
        components.using("audio_decoder") as decoder,
        components.using("vocoder") as vocoder,
    ):
        mels = (components.array(mel) for _, mel in decoder.stream(components.adapted(latent)))
        samples = np.concatenate([as_float32(block) for _, block in vocoder.stream(mels)], axis=2)
        rate = int(vocoder.sample_rate)
    if not np.isfinite(samples).all():
        msg = "sound: the decoder gave values that are not finite; use bfloat16 or float32"
        raise MediaError(msg)
    return Sound(np.clip(samples, -1, 1), rate)
