"""What is chosen, and whether its forecast keeps the budget."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations, pairwise
from math import prod
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._nets import (
    batched_decoder,
    cached_decoder,
    cached_encoder,
    chunked_decoder,
    image_decoder,
    image_encoder,
    nets,
    video_decoder,
)

from tilekit import PlanError
from tilekit._exact.boxes import cells, full, meet
from tilekit._exact.coarse import Coarse, often
from tilekit._exact.forecast import Forecast, forecast, no_scratch
from tilekit._exact.graph import Graph
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Attention
from tilekit._exact.program import Program, program_of
from tilekit._exact.search import search
from tilekit._exact.sized import HALVED, sized
from tilekit._exact.stages import plain, points
from tilekit._exact.steps import Kept, Stage
from tilekit._exact.trials import FLOOR, Trials
from tilekit._exact.ways import LARGE, slides, tilings

WIDE = (128, 256, 512, 512)


def plain_bytes(graph: Graph) -> int:
    return forecast(program_of(graph, plain(graph))).peak_bytes


def peak(graph: Graph, stages: tuple[Stage, ...]) -> int:
    return forecast(program_of(graph, stages)).peak_bytes


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 50))
def test_cuts_of_an_axis_are_in_order_and_none_is_empty(n: int, coarse: int, steps: int) -> None:
    ends = points(n, coarse, steps)
    assert (ends[0], ends[-1]) == (0, n)
    assert all(a < b for a, b in pairwise(ends))
    assert len(ends) <= steps + 1


def test_causal_frames_are_cut_after_the_first() -> None:
    assert points(17, 3, 3) == (0, 1, 9, 17)


@given(nets(), st.sampled_from([None, 0.9, 0.6, 0.4]))
def test_a_choice_keeps_its_budget_and_makes_each_cell_of_the_output_once(graph: Graph, share: float | None) -> None:
    whole = plain_bytes(graph)
    budget = None if share is None else int(share * whole)
    try:
        choice = search(graph, budget)
    except PlanError as error:
        least = int(re.findall(r"takes (\d+) ", str(error))[0])
        assert budget is not None
        assert budget < least
        choice = search(graph, least)
        budget = least
    assert choice.peak_bytes == peak(graph, choice.stages)
    assert choice.peak_bytes <= (whole if budget is None else budget)
    for stage in choice.stages:
        nodes = {node for step in stage.steps for node, _ in step.targets}
        for index in nodes:
            boxes = [box for step in stage.steps for node, box in step.targets if node == index]
            assert all(meet(a, b) is None for i, a in enumerate(boxes) for b in boxes[:i])
            if index != graph.output:
                assert sum(cells(box) for box in boxes) == cells(full(graph.nodes[index].shape))
    written = [box for stage in choice.stages for step in stage.steps for n, box in step.targets if n == graph.output]
    assert sum(cells(box) for box in written) == cells(full(graph.nodes[graph.output].shape))


@pytest.mark.parametrize(
    ("make", "share", "work"),
    [
        (partial(image_decoder, 64, 64, WIDE), 0.36, 1.0),
        (partial(image_decoder, 64, 64, WIDE), 0.20, 1.6),
        (partial(image_encoder, 512, 512, WIDE), 0.70, 1.0),
        (partial(image_encoder, 512, 512, WIDE), 0.42, 1.075),
        (partial(image_encoder, 512, 512, WIDE), 0.25, 1.6),
        (partial(batched_decoder, 4, 60, 90, (64, 128, 128)), 0.30, 1.0),
        (partial(video_decoder, 9, 60, 104, (64, 128, 256)), 0.10, 1.0),
        (partial(cached_decoder, 6, 64, 64), 0.75, 1.0),
    ],
)
def test_budgets_are_kept_with_little_work(make: partial[Graph], share: float, work: float) -> None:
    graph = make()
    choice = search(graph, int(share * plain_bytes(graph)))
    assert choice.work <= work + 1e-3


def test_without_a_budget_nothing_is_made_again() -> None:
    graph = image_decoder(64, 64, WIDE)
    choice = search(graph)
    assert choice.work == pytest.approx(1.0)
    assert choice.peak_bytes <= 0.5 * plain_bytes(graph)


@pytest.mark.parametrize(
    "make", [partial(image_decoder, 64, 64, WIDE), partial(video_decoder, 5, 30, 52, (64, 128, 256))]
)
def test_without_a_budget_strips_are_few_and_large(make: partial[Graph]) -> None:
    graph = make()
    half, usual = plain_bytes(graph) // 2, search(graph)
    assert usual.peak_bytes <= half
    assert usual.operations <= 1.5 * search(graph, half).operations
    smallest = search(graph, int(0.36 * plain_bytes(graph)))
    assert usual.operations <= smallest.operations


@settings(max_examples=12)
@given(nets(), st.sampled_from([1, 2, 4]), st.booleans())
def test_without_a_budget_no_plan_takes_more_than_a_plain_call_where_one_takes_less(
    graph: Graph, times: int, stream: bool
) -> None:
    """Kernels may take memory that the library does not take in a plain call."""

    def scratch(job: Job[Any]) -> int:
        return times * cells(job.box) * 4

    whole = plain_bytes(graph)
    try:
        below = search(graph, whole, scratch, stream=stream)
    except PlanError:
        return
    assert max(below.peak_bytes, search(graph, None, scratch, stream=stream).peak_bytes) <= whole


def test_nothing_is_kept_that_no_later_stage_reads() -> None:
    """What is kept is chosen by nodes; of what a chunk leaves behind, the next one may read none of the boxes."""
    graph = image_decoder()
    way = slides(graph)[0]
    stages = way.stages(way.frontiers.lasting, max(graph.sizes) // 4)
    program = program_of(graph, stages)
    read = {node for plan in program.stages for step in plan.steps for node, _ in step.reads}
    inner = (
        (number, made.node)
        for number, plan in enumerate(program.stages[:-1])
        for made in plan.steps[0].makes
        if made.node not in read and made.emit is None
    )
    number, node = next(inner)
    stage, box = stages[number], full(graph.nodes[node].shape)
    steps = (replace(stage.steps[0], targets=(*stage.steps[0].targets, (node, box))), *stage.steps[1:])
    fuller = replace(stage, steps=steps, keep=(*stage.keep, Kept(node, 0)))
    idle = program_of(graph, (*stages[:number], fuller, *stages[number + 1 :]))
    assert tuple(plan.stage for plan in idle.stages) == stages


def test_strips_of_the_last_axis_are_taken_only_if_no_others_do() -> None:
    """They lie in memory in pieces of a few cells."""
    graph = image_decoder(64, 64, WIDE)
    assert not search(graph).scattered
    axes = {
        axis
        for stage in search(graph).stages
        for step in stage.steps
        for node, box in step.targets
        for axis, (interval, n) in enumerate(zip(box, graph.nodes[node].shape, strict=True))
        if interval != (0, n)
    }
    assert axes <= {2}


@given(nets(), st.sampled_from([0.9, 0.7, 0.5, 0.3]))
def test_a_larger_budget_never_takes_more_operations_or_work(graph: Graph, share: float) -> None:
    whole = plain_bytes(graph)
    try:
        small = search(graph, int(share * whole))
    except PlanError:
        return
    large = search(graph, int(1.2 * share * whole))
    assert large.work <= small.work + 0.02
    if large.work > small.work - 0.001:
        assert large.operations <= 2 * small.operations


@settings(max_examples=10)  # each searches for the least three times
@given(nets(), st.sampled_from([0.9, 0.6, 0.4, 0.25]))
def test_the_least_that_a_refusal_names_is_accepted_and_no_plan_takes_less(graph: Graph, share: float) -> None:
    with pytest.raises(PlanError) as refused:
        search(graph, 1)
    least = int(re.findall(r"takes (\d+) ", str(refused.value))[0])
    assert search(graph, least).peak_bytes <= least
    try:
        accepted = search(graph, int(share * plain_bytes(graph)))
    except PlanError:
        return
    assert least <= accepted.peak_bytes


def test_a_least_of_chunks_is_accepted() -> None:
    """What was counted on the way to a refusal does not count towards what is found."""
    graph = cached_decoder()
    with pytest.raises(PlanError) as refused:
        search(graph, 1)
    least = int(re.findall(r"takes (\d+) ", str(refused.value))[0])
    assert search(graph, least).peak_bytes <= least


def test_no_stages_are_counted_twice_where_a_budget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Stage, ...]] = []
    count = Trials.count

    def counting(self: Trials, program: Program, axis: int) -> Forecast:
        seen.append(tuple(plan.stage for plan in program.stages))
        return count(self, program, axis)

    monkeypatch.setattr(Trials, "count", counting)
    with pytest.raises(PlanError):
        search(image_decoder(8, 8, (8, 16)), 1)
    assert len(seen) == len(set(seen)) > 2


def test_what_is_made_before_tiles_is_small_so_finer_grids_take_less_memory() -> None:
    graph = cached_decoder(4, 64, 64)
    largest = max(node.nbytes for node in graph.nodes)
    peaks: dict[int, int] = {}
    for way in tilings(graph):
        tiles = prod(way.grid.values())
        before = way.before.made(len(way.before.goals) - 1, frozenset(), way.front) if way.front else frozenset()
        assert all(graph.nodes[index].nbytes * tiles <= largest for index in before)
        peaks[tiles] = min(peaks.get(tiles, largest * 99), peak(graph, way.stages(largest)))
    assert peaks[max(peaks)] < 0.6 * peaks[min(peaks)]


@pytest.mark.parametrize("make", [image_decoder, cached_encoder, partial(video_decoder, 5, 16, 16)])
def test_what_is_made_before_finer_tiles_is_what_they_would_find_alone(make: partial[Graph]) -> None:
    """A network of capacities is added to for the next grid, and made anew where that makes something less often."""
    graph, chosen = make(), Coarse(make())
    most = graph.sizes[graph.output] * 4
    for counts in ((1, 2), (2, 2), (2, 3), (3, 3), (2, 2), (4, 4)):
        shares = often(graph, dict(zip((3, 2), counts, strict=True)))
        for rate in (1e-2, 1e-4, 0.0):
            front = chosen.front(shares, rate, most // prod(counts))
            assert front == Coarse(graph).front(shares, rate, most // prod(counts))


def test_tiles_of_chunks_keep_what_attention_gives_alone() -> None:
    graph = chunked_decoder(4)
    given = 4 * max(node.nbytes for node in graph.nodes if isinstance(node.op, Attention))
    assert given in {way.held for way in tilings(graph)}


@pytest.mark.parametrize("make", [cached_decoder, cached_encoder, chunked_decoder, batched_decoder, video_decoder])
@pytest.mark.parametrize("stream", [False, True])
def test_every_way_makes_each_cell_of_the_output_once(make: Any, stream: bool) -> None:
    graph = make()
    size = max(node.nbytes for node in graph.nodes) // 3
    plans = [way.stages(way.frontiers.lasting, size) for way in slides(graph, stream=stream)]
    plans += [way.stages(size) for way in tilings(graph, stream=stream)]
    for stages in plans:
        rows = (row for stage in stages for step in stage.steps for row in step.targets)
        made = [box for index, box in rows if index == graph.output]
        assert sum(map(cells, made)) == prod(graph.nodes[graph.output].shape)
        assert not any(meet(p, q) for p, q in combinations(made, 2))


def test_chunks_that_end_in_attention_each_are_cut_across_all_of_them() -> None:
    graph = cached_encoder(6, 32, 32)
    choice = search(graph)
    assert choice.peak_bytes < 0.5 * plain_bytes(graph)
    assert choice.work <= 1


def test_a_large_budget_gives_the_plain_call() -> None:
    graph = image_decoder()
    assert search(graph, plain_bytes(graph)).stages == plain(graph)


@pytest.mark.parametrize("make", [video_decoder, partial(cached_decoder, 5), image_decoder])
def test_a_stream_comes_in_order(make: partial[Graph]) -> None:
    graph = make()
    choice = search(graph, plain_bytes(graph) * 9 // 10, stream=True)
    starts = [
        box[choice.axis][0]
        for stage in choice.stages
        for step in stage.steps
        for n, box in step.targets
        if n == graph.output
    ]
    assert starts == sorted(starts)
    assert len(set(starts)) > 1


def test_what_is_kept_may_lie_elsewhere() -> None:
    graph = image_decoder(64, 64, WIDE)
    choice = search(graph, plain_bytes(graph) // 5, spill="host")
    assert choice.work == pytest.approx(1.0)
    assert {kept.place for stage in choice.stages for kept in stage.keep} == {"host"}


def test_large_graphs_that_give_frames_one_after_the_other_slide_across_each_of_them() -> None:
    """Else the last array of every part is kept to the end."""
    graph = batched_decoder(40, 4, 4, (4, 4))
    assert len(graph.nodes) > LARGE
    assert [(way.along, way.axis) for way in slides(graph)] == [(2, 2), (3, 3), (3, 2)]


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("fixed", [0, 50, 80, 130, 400])
def test_strips_are_not_made_smaller_where_that_cannot_come_down_to_a_budget(fixed: int, waiting: bool) -> None:
    """Of what strips take, `fixed` is there whatever their size (between steps too, if it waits), the rest goes."""
    (way, *_) = slides(image_decoder())
    trials = Trials(way.graph, no_scratch, (way,), stream=False, limits=None)
    tried: list[int] = []

    def attempt(way: Any, count: Any, *, most: float) -> Any:
        del way, most
        tried.append(count)
        return SimpleNamespace(peak_bytes=fixed + 12800 // count, counted=SimpleNamespace(waits=fixed * waiting))

    trials.attempt = attempt  # type: ignore[method-assign, assignment]
    cut: Any = lambda size: trials.largest // size  # noqa: E731  a number in the place of stages
    found = trials.largest_strips(way, cut, 100)
    if fixed < 100:
        assert found is not None
        assert found.peak_bytes <= 100
        assert fixed + 12800 // (tried[-1] // 4) > 100  # hardly more strips than that takes
    else:
        assert found is None
    assert len(tried) <= (6 if fixed < 120 else 1 if waiting else 2)


@pytest.mark.parametrize("make", [partial(image_decoder, 64, 64), partial(cached_decoder, 3)])
def test_what_waits_between_few_strips_waits_between_many(make: Callable[[], Graph]) -> None:
    """So that smaller ones are not tried where that alone is too much."""
    graph = make()
    trials = Trials(graph, no_scratch, slides(graph), stream=False, limits=None)
    for way in trials.slides:
        tried = [trials.planned(way.stages(way.frontiers.lasting, trials.largest // n), way) for n in (2, 4, 8, 16)]
        for few, many in pairwise(tried):
            assert 0 < few.counted.waits <= FLOOR * many.peak_bytes
            assert few.counted.waits <= few.peak_bytes


def test_few_strips_are_cut_once_more_where_that_saves_a_fifth() -> None:
    graph = image_decoder(64, 8)
    kernels: Any = SimpleNamespace(scratch=no_scratch, plain_scratch=no_scratch)
    trials = Trials(graph, no_scratch, slides(graph), stream=False, limits=None)
    halved = 0
    for pieces in (3, 4):
        plans = [way.stages(way.frontiers.lasting, -(-trials.largest // pieces)) for way in trials.slides]
        asked = [peak(graph, stages) for stages in plans]
        got = sized(graph, pieces, kernels).peak_bytes
        assert got in {*asked, trials.whole.peak_bytes} or got <= HALVED * max(asked)
        halved += got < min(asked)
    assert halved
