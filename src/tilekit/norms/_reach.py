"""
Which cells a layer needs, along one axis. Integers only.

A tile runs through the layers of a network as they are, with their own zero padding. On the sides where the tile ends
within the image that padding is wrong and spoils the outermost cells; they are cut off, and the tile begins with as
many more cells (its halo) as all layers together will spoil. On the sides where the image ends it is just what the
untiled network does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

Interval = tuple[int, int]


class Reach(Protocol):
    """How the cells of an axis before a layer belong to those behind it."""

    def length(self, cells: int, /) -> int:
        """Give the cells of the whole axis behind the layer."""

    def need(self, want: Interval, cells: int, /) -> Interval:
        """Give the cells that make the cells `want`, of an axis of `cells`; a tile that begins there is in step."""

    def first(self, start: int, /) -> int:
        """Give the position of the first cell that the layer makes of a tile beginning at `start`."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """
    A layer that sees a window of its input: convolution, pooling, with nearest upsampling before it or not.

    Parameters
    ----------
    kernel : int
        Cells of the window; with dilation, from its first to its last.
    stride : int
        Cells from one window to the next.
    before, after : int
        Cells of zeros that the layer itself puts at either end.
    upsample : int
        How often each cell is repeated first.

    Examples
    --------
    >>> Convolution(kernel=3, before=1, after=1).need((8, 16), 64)
    (7, 17)
    >>> Convolution(kernel=3, stride=2, after=1).need((8, 16), 64)  # the encoder's: padded at the end only
    (16, 33)
    """

    kernel: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0
    upsample: int = 1

    def length(self, cells: int) -> int:
        """Give the cells of the whole axis behind the layer."""
        return (cells * self.upsample + self.before + self.after - self.kernel) // self.stride + 1

    def need(self, want: Interval, cells: int) -> Interval:
        """Give the cells that make `want`."""
        low = max(0, want[0] * self.stride - self.before) // self.upsample
        high = -(-((want[1] - 1) * self.stride - self.before + self.kernel) // self.upsample)
        while low * self.upsample % self.stride:
            low -= 1
        return low, min(cells, high)

    def first(self, start: int) -> int:
        """Give the position of the first cell made of a tile beginning at `start`."""
        return start * self.upsample // self.stride


@dataclass(frozen=True, slots=True)
class Transposed:
    """
    A transposed convolution.

    Parameters
    ----------
    kernel : int
        Cells that one cell spreads over.
    stride : int
        Cells from where one cell begins to where the next does.
    padding : int
        Cells cut off at either end.
    output_padding : int
        Cells put back at the end.

    Examples
    --------
    >>> Transposed(kernel=16, stride=5, padding=5).length(10)
    51
    """

    kernel: int
    stride: int
    padding: int = 0
    output_padding: int = 0

    def length(self, cells: int) -> int:
        """Give the cells of the whole axis behind the layer."""
        return (cells - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding

    def need(self, want: Interval, cells: int) -> Interval:
        """Give the cells that make `want`."""
        low = -(-(want[0] + self.padding - self.kernel + 1) // self.stride)
        high = (want[1] - 1 + self.padding) // self.stride + 1
        low, high = max(0, min(low, cells - 1)), min(cells, high)
        # What the layer cuts off a tile, or leaves empty between two cells, may be wanted too: then take a cell more.
        while low > 0 and self.first(low) > want[0]:
            low -= 1
        while high < cells and self.first(low) + self.length(high - low) < want[1]:
            high += 1
        return low, high

    def first(self, start: int) -> int:
        """Give the position of the first cell made of a tile beginning at `start`."""
        return start * self.stride


POINTWISE = Convolution()
