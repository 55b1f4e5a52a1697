"""
Neighbourhood attention over time, height and width: each cell attends to a box of cells around it.

Along an axis of n cells, the query at i sees the k keys from ``clamp(i - k // 2, 0, n - k)`` on: at a border the box
moves inward and keeps its size. Source: A. Hassani, S. Walton, J. Li, S. Li and H. Shi, "Neighborhood Attention
Transformer", 2023.

The library `natten` computes it on CUDA; elsewhere boxes of queries attend to the union of their keys with a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ltx_models.nn import Array, Backend

LEAST_QUERIES = 4  # queries along an axis that share one call, at least; more for larger kernels


@dataclass(frozen=True, slots=True)
class Span:
    """
    What is there of one axis: a decode in pieces has some of the queries, and the keys that they see.

    Attributes
    ----------
    cells : int
        Cells of the whole axis.
    queries : (int, int)
        The queries that are there.
    first_key : int
        The first key that is there.
    """

    cells: int
    queries: tuple[int, int]
    first_key: int = 0

    @classmethod
    def whole(cls, cells: int) -> Span:
        """Give the span of an axis that is there as a whole."""
        return cls(cells, (0, cells))


@dataclass(frozen=True, slots=True)
class Run:
    """Some queries of one axis, and the keys that any of them sees, as places in the arrays that are there."""

    queries: slice
    keys: slice
    seen: tuple[tuple[bool, ...], ...]
    """For each query, which of the keys it sees."""


def first_key(query: int, cells: int, kernel: int) -> int:
    """
    Give the first key that a query sees along one axis.

    Parameters
    ----------
    query : int
        Its place.
    cells : int
        Cells of the axis, at least `kernel`.
    kernel : int
        Keys that it sees.

    Returns
    -------
    int
        The place of the first of them.

    Examples
    --------
    >>> [first_key(i, 5, 3) for i in range(5)]
    [0, 0, 1, 2, 2]
    """
    return min(max(query - kernel // 2, 0), cells - kernel)


@cache
def runs(span: Span, kernel: int) -> tuple[Run, ...]:
    """Cut the queries of one axis into runs that share a call."""
    size = max(LEAST_QUERIES, -(-kernel // 2))
    cut = []
    for begin in range(*span.queries, size):
        queries = range(begin, min(begin + size, span.queries[1]))
        firsts = [first_key(query, span.cells, kernel) for query in queries]
        keys = range(firsts[0], firsts[-1] + kernel)
        seen = tuple(tuple(at <= key < at + kernel for key in keys) for at in firsts)
        there = slice(queries.start - span.queries[0], queries.stop - span.queries[0])
        cut.append(Run(there, slice(keys.start - span.first_key, keys.stop - span.first_key), seen))
    return tuple(cut)


def attend(nn: Backend, q: Array, k: Array, v: Array, kernel: Sequence[int], spans: Sequence[Span]) -> Array:
    """
    Attend to the neighbourhood of each cell.

    Parameters
    ----------
    nn : Backend
        The framework.
    q : array, shape (B, T, H, W, heads, d)
        Queries.
    k, v : array, shape (B, T', H', W', heads, d)
        Keys and values: at least those that the queries see.
    kernel : (int, int, int)
        Frames, rows and columns that a cell attends to.
    spans : three of Span
        What is there of time, height and width; no axis is shorter than its kernel.

    Returns
    -------
    array, shape (B, T, H, W, heads, d)
        What was gathered; scores are divided by the square root of d.

    Raises
    ------
    ValueError
        If an axis is shorter than its kernel.
    """
    if any(span.cells < size for span, size in zip(spans, kernel, strict=True)):
        cells = tuple(span.cells for span in spans)
        msg = f"neighbourhood attention: got {cells} cells (time, height, width), expected at least {tuple(kernel)}"
        raise ValueError(msg)
    if _fused(nn, q, spans):
        from natten.functional import na3d  # type: ignore[import-not-found]  # an extra that only CUDA machines have

        return na3d(q, k, v, kernel_size=tuple(kernel))
    masks: dict[Any, Array] = {}
    times, rows, columns = (runs(span, size) for span, size in zip(spans, kernel, strict=True))
    frames = []
    for time in times:
        strips = []
        for row in rows:
            boxes = [_box(nn, (q, k, v), (time, row, column), masks) for column in columns]
            strips.append(_concat(nn, boxes, axis=3))
        frames.append(_concat(nn, strips, axis=2))
        nn.synchronize(frames[-1])
    return _concat(nn, frames, axis=1)


def _fused(nn: Backend, q: Array, spans: Sequence[Span]) -> bool:
    """Say whether `natten` can compute it: on CUDA, and where the whole is there, since it knows no parts."""
    whole = all(span == Span.whole(span.cells) for span in spans)
    return whole and nn.name == "torch" and q.device.type == "cuda" and find_spec("natten") is not None


def _concat(nn: Backend, arrays: list[Array], axis: int) -> Array:
    return arrays[0] if len(arrays) == 1 else nn.xp.concat(arrays, axis=axis)


def _box(nn: Backend, qkv: tuple[Array, Array, Array], box: tuple[Run, ...], masks: dict[Any, Array]) -> Array:
    """Attend from one box of queries."""
    q, k, v = qkv
    queries = q[:, box[0].queries, box[1].queries, box[2].queries, ...]
    keys = (slice(None), box[0].keys, box[1].keys, box[2].keys, ...)
    seen = tuple(run.seen for run in box)
    if seen not in masks:
        masks[seen] = nn.asarray(_mask(seen), like=q)
    out = nn.attention(_flat(nn, queries), _flat(nn, k[keys]), _flat(nn, v[keys]), masks[seen])
    return nn.xp.reshape(nn.xp.permute_dims(out, (0, 2, 1, 3)), queries.shape)


def _flat(nn: Backend, x: Array) -> Array:
    """Give (B, T, H, W, heads, d) as (B, heads, T H W, d)."""
    batch, *_, heads, d = x.shape
    return nn.xp.permute_dims(nn.xp.reshape(x, (batch, -1, heads, d)), (0, 2, 1, 3))


def _mask(seen: tuple[tuple[tuple[bool, ...], ...], ...]) -> Any:
    """Make 0 where a query of a box sees a key, and minus infinity elsewhere: (queries, keys)."""
    allowed = np.ones((1, 1), dtype=bool)
    for axis in seen:
        pairs = allowed[:, None, :, None] & np.asarray(axis, dtype=bool)[:, None, :]
        allowed = pairs.reshape(len(allowed) * len(axis), -1)
    return np.where(allowed, 0.0, -np.inf).astype(np.float32)
