"""Small arrays are made for several steps at once: as many cells of each, in fewer calls, in hardly more memory."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._graphs import Builder, graphs
from tests.tilekit.exact._nets import Net
from tests.tilekit.exact.test_run import numpy_call, plain, slabs

from tilekit import GraphFunction
from tilekit._exact.batches import MORE, batched
from tilekit._exact.boxes import cells, full
from tilekit._exact.forecast import forecast, no_scratch
from tilekit._exact.kernels import kernels_of
from tilekit._exact.ops import Conv, Moments, Pointwise
from tilekit._exact.program import Program, program_of
from tilekit._exact.run import Call, run
from tilekit._exact.search import chosen, search
from tilekit._exact.steps import Stage, Step
from tilekit._exact.trials import Trials
from tilekit._exact.ways import slides

ROWS, CHANNELS, STRIPS = 512, 16, 16


@given(built=graphs(), axis=st.integers(0, 3), rows=st.integers(1, 2), share=st.sampled_from([1.0, 4.0]))
@settings(max_examples=100)
def test_steps_that_are_gathered_give_the_plain_result(built: Builder, axis: int, rows: int, share: float) -> None:
    graph = built.graph()
    boxes = slabs(graph.nodes[graph.output].shape, axis, rows)
    single = program_of(graph, [Stage(tuple(Step(((graph.output, box),)) for box in boxes), again=True)])
    gathered = program_of(graph, batched(single, share))
    call = numpy_call(built, gathered)
    np.testing.assert_allclose(run(call, lambda done: None), plain(call), rtol=2e-4, atol=2e-4)
    given_out = [box for step in gathered.stages[0].stage.steps for _, box in step.targets]
    assert sum(map(cells, given_out)) == sum(map(cells, boxes))


def test_a_stage_that_makes_nothing_stays_as_it_is() -> None:
    """Strips of the input go into statistics of it, and nothing else."""
    net = Net((1, 4, 8, 8))
    graph = net.graph(net.norm(0))
    steps = tuple(Step(((0, box),)) for box in slabs((1, 4, 8, 8), 2, 4))
    (taken,) = (node.index for node in graph.nodes if isinstance(node.op, Moments))
    whole = Step(((graph.output, full(graph.nodes[graph.output].shape)),))
    stages = (Stage(steps, statistics=(taken,)), Stage((whole,), frozenset([taken])))
    program = program_of(graph, stages)
    assert program.stages[0].made == {}
    assert batched(program) == tuple(plan.stage for plan in program.stages)


def network(scales: tuple[int, ...], chunks: int = 1) -> GraphFunction:
    """
    Residual blocks between which rows become as many times more, or, below zero, as many times fewer.

    Chunks are made one after the other, as those of a clip, and read what the one before has made at each step.
    """
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.1, (CHANNELS, CHANNELS, 3)).astype(np.float32) for _ in range(3 * len(scales) + 2)]

    def build(b: Any, x: Any) -> Any:
        cache: list[Any] = []
        made = []
        for _ in range(chunks):
            each, before, cache, z = iter(weights), iter(cache), [], x
            for scale in (*scales, 0):
                held = z
                for _ in range(2):
                    cache.append(b.pointwise(np.tanh, z))
                    z = b.conv(b.pointwise(np.add, cache[-1], next(before, cache[-1])), next(each), padding=1)
                z = b.pointwise(np.add, z, held)
                if scale > 0:
                    z = b.conv(b.upsample(z, scale, axes=(2,)), next(each), padding=1)
                if scale < 0:
                    z = b.conv(z, next(each), stride=-scale, padding=1)
            made.append(z)
        return b.concat(made, 1) if chunks > 1 else z

    return GraphFunction(build)


def both(scales: tuple[int, ...], chunks: int = 1) -> tuple[Program, Program, Any]:
    """Give a program of strips alike, the same in steps of different lengths, and a call."""
    rows = ROWS // int(np.prod([scale for scale in scales if scale > 0] or [1]))
    x = np.random.default_rng(1).normal(size=(1, CHANNELS, rows)).astype(np.float32)
    traced = network(scales, chunks).trace(x)
    way = next(way for way in slides(traced.graph) if way.axis == way.along == 2)
    single = program_of(traced.graph, way.stages(way.frontiers.lasting, max(traced.graph.sizes) // STRIPS))
    gathered = program_of(traced.graph, batched(single))
    return single, gathered, Call(gathered, kernels_of(x), x, traced.constants)


def calls(program: Program) -> Counter[int]:
    """Count the calls of each convolution."""
    nodes = program.graph.nodes
    steps = (step for stage in program.stages for step in stage.steps)
    return Counter(make.node for step in steps for make in step.makes if isinstance(nodes[make.node].op, Conv))


@pytest.mark.parametrize(
    ("scales", "chunks"),
    [((2, 2, 2, 2), 1), ((-2, -2, -2), 1), ((-2, -2, 2, 2), 1), ((4, 4), 1), ((2, 2, 2), 2), ((-2, -2, -2), 2)],
)
def test_a_small_array_takes_calls_by_its_size_and_not_by_the_largest(scales: tuple[int, ...], chunks: int) -> None:
    single, gathered, call = both(scales, chunks)
    graph, largest = single.graph, max(single.graph.sizes)
    counted = calls(gathered)
    side_by_side = graph.sizes[graph.output] if chunks > 1 and scales[-1] < 0 else 0
    for index, times in calls(single).items():
        assert times > STRIPS * 3 // 4, "every strip calls every convolution"
        read = max(
            side_by_side, graph.sizes[index], *(graph.sizes[i] for i in graph.nodes[index].inputs if graph.live[i])
        )
        assert counted[index] <= -(-times * read // largest) + 2, graph.nodes[index]
    assert gathered.operations < 0.7 * single.operations
    assert all(count <= single.made[index] for index, count in gathered.made.items())
    assert gathered.work == single.work
    each = largest // STRIPS
    assert forecast(gathered).peak_bytes <= forecast(single).peak_bytes + chunks * len(scales) * each, (
        "a strip for each change"
    )
    np.testing.assert_allclose(run(call, lambda done: None), plain(call), rtol=1e-5, atol=1e-5)


def test_what_a_step_makes_for_later_ones_is_not_made_again_by_them() -> None:
    """Cheap operations are, on what waits anyway: here on what the last sum waits for."""
    one, weight = (np.zeros((CHANNELS, CHANNELS, kernel), np.float32) for kernel in (1, 3))

    def build(b: Any, x: Any) -> Any:
        held = b.conv(x, weight, padding=1)
        z = b.conv(b.pointwise(np.tanh, held), one)
        for _ in range(2):
            z = b.conv(z, weight, padding=1)
        return b.pointwise(np.add, z, held)

    graph = GraphFunction(build).trace(np.zeros((1, CHANNELS, ROWS), np.float32)).graph
    boxes = slabs(graph.nodes[graph.output].shape, 2, ROWS // STRIPS)
    cheap = next(node.index for node in graph.nodes if isinstance(node.op, Pointwise))
    strips = [Step(((graph.output, box),)) for box in boxes]
    steps = strips[:1]
    for number, box in enumerate(slabs(graph.nodes[cheap].shape, 2, 2 * ROWS // STRIPS)):
        steps += [Step((), ahead=((cheap, box),)), *strips[1 + 2 * number : 3 + 2 * number]]
    assert program_of(graph, [Stage(tuple(steps), again=True)]).made[cheap] == ROWS * CHANNELS


def test_nothing_changes_where_all_arrays_are_of_one_size() -> None:
    single, gathered, _ = both(())
    assert gathered.stages == single.stages


def test_a_call_without_a_budget_gathers_steps_within_half_of_a_plain_call() -> None:
    single, _, _ = both((2, 2, 2, 2))
    trials = Trials(single.graph, no_scratch, slides(single.graph), stream=False, limits=None)
    before, after = chosen(trials), search(single.graph)
    assert any(not step.targets for step in after.stages[0].steps[1:]), "the coarse end has steps of its own"
    assert after.operations < before.operations
    assert after.peak_bytes <= max(after.plain_bytes // 2, MORE * before.peak_bytes)
    assert after.work == 1


def test_a_stream_waits_for_no_later_step() -> None:
    single, _, _ = both((2, 2, 2, 2))
    steps = search(single.graph, stream=True).stages[0].steps
    ready = next(number for number, step in enumerate(steps) if step.targets)
    assert all(step.targets for step in steps[ready:])
