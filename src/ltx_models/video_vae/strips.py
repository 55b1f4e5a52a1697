"""Decoding and encoding over several ranks: the exact engine on the graph of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tilekit
from ltx_models.nn import Array
from ltx_models.progress import Progress
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.encoder import VideoEncoder, check_video
from ltx_models.video_vae.restart import first_latent
from tilekit import Exact, Strips

__all__ = ["decode_strips", "encode_strips", "stream_strips"]


def decode_strips(
    decoder: Any,
    latent: Array,
    strips: Strips,
    *,
    memory_bytes: int | None,
    timestep: Array | None,
    noise: Sequence[Array] | None,
    progress: Progress = None,
) -> Any:
    """Decode together; the parameters are those of `decode_exact`."""
    return _decode(decoder, latent, strips, memory_bytes, timestep, noise, progress)(latent, strips=strips)


def stream_strips(
    decoder: Any,
    latent: Array,
    strips: Strips,
    *,
    memory_bytes: int | None,
    timestep: Array | None,
    noise: Sequence[Array] | None,
    start: int = 0,
    progress: Progress = None,
) -> Iterator[tuple[int, Any]]:
    """Decode together block by block, from any frame on; the parameters are those of `stream_decode`."""
    exact = _decode(decoder, latent, strips, memory_bytes, timestep, noise, progress)
    time, total = decoder.config.decoder_scale[0], 1 + (latent.shape[2] - 1) * decoder.config.decoder_scale[0]
    if type(start) is not int or not 0 <= start <= total:
        msg = f"start: got {start!r}, expected a frame from 0 to {total}, the end of the clip"
        raise ValueError(msg)
    if start == total:
        return iter(())
    begin = max(0, first_latent(decoder.steps, start, causal=decoder.causal(None)))
    if begin:
        latent = latent[:, :, begin:, ...]
        if noise is not None and decoder.conditioned:
            noise = [noise[0][:, :, begin:, ...], *noise[1:]]
        exact = _decode(decoder, latent, strips, memory_bytes, timestep, noise, progress)
    return _from(exact.stream(latent, strips=strips), start, begin * time)


def encode_strips(
    encoder: VideoEncoder, video: Array, strips: Strips, *, memory_bytes: int | None, progress: Progress = None
) -> Any:
    """Encode together; the parameters are those of `encode_exact`."""
    check_video(encoder, video)
    return tilekit.exact(encoder, memory_bytes, progress=progress)(video, strips=strips)


def _decode(
    decoder: Any,
    latent: Array,
    strips: Strips,
    memory_bytes: int | None,
    timestep: Array | None,
    noise: Sequence[Array] | None,
    progress: Progress,
) -> Exact:
    """Check what is given, and make the function that the engine follows."""
    if not isinstance(decoder, VideoDecoder):
        msg = (
            f"strips: a {type(decoder).__name__} cannot be shared among ranks, as its attention goes along whole rows; "
            "decode on one device, and give other clips to the others"
        )
        raise ValueError(msg)
    decoder.check(latent, noise)
    drawn = decoder.conditioned or any(block.inject_noise for block in decoder.config.decoder_blocks)
    if noise is None and drawn:
        msg = "noise: this decoder draws noise, and each rank would draw its own; give noise=, the same to all ranks"
        raise ValueError(msg)
    for number, field in enumerate(noise or ()):
        strips.agree(f"noise[{number}]", field)
    if timestep is None and noise is None:
        return tilekit.exact(decoder, memory_bytes, progress=progress)

    def function(z: Array) -> Array:
        return decoder(z, timestep=timestep, noise=noise)

    return tilekit.exact(function, memory_bytes, progress=progress)


def _from(blocks: Iterator[tuple[int, Any]], start: int, moved: int) -> Iterator[tuple[int, Any]]:
    """Leave out the frames before the first that is wanted, and number the others as in the whole clip."""
    for first, block in blocks:
        frame = first + moved
        strip = isinstance(block, tilekit.Strip)
        array = block.array if strip else block
        skipped = max(0, start - frame)
        if skipped >= array.shape[2]:
            continue
        array = array[:, :, skipped:, ...]
        frame += skipped
        if strip:
            place = (*block.place[:2], slice(frame, frame + array.shape[2]), *block.place[3:])
            shape = (*block.shape[:2], block.shape[2] + moved, *block.shape[3:])
            yield frame, tilekit.Strip(array, place, shape)
        else:
            yield frame, array
