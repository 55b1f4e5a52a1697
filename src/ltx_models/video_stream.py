"""Exact decoding and encoding of a video piece by piece: chunks in, finished frames out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ltx_models.nn import Array, Backend
from ltx_models.nn.stream import Pipeline, run
from ltx_models.video_layers import Context, unpatchify

if TYPE_CHECKING:
    from ltx_models.video_vae import VideoDecoder, VideoEncoder


def chunks_of(nn: Backend, name: str, clip: Array | Iterable[Array], frames: Any) -> Iterator[Array]:
    """Cut a clip (B, C, F, H, W), or each part of an iterable of them, into at most `frames` frames."""
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        msg = f"frames_per_chunk: got {frames!r}, expected a whole number of at least 1"
        raise ValueError(msg)
    parts = [clip] if nn.is_array(clip) else clip
    return _cut(name, parts, frames)


def _cut(name: str, parts: Iterable[Array], frames: int) -> Iterator[Array]:
    before: tuple[int, ...] | None = None
    for part in parts:
        shape = (*part.shape[:2], *part.shape[3:])
        if before is not None and shape != before:
            msg = f"{name}: a part has shape {tuple(part.shape)}, those before it have (batch, channels, …) = {before}"
            raise ValueError(msg)
        before = shape
        for start in range(0, part.shape[2], frames):
            yield part[:, :, start : start + frames]
    if before is None:
        msg = f"{name}: the clip is empty; give at least one frame"
        raise ValueError(msg)


def decode_stream(
    decoder: VideoDecoder,
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
    decoder: VideoDecoder,
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

    def __init__(self, decoder: VideoDecoder, noise: Sequence[Array] | None) -> None:
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
    encoder: VideoEncoder, chunks: Array | Iterable[Array], *, frames_per_chunk: int
) -> Iterator[tuple[int, Array]]:
    """Do what `VideoEncoder.stream` says."""
    time = encoder.config.encoder_scale[0]
    pieces = chunks_of(encoder.nn, "video", chunks, frames_per_chunk)
    if frames_per_chunk < time:
        msg = f"frames_per_chunk: got {frames_per_chunk}, expected at least {time}, the frames of one latent"
        raise ValueError(msg)
    return _encoded(encoder, pieces, frames_per_chunk)


def _encoded(encoder: VideoEncoder, pieces: Iterator[Array], frames: int) -> Iterator[tuple[int, Array]]:
    from ltx_models.video_vae import check_frames

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
