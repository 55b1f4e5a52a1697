"""Splits and masks: the official tables, and the laws that every split obeys."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis.strategies import booleans, integers

from tilekit import Causal, Linear, PlanError, Span, split, split_by_count, trapezoid_mask
from tilekit._plan.spans import split_uniform, uniform_count


@pytest.fixture(params=["core100", "core120"])
def table(request: pytest.FixtureRequest, reference: Path) -> dict[str, Any]:
    """The official tables of one version."""
    found: dict[str, Any] = json.loads((reference / f"tiling_tables_{request.param}.json").read_text())
    return found


@pytest.fixture
def rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of decoding."""
    return [row for row in table["rows"] if not row["kind"].endswith("encode")]


def ours(row: dict[str, Any]) -> tuple[Span, ...]:
    causal = row["kind"].startswith("temporal")
    least = row.get("min_tile_size")
    if "num_tiles" in row:
        return split_by_count(row["dim"], row["num_tiles"], row["overlap"], causal=causal, min_size=least)
    return split(row["dim"], row["size"], row["overlap"], causal=causal, min_size=least)


def test_splits_equal_the_official_tables(rows: list[dict[str, Any]]) -> None:
    assert len(rows) > 60
    for row in rows:
        if "official_error" in row:
            with pytest.raises(PlanError):
                ours(row)
            continue
        assert [[*s] for s in map(as_list, ours(row))] == [[*v.values()] for v in row["intervals"]], row["kind"]


def test_spans_map_to_the_official_output_cells_and_masks(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if "official_error" in row:
            continue
        causal = row["kind"].startswith("temporal")
        law = Causal(row["scale"]) if causal else Linear(row["scale"])
        for span, out, mask in zip(ours(row), row["out"], row["masks"], strict=True):
            mapped = law.map(span)
            assert [mapped.start, mapped.stop] == out
            made = trapezoid_mask(len(mapped), mapped.left_ramp, mapped.right_ramp, left_starts_from_0=causal)
            assert made == pytest.approx(mask, abs=1e-6)


def test_masks_equal_the_official_ones(table: dict[str, Any]) -> None:
    masks = table["trapezoidal"]
    assert any(row["left"] > row["length"] for row in masks)  # ramps longer than the mask are part of the table
    for row in masks:
        made = trapezoid_mask(row["length"], row["left"], row["right"], left_starts_from_0=row["left_starts_from_0"])
        assert made == pytest.approx(row["mask"], abs=1e-6), row


def as_list(span: Span) -> list[int]:
    return [span.start, span.stop, span.left_ramp, span.right_ramp]


def assert_covers(spans: tuple[Span, ...], length: int, causal: bool) -> None:
    """In order, without gaps, and with ramps as long as the overlaps."""
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert spans[0].left_ramp == spans[-1].right_ramp == 0
    for before, after in pairwise(spans):
        assert before.start <= after.start <= before.stop < after.stop
        assert after.left_ramp == before.stop - after.start == before.right_ramp + causal


@given(length=integers(1, 200), size=integers(1, 40), overlap=integers(0, 39), causal=booleans())
def test_split_covers_the_axis_in_order(length: int, size: int, overlap: int, causal: bool) -> None:
    assume(overlap < size)
    spans = split(length, size, overlap, causal=causal)
    assert_covers(spans, length, causal)
    assert all(len(s) <= size + causal for s in spans)


@given(length=integers(2, 200), size=integers(2, 40), overlap=integers(0, 39), least=integers(1, 40))
def test_split_grows_the_last_span_to_the_least_size(length: int, size: int, overlap: int, least: int) -> None:
    assume(overlap < size and least <= size)
    spans = split(length, size, overlap, min_size=least)
    assert_covers(spans, length, causal=False)
    assert len(spans[-1]) >= min(least, length)


@pytest.mark.parametrize(
    ("spans", "intervals"),
    [
        (split(57, 20, 4, min_size=12), [(0, 20), (16, 36), (32, 52), (45, 57)]),
        (split(5, 4, 1, min_size=6), [(0, 5)]),  # shorter than the least size: whole, not refused
        (
            split_by_count(14, 2, 3, min_size=9),
            [(0, 9), (5, 14)],
        ),  # as long as the first
    ],
)
def test_the_last_span_grows_as_in_the_official_splitter(spans: tuple[Span, ...], intervals: list[Any]) -> None:
    """What ltx-core 1.2.0 gave; it was the same in 20,000 draws of all arguments."""
    assert [(s.start, s.stop) for s in spans] == intervals
    shared = spans[-2].stop - spans[-1].start if len(spans) > 1 else 0
    assert spans[-1].left_ramp == shared
    assert len(spans) == 1 or spans[-2].right_ramp == shared


@given(length=integers(1, 200), count=integers(1, 20), overlap=integers(0, 20), causal=booleans())
def test_split_by_count_gives_that_many_of_nearly_one_size(length: int, count: int, overlap: int, causal: bool) -> None:
    assume(count <= length and (length + overlap * (count - 1)) // count > overlap)
    spans = split_by_count(length, count, overlap, causal=causal)
    assert len(spans) == count
    assert_covers(spans, length, causal)
    sizes = {len(s) - (causal and i > 0) for i, s in enumerate(spans)}
    assert max(sizes) - min(sizes) <= 1


@given(length=integers(1, 200), size=integers(1, 40), overlap=integers(0, 39), causal=booleans())
def test_uniform_spans_have_one_size_and_keep_the_overlap(length: int, size: int, overlap: int, causal: bool) -> None:
    assume(overlap < size)
    count = uniform_count(length, size, overlap, causal=causal)
    assert count <= len(split(length, size, overlap, causal=causal))
    spans = split_uniform(length, count, overlap, causal=causal)
    assert len({len(s) for s in spans}) == 1
    assert len(spans[0]) <= size + causal  # no larger than the tiles that were asked for
    assert all(a.stop - b.start >= overlap + causal for a, b in pairwise(spans))
    assert_covers(spans, length, causal)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: split(0, 4, 1), "at least 1 cell, got 0"),
        (lambda: split(9, 0, 0), "at least 1 cell, got 0"),
        (lambda: split(9, 4, 4), "overlap=4 with size=4"),
        (lambda: split(9, 4, -1), "at least 0 cells, got -1"),
        (lambda: split(9, 4, 1, min_size=0), "min_size must be at least 1 cell, got 0"),
        (lambda: split(9, 4, 1, min_size=8), "min_size must be at most the tile size, got min_size=8 with tiles of 4"),
        (lambda: split_by_count(16, 4, 2, min_size=7), "got min_size=7 with tiles of 5 cells"),
        (lambda: split(10**9, 4, 1), "at most 250000 tiles, this one would have 333333333"),
        (lambda: split_by_count(10**9, 10**8), "at most 250000 tiles, this one would have 100000000"),
        (lambda: split_uniform(10**9, 10**8, 0), "at most 250000 tiles, this one would have 100000000"),
        (lambda: split_by_count(5, 6), "between 1 and the 5 cells of the axis, got 6"),
        (lambda: split_by_count(5, 0), "between 1 and the 5 cells of the axis, got 0"),
        (lambda: split_by_count(5, 4, 2), "overlap=2 with 4 tiles of 2 cells"),
        (lambda: split_uniform(5, 6, 0), "between 1 and the 5 cells of the axis, got 6"),
        (lambda: split_uniform(4, 3, 3), "4 cells are too few for 3 different tiles of 4"),
        (lambda: trapezoid_mask(0, 0, 0), "length above 0"),
        (lambda: trapezoid_mask(3, -1, 0), "ramps of at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(call: Any, text: str) -> None:
    with pytest.raises(PlanError, match=text):
        call()
