"""
Streams of video: chunks in, finished frames out, each once and in order.

There is one loop for decoding and one for encoding. What runs inside it is a list of stages, which the caller makes:
the whole network (`VideoDecoder.stream`), or a network whose last stages run in spatial tiles (`decode_exact`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ltx_models.nn import Array
from ltx_models.nn.checks import check_frames
from ltx_models.nn.chunks import chunks_of, placed
from ltx_models.nn.patches import unpatchify
from ltx_models.nn.stream import Stage, run
from ltx_models.video_vae.layers import Context

MakeStages = Callable[[Sequence[Array | None], Context], Sequence[Any]]


def decode_stream(
    decoder: Any,
    latent: Array | Iterable[Array],
    *,
    frames_per_chunk: int,
    timestep: Array | None,
    noise: Sequence[Array] | None,
    causal: bool | None,
) -> Iterator[tuple[int, Array]]:
    """Run the whole decoder as one stage; the parameters are those of `VideoDecoder.stream`."""
    frames, causal = frames_per_chunk * decoder.config.decoder_scale[0], decoder.causal(causal)

    def make_stages(conditions: Sequence[Array | None], context: Context) -> list[Stage]:
        return [Stage(decoder.nn, decoder.units(causal, conditions, frames), context)]

    return decode_chunks(decoder, latent, frames_per_chunk, make_stages, timestep=timestep, noise=noise, causal=causal)


def decode_chunks(
    decoder: Any,
    latent: Array | Iterable[Array],
    frames_per_chunk: int,
    make_stages: MakeStages,
    *,
    timestep: Array | None,
    noise: Sequence[Array] | None,
    causal: bool,
) -> Iterator[tuple[int, Array]]:
    """
    Run latents through the stages of a decoder.

    Parameters
    ----------
    decoder : VideoDecoder
        What checks the latents, mixes noise into them and denormalises them.
    latent : array, shape (B, 128, f, h, w), or iterable of such arrays
        Normalised latents.
    frames_per_chunk : int
        Latent frames that go in at once.
    make_stages : callable
        Makes the stages (what has ``push``) from the embedded timesteps of ``decoder.conditions`` and the context.
    timestep, noise : optional
        As `VideoDecoder.forward` takes them.
    causal : bool
        Whether convolutions look back only.

    Yields
    ------
    start : int
        The first frame of the block.
    frames : array, shape (B, 3, n, 32 h, 32 w)
        Finished frames.

    Raises
    ------
    ValueError
        If the latents or the noise do not fit: before any work where `latent` is an array, else when it is known.
    """
    chunks = chunks_of(decoder.nn, "latent", latent, frames_per_chunk)
    if decoder.nn.is_array(latent):
        decoder.check(latent, noise)
    return _decoded(decoder, chunks, make_stages, timestep, noise, causal)


def _decoded(
    decoder: Any,
    chunks: Iterator[Array],
    make_stages: MakeStages,
    timestep: Array | None,
    noise: Sequence[Array] | None,
    causal: bool,
) -> Iterator[tuple[int, Array]]:
    nn, patch = decoder.nn, decoder.config.patch_size
    source = _Latents(decoder, noise)
    first = [source.preprocess(next(chunks))]
    stages = make_stages(decoder.conditions(timestep, first[0]), Context(causal, source.draws))
    patches = run(stages, source.follow(first, chunks))
    yield from placed(nn, patches, lambda block: unpatchify(nn.xp, block, patch))
    source.check_end()


class _Latents:
    """Latents of one decode, chunk by chunk, each with its own part of the latents' noise."""

    def __init__(self, decoder: Any, noise: Sequence[Array] | None) -> None:
        self.decoder = decoder
        self.noise = noise
        self.frames = 0
        self.draws: Any = None

    def preprocess(self, chunk: Array) -> Array:
        """Check, mix and denormalise the next chunk."""
        noise = self.noise
        if noise is not None and self.decoder.conditioned and len(noise):
            noise = [noise[0][:, :, self.frames : self.frames + chunk.shape[2]], *noise[1:]]
        self.frames += chunk.shape[2]
        x, draws = self.decoder.preprocess(chunk, noise)
        if self.draws is None:
            self.draws = draws
        return x

    def follow(self, first: list[Array], chunks: Iterator[Array]) -> Iterator[Array]:
        """Yield the chunk that is preprocessed already, then the others."""
        yield first.pop()
        yield from map(self.preprocess, chunks)

    def check_end(self) -> None:
        """Refuse noise that is longer than the clip was."""
        if self.noise is not None and self.decoder.conditioned and self.noise[0].shape[2] != self.frames:
            msg = f"noise: the first draw has {self.noise[0].shape[2]} frames, the latents had {self.frames}"
            raise ValueError(msg)


def encode_stream(
    encoder: Any, chunks: Array | Iterable[Array], *, frames_per_chunk: int
) -> Iterator[tuple[int, Array]]:
    """Run the whole encoder as one stage; the parameters are those of `VideoEncoder.stream`."""
    time = encoder.config.encoder_scale[0]
    pieces = chunks_of(encoder.nn, "video", chunks, frames_per_chunk)
    if frames_per_chunk < time:
        msg = f"frames_per_chunk: got {frames_per_chunk}, expected at least {time}, the frames of one latent"
        raise ValueError(msg)
    stages = [Stage(encoder.nn, encoder.units(frames_per_chunk), Context(causal=True))]
    return encode_chunks(encoder, pieces, stages)


def encode_chunks(encoder: Any, pieces: Iterable[Array], stages: Sequence[Any]) -> Iterator[tuple[int, Array]]:
    """
    Run pixels through the stages of an encoder.

    Parameters
    ----------
    encoder : VideoEncoder
        What checks the pixels and makes patches of them.
    pieces : iterable of array, shape (B, 3, n, 32 h, 32 w)
        Parts of the clip that follow one another.
    stages : sequence
        What has ``push``.

    Yields
    ------
    start : int
        The first latent frame of the block.
    latents : array, shape (B, 128, n, h, w)
        Finished latents.

    Raises
    ------
    ValueError
        If the pixels do not fit, or, at the end, their number of frames.
    """
    nn, frames = encoder.nn, 0

    def patches() -> Iterator[Array]:
        nonlocal frames
        for piece in pieces:
            frames += piece.shape[2]
            yield encoder.preprocess(piece)
        # the last piece has not yet gone in: it is pushed when it is known to be the last
        check_frames(frames, encoder.config.encoder_scale[0])

    yield from placed(nn, run(stages, patches()), lambda latents: nn.xp.permute_dims(latents, (0, 4, 1, 2, 3)))
