"""What is known of operations that are alike changes no schedule and no forecast."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._nets import batched_decoder, cached_decoder, nets

from tilekit._exact.alike import Alike
from tilekit._exact.boxes import cells
from tilekit._exact.forecast import forecast
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Input, Pointwise
from tilekit._exact.program import program_of
from tilekit._exact.ways import slides


def taken(job: Job[Any]) -> int:
    """Depend on all that a kernel is told."""
    lies = sum(axis * stride for _, strides in filter(None, job.given) for axis, stride in enumerate(strides, 1))
    read = sum(k * cells(box) for k, box in enumerate(job.boxes, 2) if box is not None)
    return lies + read + 7 * cells(job.box) + sum(k * start for k, (start, _) in enumerate(job.box))


def agrees(graph: Graph, *, stream: bool) -> None:
    """Plan with and without what is known, in all ways and several sizes of strips one after the other."""
    alike = Alike(graph)
    for way in slides(graph, stream=stream):
        for count in (1, 3, 8):
            stages = way.stages(way.frontiers.lasting, max(graph.sizes) // count)
            known, plain = program_of(graph, stages, alike=alike), program_of(graph, stages)
            assert known == plain
            axis = way.axis if stream else None
            assert forecast(known, taken, axis=axis, alike=alike) == forecast(plain, taken, axis=axis)


@given(nets(), st.booleans())
@settings(max_examples=15, deadline=None)
def test_random_networks_are_planned_as_without(graph: Graph, stream: bool) -> None:
    agrees(graph, stream=stream)


@pytest.mark.parametrize("graph", [cached_decoder(6), batched_decoder(4)], ids=["chunks", "batches"])
def test_clips_are_planned_as_without(graph: Graph) -> None:
    live = [kind for kind, made in zip(Alike(graph).kinds, graph.live, strict=True) if made]
    assert 2 * len(set(live)) < len(live)
    agrees(graph, stream=False)


def test_numbers_of_another_type_are_not_alike() -> None:
    def node(index: int, number: float) -> Node:
        return Node(index, Pointwise(Times(number)), (0,), (2, 3), "float32")

    source = Node(0, Input(), (), (2, 3), "float32")
    kinds = Alike(Graph((source, node(1, 1), node(2, 1.0), node(3, 1)), 0, 3)).kinds
    assert kinds[1] == kinds[3] != kinds[2]


class Times:
    """A call that is equal to that with the same number of another type, as numbers are."""

    def __init__(self, number: float) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Times) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __call__(self, arrays: list[Any]) -> Any:
        return arrays[0] * self.number

    def __repr__(self) -> str:
        return f"Times({self.number!r})"
