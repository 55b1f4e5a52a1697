"""Blocks of a stream on their way out: what the device must get right, and how they become one array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from ltx_models.nn import Array
from ltx_models.progress import Progress, reported
from ltx_models.video_vae.exact.planning import Plan
from tilekit.backends import canary
from tilekit.backends.flat import refuse_flat
from tilekit.backends.limits import limits_of


def ask(given: Array, plan: Plan, numbers: int) -> None:
    """Ask the device for cases near the sizes of a plan: no array is larger than all of them together."""
    most = limits_of(given)
    if most.any:
        largest = int(min(plan.peak_bytes // (given.nbytes // prod(given.shape)), most.elements, most.convolution))
        canary.check(given, canary.Sizes(largest, largest, work=canary.WORK_PER_NUMBER * given.shape[0] * numbers))


def watched(blocks: Iterator[tuple[int, Array]], given: Array, what: str) -> Iterator[tuple[int, Array]]:
    """Refuse a block that is one number everywhere though the input varies, on a device that is known to give such."""
    if not limits_of(given).any:
        return blocks
    return (_varying(start, block, given, what) for start, block in blocks)


def _varying(start: int, block: Array, given: Array, what: str) -> tuple[int, Array]:
    named = f"{what} {start} to {start + block.shape[2] - 1} are"
    cure = "give a smaller memory_bytes, so that arrays are smaller, or use another device"
    refuse_flat(block, lambda: given, named, cure)
    return start, block


def collect(
    nn: Any,
    blocks: Iterator[tuple[int, Array]],
    total: int,
    on_frames_ready: Callable[[Array, int], object] | None,
    progress: Progress,
    verb: str,
) -> Array | None:
    """Hand out or assemble the blocks of a stream, reporting how far it is."""
    result: Array = None
    with reported(progress, verb, "frame") as report:
        for start, block in blocks:
            stop = start + block.shape[2]
            nn.synchronize(block)  # what is pending is not done, and its progress must not be told
            if on_frames_ready is not None:
                on_frames_ready(block, start)
            elif start == 0 and stop == total:
                result = block
            else:
                if result is None:
                    shape = (*block.shape[:2], total, *block.shape[3:])
                    result = nn.on_device(nn.xp.zeros(shape, dtype=block.dtype), block)
                    nn.synchronize(result)
                result[:, :, start:stop] = block
                nn.synchronize(result)
            del block
            report(stop, total)
    return result
