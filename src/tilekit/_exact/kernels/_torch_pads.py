"""Padding of tensors, and windows that slide over padded ones."""

import math
from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor

from tilekit._exact.kernels._jobs import Job
from tilekit._exact.kernels._torch_scratch import pool_pieces
from tilekit._exact.ops import Pad, Pool
from tilekit.backends.torch_pad import pad_constant

__all__ = ["padded", "pooled"]

FRAMES = 5
"""Axes of a clip."""


def padded(job: Job[Pad], x: Tensor) -> Tensor | None:
    """Pad by torch's own call; None where the cells that it would copy are not at hand."""
    pads = _ends(job)
    if pads is None or not any(pads):
        return None if pads is None else x
    return pad_constant(x, pads, job.op.value) if job.op.mode == "constant" else _pad_copies(job, x, pads)


def pooled(job: Job[Pool], x: Tensor) -> Tensor:
    """Let a window slide, and pad in pieces where torch cannot: more at one end of a strip than at the other."""
    pads = job.op.pads(job.box, job.shapes[0])
    ends = [n for pair in reversed(pads) for n in pair]
    if not any(ends):
        return cast("Tensor", job.op.call([x]))
    axis, count = pool_pieces(job.op, [n + sum(pair) for n, pair in zip(x.shape, pads, strict=True)])
    if count == 1:
        return cast("Tensor", job.op.call([pad_constant(x, ends, job.op.value)]))
    made = x.new_empty(job.extent)
    for part, out in zip(x.tensor_split(count, axis), made.tensor_split(count, axis), strict=True):
        out.copy_(job.op.call([pad_constant(part, ends, job.op.value)]))
    return made


def _ends(job: Job[Pad]) -> list[int] | None:
    """Give what is added at the ends of what is given, as torch wants it; None where cells are taken from elsewhere."""
    given = job.boxes[0]
    assert given is not None  # asked only where something is read
    pads: list[int] = []
    for axis in reversed(range(len(job.box))):
        (start, stop), n, before = job.box[axis], job.shapes[0][axis], job.op.before[axis]
        first, last = max(start - before, 0), min(stop - before, n)
        low, high = first - (start - before), (stop - before) - last
        if first >= last or given[axis] != (first, last):
            return None
        pads += [low, high]
    return pads


def _pad_copies(job: Job[Pad], x: Tensor, pads: Sequence[int]) -> Tensor:
    """Pad axis by axis where torch has no call for all of them at once."""
    axes = [x.ndim - 1 - d for d in range(x.ndim) if pads[2 * d] or pads[2 * d + 1]]
    mode = {"replicate": "replicate", "reflect": "reflect", "circular": "circular"}[job.op.mode]
    if x.ndim == FRAMES and min(axes) == FRAMES - 2 and x.stride(1) == 1 and x.shape[2] > 1:
        # frame by frame: where channels lie together, torch pads pictures in half of the time that it takes for clips
        frames = F.pad(x.transpose(1, 2).flatten(0, 1), list(pads[:4]), mode=mode)
        clip: Tensor = frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        return clip
    last = x.ndim - 1 if min(axes) == 1 else x.ndim - 2  # axes that are padded at once, behind one or two others
    if 0 < last < 4 and min(axes):
        return F.pad(x, list(pads[: 2 * last]), mode=mode)
    for axis in axes:
        low, high = pads[2 * (x.ndim - 1 - axis)], pads[2 * (x.ndim - 1 - axis) + 1]
        shape = x.shape
        flat = x.reshape(math.prod(shape[:axis]), shape[axis], -1).transpose(1, 2)
        flat = F.pad(flat, [low, high], mode=mode).transpose(1, 2)
        x = flat.reshape(*shape[:axis], shape[axis] + low + high, *shape[axis + 1 :])
    return x
