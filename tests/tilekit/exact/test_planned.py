"""Whatever is chosen, the result is that of the plain evaluation."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._graphs import LAYERS, NORMED, Builder, Layer, evaluate, graphs

from tilekit import PlanError
from tilekit._exact.graph import Graph
from tilekit._exact.kernels import kernels_of
from tilekit._exact.program import program_of
from tilekit._exact.run import Call, run, stream
from tilekit._exact.search import search
from tilekit._exact.simplify import needed
from tilekit._exact.steps import Place, Stage
from tilekit._exact.ways import slides, tilings


def check(built: Builder, graph: Graph, stages: tuple[Stage, ...], axis: int | None = None) -> None:
    rng = np.random.default_rng(7)
    source = rng.normal(size=graph.nodes[graph.input].shape).astype(np.float32)
    kernels = kernels_of(source)
    call = Call(program_of(graph, stages), kernels, source, lambda key: built.arrays[key])
    want = evaluate(graph, kernels, source, call.constants)
    if axis is None:
        got = run(call, lambda done: None)
    else:
        got = np.concatenate([block for _, block in stream(call, axis, lambda done: None)], axis)
    np.testing.assert_allclose(got, want, rtol=3e-4, atol=3e-4)


@pytest.mark.parametrize("layers", [LAYERS, NORMED], ids=["all", "normed"])
@given(data=st.data(), share=st.sampled_from([None, 0.8, 0.5, 0.01]), streamed=st.booleans())
@settings(max_examples=40)
def test_what_is_chosen_gives_the_plain_result(
    layers: list[Layer], data: st.DataObject, share: float | None, streamed: bool
) -> None:
    built = data.draw(graphs(layers))
    graph = needed(built.graph())
    budget = None if share is None else int(share * sum(node.nbytes for node in graph.nodes if graph.live[node.index]))
    try:
        choice = search(graph, budget, stream=streamed)
    except PlanError as error:
        choice = search(graph, int(re.findall(r"takes (\d+) ", str(error))[0]), stream=streamed)
    check(built, graph, choice.stages, choice.axis if streamed else None)


@pytest.mark.parametrize("layers", [LAYERS, NORMED], ids=["all", "normed"])
@given(
    data=st.data(), share=st.floats(0, 1), count=st.sampled_from([1, 3, 100]), place=st.sampled_from(["device", "host"])
)
@settings(max_examples=40)
def test_every_way_gives_the_plain_result(
    layers: list[Layer], data: st.DataObject, share: float, count: int, place: Place
) -> None:
    built = data.draw(graphs(layers))
    graph = needed(built.graph())
    largest = max(node.nbytes for node in graph.nodes)
    for way in slides(graph):
        path = way.frontiers.within(int(share * way.frontiers.lasting.held)) or way.frontiers.lasting
        check(built, graph, way.stages(path, largest // count, place))
    for tiled, _ in zip(tilings(graph), range(3), strict=False):
        check(built, graph, tiled.stages(largest // count))
