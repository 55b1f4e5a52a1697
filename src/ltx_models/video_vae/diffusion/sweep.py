"""
A diffusion decode in pieces along one axis: equal to the whole, nothing computed twice.

A query sees half of its kernel to each side, so a block that has the cells up to some place can finish those up to half
a kernel before it, and needs to keep no more keys than a kernel has. Pieces are pulled through generators, one for each
block, and each holds a few cells of the axis. The whole decode is one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ltx_models.nn import Array, Backend
from ltx_models.video_vae.config import Triple
from ltx_models.video_vae.diffusion.attention import Span, first_key
from ltx_models.video_vae.diffusion.geometry import grown

TIME = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """
    Some cells of the axis.

    Attributes
    ----------
    start : int
        The first of them.
    arrays : tuple of array, shape (B, T, H, W, C)
        What is known of them: what a block transforms first, then what waits with it.
    """

    start: int
    arrays: tuple[Array, ...]


def size(axis: int, piece: Piece) -> int:
    """Count the cells of a piece."""
    return int(piece.arrays[0].shape[1 + axis])


def part(x: Array, axis: int, start: int, stop: int) -> Array:
    """Cut cells out of an array (B, T, H, W, ...)."""
    return x[(*(slice(None),) * (1 + axis), slice(start, stop), ...)]


def cut(nn: Backend, pieces: Iterator[Piece], axis: int, most: int) -> Iterator[Piece]:
    """Cut pieces into such of at most so many cells."""
    for piece in pieces:
        whole, cells = [piece], size(axis, piece)
        del piece  # a generator that waits must not hold what it handed on
        if cells <= most:
            yield whole.pop()
            continue
        for start in range(0, cells, most):
            arrays = (part(x, axis, start, start + most) for x in whole[0].arrays)
            yield Piece(whole[0].start + start, tuple(map(nn.copy, arrays)))


def each(pieces: Iterator[Piece], change: Callable[[Piece], tuple[Array, ...]]) -> Iterator[Piece]:
    """Change the arrays of every piece, cell by cell."""
    for piece in pieces:
        changed = [Piece(piece.start, change(piece))]
        del piece
        yield changed.pop()


def upsampled(nn: Backend, pieces: Iterator[Piece], layer: Any, axis: int) -> Iterator[Piece]:
    """Run a step to a higher resolution; the first frame of a clip becomes one."""
    factor = layer.stride[axis]
    for piece in pieces:
        first = axis != TIME or piece.start == 0
        start = (grown(factor, piece.start) if piece.start else 0) if axis == TIME else piece.start * factor
        out = [layer(piece.arrays[0], first)]
        del piece
        nn.synchronize(*out)
        yield Piece(start, (out.pop(),))


def attended(
    nn: Backend,
    pieces: Iterator[Piece],
    block: Any,
    axis: int,
    cells: Triple,
    most: int,
    rows: Array | None = None,
) -> Iterator[Piece]:
    """
    Run a block.

    Parameters
    ----------
    nn : Backend
        The framework.
    pieces : iterator of Piece
        Its input; the second array of a piece, where there is one, is the context of a denoising block.
    block : Block
        The block.
    axis : int
        The axis along which pieces follow one another: time 0, height 1, width 2.
    cells : (int, int, int)
        Cells of the whole.
    most : int
        The most cells of the axis that a piece of the output has.
    rows : array, shape (7, C), optional
        Scales and shifts of a denoising block.

    Yields
    ------
    Piece
        The output, in order, with what waited.
    """
    kernel, total = block.attn.kernel[axis], cells[axis]
    waiting: tuple[Array, ...] = ()
    keys: tuple[Array, ...] = ()
    done = kept = 0
    for piece in pieces:
        context = piece.arrays[1] if len(piece.arrays) > 1 else None
        x, read = block.enter(piece.arrays[0], context, rows)
        starts = tuple(piece.start if other == axis else 0 for other in range(3))
        q, k, v = block.attn.project(read, starts)
        waiting = _joined(nn, waiting, (x, *piece.arrays[1:], q), axis)
        keys = _joined(nn, keys, (k, v), axis)
        available = piece.start + size(axis, piece)
        del piece, context, x, read, q, k, v
        ready = _ready(available, total, kernel)
        while done < ready:
            stop = min(done + most, ready)
            spans = [Span.whole(n) for n in cells]
            spans[axis] = Span(total, (done, stop), kept)
            x, *companions, q = (part(array, axis, 0, stop - done) for array in waiting)
            gathered = block.attn(q, *keys, spans)
            nn.synchronize(gathered)
            if stop < available:  # else the views are all that is left of what they were cut from
                x, *companions = map(nn.copy, (x, *companions))
            oldest = first_key(stop, total, kernel) if stop < total else total
            del q
            waiting, keys = _rest(nn, waiting, axis, stop - done), _rest(nn, keys, axis, oldest - kept)
            out = [Piece(done, (block(x, gathered, rows), *companions))]
            # all that waits too: what is never read would else hold, unmade, every piece since the first
            nn.synchronize(*out[0].arrays, *waiting, *keys)
            done, kept = stop, oldest
            del x, companions, gathered
            yield out.pop()


def _ready(available: int, total: int, kernel: int) -> int:
    """Count the queries whose keys are all there."""
    if available == total:
        return total
    return max(0, available - kernel + kernel // 2 + 1) if available >= kernel else 0


def _joined(nn: Backend, old: tuple[Array, ...], new: tuple[Array, ...], axis: int) -> tuple[Array, ...]:
    if not old:
        return new
    return tuple(nn.xp.concat([a, b], axis=1 + axis) for a, b in zip(old, new, strict=True))


def _rest(nn: Backend, arrays: Sequence[Array], axis: int, gone: int) -> tuple[Array, ...]:
    """Let the first cells go; nothing where none is left."""
    cells = arrays[0].shape[1 + axis]
    if gone == 0:
        return tuple(arrays)
    return () if gone >= cells else tuple(nn.copy(part(x, axis, gone, cells)) for x in arrays)
