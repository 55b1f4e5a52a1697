"""Weights sum to one at every cell of every legal plan, also where three and more tiles meet."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis.strategies import booleans, integers, sampled_from

from tilekit import Causal, Law, Linear, PlanError, Span, split, trapezoid_mask
from tilekit._plan.spans import split_uniform, uniform_count
from tilekit._plan.weights import Segment, segments

LAWS = sampled_from([Linear(1), Linear(4), Causal(1), Causal(4)])


def summed(parts: tuple[Segment, ...], length: int) -> list[float]:
    """Sum of the weights at every cell."""
    sums = [0.0] * length
    for part in parts:
        rows = [(1.0,) * (part.stop - part.start)] if part.weights is None else part.weights
        assert len(rows) == len(part.tiles)
        for row in rows:
            for cell, weight in enumerate(row, part.start):
                sums[cell] += weight
    return sums


@given(
    n=integers(1, 60), size=integers(1, 16), overlap=integers(0, 15), law=LAWS, uniform=booleans(), encode=booleans()
)
def test_weights_sum_to_one(n: int, size: int, overlap: int, law: Law, uniform: bool, encode: bool) -> None:
    assume(overlap < size)  # also far above half the tile, so that many tiles meet
    spans = split(n, size, overlap, causal=law.causal)
    if uniform:
        spans = split_uniform(n, uniform_count(n, size, overlap, causal=law.causal), overlap, causal=law.causal)
    outs = spans if encode else tuple(map(law.map, spans))
    parts = segments(outs, law.causal)
    assert parts[0].start == 0
    assert all(a.stop == b.start for a, b in pairwise(parts))
    assert summed(parts, outs[-1].stop) == pytest.approx([1.0] * outs[-1].stop, abs=1e-12)


@given(n=integers(2, 40), size=integers(2, 12), overlap=integers(0, 11), law=LAWS)
def test_weights_are_the_official_weighted_mean(n: int, size: int, overlap: int, law: Law) -> None:
    assume(overlap < size)
    outs = tuple(map(law.map, split(n, size, overlap, causal=law.causal)))
    masks = np.zeros((len(outs), outs[-1].stop))
    for row, s in zip(masks, outs, strict=True):
        row[s.start : s.stop] = trapezoid_mask(len(s), s.left_ramp, s.right_ramp, left_starts_from_0=law.causal)
    found = np.zeros_like(masks)
    for part in segments(outs, law.causal):
        found[list(part.tiles), part.start : part.stop] = 1.0 if part.weights is None else part.weights
    np.testing.assert_allclose(found, masks / masks.sum(axis=0), atol=1e-12)


def test_where_one_tile_contributes_nothing_is_multiplied() -> None:
    first, shared, last = segments((Span(0, 8, 0, 3), Span(5, 12, 3, 0)), False)
    assert (first.weights, first.tiles) == (None, (0,))
    assert (last.weights, last.tiles) == (None, (1,))
    assert shared.weights == ((0.75, 0.5, 0.25), (0.25, 0.5, 0.75))


def test_the_context_frame_of_a_causal_tile_has_no_weight_at_all() -> None:
    frames = tuple(map(Causal(8).map, split(5, 3, 0, causal=True)))
    assert [(p.start, p.stop, p.tiles) for p in segments(frames, True)] == [(0, 17, (0,)), (17, 33, (1,))]


@pytest.mark.parametrize("spans", [(Span(0, 4), Span(5, 9)), (Span(1, 9),), (Span(0, 4, 2, 0), Span(3, 9, 1, 0))])
def test_cells_without_weight_are_refused(spans: tuple[Span, ...]) -> None:
    with pytest.raises(PlanError, match="have no weight from any tile"):
        segments(spans, True)
