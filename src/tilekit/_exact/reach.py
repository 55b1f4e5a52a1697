"""
Which cells a layer needs, along one axis. Integers only.

A tile runs through the layers of a network as they are, with their own zero padding. On the sides where the tile ends
within the image that padding is wrong and spoils the outermost cells; they are cut off, and the tile begins with as
many more cells (its halo) as all layers together will spoil. On the sides where the image ends it is just what the
plain call does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tilekit._exact.boxes import Interval


class Reach(Protocol):
    """Which input cells of a layer its output cells depend on, along one axis."""

    def length(self, cells: int, /) -> int:
        """Give the length of the output for an axis of `cells`."""

    def need(self, wanted: Interval, cells: int, /) -> Interval:
        """Give the input cells, of `cells`, that the output cells `wanted` depend on, aligned with the stride."""

    def first(self, start: int, /) -> int:
        """Give the position of the first output cell for a tile that begins at `start`."""


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
        Zeros that the layer itself pads at either end.
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
        """Give the length of the output for an axis of `cells`."""
        return (cells * self.upsample + self.before + self.after - self.kernel) // self.stride + 1

    def need(self, wanted: Interval, cells: int) -> Interval:
        """Give the input cells that the output cells `wanted` depend on."""
        low = max(0, wanted[0] * self.stride - self.before) // self.upsample
        high = -(-((wanted[1] - 1) * self.stride - self.before + self.kernel) // self.upsample)
        while low * self.upsample % self.stride:
            low -= 1
        return low, min(cells, high)

    def first(self, start: int) -> int:
        """Give the position of the first output cell for a tile that begins at `start`."""
        return start * self.upsample // self.stride


@dataclass(frozen=True, slots=True)
class Transposed:
    """
    A transposed convolution.

    Parameters
    ----------
    kernel : int
        Output cells that one input cell contributes to.
    stride : int
        Output cells from the start of one contribution to that of the next.
    padding : int
        Output cells cut off at either end.
    output_padding : int
        Output cells added at the end.

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
        """Give the length of the output for an axis of `cells`."""
        return (cells - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding

    def need(self, wanted: Interval, cells: int) -> Interval:
        """Give the input cells that the output cells `wanted` depend on."""
        low = -(-(wanted[0] + self.padding - self.kernel + 1) // self.stride)
        high = (wanted[1] - 1 + self.padding) // self.stride + 1
        low, high = max(0, min(low, cells - 1)), min(cells, high)
        # What the layer cuts off a tile, or leaves empty between two cells, may be wanted too: then take one more cell.
        while low > 0 and self.first(low) > wanted[0]:
            low -= 1
        while high < cells and self.first(low) + self.length(high - low) < wanted[1]:
            high += 1
        return low, high

    def first(self, start: int) -> int:
        """Give the position of the first output cell for a tile that begins at `start`."""
        return start * self.stride


POINTWISE = Convolution()
