"""Functions of chunks that hand arrays on may hand on less: the result stays, and less memory is enough."""

from dataclasses import replace
from functools import cache
from itertools import combinations
from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._nets import batched_decoder, cached_decoder, cached_encoder, image_decoder

import tilekit as tk
from tilekit._exact.boxes import cells, meet
from tilekit._exact.forecast import no_scratch
from tilekit._exact.goals import plain_work, work
from tilekit._exact.graph import Graph
from tilekit._exact.handed import FACTORS, between, handed
from tilekit._exact.lean import lean, leanest
from tilekit._exact.necks import necks
from tilekit._exact.plan import plan_of
from tilekit._exact.trace import trace
from tilekit._exact.trials import Trials
from tilekit._exact.ways import slides

LEVELS = range(1, len(FACTORS) + 1)


def taken(graph: Graph) -> int:
    """Count the bytes that parts hand on."""
    return sum(graph.sizes[index] for row in between(graph, 2) for index in row)


def made(graph: Graph) -> int:
    return sum(work(graph, node) for node in graph.nodes if graph.live[node.index])


def trials(graph: Graph) -> Trials:
    return Trials(graph, no_scratch, slides(graph), stream=False, limits=None)


@given(st.integers(2, 4), st.integers(4, 7), st.sampled_from([(4, 8), (8, 8), (16, 4)]), st.sampled_from(LEVELS))
@settings(max_examples=12)
def test_less_is_handed_on_and_what_is_made_again_counts(
    batches: int, height: int, channels: tuple[int, ...], level: int
) -> None:
    graph = batched_decoder(batches, height, 5, channels)
    less = handed(graph, level)
    assert plain_work(less) == plain_work(graph) == made(graph) <= made(less)
    assert less is graph or taken(less) < taken(graph)
    assert [n.shape for n in (less.nodes[less.output], less.nodes[less.input])] == [
        n.shape for n in (graph.nodes[graph.output], graph.nodes[graph.input])
    ]
    assert all(source < node.index for node in less.nodes for source in node.inputs)


def test_what_waits_before_an_enlargement_is_handed_on_in_the_place_of_what_comes_after() -> None:
    graph = batched_decoder(4, 6, 8, (8, 16))
    less = [taken(handed(graph, level)) for level in LEVELS]
    assert less == sorted(less, reverse=True)
    assert less[-1] < 0.8 * taken(graph)


def test_functions_without_parts_stay_as_they_are() -> None:
    graph = image_decoder(8, 8, (4, 4))
    assert handed(graph, len(FACTORS)) is graph
    assert necks(graph) == ()
    assert list(trials(graph).leaner()) == []


@pytest.mark.parametrize("make", [batched_decoder, cached_decoder, cached_encoder])
@pytest.mark.parametrize("level", [0, 2, 5])
def test_every_way_makes_each_cell_of_the_output_once(make: Any, level: int) -> None:
    graph = handed(make(), level)
    size = max(node.nbytes for node in graph.nodes) // 3
    for way in [way for way in slides(graph) if way.axis != way.along]:
        for early in {(), necks(graph)}:
            path = replace(way, early=early).frontiers.least
            stages = replace(way, early=early).stages(path, size)
            rows = (row for stage in stages for step in stage.steps for row in step.targets)
            boxes = [box for index, box in rows if index == graph.output]
            assert sum(map(cells, boxes)) == prod(graph.nodes[graph.output].shape)
            assert not any(meet(p, q) for p, q in combinations(boxes, 2))


def test_a_plan_that_hands_less_on_keeps_its_budget() -> None:
    there = trials(batched_decoder(2, 8, 6, (4, 8)))
    least = leanest(there)
    assert least is not None
    for share in (0.6, 0.5, 0.4):
        choice = lean(there, int(share * there.plain_bytes))
        assert choice is None or choice.peak_bytes <= share * there.plain_bytes
    choice = lean(there, least.peak_bytes)
    assert choice is not None
    assert choice.work <= least.work


@cache
def clip(*, larger: bool = True) -> tuple[Any, Any]:
    """Four frames at a time, with norms over these and the last two inputs of each convolution handed on."""
    torch = pytest.importorskip("torch")
    from torch import nn

    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rows = ((4, 16), (16, 8), (8, 8)) if larger else ((4, 4), (4, 16), (16, 16), (16, 16))
            self.convs = nn.ModuleList(nn.Conv3d(a, b, 3, padding=(0, 1, 1)) for a, b in rows)
            self.norms = nn.ModuleList(nn.GroupNorm(2, b) for _, b in rows)
            self.between = nn.Conv2d(rows[0][1], rows[0][1], 3, padding=1)
            self.last = nn.Conv3d(rows[-1][1], 3, 1)

        def resized(self, x: Any) -> Any:
            x = nn.functional.interpolate(x, scale_factor=2.0) if larger else nn.functional.avg_pool3d(x, 2)
            frames = self.between(x.transpose(1, 2).flatten(0, 1))
            return frames.unflatten(0, (x.shape[0], -1)).transpose(1, 2)

        def forward(self, z: Any) -> Any:
            cache: dict[int, Any] = {}
            parts = []
            for x in z.split(4, 2):
                for k, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                    x = self.resized(x) if k == 1 else x
                    before = cache.get(k, x[:, :, :1].expand(-1, -1, 2, -1, -1))
                    joined = torch.cat([before, x], 2)
                    cache[k] = joined[:, :, -2:].clone()
                    x = nn.functional.silu(norm(conv(joined)))
                parts.append(self.last(x))
            return torch.cat(parts, 2)

    torch.manual_seed(0)
    return Clip().eval().requires_grad_(False), torch.randn(1, 4, 12, 6, 8)


@pytest.mark.parametrize("larger", [True, False])
def test_the_graph_that_hands_less_on_gives_the_same(larger: bool) -> None:
    torch = pytest.importorskip("torch")
    from tests.tilekit.exact._graphs import evaluate

    from tilekit._exact.kernels import kernels_of

    module, z = clip(larger=larger)
    traced = trace(module, z)
    graphs = [handed(traced.graph, level) for level in LEVELS]
    assert taken(graphs[-1]) < taken(traced.graph)
    for less in dict.fromkeys(graphs):
        torch.testing.assert_close(evaluate(less, kernels_of(z), z, traced.constants), module(z), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_hands_less_on_gives_the_same(stream: bool) -> None:
    torch = pytest.importorskip("torch")
    from tilekit._exact.kernels import kernels_of

    module, z = clip()
    graph, scratch = trace(module, z).graph, kernels_of(z).scratch
    *_, most = Trials(graph, scratch, slides(graph, stream=stream), stream=stream, limits=None).leaner()
    way = most.slides[0]
    choice = most.planned(way.stages(way.frontiers.least, most.largest // 4), way)
    plan = plan_of(graph, choice, stream=stream)
    assert plan.handed == choice.level > 0
    again = tk.ExactPlan.from_json(plan.to_json())
    assert again == plan
    call = tk.exact(module)
    made = torch.cat([block for _, block in call.stream(z, plan=again)], plan.axis) if stream else call(z, plan=again)
    torch.testing.assert_close(made, module(z), rtol=1e-5, atol=1e-5)
    with pytest.raises(tk.PlanError, match=r"plan\.handed: got 9, expected 0 to 5"):
        call(z, plan=replace(plan, handed=9))
    with pytest.raises(tk.PlanError, match="each of which must be made once"):
        call(z, plan=replace(plan, handed=0))


def test_all_chunks_wait_where_that_is_less_than_what_they_would_hand_on() -> None:
    torch = pytest.importorskip("torch")
    from tilekit._exact.kernels import kernels_of

    module, z = clip(larger=False)
    graph, scratch = trace(module, z).graph, kernels_of(z).scratch
    ends = necks(graph)
    assert len(ends) == 3
    first, *_ = Trials(graph, scratch, slides(graph), stream=False, limits=None).leaner()
    way = first.slides[0]
    early = replace(way, early=ends)
    goals = [goal.nodes for goal in early.barriers.goals]
    assert max(goals.index((index,)) for index in ends) < min(
        k for k, goal in enumerate(early.barriers.goals) if goal.part is not None
    )
    assert early.frontiers.lasting.work == way.frontiers.lasting.work
    plan = plan_of(graph, first.planned(early.stages(early.frontiers.lasting, first.largest // 4), early))
    torch.testing.assert_close(tk.exact(module)(z, plan=plan), module(z), rtol=1e-5, atol=1e-5)
