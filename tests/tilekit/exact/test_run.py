"""Whatever the cuts, the result is that of the plain evaluation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._graphs import NORMED, SHARED, SLIDING, Builder, _residual, evaluate, graphs

from tilekit._errors import PlanError
from tilekit._exact.boxes import Box, Shape, cells, full
from tilekit._exact.kernels import kernels_of
from tilekit._exact.program import Program, program_of
from tilekit._exact.run import Call, run, stream
from tilekit._exact.steps import Kept, Place, Stage, Step
from tilekit.testing import Library


def slabs(shape: Shape, axis: int, rows: int) -> list[Box]:
    whole = full(shape)
    n = shape[axis]
    cuts = [(i, min(n, i + rows)) for i in range(0, n, rows)]
    return [(*whole[:axis], cut, *whole[axis + 1 :]) for cut in cuts]


def numpy_call(built: Builder, program: Program) -> Call:
    rng = np.random.default_rng(7)
    source = rng.normal(size=built.shape(0)).astype(np.float32)
    source.flags.writeable = False
    return Call(program, kernels_of(source), source, lambda key: built.arrays[key])


def plain(call: Call) -> Any:
    return evaluate(call.program.graph, call.kernels, call.source, call.constants)


@given(built=graphs(), axis=st.integers(0, 3), rows=st.integers(1, 4), backwards=st.booleans())
@settings(max_examples=300)
def test_steps_of_rows_give_the_plain_result(built: Builder, axis: int, rows: int, backwards: bool) -> None:
    graph = built.graph()
    boxes = slabs(graph.nodes[graph.output].shape, axis, rows)
    steps = tuple(Step(((graph.output, box),)) for box in (reversed(boxes) if backwards else boxes))
    call = numpy_call(built, program_of(graph, [Stage(steps)]))
    np.testing.assert_allclose(run(call, lambda done: None), plain(call), rtol=2e-4, atol=2e-4)


@given(built=graphs(), rows=st.integers(1, 4), columns=st.integers(1, 4), inner=st.booleans())
@settings(max_examples=200)
def test_tiles_in_turn_give_the_plain_result(built: Builder, rows: int, columns: int, inner: bool) -> None:
    graph = built.graph()
    shape = graph.nodes[graph.output].shape
    tiles = [slabs(shape, 3, columns), slabs(shape, 2, rows)]
    pairs = [(track, (*c[:2], r[2], c[3])) for track, c in enumerate(tiles[0]) for r in tiles[1]]
    if not inner:
        pairs.sort(key=lambda pair: pair[1][2])
    stage = Stage(tuple(Step(((graph.output, box),), track) for track, box in pairs))
    call = numpy_call(built, program_of(graph, [stage]))
    want = plain(call)
    np.testing.assert_allclose(run(call, lambda done: None), want, rtol=2e-4, atol=2e-4)
    blocks = list(stream(call, 2, lambda done: None))
    assert [start for start, _ in blocks] == sorted(box[2][0] for box in tiles[1])
    np.testing.assert_allclose(np.concatenate([block for _, block in blocks], 2), want, rtol=2e-4, atol=2e-4)


def staged(built: Builder, rows: int) -> list[Stage]:
    """A stage for each statistic, whose input is kept, and one for the output."""
    graph = built.graph()
    stages: list[Stage] = []
    stored: set[int] = set()
    for node in graph.nodes:
        if type(node.op).__name__ == "Moments":
            source = node.inputs[0]
            steps = tuple(Step(((source, box),)) for box in slabs(graph.nodes[source].shape, 2, rows))
            keep = () if source in stored or source == graph.input else (Kept(source, 2),)
            stages.append(Stage(steps, frozenset(stored), (node.index,), keep))
            stored |= {node.index, *(kept.node for kept in keep)}
    boxes = slabs(graph.nodes[graph.output].shape, 2, rows)
    return [*stages, Stage(tuple(Step(((graph.output, box),)) for box in boxes), frozenset(stored))]


@pytest.mark.parametrize("place", ["host", "disk"])
@given(built=graphs(NORMED), rows=st.integers(1, 4))
def test_what_is_kept_may_lie_elsewhere(place: Place, built: Builder, rows: int) -> None:
    stages = [
        replace(stage, keep=tuple(replace(kept, place=place) for kept in stage.keep)) for stage in staged(built, rows)
    ]
    call = numpy_call(built, program_of(built.graph(), stages))
    np.testing.assert_allclose(run(call, lambda done: None), plain(call), rtol=2e-4, atol=2e-4)


@given(built=graphs(), rows=st.integers(1, 4))
@settings(max_examples=300)
def test_statistics_in_stages_give_the_plain_result(built: Builder, rows: int) -> None:
    call = numpy_call(built, program_of(built.graph(), staged(built, rows)))
    np.testing.assert_allclose(run(call, lambda done: None), plain(call), rtol=2e-4, atol=2e-4)


@given(data=st.data(), rows=st.integers(1, 4))
def test_every_library_gives_what_numpy_gives(xp: Library, data: st.DataObject, rows: int) -> None:
    convolutions = [] if xp.name == "mlx" else SLIDING
    built = data.draw(graphs([layer for layer in [*SHARED, *convolutions] if layer is not _residual]))
    program = program_of(built.graph(), staged(built, rows))
    whole = numpy_call(built, program)
    arrays = {key: xp.array(value) for key, value in built.arrays.items()}
    source = xp.array(whole.source)
    call = Call(program, kernels_of(source), source, lambda key: arrays[key])
    np.testing.assert_allclose(xp.numpy(run(call, lambda done: None)), plain(whole), rtol=5e-4, atol=5e-4)


@given(built=graphs(SLIDING), rows=st.integers(1, 4))
def test_one_sliding_axis_makes_no_cell_twice(built: Builder, rows: int) -> None:
    graph = built.graph()
    boxes = slabs(graph.nodes[graph.output].shape, 2, rows)
    program = program_of(graph, [Stage(tuple(Step(((graph.output, box),)) for box in boxes))])
    for index, count in program.made.items():
        assert count <= cells(full(graph.nodes[index].shape)), graph.nodes[index]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_plan_that_leaves_rows_out_is_refused(streamed: bool) -> None:
    x = np.arange(12.0, dtype=np.float32).reshape(1, 1, 6, 2)
    built = Builder(x.shape)
    graph = built.graph()
    call = numpy_call(built, program_of(graph, [Stage((Step(((graph.output, ((0, 1), (0, 1), (0, 4), (0, 2))),)),))]))
    with pytest.raises(PlanError, match="leaves out 4 of the 12 numbers"):
        [*stream(call, 2, lambda done: None)] if streamed else run(call, lambda done: None)
