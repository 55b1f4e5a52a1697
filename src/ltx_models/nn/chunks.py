"""A clip in its public form on the way into a stream and out of it: cut into chunks, and placed in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ltx_models.nn._types import Array, Backend

__all__ = ["chunks_of", "placed"]


def chunks_of(nn: Backend, name: str, clip: Array | Iterable[Array], frames: Any) -> Iterator[Array]:
    """Cut a clip (B, C, F, H, W), or each part of an iterable of them, into at most `frames` frames."""
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        msg = f"frames_per_chunk: got {frames!r}, expected a whole number of at least 1"
        raise ValueError(msg)
    parts = [clip] if nn.is_array(clip) else clip
    return _chunks(name, parts, frames)


def _chunks(name: str, parts: Iterable[Array], frames: int) -> Iterator[Array]:
    before: tuple[int, ...] | None = None
    for part in parts:
        shape = (*part.shape[:2], *part.shape[3:])
        if before is not None and shape != before:
            msg = f"{name}: a part has shape {tuple(part.shape)}, those before it have (batch, channels, …) = {before}"
            raise ValueError(msg)
        before = shape
        for start in range(0, part.shape[2], frames):
            yield part[:, :, start : start + frames]
    if before is None:
        msg = f"{name}: the clip is empty; give at least one frame"
        raise ValueError(msg)


def placed(
    nn: Backend, blocks: Iterable[Array], postprocess: Callable[[Array], Array] | None = None, axis: int = 2
) -> Iterator[tuple[int, Array]]:
    """
    Say of each block of a stream where it begins.

    Parameters
    ----------
    nn : Backend
        The framework.
    blocks : iterable of array
        What `run` yields.
    postprocess : callable, optional
        Brings a block into its public form first.
    axis : int
        Time, in the public form.

    Yields
    ------
    start : int
        The first cell of the block.
    block : array
        Finished and evaluated; blocks without cells are left out.
    """
    start = 0
    # no name may hold a block while the caller looks at it, or two would be alive at the next one
    for block in blocks if postprocess is None else map(postprocess, blocks):
        nn.synchronize(block)
        begin, start, ready = start, start + block.shape[axis], [block]
        del block
        if start > begin:
            yield begin, ready.pop()
