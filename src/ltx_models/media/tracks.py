"""The sound track of a video that is being written: copied from another file, or encoded."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ltx_models.media._files import MediaError, av, open_media
from ltx_models.media._whole import refuse_cut
from ltx_models.media.audio import (
    BLOCK,
    audio_stream,
    checked_samples,
    layout_of,
    layout_of_track,
    sample_blocks,
)

_COPIED_TO_MP4 = {"aac", "mp3", "ac3", "eac3", "alac", "opus"}
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


@dataclass(frozen=True, slots=True)
class OriginalAudio:
    """
    The first sound track of a file, to be put beside other frames.

    Its packets are copied untouched where mp4 takes their codec (AAC, MP3, AC-3, E-AC-3, ALAC, Opus); other codecs
    become AAC. A file without sound gives a video without sound.

    Parameters
    ----------
    path : str or path-like
        The file.
    trim : bool
        End the sound with the last frame (at the first packet that starts after it). Otherwise all of it is kept.
    """

    path: str | os.PathLike[str]
    trim: bool = False


AudioSource = OriginalAudio | tuple[Any, int]


class AudioTrack(Protocol):
    """The sound of a video being written."""

    def attach(self, container: Any) -> None:
        """Add the track to the file; the video's is there already."""

    def until(self, seconds: Fraction) -> None:
        """Write the sound that starts before ``seconds``."""

    def finish(self, seconds: Fraction) -> None:
        """Write what remains, when the frames end at ``seconds``."""

    def close(self) -> None:
        """Close what was opened for reading."""


def audio_track(source: AudioSource | None) -> AudioTrack | None:
    """Open the sound for a video: None where there is none."""
    if source is None:
        return None
    if not isinstance(source, OriginalAudio):
        return _EncodedTrack.of_samples(*source)
    container = open_media(source.path)
    try:
        track = audio_stream(container, source.path)
        if track is None:
            container.close()
            return None
        if track.codec_context.name in _COPIED_TO_MP4 and _is_timed(source.path):
            return _CopiedTrack(container, source.trim)
        return _EncodedTrack.of_file(container, source)
    except BaseException:
        container.close()
        raise


def _is_timed(path: str | os.PathLike[str]) -> bool:
    """Say whether every packet of the sound knows its time, without which it cannot be copied."""
    with open_media(path) as container:
        packets = (p for p in container.demux(container.streams.audio[0]) if p.size)
        return all(p.pts is not None and p.dts is not None for p in packets)


class _CopiedTrack:
    """Packets of another file, untouched but for their time, which counts from that file's first frame."""

    def __init__(self, source: Any, trim: bool) -> None:
        self._source, self._trim = source, trim
        self._track = source.streams.audio[0]
        self._packets = (p for p in source.demux(self._track) if p.size)
        self._next = next(self._packets, None)
        # The sound may start before its file's first frame, or after it; that distance is kept.
        self._shift = round(_video_start(source) / self._track.time_base)

    def attach(self, container: Any) -> None:
        self._container = container
        self._stream = container.add_stream_from_template(self._track)

    def until(self, seconds: Fraction) -> None:
        while self._next is not None and (self._next.pts - self._shift) * self._track.time_base < seconds:
            packet, self._next = self._next, next(self._packets, None)
            packet.pts -= self._shift
            packet.dts -= self._shift
            packet.stream = self._stream
            self._container.mux(packet)

    def finish(self, seconds: Fraction) -> None:
        if self._trim:
            self.until(seconds)
            return
        while self._next is not None:
            self.until((self._next.pts - self._shift) * self._track.time_base + 1)

    def close(self) -> None:
        self._source.close()


class _EncodedTrack:
    """Samples that become AAC."""

    def __init__(self, blocks: Iterator[npt.NDArray[np.float32]], rate: int, layout: str, trim: bool) -> None:
        self._blocks, self._rate, self._layout, self._trim = blocks, rate, layout, trim
        self._written = 0  # samples
        self._source: Any = None

    @classmethod
    def of_samples(cls, samples: Any, rate: int) -> "_EncodedTrack":
        data = checked_samples(samples, rate, "audio", limit=None)
        if rate not in _AAC_RATES:
            msg = f"audio: AAC has no rate of {rate} Hz; resample to one of {_AAC_RATES}"
            raise MediaError(msg)
        blocks = (data[:, k : k + BLOCK] for k in range(0, data.shape[1], BLOCK))
        return cls(blocks, rate, layout_of(data.shape[0], "audio"), trim=False)

    @classmethod
    def of_file(cls, container: Any, source: OriginalAudio) -> "_EncodedTrack":
        track = container.streams.audio[0]
        rate = track.rate if track.rate in _AAC_RATES else 48000
        layout = layout_of_track(track, source.path)
        _refuse_layout(layout, source.path)
        # All of it is decoded once before, so that damaged sound is refused before any frame is made.
        refuse_cut(source.path, container.format.name)
        with open_media(source.path) as whole:
            for _ in sample_blocks(whole, source.path):
                pass
        made = cls(sample_blocks(container, source.path, layout=layout, rate=rate), rate, layout, source.trim)
        made._source = container
        return made

    def attach(self, container: Any) -> None:
        self._container = container
        self._stream = container.add_stream("aac", rate=self._rate, layout=self._layout)
        self._stream.codec_context.bit_rate = 96_000 * self._stream.codec_context.layout.nb_channels

    def until(self, seconds: Fraction) -> None:
        while self._written < seconds * self._rate:
            block = next(self._blocks, None)
            if block is None:
                return
            self._encode(block)

    def finish(self, seconds: Fraction) -> None:
        if self._trim:
            self.until(seconds)
        else:
            for block in self._blocks:
                self._encode(block)
        self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        if self._source is not None:
            self._source.close()

    def _encode(self, block: npt.NDArray[np.float32]) -> None:
        packed = np.ascontiguousarray(block.T).reshape(1, -1)  # planar frames of eight channels: see `sample_blocks`
        frame = av().AudioFrame.from_ndarray(packed, format="flt", layout=self._layout)
        frame.rate, frame.pts, frame.time_base = self._rate, self._written, Fraction(1, self._rate)
        self._written += block.shape[1]
        self._container.mux(self._stream.encode(frame))


def _refuse_layout(layout: str, path: str | os.PathLike[str]) -> None:
    """Try the encoder, which knows some layouts of channels and no others."""
    context = av().CodecContext.create("aac", "w")
    context.sample_rate, context.layout, context.format = 48000, layout, "fltp"
    try:
        context.open()
    except av().error.FFmpegError as e:
        msg = f"{path}: AAC cannot hold its sound, of the layout {layout!r}; convert it to stereo first"
        raise MediaError(msg) from e


def _video_start(container: Any) -> Fraction:
    """Time of the first frame, in seconds, where there is video."""
    video = next(iter(container.streams.video), None)
    if video is None or video.start_time is None:
        return Fraction(0)
    return Fraction(video.start_time * video.time_base)
