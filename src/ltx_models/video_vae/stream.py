"""Exact decoding and encoding of a video piece by piece: chunks in, finished frames out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ltx_models.nn import Array
from ltx_models.nn.checks import check_frames
from ltx_models.nn.stream import Pipeline, chunks_of, run
from ltx_models.video_vae.layers import Context, unpatchify


def decode_stream(
    decoder: Any,
    latent: Array | Iterable[Array],
    *,
    frames_per_chunk: int,
    timestep: Array | None,
    noise: Sequence[Array] | None,
    causal: bool | None,
) -> Iterator[tuple[int, Array]]:
    """Do what `VideoDecoder.stream` says."""
    chunks = chunks_of(decoder.nn, "latent", latent, frames_per_chunk)
    return _decoded(decoder, chunks, frames_per_chunk, timestep, noise, decoder.causal(causal))


def _decoded(
    decoder: Any,
    chunks: Iterator[Array],
    frames_per_chunk: int,
    timestep: Array | None,
    noise: Sequence[Array] | None,
    causal: bool,
) -> Iterator[tuple[int, Array]]:
    nn = decoder.nn
    source = Source(decoder, noise)
    first = source.enter(next(chunks))
    frames_at_once = frames_per_chunk * decoder.config.decoder_scale[0]
    units = decoder.units(causal, decoder.conditions(timestep, first), frames_at_once)
    pipeline = Pipeline(nn, units, Context(causal, source.draws))
    start = 0
    for patches in run([pipeline], source.follow(first, chunks)):
        frames = unpatchify(nn.xp, patches, decoder.config.patch_size)
        nn.settle(frames)
        begin, start, done = start, start + frames.shape[2], [frames]
        del frames, patches
        yield begin, done.pop()
    source.finish()


class Source:
    """Latents of one decode, chunk by chunk, each with its own part of the latents' noise."""

    def __init__(self, decoder: Any, noise: Sequence[Array] | None) -> None:
        self.decoder = decoder
        self.noise = noise
        self.begin = 0
        self.draws: Any = None

    def enter(self, chunk: Array) -> Array:
        """Check, mix and denormalise the next chunk."""
        noise = self.noise
        if noise is not None and self.decoder.conditioned and len(noise):
            noise = [noise[0][:, :, self.begin : self.begin + chunk.shape[2]], *noise[1:]]
        self.begin += chunk.shape[2]
        x, draws = self.decoder.enter(chunk, noise)
        if self.draws is None:
            self.draws = draws
        return x

    def follow(self, first: Array, chunks: Iterator[Array]) -> Iterator[Array]:
        """Yield the chunk that has entered, then the others."""
        yield first
        del first
        for chunk in chunks:
            yield self.enter(chunk)

    def finish(self) -> None:
        """Refuse noise that is longer than the clip was."""
        if self.noise is not None and self.decoder.conditioned and self.noise[0].shape[2] != self.begin:
            msg = f"noise: the first draw has {self.noise[0].shape[2]} frames, the latents had {self.begin}"
            raise ValueError(msg)


def encode_stream(
    encoder: Any, chunks: Array | Iterable[Array], *, frames_per_chunk: int
) -> Iterator[tuple[int, Array]]:
    """Do what `VideoEncoder.stream` says."""
    time = encoder.config.encoder_scale[0]
    pieces = chunks_of(encoder.nn, "video", chunks, frames_per_chunk)
    if frames_per_chunk < time:
        msg = f"frames_per_chunk: got {frames_per_chunk}, expected at least {time}, the frames of one latent"
        raise ValueError(msg)
    return _encoded(encoder, pieces, frames_per_chunk)


def _encoded(encoder: Any, pieces: Iterator[Array], frames: int) -> Iterator[tuple[int, Array]]:
    nn, time = encoder.nn, encoder.config.encoder_scale[0]
    count = 0

    def patches() -> Iterator[Array]:
        nonlocal count
        for piece in pieces:
            count += piece.shape[2]
            yield encoder.enter(piece)
        check_frames(count, time)  # the last piece has not yet gone in: it is pushed when it is known to be the last

    pipeline = Pipeline(nn, encoder.units(frames), Context(causal=True))
    start = 0
    for latents in run([pipeline], patches()):
        latents = nn.xp.permute_dims(latents, (0, 4, 1, 2, 3))
        nn.settle(latents)
        begin, start, done = start, start + latents.shape[2], [latents]
        del latents
        yield begin, done.pop()
