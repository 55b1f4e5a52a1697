"""
The weights with which resampling sums cells: for each cell made, pairs of a cell that is read and its weight.

Source: the documentation of ``torch.nn.functional.interpolate`` (half-pixel centres, `align_corners`, `antialias`), and
for the cubic kernel with a = -0.75: R. Keys, "Cubic convolution interpolation for digital image processing", 1981.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch

__all__ = ["averaged", "cubic", "linear", "nearest"]

Taps = tuple[tuple[tuple[int, float], ...], ...]


def _ratio(n: int, made: int, scale: float | None, corners: bool = False) -> float:
    """Give how far apart two cells made stand, in cells read."""
    if corners:
        return (n - 1) / (made - 1) if made > 1 else 0.0
    return 1.0 / scale if scale else n / made


@lru_cache(maxsize=256)
def nearest(n: int, made: int, scale: float | None, exact: bool) -> Taps:
    """Copy the nearest cell (`exact`), or the one at the lower end; asked of torch, whose rounding decides."""
    function = torch.ops.aten._upsample_nearest_exact1d if exact else torch.ops.aten.upsample_nearest1d
    cells = function(torch.arange(n, dtype=torch.float64)[None, None], [made], scale)
    return tuple(((int(cell), 1.0),) for cell in cells.flatten().tolist())


def _positions(n: int, made: int, scale: float | None, corners: bool, dtype: torch.dtype) -> list[float]:
    """Give where each cell made lies among those read, rounded as torch rounds it."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    ratio = torch.tensor(_ratio(n, made, scale, corners), dtype=wide)
    at = torch.arange(made, dtype=wide)
    return (at * ratio if corners else (at + 0.5) * ratio - 0.5).tolist()


@lru_cache(maxsize=256)
def linear(n: int, made: int, scale: float | None, corners: bool, smooth: bool, dtype: torch.dtype) -> Taps:
    """Blend two neighbours; as many as the step covers where it is smoothed."""
    if smooth:
        return _smoothed(n, made, _ratio(n, made, scale, corners), 1.0, lambda x: max(0.0, 1.0 - abs(x)))
    rows = []
    for at in _positions(n, made, scale, corners, dtype):
        low = min(max(int(at), 0), n - 1)
        weight = min(max(at - low, 0.0), 1.0)
        rows.append(_joined([(low, 1.0 - weight), (min(low + 1, n - 1), weight)]))
    return tuple(rows)


@lru_cache(maxsize=256)
def cubic(n: int, made: int, scale: float | None, corners: bool, smooth: bool, dtype: torch.dtype) -> Taps:
    """Blend four neighbours by a cubic; cells outside are those at the edge."""
    if smooth:
        return _smoothed(n, made, _ratio(n, made, scale, corners), 2.0, lambda x: _keys(x, -0.5))
    rows = []
    for at in _positions(n, made, scale, corners, dtype):
        low = math.floor(at)
        pairs = [(min(max(low + k, 0), n - 1), _keys(at - low - k, -0.75)) for k in (-1, 0, 1, 2)]
        rows.append(_joined(pairs))
    return tuple(rows)


def _keys(x: float, a: float) -> float:
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def _smoothed(n: int, made: int, ratio: float, reach: float, kernel: Callable[[float], float]) -> Taps:
    """Widen the kernel to the step where that is above 1, and bring the weights to the sum 1."""
    wide = max(ratio, 1.0)
    rows = []
    for i in range(made):
        centre = ratio * (i + 0.5)  # torch means cells' centres here even where corners are aligned
        first, last = max(0, int(centre - reach * wide + 0.5)), min(n, int(centre + reach * wide + 0.5))
        pairs = [(j, kernel((j - centre + 0.5) / wide)) for j in range(first, last)]
        total = sum(weight for _, weight in pairs)
        rows.append(_joined([(j, weight / total) for j, weight in pairs]))
    return tuple(rows)


def averaged(n: int, made: int, kernel: int, stride: int, padding: int, with_padding: bool) -> Taps:
    """Give the mean of each window, which may reach over the edge."""
    rows = []
    for i in range(made):
        start = i * stride - padding
        stop = min(start + kernel, n + padding)
        first, last = max(start, 0), min(stop, n)
        count = stop - start if with_padding else last - first
        rows.append(tuple((j, 1.0 / count) for j in range(first, last)))
    return tuple(rows)


def _joined(pairs: list[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Add the weights of a cell that is named twice, and leave out those of 0."""
    total: dict[int, float] = {}
    for cell, weight in pairs:
        total[cell] = total.get(cell, 0.0) + weight
    kept = tuple((cell, weight) for cell, weight in total.items() if weight)
    return kept or (pairs[0],)
