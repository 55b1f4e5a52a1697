"""One decoded frame after another: turned upright, in RGB, and watched for what a clip of even frames cannot hold."""

import os
import struct
import warnings
from collections.abc import Callable
from fractions import Fraction
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from ltx_models.media._files import MediaError, av

Pixels = npt.NDArray[np.uint8]
# Files that do not say which matrix they use: broadcast practice is BT.709 for HD and BT.601 below.
_HD_LINES = 720
_UNSPECIFIED = 2
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273


class MediaWarning(UserWarning):
    """A file that is read in a way that it does not ask for in so many words."""


class FrameReader:
    """
    Converts the frames of one track to upright RGB, and looks at each of them.

    Parameters
    ----------
    stream : PyAV's video stream
        The track.
    path : path
        For messages.
    """

    def __init__(self, stream: Any, path: str | os.PathLike[str]) -> None:
        self.done = 0
        self._stream, self._path = stream, path
        self._first: tuple[int, int, str] | None = None
        self._times: list[int] = []
        self._convert: Callable[[Any], Pixels]

    def __call__(self, frame: Any) -> Pixels:
        """Convert a frame, (H, W, 3); refuse what is damaged or of another size than the first."""
        if frame.is_corrupt:
            msg = f"{self._path}: frame {self.done} is damaged"
            raise MediaError(msg)
        kind = (frame.width, frame.height, frame.format.name)
        if self._first is None:
            self._first = kind
            self._convert = converter(frame, self._stream)
            self._look(frame)
        if kind != self._first:
            told = ["x".join(map(str, k[:2])) + f" {k[2]}" for k in (self._first, kind)]
            msg = f"{self._path}: changes from {told[0]} to {told[1]} at frame {self.done}; cut it there first"
            raise MediaError(msg)
        if frame.pts is not None:
            self._times.append(frame.pts)
        self.done += 1
        return self._convert(frame)

    def _look(self, frame: Any) -> None:
        """Say what the first frame tells of the colours and the way up."""
        transfer = _HDR.get(int(self._stream.codec_context.color_trc))
        if transfer:
            self.warn(
                f"is HDR ({transfer}), read without tone mapping, and looks dull as a video of BT.709; convert it to "
                "SDR first"
            )
        if frame.rotation % 90:
            self.warn(f"is turned by {frame.rotation} degrees; it is read turned by {round(frame.rotation / 90) * 90}")
        if _is_mirrored(frame):
            self.warn("asks to be shown mirrored, and is read as it is stored")

    def warn(self, text: str) -> None:
        """Say something about the file, once."""
        warnings.warn(f"{self._path}: {text}", MediaWarning, stacklevel=5)

    def tell_gaps(self) -> None:
        """Say where frames do not follow one another evenly: of a variable rate, or lost."""
        steps = np.diff(self._times)
        if len(steps) < 2 or steps.min() <= 0:  # containers without times of their own frames
            return
        usual = median(steps.tolist())
        widest = int(steps.argmax())
        if steps[widest] > 1.5 * usual + 1:
            seconds = float(int(steps[widest]) * self._stream.time_base)
            self.warn(
                f"frames do not follow one another evenly (frame {widest + 1} comes {seconds:.3g} s after the one "
                "before); they are read as if they did: the clip has a variable frame rate, or frames of it are lost"
            )


def pixel_aspect(stream: Any, turned: bool) -> Fraction:
    """Give the width of a pixel over its height, as the clip is shown."""
    found = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    ratio = Fraction(found) if found else Fraction(1)
    return (1 / ratio if turned else ratio) if ratio > 0 else Fraction(1)


def _is_mirrored(frame: Any) -> bool:
    matrix = next((side for side in frame.side_data if "DISPLAYMATRIX" in str(side.type)), None)
    if matrix is None or len(bytes(matrix)) < 36:
        return False
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix)[:36])
    return bool(a * d - b * c < 0)


def converter(frame: Any, stream: Any) -> Callable[[Any], Pixels]:
    """Return the conversion of frames like this to RGB (H, W, 3), with the matrix they are tagged with, upright."""
    graph = av().filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=stream.time_base)
    untagged = stream.codec_context.colorspace == _UNSPECIFIED
    guess = "bt709" if frame.height >= _HD_LINES else "bt601"
    # Without accurate_rnd the conversion truncates, and every frame comes out one level too dark.
    flags = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    scale = graph.add("scale", f"in_color_matrix={guess if untagged else 'auto'}:flags={flags}")
    rgb, sink = graph.add("format", "rgb24"), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(rgb)
    rgb.link_to(sink)
    graph.configure()

    def converted(frame: Any) -> Pixels:
        turns = round(frame.rotation / 90) % 4
        graph.push(frame)
        upright: Pixels = np.rot90(graph.pull().to_ndarray(), turns)
        return np.ascontiguousarray(upright)

    return converted
