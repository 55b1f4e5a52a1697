"""Sound: read any file, write wav and flac exactly."""

import os
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ltx_models.media._files import MediaError, as_float32, av, open_media, replacing
from ltx_models.media._whole import refuse_cut

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
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_COUNTED = {"flac", "wav", "w64", "aiff"}
BLOCK = 4096


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
        refuse_cut(path, container.format.name)
        track = audio_stream(container, path)
        if track is None:
            msg = f"{path}: has no sound track"
            raise MediaError(msg)
        rate = int(track.rate)
        parts = list(sample_blocks(container, path))
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
    data = checked_samples(samples, rate, path, limit=None if stored == "float32" else 1)
    stored_data: npt.NDArray[Any] = data
    if scale > 1:
        # Full level is one step short of 1.0 in two's complement.
        levels = np.clip(np.rint(data.astype(np.float64) * scale), -scale, scale - 1) * 2**shift
        stored_data = levels.astype(np.int32 if memory == "s32" else np.int16)
    with replacing(path) as part, av().open(str(part), "w", format=suffix[1:]) as container:
        track = TrackWriter(container, path, rate, data.shape[0], codec, memory)
        track.write(stored_data)
        track.finish()


def _stored_length(path: str | os.PathLike[str], rate: int) -> int:
    """Return the number of samples, by the durations of an mp4's packets."""
    with open_media(path) as container:
        track = container.streams.audio[0]
        ends = [(p.pts + p.duration) * track.time_base for p in container.demux(track) if p.size and not p.is_discard]
        return round(max(ends, default=Fraction(0)) * rate)


def checked_samples(
    samples: Any, rate: int, where: str | os.PathLike[str], limit: float | None
) -> npt.NDArray[np.float32]:
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


def layout_of(channels: int, where: str | os.PathLike[str]) -> str:
    """Name the usual layout of a number of channels."""
    if channels not in _LAYOUTS:
        msg = f"{where}: cannot store {channels} channels; allowed: {', '.join(map(str, _LAYOUTS))}"
        raise MediaError(msg)
    return _LAYOUTS[channels]


def layout_of_track(track: Any, where: str | os.PathLike[str]) -> str:
    """Name the layout of a track; one that says only how many channels it has, as most wav files do, has the usual."""
    name: str = track.layout.name
    return layout_of(track.layout.nb_channels, where) if re.fullmatch(r"\d+ channels", name) else name


def audio_stream(container: Any, path: str | os.PathLike[str]) -> Any:
    """Return the first sound track, None where there is none; refuse one that nobody here can decode."""
    track = next(iter(container.streams.audio), None)
    if track is None:
        return None
    if track.codec_context is None or not track.rate or not track.layout.nb_channels:
        msg = f"{path}: its sound track says no rate, channels or codec that is known; convert it to wav or flac"
        raise MediaError(msg)
    return track


def sample_blocks(
    container: Any, path: str | os.PathLike[str], *, layout: str | None = None, rate: int | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """Decode the first sound track into blocks (channels, n), in another layout or rate where one is given."""
    # Packed: PyAV reads beyond its table of planes where a planar frame has eight channels or more.
    resampler = av().AudioResampler(format="flt", layout=layout, rate=rate)
    track, n = container.streams.audio[0], 0
    try:
        for frame in chain(container.decode(track), (None,)):
            n += 0 if frame is None else frame.samples
            for packed in resampler.resample(frame):
                yield packed.to_ndarray().reshape(-1, packed.layout.nb_channels).T
    except av().error.FFmpegError as e:
        msg = f"{path}: its sound cannot be decoded: {e.strerror}"
        raise MediaError(msg) from e
    except ValueError as e:  # PyAV's own: a frame of another rate or layout than the first
        msg = f"{path}: its sound changes its rate or channels midway; convert it to one of them first"
        raise MediaError(msg) from e
    # FLAC's decoder steps over damage; these formats know how many samples they hold.
    said = round(track.duration * track.time_base * track.rate) if track.duration else 0
    if container.format.name in _COUNTED and n < said:
        msg = f"{path}: its sound is damaged or cut off: it says {said} samples and holds {n}"
        raise MediaError(msg)


class TrackWriter:
    """
    A sound track of an open file, written block by block.

    Parameters
    ----------
    container : container
        Open for writing.
    path : path
        For messages.
    rate, channels : int
        Of the samples.
    codec, memory : str
        How they are stored, and how they lie in memory, as FFmpeg names both.
    """

    def __init__(
        self, container: Any, path: str | os.PathLike[str], rate: int, channels: int, codec: str, memory: str
    ) -> None:
        self.samples, self._path, self._rate, self._memory = 0, path, rate, memory
        self._container, self._layout = container, layout_of(channels, path)
        self._stream = container.add_stream(codec, rate=rate, layout=self._layout, format=memory)

    def write(self, data: npt.NDArray[Any]) -> None:
        """Append samples (channels, n) in the dtype of the memory."""
        for start in range(0, data.shape[1], BLOCK):
            packed = np.ascontiguousarray(data[:, start : start + BLOCK].T)
            frame = av().AudioFrame.from_ndarray(packed.reshape(1, -1), format=self._memory, layout=self._layout)
            frame.rate, frame.pts, frame.time_base = self._rate, self.samples, Fraction(1, self._rate)
            self.samples += packed.shape[0]
            self._mux(frame)

    def finish(self) -> None:
        """Write what the encoder holds back."""
        self._mux(None)

    def _mux(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as e:
            msg = f"cannot write {self._path}: {e.strerror}"
            raise MediaError(msg) from e
