"""Several ranks give what one gives; parts fill arrays, and what is missing is sent once."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._graphs import NORMED, SLIDING, Builder, evaluate, graphs
from tests.tilekit.exact._nets import Net, _nothing
from tests.tilekit.exact._ranks import Ran, Rank, Together, run_ranks
from tests.tilekit.exact.test_run import numpy_call, slabs, staged

from tilekit import PlanError
from tilekit._exact.boxes import Box, full, meet, within, without
from tilekit._exact.forecast import no_scratch
from tilekit._exact.graph import Graph
from tilekit._exact.ops import Concat, Constant, Conv, MatMul, Pad, Permute, Pointwise, Reshape
from tilekit._exact.program import program_of
from tilekit._exact.search import search
from tilekit._exact.stages import plain
from tilekit._exact.steps import Place, Stage, Step
from tilekit._exact.strips import run as strips_run
from tilekit._exact.strips.array_link import ArrayLink
from tilekit._exact.strips.choose import Plans, forecast_part, plans_of
from tilekit._exact.strips.halos import halos_of
from tilekit._exact.strips.partition import Partition, cut_axes, divided, grid_of
from tilekit._exact.strips.parts import PartMake, StripProgram, strip_program
from tilekit._exact.strips.run import StripCall

COUNTS = st.sampled_from([(2,), (3,), (4,), (2, 2), (1, 3), (3, 2)])


def ran(built: Builder, partition: Partition, stages: tuple[Stage, ...]) -> tuple[Ran, Any]:
    graph = partition.graph
    result = np.full(graph.nodes[graph.output].shape, np.nan, np.float32)
    seen = np.zeros(result.shape, int)

    def write(box: Box, value: Any) -> None:
        region = within(full(result.shape), box)
        result[region] = value
        seen[region] += 1

    held = run_ranks(lambda program: numpy_call(built, program), partition, stages, result, write)
    assert (seen == 1).all()
    call = numpy_call(built, program_of(graph, stages))
    return held, evaluate(graph, call.kernels, call.source, call.constants)


def axes_of(counts: tuple[int, ...]) -> tuple[int, ...]:
    return (2, 3)[-len(counts) :]


@given(built=graphs(), counts=COUNTS, axis=st.integers(0, 3), rows=st.integers(1, 4), backwards=st.booleans())
@settings(max_examples=120, deadline=None)
def test_ranks_give_the_plain_result(
    built: Builder, counts: tuple[int, ...], axis: int, rows: int, backwards: bool
) -> None:
    """For any graph, any axis that slides (one that is cut among them) and any grid, with empty parts as well."""
    graph = built.graph()
    boxes = slabs(graph.nodes[graph.output].shape, axis, rows)
    steps = tuple(Step(((graph.output, box),)) for box in (reversed(boxes) if backwards else boxes))
    held, want = ran(built, divided(graph, axes_of(counts), counts), (Stage(steps),))
    np.testing.assert_allclose(held.result, want, rtol=2e-4, atol=2e-4)
    assert held.sent == [sum(program.sent.values()) for program in held.programs]


@given(built=graphs(NORMED), counts=COUNTS)
@settings(max_examples=25, deadline=None)
def test_statistics_are_put_together_over_ranks(built: Builder, counts: tuple[int, ...]) -> None:
    graph = built.graph()
    for stages in (search(graph).stages, plain(graph)):
        held, want = ran(built, divided(graph, axes_of(counts), counts), stages)
        np.testing.assert_allclose(held.result, want, rtol=2e-4, atol=2e-4)


@given(built=graphs(), counts=COUNTS, rows=st.integers(1, 4), place=st.sampled_from(["device", "host"]))
@settings(max_examples=80, deadline=None)
def test_statistics_taken_over_steps_are_put_together_over_ranks(
    built: Builder, counts: tuple[int, ...], rows: int, place: Place
) -> None:
    """Wherever what is kept between the stages lies."""
    stages = [
        replace(stage, keep=tuple(replace(kept, place=place) for kept in stage.keep)) for stage in staged(built, rows)
    ]
    held, want = ran(built, divided(built.graph(), axes_of(counts), counts), tuple(stages))
    np.testing.assert_allclose(held.result, want, rtol=2e-4, atol=2e-4)


@given(built=graphs(), counts=COUNTS)
def test_the_parts_of_every_array_fill_it(built: Builder, counts: tuple[int, ...]) -> None:
    """Each cell of a node that is cut has one owner."""
    graph = built.graph()
    partition = divided(graph, axes_of(counts), counts)
    for node in graph.nodes:
        owners = {box for rank in range(partition.size) if (box := partition.own(rank, node.index)) is not None}
        seen: Any = np.zeros(node.shape, int)
        for box in owners:
            seen[within(full(node.shape), box)] += 1
        assert (seen == 1).all()
        assert partition.cut(node.index) or owners == {full(node.shape)}


@given(built=graphs(SLIDING), counts=COUNTS, rows=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_what_is_missing_is_received_once_and_nothing_else(built: Builder, counts: tuple[int, ...], rows: int) -> None:
    graph = built.graph()
    steps = tuple(Step(((graph.output, box),)) for box in slabs(graph.nodes[graph.output].shape, 0, rows))
    check_received(built, divided(graph, axes_of(counts), counts), steps)


def test_blocks_that_a_rank_makes_beyond_its_part_are_not_received() -> None:
    """Blocks of two columns whose border lies within one: a rank makes all of it, and lacks what is beside it."""
    b = Builder((1, 1, 2, 2))
    x = b.add(
        Conv((2, 3), 1, (1, 1), (1, 1), (0, 0), (1, 1), (1, 1), (1, 1), 1, 1),
        (0, b.constant((1, 1, 1, 1))),
        (1, 1, 3, 3),
    )
    x = b.add(Concat(1), (x,) * 4, (1, 4, 3, 3))
    x = b.add(Reshape(), (x,), (1, 1, 2, 2, 3, 3))
    x = b.add(Permute((0, 1, 4, 2, 5, 3)), (x,), (1, 1, 3, 2, 3, 2))
    x = b.add(Reshape(), (x,), (1, 1, 6, 6))
    x = b.add(MatMul(lambda arrays: arrays[0] @ arrays[1]), (x, b.constant((6, 3))), (1, 1, 6, 3))
    b.add(Pad((0,) * 4, (0, 0, 0, 2)), (x,), (1, 1, 6, 5))
    graph = b.graph()
    check_received(b, divided(graph, (3,), (3,)), (Step(((graph.output, full((1, 1, 6, 5))),)),))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_plan_that_leaves_rows_out_is_refused_on_ranks_too(streamed: bool) -> None:
    b = Builder((1, 1, 6, 2))
    graph, kept = b.graph(), ((0, 1), (0, 1), (0, 4), (0, 2))
    program = program_of(graph, [Stage((Step(((graph.output, kept),)),))])
    call = numpy_call(b, program)
    halos = halos_of(divided(graph, (3,), (1,)), [stage.stage for stage in program.stages], ())
    alone = Rank(0, Together(1))
    link = ArrayLink(alone, call.kernels, call.source)
    held = StripCall(call, strip_program(program, halos, 0), alone, link, gather=False)
    with pytest.raises(PlanError, match="leaves out 4 of the 12 numbers"):
        [*strips_run.stream(held, 2, lambda done: None)] if streamed else strips_run.run(held, lambda done: None)


BOXES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=2, max_size=2).map(
    lambda rows: tuple((start, start + n) for start, n in rows)
)


@given(box=BOXES, taken=BOXES | st.none())
def test_what_is_left_of_a_box_is_each_cell_once(box: Box, taken: Box | None) -> None:
    seen: Any = np.zeros((8, 8), int)
    for part in (*without(box, taken), *(() if taken is None else [meet(box, taken)])):
        if part is not None:
            seen[within(full((8, 8)), part)] += 1
    want: Any = np.zeros((8, 8), int)
    want[within(full((8, 8)), box)] = 1
    np.testing.assert_array_equal(seen, want)


def check_received(built: Builder, partition: Partition, steps: tuple[Step, ...]) -> None:
    """Hold ranks to receiving what they read and do not make, and each cell once."""
    graph = partition.graph
    held, _ = ran(built, partition, (Stage(steps),))
    for program, pieces in zip(held.programs, held.pieces, strict=True):
        made, read = _touched(program)
        came = {index: [_ones(graph, index, box) for box in boxes] for index, boxes in pieces.items()}
        for index, boxes in came.items():
            assert sum(boxes, _ones(graph, index, None)).max() <= 1
            assert not (sum(boxes, _ones(graph, index, None)) * made.get(index, 0)).any()
        for index in read.keys() & (made.keys() | came.keys()):
            there = sum(came.get(index, []), made.get(index, _ones(graph, index, None)))
            assert (there[read[index] > 0] > 0).all()


def _touched(program: StripProgram) -> tuple[dict[int, Any], dict[int, Any]]:
    """Count how often a rank makes and reads each cell of each node."""
    graph = program.graph
    made, read = dict[int, Any](), dict[int, Any]()
    for make in (make for step in program.stages[0].steps for make in step.makes):
        assert isinstance(make, PartMake)
        if make.part is not None:
            made[make.node] = made.get(make.node, 0) + _ones(graph, make.node, make.part)
            for source, need in zip(graph.nodes[make.node].inputs, make.needs, strict=True):
                read[source] = read.get(source, 0) + _ones(graph, source, need)
    return made, read


def _ones(graph: Graph, index: int, box: Box | None) -> Any:
    seen: Any = np.zeros(graph.nodes[index].shape, int)
    if box is not None:
        seen[within(full(seen.shape), box)] = 1
    return seen


def convolutions(size: int, channels: tuple[int, ...], columns: int = 12) -> Graph:
    """Frames of rows and columns through convolutions of three cells."""
    net = Net((1, channels[0], size, size, columns))
    x = net.input
    for before, after in pairwise(channels):
        weight = net.add(Constant(len(net.nodes)), (), (after, before, 3, 3, 3))
        three = (1,) * 3
        op = Conv((2, 3, 4), 1, (3,) * 3, three, three, three, three, three, 1, before)
        x = net.add(op, (x, weight), (1, after, *net.shape(x)[2:]))
        x = net.add(Pointwise(_nothing), (x,), net.shape(x))
    return net.graph(x)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_bytes_of_convolutions_are_those_of_the_formula(ranks: int) -> None:
    """Twice the frames, times the cells along the border, times the channels in; the first input is there already."""
    channels = (4, 8, 6, 5)
    graph = convolutions(6, channels)
    plans = plans_of(graph, ranks, None, no_scratch, grid=(1, ranks), stream=True)
    sent = sum(sum(plans.of(rank).sent.values()) for rank in range(ranks))
    assert sent == (ranks - 1) * sum(2 * 6 * 6 * n * 4 for n in channels[1:-1])
    assert len(plans.stages[0].steps) > 1


def test_the_work_is_shared_and_none_is_done_twice() -> None:
    graph = convolutions(6, (4, 8, 8))
    one = plans_of(graph, 1, None, no_scratch).of(0).work_done
    for ranks, most in ((2, 0.5), (3, 1 / 3), (4, 0.25)):
        done = [plans_of(graph, ranks, None, no_scratch).of(rank).work_done for rank in range(ranks)]
        assert sum(done) == one
        assert max(done) == most * one


def peak_of(plans: Plans) -> int:
    return forecast_part(plans.of(0), no_scratch, axis=plans.axis).peak_bytes


def test_a_rank_takes_its_share_of_the_memory() -> None:
    graph = convolutions(8, (4, 16, 16, 4), columns=32)
    peaks = [peak_of(plans_of(graph, n, None, no_scratch, stream=True)) for n in (1, 4)]
    assert peaks[1] < 0.5 * peaks[0]
    least = peaks[1] // 2
    with pytest.raises(PlanError, match="give at least that"):
        plans_of(graph, 4, 1000, no_scratch)
    assert peak_of(plans_of(graph, 4, 3 * least, no_scratch, stream=True)) <= 3 * least


def test_the_grid_is_as_square_as_the_latents_allow() -> None:
    assert grid_of(4, (8, 8)) == (2, 2)
    assert grid_of(6, (9, 16)) == (2, 3)
    assert grid_of(2, (17, 30)) == (1, 2)
    assert grid_of(2, (30, 17)) == (2, 1)
    assert grid_of(4, (1, 8)) == (1, 4)
    assert grid_of(3, (5,)) == (3,)
    assert grid_of(4, (8, 8), (4, 1)) == (4, 1)
    assert grid_of(4, (8,), (1, 4)) == (4,)


@pytest.mark.parametrize(
    ("ranks", "cells", "grid", "text"),
    [
        (5, (2, 3), None, "at least one"),
        (7, (2, 6), None, "at least one"),
        (4, (8, 8), (3, 1), "whose product is 4"),
        (4, (2, 8), (4, 1), "at least one"),
        (4, (8,), (2, 2), "one axis to cut"),
        (2, (), None, "no axis"),
    ],
)
def test_grids_that_do_not_fit_are_refused(
    ranks: int, cells: tuple[int, ...], grid: tuple[int, int] | None, text: str
) -> None:
    with pytest.raises(PlanError, match=text):
        grid_of(ranks, cells, grid)


def test_a_stream_keeps_its_axis_whole() -> None:
    graph = convolutions(6, (4, 4))
    assert cut_axes(graph) == (3, 4)
    image = divided(graph, cut_axes(graph), (2, 2))
    assert image.counts == (2, 2)
    assert {plans_of(graph, 4, None, no_scratch, stream=True).axis} == {2}
