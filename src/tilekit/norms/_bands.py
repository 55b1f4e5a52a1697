"""Cutting an array into bands, so that a reduction needs little memory and its sums stay short. Integers only."""

from __future__ import annotations

import math
from collections.abc import Sequence

BAND_ELEMENTS = 1 << 20  # 4 MiB of float32


def bands(shape: Sequence[int], channel_axis: int) -> list[tuple[slice, ...]]:
    """Cut the first spatial axis so that no band has many more than BAND_ELEMENTS values."""
    spatial = [a for a in range(1, len(shape)) if a != channel_axis]
    if not spatial:
        return [(slice(None),) * len(shape)]
    axis = spatial[0]
    row = math.prod(shape) // shape[axis]
    step = max(1, BAND_ELEMENTS // row)
    regions = []
    for start in range(0, shape[axis], step):
        region = [slice(None)] * len(shape)
        region[axis] = slice(start, min(start + step, shape[axis]))
        regions.append(tuple(region))
    return regions
