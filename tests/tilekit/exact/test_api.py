"""`tilekit.exact` on graphs that a front end would give."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.tilekit.exact._graphs import Builder

import tilekit as tk
from tilekit._exact import newest, planner
from tilekit._exact.frontends import Traced
from tilekit._exact.ops import Conv, Pointwise, Whole


def decoder(rows: int = 40) -> Builder:
    b = Builder((1, 2, rows, 12))
    x = 0
    for _ in range(3):
        weight, n = b.constant((2, 2, 3, 3)), b.shape(x)
        op = Conv((2, 3), 1, (3, 3), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), 1, 2)
        x = b.add(op, (x, weight), n)
        x = b.add(Pointwise(lambda a: a[0] * (a[0] > 0)), (x,), n)
    return b


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """A function of NumPy arrays that a front end can follow, and a list of what was traced."""
    traced: list[Any] = []

    def trace(function: Any, x: Any) -> Traced:
        built = decoder(x.shape[2])
        traced.append(x.shape)
        return Traced(built.graph(), lambda key: built.arrays[key])

    monkeypatch.setattr(planner, "trace", trace)
    return (lambda x: x), traced


def source(rows: int = 40) -> Any:
    return np.random.default_rng(0).normal(size=(1, 2, rows, 12)).astype(np.float32)


def test_a_call_a_stream_and_the_whole_are_equal(network: Any) -> None:
    function, _ = network
    x = source()
    little, whole = tk.exact(function), tk.exact(function, 1 << 30)
    assert little.plan(x).peak_bytes < whole.plan(x).peak_bytes
    assert little.plan(x).work == 1
    want = whole(x)
    np.testing.assert_allclose(little(x), want, atol=1e-6)
    plan = little.plan(x, stream=True)
    starts, blocks = zip(*little.stream(x), strict=True)
    assert starts == tuple(sorted(starts))
    assert len(blocks) > 1
    np.testing.assert_allclose(np.concatenate(blocks, plan.axis), want, atol=1e-6)


def test_a_function_is_followed_once_for_each_shape(network: Any) -> None:
    function, traced = network
    call = tk.exact(function)
    for rows in (40, 40, 24, 40):
        call(source(rows))
        list(call.stream(source(rows)))
    assert traced == [(1, 2, 40, 12), (1, 2, 24, 12)]


def test_what_is_small_is_cut_for_a_budget_or_a_stream_alone(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(plan: Any) -> int:
        return sum(len(stage.steps) for stage in plan.stages)

    function, _ = network
    cut = tk.exact(function).plan(source())
    monkeypatch.setattr(planner, "SMALL", cut.plain_bytes)
    whole = tk.exact(function)
    assert steps(cut) > 1 == steps(whole.plan(source()))
    assert steps(whole.plan(source(), stream=True)) > 1
    assert steps(tk.exact(function, cut.peak_bytes).plan(source())) > 1
    monkeypatch.setattr(planner, "SMALL", cut.plain_bytes - 1)
    assert steps(tk.exact(function).plan(source())) > 1
    np.testing.assert_allclose(whole(source()), tk.exact(function)(source()), atol=1e-5)


def test_a_table_is_no_wider_than_a_terminal(network: Any) -> None:
    plan = tk.exact(network[0]).plan(source())
    long = replace(plan.rows[0], name="statistics of decoder.up_blocks.2.resnets.0.conv1")
    text = str(replace(plan, rows=(long, replace(long, name="output"))))
    assert "\nstatistics of ..2.resnets.0.conv1  " in text
    assert max(map(len, text.splitlines()[1:4])) <= 80


def test_old_plans_are_let_go(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    function, traced = network
    monkeypatch.setattr(newest, "KEPT", 2)
    call = tk.exact(function)
    for rows in (8, 16, 24, 24, 16, 8):
        call(source(rows))
    assert traced == [(1, 2, rows, 12) for rows in (8, 16, 24, 8)]


def test_a_budget_is_kept_or_refused_with_the_least(network: Any) -> None:
    function, _ = network
    x = source()
    with pytest.raises(tk.PlanError, match="got 1 ") as refused:
        tk.exact(function, 1)(x)
    least = int(re.findall(r"takes (\d+) ", str(refused.value))[0])
    assert least <= tk.exact(function).plan(x).peak_bytes
    assert tk.exact(function, least).plan(x).peak_bytes <= least
    with pytest.raises(tk.PlanError, match=f"takes {least} "):
        tk.exact(function, least - 1)(x)


@pytest.mark.parametrize("budget", [0, -1, 1.5, "1 GiB", True])
def test_a_budget_that_is_none_is_refused(budget: Any) -> None:
    with pytest.raises(tk.PlanError, match="positive number of bytes"):
        tk.exact(lambda x: x, budget)


def test_a_plan_prints_goes_through_json_and_is_used(network: Any) -> None:
    function, _ = network
    x = source()
    call = tk.exact(function)
    plan = call.plan(x)
    text = str(plan)
    assert "axis" in text
    assert f"{plan.peak_bytes / 2**20:.1f}" in text
    assert repr(plan).startswith("<ExactPlan (1, 2, 40, 12) -> ")
    assert len(repr(plan)) < 100
    assert repr(call) == f"<tilekit.exact of {function.__qualname__}, memory_bytes=None>"
    again = tk.ExactPlan.from_json(plan.to_json())
    assert again == plan
    whole = tk.exact(function, 1 << 30)
    np.testing.assert_allclose(whole(x, plan=again), call(x), atol=1e-6)
    with pytest.raises(tk.PlanError, match=r"input of shape \(1, 2, 40, 12\)"):
        call(source(24), plan=plan)
    last = replace(plan.stages[-1], steps=plan.stages[-1].steps[:-1])
    with pytest.raises(tk.PlanError, match="each of which must be made once"):
        call(x, plan=replace(plan, stages=(*plan.stages[:-1], last)))
    with pytest.raises(tk.PlanError, match="no plan"):
        tk.ExactPlan.from_json("{}")


def test_progress_is_told_and_may_end_the_call(network: Any) -> None:
    function, _ = network
    told: list[tuple[int, int]] = []
    call = tk.exact(function, progress=lambda done, total: told.append((done, total)))
    call(source())
    n = len(call.plan(source()).step_peaks)
    assert told == [(i, n) for i in range(1, n + 1)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tk.exact(function, progress=stop)(source())


def test_bad_input_is_refused(network: Any) -> None:
    function, _ = network
    x = source()
    x[0, 0, 3, 3] = np.nan
    with pytest.raises(tk.InputError, match="NaN or infinity"):
        tk.exact(function)(x)
    with pytest.raises(tk.InputError, match="no cells"):
        tk.exact(function)(np.zeros((1, 2, 0, 12), np.float32))
    with pytest.raises(tk.PlanError, match="something to call"):
        tk.exact(3)
    with pytest.raises(tk.BackendError):
        tk.exact(function)([1, 2])
    with pytest.raises(tk.PlanError, match="progress: got 'yes'"):
        tk.exact(function, progress="yes")  # type: ignore[arg-type]
    for plan in ('{"a": 1}', 3):
        with pytest.raises(tk.PlanError, match=r"plan: got (str|int), expected what `plan` gives"):
            tk.exact(function)(source(), plan=plan)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [None, 3, "abc", (), (1, 2, 40.5, 12), (1, 2, -40, 12), (1, 2, 0, 12), ((1, 2), 3)])
def test_a_shape_that_is_none_is_refused(network: Any, shape: Any) -> None:
    function, _ = network
    with pytest.raises(tk.PlanError, match=r"plan: got .*, expected an array or its shape"):
        tk.exact(function).plan(shape, like=source())


def test_numbers_of_numpy_are_numbers(network: Any) -> None:
    function, _ = network
    call = tk.exact(function, np.int64(1 << 30))  # type: ignore[arg-type]
    assert call.memory_bytes == 1 << 30
    assert call.plan(np.array([1, 2, 40, 12]).tolist(), like=source()) == call.plan(source())


def test_nan_is_blamed_on_the_layer_where_it_came_up(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    b = decoder()
    b.add(Pointwise(lambda a: a[0] / (a[0] * 0)), (len(b.nodes) - 1,), (1, 2, 40, 12))
    b.add(Pointwise(lambda a: a[0] * 2), (len(b.nodes) - 1,), (1, 2, 40, 12))
    monkeypatch.setattr(planner, "trace", lambda function, x: Traced(b.graph(), lambda key: b.arrays[key]))
    with np.errstate(all="ignore"):
        with pytest.raises(tk.InputError, match=r"^node 10 \(Pointwise\) gave NaN or infinity"):
            tk.exact(lambda x: x)(source())
        with pytest.raises(tk.InputError, match=r"^node 10 \(Pointwise\) gave NaN or infinity"):
            list(tk.exact(lambda x: x).stream(source()))
    bad = {key: value * (np.nan if key == 4 else 1) for key, value in decoder().arrays.items()}
    monkeypatch.setattr(planner, "trace", lambda function, x: Traced(decoder().graph(), lambda key: bad[key]))
    with pytest.raises(tk.InputError, match=r"^node 4 \(of the weights\) gave NaN"):
        tk.exact(lambda x: x)(source())


def test_a_shape_alone_is_not_enough_for_a_plain_function(network: Any) -> None:
    function, _ = network
    with pytest.raises(tk.PlanError, match="`like`"):
        tk.exact(function).plan((1, 2, 40, 12))
    assert tk.exact(function).plan((1, 2, 40, 12), like=source()).dtype == "float32"


def test_what_is_not_understood_is_named_with_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    b = decoder()
    b.add(Whole("spin", lambda arrays: arrays[0][:, :, ::-1]), (len(b.nodes) - 1,), (1, 2, 40, 12))
    monkeypatch.setattr(planner, "trace", lambda function, x: Traced(b.graph(), lambda key: b.arrays[key]))
    plan = tk.exact(lambda x: x).plan(source())
    assert "not understood, so it runs whole: spin, 1x" in str(plan)


def test_functions_of_numpy_cannot_be_followed() -> None:
    with pytest.raises(tk.BackendError, match="functions of numpy arrays cannot be followed"):
        tk.exact(lambda x: x)(source())


def test_weights_that_changed_their_shape_are_refused(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    b = decoder()
    monkeypatch.setattr(planner, "trace", lambda function, x: Traced(b.graph(), lambda key: np.zeros(3, np.float32)))
    with pytest.raises(tk.TileShapeError, match="when the function was traced"):
        tk.exact(lambda x: x)(source())
