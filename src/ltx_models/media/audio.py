"""Sound: read any file, write wav and flac exactly, and feed the sound track of a video."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ltx_models.media._files import MediaError, as_float32, av, open_media, replacing

SampleFormat = Literal["float32", "int24", "int16"]

# (codec, layout in memory, scale of full level, shift to the left) of what can be written without loss
_WRITTEN: dict[tuple[str, SampleFormat], tuple[str, str, int, int]] = {
    (".wav", "float32"): ("pcm_f32le", "flt", 1, 0),
    (".wav", "int24"): ("pcm_s24le", "s32", 2**23, 8),
    (".wav", "int16"): ("pcm_s16le", "s16", 2**15, 0),
    (".flac", "int24"): ("flac", "s32", 2**23, 8),
    (".flac", "int16"): ("flac", "s16", 2**15, 0),
}
_DEFAULT_FORMAT: dict[str, SampleFormat] = {".wav": "float32", ".flac": "int24"}
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
_COPIED_TO_MP4 = {"aac", "mp3", "ac3", "eac3", "alac", "opus"}
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_BLOCK = 4096


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


def read_audio(path: str | os.PathLike[str]) -> tuple[npt.NDArray[np.float32], int]:
    """
    Read the first sound track of a file, at its own rate and level.

    Parameters
    ----------
    path : str or path-like
        wav, flac, mp3, or a video with sound: what FFmpeg reads.

    Returns
    -------
    samples : ndarray, shape (1, channels, N)
        float32; integers of n bits are divided by ``2**(n - 1)``.
    rate : int
        Samples a second.

    Raises
    ------
    MediaError
        If the file is missing, damaged or has no sound.

    Examples
    --------
    >>> from ltx_models.media import sample_clip
    >>> samples, rate = read_audio(sample_clip())
    >>> samples.shape, rate
    ((1, 6, 254976), 48000)
    """
    with open_media(path) as container:
        if not container.streams.audio:
            msg = f"{path}: has no sound track"
            raise MediaError(msg)
        rate = int(container.streams.audio[0].rate)
        parts = [_samples(frame) for frame in _decoded(container, path)]
        # A last AAC frame is full on reading, whatever it held on writing; mp4 knows.
        length = _stored_length(path, rate) if "mp4" in container.format.name else None
    if not parts:
        msg = f"{path}: its sound track is empty"
        raise MediaError(msg)
    return np.concatenate(parts, axis=1)[None, :, :length], rate


def write_audio(
    path: str | os.PathLike[str], samples: Any, rate: int, *, sample_format: SampleFormat | None = None
) -> None:
    """
    Write sound as wav or flac, with every sample and the level kept.

    Parameters
    ----------
    path : str or path-like
        The file; its suffix, ``.wav`` or ``.flac``, says the format.
    samples : array, shape (1, channels, N)
        Of any array library, in [-1, 1]; wav in ``float32`` takes any finite value.
    rate : int
        Samples a second.
    sample_format : {"float32", "int24", "int16"} or None
        How samples are stored. None is float32 for wav, which loses nothing, and int24 for flac.

    Raises
    ------
    MediaError
        If the suffix, shape, rate or format is not one of these, a value is not finite or above full level, or the
        place cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> tone = np.sin(np.arange(800, dtype=np.float32) / 9)[None, None]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_audio(f"{folder}/tone.wav", tone, 8000)
    ...     samples, rate = read_audio(f"{folder}/tone.wav")
    >>> bool((samples == tone).all()), rate
    (True, 8000)
    """
    suffix = Path(path).suffix.lower()
    stored = sample_format or _DEFAULT_FORMAT.get(suffix, "float32")
    if (suffix, stored) not in _WRITTEN:
        allowed = ", ".join(f"{s} {f}" for s, f in _WRITTEN)
        msg = f"{path}: cannot write {stored} samples to {suffix or 'a file without suffix'!r}; allowed: {allowed}"
        raise MediaError(msg)
    codec, memory, scale, shift = _WRITTEN[suffix, stored]
    data = _checked(samples, rate, path, limit=None if stored == "float32" else 1)
    stored_data: npt.NDArray[Any] = data
    if scale > 1:
        # Full level is one step short of 1.0 in two's complement.
        levels = np.clip(np.rint(data.astype(np.float64) * scale), -scale, scale - 1) * 2**shift
        stored_data = levels.astype(np.int32 if memory == "s32" else np.int16)
    with replacing(path) as part, av().open(str(part), "w", format=suffix[1:]) as container:
        stream = container.add_stream(codec, rate=rate, layout=_layout(data.shape[0], path), format=memory)
        _mux(container, _encoded(stream, stored_data, memory, rate), path)


def audio_track(source: AudioSource | None) -> AudioTrack | None:
    """Open the sound for a video: None where there is none."""
    if source is None:
        return None
    if not isinstance(source, OriginalAudio):
        return _EncodedTrack.of_samples(*source)
    container = open_media(source.path)
    if not container.streams.audio:
        container.close()
        return None
    if container.streams.audio[0].codec_context.name in _COPIED_TO_MP4:
        return _CopiedTrack(container, source.trim)
    return _EncodedTrack.of_file(container, source)


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
        data = _checked(samples, rate, "audio", limit=None)
        if rate not in _AAC_RATES:
            msg = f"audio: AAC has no rate of {rate} Hz; resample to one of {_AAC_RATES}"
            raise MediaError(msg)
        blocks = (data[:, k : k + _BLOCK] for k in range(0, data.shape[1], _BLOCK))
        return cls(blocks, rate, _layout(data.shape[0], "audio"), trim=False)

    @classmethod
    def of_file(cls, container: Any, source: OriginalAudio) -> "_EncodedTrack":
        track = container.streams.audio[0]
        rate = track.rate if track.rate in _AAC_RATES else 48000
        resampler = av().AudioResampler(format="fltp", layout=track.layout.name, rate=rate)

        def blocks() -> Iterator[npt.NDArray[np.float32]]:
            for frame in [*_decoded(container, source.path), None]:
                for resampled in resampler.resample(frame):
                    yield resampled.to_ndarray()

        made = cls(blocks(), rate, track.layout.name, source.trim)
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
        frame = av().AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=self._layout)
        frame.rate, frame.pts, frame.time_base = self._rate, self._written, Fraction(1, self._rate)
        self._written += block.shape[1]
        self._container.mux(self._stream.encode(frame))


def _decoded(container: Any, path: str | os.PathLike[str]) -> Iterator[Any]:
    try:
        yield from container.decode(container.streams.audio[0])
    except av().error.FFmpegError as e:
        msg = f"{path}: its sound cannot be decoded: {e.strerror}"
        raise MediaError(msg) from e


def _stored_length(path: str | os.PathLike[str], rate: int) -> int:
    """Return the number of samples, by the durations of an mp4's packets."""
    with open_media(path) as container:
        track = container.streams.audio[0]
        ends = [(p.pts + p.duration) * track.time_base for p in container.demux(track) if p.size and not p.is_discard]
        return round(max(ends, default=Fraction(0)) * rate)


def _samples(frame: Any) -> npt.NDArray[np.float32]:
    """Convert a decoded frame to (channels, n) float32."""
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, len(frame.layout.channels)).T
    if data.dtype == np.uint8:
        return np.asarray((data.astype(np.float32) - 128) / 128)
    scale = float(-np.iinfo(data.dtype).min) if data.dtype.kind == "i" else 1.0
    return np.asarray(data / scale, dtype=np.float32)


def _checked(samples: Any, rate: int, where: str | os.PathLike[str], limit: float | None) -> npt.NDArray[np.float32]:
    """Bring samples (1, channels, N) to numpy (channels, N), and refuse what cannot be stored."""
    shape = tuple(samples.shape)
    if len(shape) != 3 or shape[0] != 1 or 0 in shape:
        msg = f"{where}: samples must have shape (1, channels, N), got {shape}"
        raise MediaError(msg)
    if rate < 1:
        msg = f"{where}: rate must be at least 1 Hz, got {rate}"
        raise MediaError(msg)
    data: npt.NDArray[np.float32] = as_float32(samples)[0]
    if not np.isfinite(data).all():
        msg = f"{where}: samples have values that are not finite"
        raise MediaError(msg)
    peak = float(np.abs(data).max())
    if limit is not None and peak > limit:
        msg = (
            f"{where}: integer samples hold at most level {limit}, got {peak:.4g}; scale them, or write float32 to .wav"
        )
        raise MediaError(msg)
    return data


def _layout(channels: int, where: str | os.PathLike[str]) -> str:
    if channels not in _LAYOUTS:
        msg = f"{where}: cannot store {channels} channels; allowed: {', '.join(map(str, _LAYOUTS))}"
        raise MediaError(msg)
    return _LAYOUTS[channels]


def _encoded(stream: Any, data: npt.NDArray[Any], memory: str, rate: int) -> Iterator[Any]:
    """Encode (channels, n) samples, packed, block by block."""
    for start in range(0, data.shape[1], _BLOCK):
        packed = np.ascontiguousarray(data[:, start : start + _BLOCK].T).reshape(1, -1)
        frame = av().AudioFrame.from_ndarray(packed, format=memory, layout=stream.codec_context.layout.name)
        frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _mux(container: Any, packets: Iterator[Any], path: str | os.PathLike[str]) -> None:
    try:
        for packet in packets:
            container.mux(packet)
    except OSError as e:
        msg = f"cannot write {path}: {e.strerror}"
        raise MediaError(msg) from e


def _video_start(container: Any) -> Fraction:
    """Time of the first frame, in seconds, where there is video."""
    video = next(iter(container.streams.video), None)
    if video is None or video.start_time is None:
        return Fraction(0)
    return Fraction(video.start_time * video.time_base)
