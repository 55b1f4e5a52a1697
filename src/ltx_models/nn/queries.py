"""Attention some queries at a time, where all of them together would take the device too long."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from ltx_models.nn._types import Array
from tilekit.backends.limits import limits_of

__all__ = ["attention_work", "by_queries"]


def attention_work(q: Array, k: Array, v: Array) -> int:
    """Count the multiply-adds of scores and of what they gather."""
    return int(prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1]))


def by_queries(
    attend: Callable[..., Array],
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    joined: Callable[[list[Any]], Array],
) -> Array:
    """
    Attend in one call, or in as few as keep each below what the driver of a device ends.

    Parameters
    ----------
    attend : callable
        Of queries, keys, values and the mask.
    q, k, v : array, shape (B, heads, T or S, d)
        Queries, keys and values.
    mask : array, broadcastable to (B, heads, T, S), optional
        Added to the scores.
    joined : callable
        Puts parts together along the queries.

    Returns
    -------
    array, shape (B, heads, T, d)
        The same in any number of calls: each query looks for itself.
    """
    most, work, rows = limits_of(q).work, attention_work(q, k, v), q.shape[2]
    if work <= most:
        return attend(q, k, v, mask)
    step = max(1, int(most * rows // work))
    spans = [slice(start, start + step) for start in range(0, rows, step)]
    return joined([attend(q[:, :, span], k, v, _rows(mask, span)) for span in spans])


def _rows(mask: Array | None, span: slice) -> Array | None:
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., span, :]
