"""Frames set aside on disk, so that comparing two decodes does not need the memory of both."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.float32]


class FrameFile:
    """
    Frames of one size in a file, written in order and read one at a time.

    Parameters
    ----------
    path : pathlib.Path
        The file; it must not exist.
    height, width : int
        Size in pixels.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self._path = path
        self._frame = (3, height, width)
        self.frames = 0

    def append(self, block: Frames) -> None:
        """Append the frames of a block, (1, 3, F, H, W)."""
        with self._path.open("ab") as file:
            for k in range(block.shape[2]):
                file.write(np.ascontiguousarray(block[0, :, k]).tobytes())
        self.frames += block.shape[2]

    def frame(self, k: int) -> Frames:
        """Read one frame, (3, H, W)."""
        count = int(np.prod(self._frame))
        return np.fromfile(self._path, np.float32, count, offset=4 * count * k).reshape(self._frame)

    def clip(self, numbers: list[int]) -> Frames:
        """Read some frames, (1, 3, F, H, W)."""
        return np.stack([self.frame(k) for k in numbers], axis=1)[None]


class Difference:
    """
    Largest and mean difference of values from -1 to 1, gathered frame by frame.

    Examples
    --------
    >>> difference = Difference()
    >>> difference.add(np.zeros((3, 2, 2), np.float32), np.full((3, 2, 2), 0.2, np.float32))
    >>> round(difference.mean, 3), round(difference.psnr, 1)
    (0.2, 20.0)
    """

    def __init__(self) -> None:
        self.largest = 0.0
        self._total = self._squares = 0.0
        self._count = 0

    def add(self, one: Frames, other: Frames) -> None:
        """Take one more pair of frames into account."""
        difference = np.abs(one.astype(np.float64) - other)
        self.largest = max(self.largest, float(difference.max()))
        self._total += float(difference.sum())
        self._squares += float((difference**2).sum())
        self._count += difference.size

    @property
    def mean(self) -> float:
        """Mean absolute difference."""
        return self._total / self._count

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB; infinite where there is no difference."""
        return float(10 * np.log10(4 * self._count / self._squares)) if self._squares else float("inf")
