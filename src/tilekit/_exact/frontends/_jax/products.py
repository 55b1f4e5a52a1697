"""Products over named axes: rows times columns, and resampling that is written as a product with known weights."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from tilekit._exact.frontends._jax.builder import Builder
from tilekit._exact.frontends._jax.calls import Product
from tilekit._exact.ops import MatMul, Resample

__all__ = ["dot_general"]

TAPS = 16
"""Weights of a cell up to which a product with a known matrix is taken for resampling (Lanczos with 5 lobes has 10)."""


def dot_general(b: Builder, e: Any, inputs: Sequence[int]) -> int | None:
    """Lower a product over some axes, with others in common; the result has those, then the rest of each operand."""
    (lc, rc), (lb, rb) = ([[int(a) for a in axes] for axes in pair] for pair in e.parameters["dimension_numbers"])
    left, right = inputs
    if not lb and left not in b.live and right in b.live:  # the array that is cut comes first
        made = _product(b, e, (right, left), (rc, lc), ([], []))
        n = len(b.shape(right)) - len(rc)
        return b.permute(made, [*range(n, len(e.shape)), *range(n)])
    return _product(b, e, (left, right), (lc, rc), (lb, rb))


def _product(
    b: Builder, e: Any, pair: tuple[int, int], summed: tuple[list[int], list[int]], shared: tuple[list[int], list[int]]
) -> int:
    left, right = pair
    (lc, rc), (lb, rb) = summed, shared
    lf, rf = (
        [axis for axis in range(len(b.shape(index))) if axis not in (*contracted, *batch)]
        for index, contracted, batch in ((left, lc, lb), (right, rc, rb))
    )
    sizes = b.shape(left), b.shape(right)
    if not lb and len(lc) == 1 and len(rf) == 1:
        resampled = _resampled(b, left, right, (lc[0], rc[0]), e.dtype)
        if resampled is not None:
            return b.permute(resampled, [*lf, lc[0]])
    batch, rows, columns = ([sizes[k][axis] for axis in axes] for k, axes in ((0, lb), (0, lf), (1, rf)))
    cells, n = math.prod(sizes[0][axis] for axis in lc), math.prod(columns)
    kept = rows if not lb and rows else [math.prod(rows)]
    a = b.reshape(b.permute(left, [*lb, *lf, *lc]), (*batch, *kept, cells))
    c = b.reshape(b.permute(right, [*rb, *rc, *rf]), (*batch, cells, n))
    precision = e.parameters.get("precision")
    call = Product(repr(precision), precision, e.dtype)
    made = b.add(MatMul(call), (a, c), (*batch, *kept, n), e.dtype)
    return b.reshape(made, (*batch, *rows, *columns))


def _resampled(b: Builder, x: int, weights: int, axes: tuple[int, int], dtype: str) -> int | None:
    """Give sums of few cells with known weights; None where the weights are not known or many."""
    along, summed = axes
    if len(b.shape(weights)) != 2 or x not in b.live or not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
        return None
    if not b.static(weights):
        return None
    table = np.moveaxis(b.known_array(weights), summed, 0).astype(np.float64)
    most = int((table != 0).sum(axis=0).max(initial=0))
    if most > min(TAPS, table.shape[0] // 2):
        return None
    taps = tuple(
        tuple((int(cell), float(column[cell])) for cell in np.flatnonzero(column)) or ((0, 0.0),) for column in table.T
    )
    shape = [len(taps) if axis == along else n for axis, n in enumerate(b.shape(x))]
    return b.add(Resample(tuple(taps if axis == along else None for axis in range(len(shape)))), (x,), shape, dtype)
