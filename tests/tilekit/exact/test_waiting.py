"""What waits between steps is little: cheap operations are made again for it, and the first step is no larger."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._graphs import Builder, graphs
from tests.tilekit.exact.test_run import numpy_call, plain, slabs

from tilekit import GraphFunction, PlanError, exact
from tilekit._exact.boxes import cells, full
from tilekit._exact.fleeting import MOST
from tilekit._exact.forecast import no_scratch
from tilekit._exact.frontends import Traced
from tilekit._exact.graph import Graph
from tilekit._exact.heads import AHEAD
from tilekit._exact.kernels import kernels_of
from tilekit._exact.program import Program, program_of
from tilekit._exact.run import Call, run
from tilekit._exact.schedule import StepSchedule
from tilekit._exact.sources.plan import Wanted, endless
from tilekit._exact.steps import Stage, Step
from tilekit._exact.ways import slides
from tilekit.backends.limits import Limits

ROWS, CHANNELS, BLOCKS = 96, 4, 6


@given(built=graphs(), axis=st.integers(0, 3), rows=st.integers(1, 4), backwards=st.booleans())
@settings(max_examples=100)
def test_steps_that_make_cheap_operations_again_give_the_plain_result(
    built: Builder, axis: int, rows: int, backwards: bool
) -> None:
    graph = built.graph()
    boxes = slabs(graph.nodes[graph.output].shape, axis, rows)
    steps = tuple(Step(((graph.output, box),)) for box in (reversed(boxes) if backwards else boxes))
    call = numpy_call(built, program_of(graph, [Stage(steps, again=True)]))
    np.testing.assert_allclose(run(call, lambda done: None), plain(call), rtol=2e-4, atol=2e-4)


def residual(blocks: int, *, ahead: bool) -> GraphFunction:
    """Blocks that normalise, convolve and add, as those of a decoder of clips; `ahead` or not, they look back."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.2, (CHANNELS, CHANNELS, 3)).astype(np.float32) for _ in range(2 * blocks)]

    def build(b: Any, z: Any) -> Any:
        for k in range(blocks):
            held = z
            for j in range(2):
                widths = [(0, 0), (0, 0), (1, 1) if ahead else (2, 0)]
                z = b.pointwise(np.tanh, b.pad(z, widths, "replicate"))
                z = b.conv(z, weights[2 * k + j])
            z = b.pointwise(np.add, z, held)
        return z

    return GraphFunction(build)


def traced(network: GraphFunction, rows: int = ROWS) -> tuple[Graph, Any, Any]:
    x = np.random.default_rng(1).normal(size=(1, CHANNELS, rows)).astype(np.float32)
    found = network.trace(x)
    return found.graph, found.constants, x


def steady(program: Program) -> StepSchedule:
    steps = program.stages[0].steps
    return steps[len(steps) // 2]


def waiting(program: Program) -> int:
    """Cells that are there after a step in the middle."""
    held: dict[int, int] = {}
    for step in program.stages[0].steps[: program.n_steps // 2]:
        for make in step.makes:
            held[make.node] = cells(make.window)
            held.update({node: 0 if box is None else cells(box) for node, box in make.settled})
        held.update({node: 0 if box is None else cells(box) for node, box in step.settled})
    return sum(held.values())


@pytest.mark.parametrize("rows", [2, 4, 8])
def test_what_waits_for_a_residual_is_not_kept_twice(rows: int) -> None:
    graph, constants, x = traced(residual(BLOCKS, ahead=True))
    steps = tuple(Step(((graph.output, box),)) for box in slabs(graph.nodes[graph.output].shape, 2, rows))
    kept, again = (program_of(graph, [Stage(steps, again=again)]) for again in (False, True))
    window = 2 * CHANNELS
    assert waiting(kept) == (3 * BLOCKS - 1) * window, "two convolutions and the residual; the input is not counted"
    assert waiting(again) == (2 * BLOCKS - 1) * window, "what the first convolution reads is made of the residual"
    for index, count in again.made.items():
        node = graph.nodes[index]
        cheap = not node.op.work(node.shape, graph.input_shapes[index])
        assert count <= (MOST if cheap else 1) * cells(full(node.shape))
    assert again.work == kept.work == 1

    call = Call(again, kernels_of(x), x, constants)
    np.testing.assert_allclose(run(call, lambda done: None), plain(call), rtol=1e-5, atol=1e-5)


def test_nothing_is_made_again_where_nothing_waits() -> None:
    graph, _, _ = traced(residual(BLOCKS, ahead=False))
    steps = tuple(Step(((graph.output, box),)) for box in slabs(graph.nodes[graph.output].shape, 2, 4))
    kept, again = (program_of(graph, [Stage(steps, again=again)]) for again in (False, True))
    first = min(node.index for node in graph.nodes if node.op.work(node.shape, graph.input_shapes[node.index]))
    assert {k: n for k, n in again.made.items() if k > first} == {k: n for k, n in kept.made.items() if k > first}
    assert waiting(again) == waiting(kept) - 2 * CHANNELS, "the input is there anyway"


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("ahead", [False, True])
def test_the_first_step_makes_no_more_than_later_ones(rows: int, ahead: bool) -> None:
    graph, constants, x = traced(residual(BLOCKS, ahead=ahead))
    (way,) = slides(graph, stream=True)
    largest = max(graph.sizes)
    program = program_of(graph, way.stages(way.frontiers.lasting, largest * rows // ROWS))
    most = max(cells(make.box) for make in steady(program).makes)
    assert max(cells(make.box) for make in program.stages[0].steps[0].makes) <= AHEAD * most + 4 * CHANNELS
    outputs = [box for step in program.stages[0].stage.steps for node, box in step.targets if node == graph.output]
    assert (len(outputs) < program.n_steps) == ahead, "steps come before the first where the network looks ahead"
    assert program.work == 1

    call = Call(program, kernels_of(x), x, constants)
    np.testing.assert_allclose(run(call, lambda done: None), plain(call), rtol=1e-5, atol=1e-5)


def test_memory_of_a_network_that_looks_ahead_comes_down_to_what_waits() -> None:
    """Twelve convolutions look twelve rows ahead, of which two wait before each; the residuals wait with them."""
    network = residual(BLOCKS, ahead=True)
    graph, _, x = traced(network)
    row = graph.sizes[graph.output] // ROWS
    with pytest.raises(PlanError, match="needs least takes") as refused:
        exact(network, 1).plan(x, stream=True)
    least = int(str(refused.value).split("takes ")[1].split()[0])
    assert least <= (2 * 12 + 10) * row


def test_what_waits_is_not_kept_twice_where_the_input_is_read_as_it_comes() -> None:
    network = residual(BLOCKS, ahead=True)

    def follow(rows: int) -> Traced:
        return network.trace(np.zeros((1, CHANNELS, rows), np.float32))

    plan = endless(Wanted(follow, lambda a, b: "", 2, range(1, 10**9), 4, no_scratch, None, Limits()))
    state, _ = plan.rounds.state(plan.rounds.again)
    assert sum(map(cells, state.values())) == (2 * BLOCKS - 1) * 2 * CHANNELS
    x = np.random.default_rng(2).normal(size=(1, CHANNELS, 150)).astype(np.float32)
    parts = (x[:, :, at : at + 7] for at in range(0, 150, 7))
    got = np.concatenate([block for _, block in exact(network).stream(parts, axis=2, rows=4)], 2)
    np.testing.assert_allclose(got, network(x), rtol=1e-5, atol=1e-5)
