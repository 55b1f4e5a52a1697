"""Weights made from others: right, made when they are read, gone when nothing reads them, never above a plain call."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._graphs import Builder, evaluate

import tilekit
from tilekit._exact.folding import folding_of
from tilekit._exact.forecast import forecast
from tilekit._exact.kernels import kernels_of
from tilekit._exact.ops import Pointwise
from tilekit._exact.plan import ExactPlan
from tilekit._exact.program import program_of
from tilekit._exact.run import Call, run
from tilekit._exact.steps import Stage, Step

SHAPE = (1, 2, 6, 4)
WIDE = (1, 2, 1, 4)
SUM = Pointwise(lambda arrays: sum(arrays[1:], arrays[0] * 1.5))


@st.composite
def made_of_constants(draw: st.DrawFn) -> Builder:
    """Constants, what is made of them and of one another, and a chain of layers that reads some of it."""
    b = Builder(SHAPE)
    held = [b.constant(WIDE) for _ in range(draw(st.integers(1, 3)))]
    for _ in range(draw(st.integers(1, 6))):
        sources = draw(st.lists(st.sampled_from(held), min_size=1, max_size=2))
        held.append(b.add(SUM, tuple(sources), WIDE))
    x = 0
    for _ in range(draw(st.integers(1, 4))):
        read = draw(st.lists(st.sampled_from(held), min_size=1, max_size=2))
        x = b.add(SUM, (x, *read), SHAPE)
    return b


@given(built=made_of_constants(), rows=st.integers(1, 6), anew=st.booleans())
@settings(max_examples=100)
def test_whatever_is_shared_the_result_is_right_and_each_is_made_once(built: Builder, rows: int, anew: bool) -> None:
    graph = built.graph()
    steps = [Step(((graph.output, ((0, 1), (0, 2), (at, min(6, at + rows)), (0, 4))),)) for at in range(0, 6, rows)]
    program = program_of(graph, [Stage(tuple(steps))], anew=anew)
    source = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    call = Call(program, kernels_of(source), source, lambda key: built.arrays[key])
    want = evaluate(graph, call.kernels, source, call.constants)
    np.testing.assert_allclose(run(call, lambda done: None), want, rtol=1e-5, atol=1e-5)
    folding = folding_of(graph)
    made = [index for recipe in folding.recipes.values() for index, _ in recipe]
    assert sorted(made) == sorted(folding.nodes)  # in one recipe each
    gone = [node for going in program.stages[0].going for _, nodes in going for node in nodes]
    assert len(set(gone)) * (len(steps) if anew else 1) == len(gone)
    assert forecast(program_of(graph, [Stage(tuple(steps))], anew=True)).peak_bytes <= forecast(program).peak_bytes


def weight_normed(channels: int, kernel: int) -> Any:
    torch = pytest.importorskip("torch")
    nn, norm = torch.nn, torch.nn.utils.parametrizations.weight_norm
    torch.manual_seed(0)
    return nn.Sequential(
        norm(nn.Conv1d(4, channels, kernel, padding=kernel // 2)),
        nn.SiLU(),
        norm(nn.ConvTranspose1d(channels, channels, 4, 2, 1)),
        nn.SiLU(),
        norm(nn.Conv1d(channels, channels, kernel, padding=kernel // 2)),
        norm(nn.Conv1d(channels, channels, 3, padding=1)),
        norm(nn.Conv1d(channels, 1, kernel, padding=kernel // 2)),
    ).eval()


@pytest.mark.parametrize("cells", [9, 60, 700])
@pytest.mark.parametrize(("channels", "kernel"), [(8, 7), (64, 7), (160, 3)])
def test_weight_normed_networks_are_never_above_a_plain_call(channels: int, kernel: int, cells: int) -> None:
    torch = pytest.importorskip("torch")
    from tests.tilekit.exact._live import Live

    net, x = weight_normed(channels, kernel), torch.randn(1, 4, cells)
    with torch.no_grad():
        with Live() as plain:
            want = net(x)
        exact = tilekit.exact(net)
        plan = exact.plan(x)
        with Live() as live:
            got = exact(x)
    assert float((got - want).abs().max() / want.abs().max()) <= 1e-5
    assert live.peak <= plain.peak
    assert live.peak == pytest.approx(plan.peak_bytes, rel=0.1)
    assert plan.plain_bytes == pytest.approx(plain.peak, rel=0.1)


def test_a_plan_that_makes_weights_anew_takes_the_same_after_json() -> None:
    torch = pytest.importorskip("torch")
    from tests.tilekit.exact._live import Live

    net, x = weight_normed(64, 7), torch.randn(1, 4, 300)
    exact = tilekit.exact(net)
    plan = exact.plan(x)
    assert plan.anew
    read = ExactPlan.from_json(plan.to_json())
    assert read == plan
    roomy = tilekit.exact(net, memory_bytes=1 << 30)
    assert roomy.plan(x) != read
    with Live() as live:
        roomy(x, plan=read)
    assert live.peak <= 1.1 * plan.peak_bytes
    older = json.loads(plan.to_json())
    del older["anew"]
    assert not ExactPlan.from_json(json.dumps(older)).anew  # a plan written before


@pytest.mark.parametrize("cells", [20, 200])
def test_weight_normed_networks_of_mlx_are_never_above_a_plain_call(cells: int) -> None:
    mx = pytest.importorskip("mlx.core")
    keys = mx.random.split(mx.random.key(0), 4)
    layers = [(mx.random.normal((64, 7, 64), key=key), mx.ones((64, 1, 1))) for key in keys]

    def net(x: Any) -> Any:
        for direction, scale in layers:
            weight = scale * direction / mx.sqrt(mx.sum(direction * direction, axis=(1, 2), keepdims=True))
            x = mx.tanh(mx.conv1d(x, weight, padding=3))
        return x

    x = mx.random.normal((1, cells, 64), key=mx.random.key(1))
    plan = tilekit.exact(net).plan(x)
    assert plan.peak_bytes <= plan.plain_bytes
    assert plan.plain_bytes < 3 * layers[0][0].nbytes + 8 * x.nbytes + (1 << 20)  # one weight at a time
    want, got = net(x), tilekit.exact(net)(x)
    assert float(mx.max(mx.abs(got - want)) / mx.max(mx.abs(want))) <= 1e-5
