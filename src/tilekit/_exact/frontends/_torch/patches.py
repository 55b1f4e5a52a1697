"""Windows of pictures as channels, and such windows put back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tilekit._exact.boxes import Interval

__all__ = ["Folded", "Hop", "Lap", "Overlaid", "Patches"]


@dataclass(frozen=True, slots=True)
class Patches:
    """The cells of each window of a picture, as channels: ``torch.nn.functional.unfold`` with rows and columns kept."""

    windowed: ClassVar[bool] = True
    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    stride: tuple[int, ...]

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Take them."""
        rows = zip(arrays[0].shape[2:], self.kernel, self.dilation, self.stride, strict=True)
        sizes = [(n - (k - 1) * d - 1) // step + 1 for n, k, d, step in rows]
        made: Tensor = F.unfold(arrays[0], self.kernel, self.dilation, 0, self.stride)
        return made.reshape(*made.shape[:2], *sizes)


@dataclass(frozen=True, slots=True)
class Hop:
    """Which cells of an axis windows read that come one after the other."""

    spread: int
    stride: int

    def length(self, cells: int) -> int:
        """Give how many windows there are over some cells."""
        return (cells - self.spread) // self.stride + 1

    def need(self, wanted: Interval, cells: int) -> Interval:
        """Give the cells that some windows read."""
        del cells
        return wanted[0] * self.stride, (wanted[1] - 1) * self.stride + self.spread

    def first(self, start: int) -> int:
        """Give the first window over cells that begin at `start`."""
        return start // self.stride


@dataclass(frozen=True, slots=True)
class Folded:
    """Windows put back to a picture, summed where they overlap; rows and columns of windows are axes of their own."""

    windowed: ClassVar[bool] = True
    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    stride: tuple[int, ...]

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Put them back."""
        rows = zip(arrays[0].shape[2:], self.kernel, self.dilation, self.stride, strict=True)
        sizes = [(n - 1) * step + (k - 1) * d + 1 for n, k, d, step in rows]
        x = arrays[0].flatten(2)
        # torch's own result keeps the memory of all windows
        made = x.new_empty((x.shape[0], x.shape[1] // math.prod(self.kernel), *sizes))
        put = torch.ops.aten.col2im.out
        return put(x, sizes, self.kernel, self.dilation, [0, 0], self.stride, out=made)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Lap:
    """Which windows, one after the other, are summed at a cell of an axis of which some cells are cut off again."""

    spread: int
    stride: int
    before: int

    def length(self, cells: int) -> int:
        """Give how many cells some windows make, with those that are cut off."""
        return (cells - 1) * self.stride + self.spread

    def need(self, wanted: Interval, cells: int) -> Interval:
        """Give the windows that reach some cells."""
        first = -(-(wanted[0] + self.before - self.spread + 1) // self.stride)
        return max(0, first), min(cells, (wanted[1] - 1 + self.before) // self.stride + 1)

    def first(self, start: int) -> int:
        """Give the first cell that windows from one on make."""
        return start * self.stride - self.before


@dataclass(frozen=True, slots=True)
class Overlaid:
    """Windows of an axis, whose cells are the last axis, summed where they overlap."""

    windowed: ClassVar[bool] = True
    axis: int
    stride: int

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Sum them."""
        *sizes, size = arrays[0].shape
        sizes[self.axis] = (sizes[self.axis] - 1) * self.stride + size
        return torch.ops.aten.unfold_backward(arrays[0], sizes, self.axis, size, self.stride)  # type: ignore[no-any-return]
