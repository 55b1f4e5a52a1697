"""Which cells the size-changing layers of the latent upsamplers need, along one axis: integers only."""

from __future__ import annotations

from dataclasses import dataclass

Interval = tuple[int, int]

SCALES = {0.75: (3, 4), 1.5: (3, 2), 2.0: (2, 1), 4.0: (4, 1)}


@dataclass(frozen=True, slots=True)
class Shuffled:
    """
    A convolution of three cells over zeros, whose channels then become cells.

    Parameters
    ----------
    times : int
        Cells that one cell becomes.

    Examples
    --------
    >>> Shuffled(2).need((8, 16), 64)
    (3, 9)
    """

    times: int

    def length(self, cells: int) -> int:
        """Give the cells of the whole axis behind the layer."""
        return cells * self.times

    def need(self, want: Interval, cells: int) -> Interval:
        """Give the cells that make `want`."""
        return max(0, want[0] // self.times - 1), min(cells, -(-want[1] // self.times) + 1)

    def first(self, start: int) -> int:
        """Give the position of the first cell made of a tile beginning at `start`."""
        return start * self.times


@dataclass(frozen=True, slots=True)
class Doubled:
    """
    `Shuffled` by two, without the first cell.

    Examples
    --------
    >>> Doubled().length(5), Doubled().need((7, 15), 64)
    (9, (3, 9))
    """

    def length(self, cells: int) -> int:
        """Give the cells of the whole axis behind the layer."""
        return 2 * cells - 1

    def need(self, want: Interval, cells: int) -> Interval:
        """Give the cells that make `want`."""
        return Shuffled(2).need((want[0] + 1, want[1] + 1), cells)

    def first(self, start: int) -> int:
        """Give the position of the first cell made of a tile beginning at `start`, which loses its own first cell."""
        return 2 * start


@dataclass(frozen=True, slots=True)
class Blurred:
    """
    `Shuffled`, then a window of five cells over zeros that moves by more than one.

    Parameters
    ----------
    times, by : int
        Cells that one cell becomes, and cells from one window to the next.

    Examples
    --------
    >>> Blurred(3, 2).length(5), Blurred(3, 2).need((6, 12), 64)  # a tile must begin where a window does
    (8, (2, 10))
    """

    times: int
    by: int

    def length(self, cells: int) -> int:
        """Give the cells of the whole axis behind the layer."""
        return (cells * self.times - 1) // self.by + 1

    def need(self, want: Interval, cells: int) -> Interval:
        """Give the cells that make `want`."""
        low = max(0, want[0] * self.by - 2) // self.times - 1
        while low > 0 and low * self.times % self.by:
            low -= 1
        return max(0, low), min(cells, ((want[1] - 1) * self.by + 2) // self.times + 2)

    def first(self, start: int) -> int:
        """Give the position of the first cell made of a tile beginning at `start`."""
        return start * self.times // self.by
