"""What MLX takes for itself while it makes a box, beside the box and what it is given."""

import math
from collections.abc import Callable
from typing import Any

from tilekit._exact.boxes import extent
from tilekit._exact.ghosts import in_order
from tilekit._exact.graph import cell_bytes
from tilekit._exact.kernels._jobs import SHARED, Job
from tilekit._exact.kernels._mlx_conv import unfolded_bytes, unfolded_elsewhere
from tilekit._exact.kernels._scratch import scratch
from tilekit._exact.ops import Along, Attention, Conv, MatMul, Moments, Pad, Pointwise, Pool, Reduce
from tilekit.backends.limits import Limits

__all__ = ["SCORES", "moments_piece", "taken", "taken_elsewhere"]

SCORES = 1 << 25
"""Bytes of attention scores that are made at once on a processor, where MLX makes those of all rows it is given."""
PIECE, SLIVER = 1 << 19, 1 << 14
"""Bytes of what moments are taken of at once, at the most and at the least; three copies of it are there."""
SHARE = 32
"""What part of an array that is at the most."""


def taken(job: Job[Any], *, plain: bool = False) -> int:
    """Count the bytes on a processor, of ours or in a plain call."""
    count = _COUNTS.get(type(job.op))
    return 0 if count is None else count(job, plain)


def taken_elsewhere(job: Job[Any], limits: Limits, *, plain: bool = False) -> int:
    """Count the bytes on a graphics processor, of ours or in a plain call."""
    if isinstance(job.op, Conv):
        return unfolded_elsewhere(job, limits)
    return taken(job, plain=plain) if isinstance(job.op, Pointwise | Pad | Pool | Reduce) else 0


def moments_piece(cells: int) -> int:
    """Give the bytes of what moments of so many cells are taken of at once."""
    return min(4 * cells, PIECE, max(SLIVER, 4 * cells // SHARE))


def _attended(job: Job[Attention], plain: bool) -> int:
    """Count the scores, in whose place the softmax is taken, the mask of causal attention, and copies."""
    scores = math.prod(job.extent[:3]) * job.shapes[1][2] * cell_bytes(job.dtype)
    scores += job.extent[2] * job.shapes[1][2] if job.op.causal else 0
    rows = scores if plain or scores <= SCORES else SCORES + math.prod(job.extent) * cell_bytes(job.dtype)
    return rows + _copied(job, 1, 3)


def _copied(job: Job[Any], first: int, last: int) -> int:
    """Count matrices that do not lie row by row: MLX copies them for its products."""
    flat = any(box is not None and len(box) == 2 for box in job.boxes[first:last])
    total = 0
    for box, given in zip(job.boxes[first:last], job.given[first:last], strict=False):
        if box is not None and given is not None:
            (dtype, strides), shape = given, extent(box)
            held = len(shape) < 2 or strides[-2:] in {(shape[-1], 1), (1, shape[-2])}
            if flat and len(shape) > 2:  # rows of all axes are one axis
                held = in_order(shape, strides)
            total += 0 if held else math.prod(shape) * cell_bytes(dtype)
    return total


def _pooled(job: Job[Pool]) -> int:
    """Count the copy of an input that is a part of another, or lies in another order: windows are a view of one."""
    if job.boxes[0] is None or not job.given or job.given[0] is None:
        return 0
    dtype, strides = job.given[0]
    shape = extent(job.boxes[0])
    own = job.holds[0] != SHARED if job.holds else shape == job.shapes[0]
    return 0 if own and in_order(shape, strides) else math.prod(shape) * cell_bytes(dtype)


def _summed(job: Job[Any]) -> int:
    """Count the sums of half precisions, which MLX takes in float32."""
    sums = getattr(job.op.call, "name", "") in {"sum", "prod"} and cell_bytes(job.dtype) == 2
    return 4 * math.prod(job.extent) if sums else 0


def _scanned(job: Job[Any]) -> int:
    """Count the copy of what does not lie in order, where MLX adds up along an axis."""
    name = getattr(job.op.call, "name", "")
    if not name.startswith("cum") or not job.given or job.given[0] is None or job.boxes[0] is None:
        return 0
    (dtype, strides), shape = job.given[0], extent(job.boxes[0])
    return 0 if in_order(shape, strides) else math.prod(shape) * cell_bytes(dtype)


_COUNTS: dict[type, Callable[[Job[Any], bool], int]] = {
    Along: lambda job, plain: _scanned(job),
    Attention: _attended,
    Conv: lambda job, plain: unfolded_bytes(job, slabs=not plain),
    MatMul: lambda job, plain: _copied(job, 0, 2),
    Moments: lambda job, plain: 0 if plain else 3 * moments_piece(math.prod(job.shapes[0])),
    Pad: lambda job, plain: 0 if plain else scratch(job),
    Pointwise: lambda job, plain: 0 if plain else scratch(job),
    Pool: lambda job, plain: _pooled(job) + _summed(job),
    Reduce: lambda job, plain: _summed(job),
}
