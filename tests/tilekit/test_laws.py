"""The laws of axes, both ways."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import integers, sampled_from

from tilekit import Causal, Law, Linear, PlanError, Span
from tilekit._plan.laws import law_from_json, law_to_json

LAWS = sampled_from([Linear(1), Linear(8), Linear(32), Causal(1), Causal(4), Causal(8)])


@given(law=LAWS, start=integers(0, 50), size=integers(1, 50), left=integers(0, 50), right=integers(0, 50))
def test_unmap_is_the_inverse_of_map(law: Law, start: int, size: int, left: int, right: int) -> None:
    span = Span(start, start + size, min(left, size), min(right, size))
    assert law.unmap(law.map(span)) == span


@given(law=LAWS, cells=integers(1, 200))
def test_a_whole_axis_maps_to_its_length_and_back(law: Law, cells: int) -> None:
    mapped = law.map(Span(0, cells))
    assert (mapped.start, mapped.stop) == (0, law.length(cells))
    assert law.cells(law.length(cells)) == cells


@given(factor=integers(1, 32), cells=integers(1, 50))
def test_the_first_latent_of_a_causal_axis_is_one_cell(factor: int, cells: int) -> None:
    assert Causal(factor).length(cells) == 1 + factor * (cells - 1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Linear(32).cells(100), "multiple of 32, got 100"),
        (lambda: Causal(8).cells(24), r"1 \+ 8k, got 24"),
        (lambda: Causal(8).cells(0), r"1 \+ 8k, got 0"),
        (lambda: Linear(8).unmap(Span(0, 12)), "multiple of 8"),
        (lambda: Causal(8).unmap(Span(0, 16)), "off the grid"),
        (lambda: Causal(8).unmap(Span(8, 17, 8, 0)), "off the grid"),
        (lambda: Linear(0), "at least 1, got 0"),
        (lambda: Causal(True), "at least 1, got True"),
        (lambda: law_from_json(["cubic", 3]), "got .*cubic"),
        (lambda: law_to_json(Odd(3)), "only the laws"),
    ],
)
def test_what_is_off_the_grid_is_refused(call: Any, text: str) -> None:
    with pytest.raises(PlanError, match=text):
        call()


class Odd(Linear):
    """A law of a user."""


@given(law=LAWS)
def test_laws_survive_json(law: Law) -> None:
    assert law_from_json(law_to_json(law)) == law
