"""Write video: blocks of frames and sound go into one mp4 in one pass."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ltx_models.media._files import MediaError, as_float32, av, replacing
from ltx_models.media._places import VIDEO, check_suffix
from ltx_models.media.tracks import AudioSource, audio_track

# BT.709, limited range: rows give Y', Cb, Cr in code values from R'G'B' in [0, 1].
_KR, _KB = 0.2126, 0.0722
_LUMA = np.array([_KR, 1 - _KR - _KB, _KB])
_TO_YCBCR = np.stack(
    [
        219 * _LUMA,
        224 * (np.array([0, 0, 1]) - _LUMA) / (2 * (1 - _KB)),
        224 * (np.array([1, 0, 0]) - _LUMA) / (2 * (1 - _KR)),
    ]
)
_OFFSET = np.array([16, 128, 128])
CODEC = "libx264"
_BT709 = 1
_LIMITED_RANGE = 1


class VideoWriter:
    """
    An H.264 mp4 that takes blocks of frames, and its sound track as it goes.

    Use it in a ``with`` block. The file gets its name when the block ends well; until then, and for good when the
    block raises, there is no such file. Frames are yuv420p, tagged BT.709, rounded once to code values (the chroma of
    a square of four pixels is its mean).

    Parameters
    ----------
    path : str or path-like
        The file to be made or replaced, ``.mp4``.
    fps : fractions.Fraction or int or str
        Frame rate, exact: ``Fraction(30000, 1001)``, not 29.97.
    height, width : int or None
        Size in pixels, both even; None to take it from the first block.
    audio : OriginalAudio or tuple of (array, int) or None
        The sound track of another file, or samples of shape (1, channels, N) with their rate in Hz.
    crf : int
        Quality of x264: 0 lossless in code values, 18 hardly visible, 28 small.
    pixel_aspect : fractions.Fraction
        Width of a pixel over its height, as players are to show it; other than 1 in anamorphic video.

    Raises
    ------
    MediaError
        If the place cannot be written, size, rate or sound do not fit an mp4, or PyAV or its encoder is missing:
        before any frame.

    Notes
    -----
    Source of the matrix and range: Recommendation ITU-R BT.709-6, items 3.2 to 3.4.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/grey.mp4"
    ...     with VideoWriter(path, height=32, width=64, fps=24) as writer:
    ...         writer.write(np.zeros((1, 3, 5, 32, 64), np.float32))
    ...     writer.frames
    5
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: Fraction | int | str,
        height: int | None = None,
        width: int | None = None,
        audio: AudioSource | None = None,
        crf: int = 18,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        check_suffix(path, VIDEO)
        self.path = Path(path)
        self.fps = _rate(fps)
        self.frames = 0
        self._size = (height, width)
        self._audio = audio
        self._crf = crf
        self._pixel_aspect = pixel_aspect
        self._stream: Any = None
        if height is not None and width is not None:
            self._check_size(height, width)
        check_codec(self.path)

    def __enter__(self) -> Self:
        """Make the temporary file, and open the sound."""
        with ExitStack() as stack:
            part = stack.enter_context(replacing(self.path))
            # Faststart puts the index first, so that a browser begins to play while it loads.
            options = {"movflags": "faststart"}
            self._container = stack.enter_context(av().open(str(part), "w", format="mp4", options=options))
            self._sound = audio_track(self._audio)
            if self._sound is not None:
                stack.callback(self._sound.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file and give it its name, or remove it."""
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack, self._explained():
            if not self.frames:
                msg = f"{self.path}: there are no frames to write"
                raise MediaError(msg)
            self._container.mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.finish(self.frames / self.fps)
            # Writes the index, and so may be what finds the disk full.
            self._container.close()

    def write(self, block: Any) -> None:
        """
        Append frames.

        Parameters
        ----------
        block : array, shape (1, 3, F, H, W)
            RGB of any array library: floats in [-1, 1] (what lies outside is clipped), or uint8.

        Raises
        ------
        MediaError
            If the shape is another, a value is not finite, or the disk is full.
        """
        shape = tuple(block.shape)
        wanted = tuple(had or got for had, got in zip(self._size, shape[-2:], strict=False))
        if len(shape) != 5 or shape[:2] != (1, 3) or shape[3:] != wanted:
            msg = f"{self.path}: a block must have shape (1, 3, F, {', '.join(map(str, wanted))}), got {shape}"
            raise MediaError(msg)
        with self._explained():
            if self._stream is None:
                self._start(*wanted)
            for k in range(shape[2]):
                self._write_frame(_unit(block[0, :, k, ...], f"{self.path}: frame {self.frames}"))

    def _start(self, height: int, width: int) -> None:
        """Open the tracks, now that the size is known."""
        self._check_size(height, width)
        self._size = (height, width)
        self._stream = self._container.add_stream(CODEC, rate=self.fps)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        context = self._stream.codec_context
        context.time_base = 1 / self.fps
        # Without its macroblock tree x264 makes the same file of the same frames; with it, not always.
        context.options = {"crf": str(self._crf), "preset": "veryfast", "x264-params": "mbtree=0"}
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        context.sample_aspect_ratio = self._stream.sample_aspect_ratio = self._pixel_aspect
        if self._sound is not None:
            self._sound.attach(self._container)

    def _write_frame(self, rgb: npt.NDArray[np.float32]) -> None:
        """Encode one frame (3, H, W) in [0, 1], and the sound up to its end."""
        frame = av().VideoFrame.from_ndarray(_yuv420p(rgb), format="yuv420p")
        frame.pts, frame.time_base = self.frames, 1 / self.fps
        frame.colorspace, frame.color_range = _BT709, _LIMITED_RANGE
        self._container.mux(self._stream.encode(frame))
        self.frames += 1
        if self._sound is not None:
            self._sound.until(self.frames / self.fps)

    def _check_size(self, height: int, width: int) -> None:
        if min(height, width) < 2 or height % 2 or width % 2:
            msg = (
                f"{self.path}: H.264 in yuv420p needs an even height and width, got {height}x{width} "
                f"(height x width); nearest {max(2, height - height % 2)}x{max(2, width - width % 2)}"
            )
            raise MediaError(msg)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say which file an error of the operating system or the codec belongs to."""
        try:
            yield
        except (OSError, av().error.FFmpegError) as e:
            msg = f"cannot write {self.path}: {e.strerror}"
            raise MediaError(msg) from e


def write_video(
    path: str | os.PathLike[str],
    blocks: Any,
    *,
    fps: Fraction | int | str,
    audio: AudioSource | None = None,
    crf: int = 18,
) -> int:
    """
    Write an mp4 from one array, or from blocks as they come.

    Parameters
    ----------
    path : str or path-like
        The mp4 to be made or replaced.
    blocks : array, shape (1, 3, F, H, W), or iterable of such arrays
        Frames in order, as `VideoWriter.write` takes them.
    fps : fractions.Fraction or int or str
        Frame rate, exact.
    audio : OriginalAudio or tuple of (array, int) or None
        Sound, as `VideoWriter` takes it.
    crf : int
        Quality of x264, 0 (lossless) to 51.

    Returns
    -------
    int
        Number of frames written.

    Raises
    ------
    MediaError
        As `VideoWriter`; also if there is no block.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_video(f"{folder}/black.mp4", -np.ones((1, 3, 3, 16, 16), np.float32), fps=25)
    3
    """
    with VideoWriter(path, fps=fps, audio=audio, crf=crf) as writer:
        for block in [blocks] if hasattr(blocks, "shape") else blocks:
            writer.write(block)
    return writer.frames


def check_codec(path: Path) -> None:
    """
    Refuse a PyAV that cannot write H.264 before any frame is made.

    Parameters
    ----------
    path : Path
        Of the video, for the error.

    Raises
    ------
    MediaError
        If PyAV is missing, or its FFmpeg was built without the encoder.
    """
    library = av()
    try:
        library.codec.Codec(CODEC, "w")
    except ValueError as e:  # FFmpeg's own error for it is one
        msg = f"cannot write {path}: this PyAV has no {CODEC}; pip install --force-reinstall av brings one that has it"
        raise MediaError(msg) from e


def _rate(fps: Fraction | int | str) -> Fraction:
    rate = Fraction(fps)
    if rate <= 0:
        msg = f"frame rate must be above 0, got {fps}"
        raise MediaError(msg)
    return rate


def _unit(frame: Any, where: str) -> npt.NDArray[np.float32]:
    """Bring one frame to numpy, float32 in [0, 1]."""
    if "uint8" in str(frame.dtype):
        return as_float32(frame) / np.float32(255)
    rgb: npt.NDArray[np.float32] = (as_float32(frame) + 1) / np.float32(2)
    if not np.isfinite(rgb).all():
        msg = f"{where} has values that are not finite; the decode went wrong before it reached the file"
        raise MediaError(msg)
    return np.clip(rgb, 0, 1, out=rgb)


def _yuv420p(rgb: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Convert (3, H, W) in [0, 1] to the planes of yuv420p, stacked as PyAV wants them: (H * 3 / 2, W)."""
    _, height, width = rgb.shape
    planes = _TO_YCBCR.astype(np.float32) @ rgb.reshape(3, -1) + _OFFSET.astype(np.float32)[:, None]
    luma = np.rint(planes[0]).astype(np.uint8)
    chroma = planes[1:].reshape(2, height // 2, 2, width // 2, 2).mean((2, 4))
    return np.concatenate([luma, np.rint(chroma).astype(np.uint8).reshape(-1)]).reshape(height * 3 // 2, width)
