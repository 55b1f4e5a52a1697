"""The frames that a comparison shows: the same one of each way, and their differences as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.cli.comparing.ways import Sink
from ltx_models.media import write_picture

FACTOR = 10  # of differences


class ShownFrame:
    """
    One frame of each way.

    Parameters
    ----------
    number : int
        Of the frame.

    Examples
    --------
    >>> shown = ShownFrame(1)
    >>> shown.sink("exact")(np.zeros((1, 3, 4, 2, 2), np.float32), 0)
    >>> shown.frame["exact"].shape
    (3, 2, 2)
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.frame: dict[str, Any] = {}  # (3, H, W), values from -1 to 1

    def sink(self, way: str) -> Sink:
        """Take the blocks of a way."""

        def take(block: Any, start: int) -> None:
            k = self.number - start
            if 0 <= k < block.shape[2]:
                self.frame[way] = block[0, :, k].copy()

        return take

    def pictures(self) -> dict[str, Any]:
        """Give the frame of each way, and the differences from the whole one, as pictures."""
        differences = {way: amplified(one, self.frame["whole"]) for way, one in self.frame.items()}
        return self.frame | {f"{way}_difference": differences[way] for way in ("blended", "exact")}


def amplified(one: Any, other: Any) -> Any:
    """Give the difference of two frames as a picture, `FACTOR` times."""
    return np.minimum(np.abs(one - other) * FACTOR, 1) * 2 - 1


def write_pictures(folder: Path, pictures: dict[str, Any]) -> None:
    """
    Write pictures as PNG.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    pictures : dict of str to array
        By name.

    Raises
    ------
    MediaError
        If one cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        write_picture(folder / f"{name}.png", picture)
