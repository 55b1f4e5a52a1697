"""Operations cell by cell that follow one another are one operation, and give what they gave."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._graphs import LAYERS, Builder, evaluate, graphs

import tilekit
from tilekit._exact.boxes import full
from tilekit._exact.chain import Chain, chained
from tilekit._exact.kernels import kernels_of
from tilekit._exact.ops import Pointwise
from tilekit._exact.simplify import needed

SHAPE = (2, 3, 4, 5)


def cellwise(call: Callable[..., Any]) -> Pointwise:
    return Pointwise(lambda arrays: call(*arrays))


@given(built=graphs(LAYERS))
@settings(max_examples=100)
def test_a_chained_graph_gives_the_same(built: Builder) -> None:
    graph = needed(built.graph())
    source = np.random.default_rng(3).normal(size=graph.nodes[graph.input].shape).astype(np.float32)
    kernels = kernels_of(source)
    shorter = chained(graph)
    want, got = (evaluate(g, kernels, source, lambda key: built.arrays[key]) for g in (graph, shorter))
    np.testing.assert_array_equal(got, want)
    assert len(shorter.nodes) <= len(graph.nodes)
    assert len(chained(shorter).nodes) == len(shorter.nodes)


def test_what_two_read_and_what_would_make_more_arrays_wait_stays() -> None:
    """x -> a -> b -> c, where b is read twice; and a sum that waits beside a sum."""
    b = Builder(SHAPE)
    first = b.add(cellwise(lambda x: x + 1), (0,), SHAPE)
    second = b.add(cellwise(lambda x: x * 2), (first,), SHAPE)
    other = b.add(cellwise(lambda x: -x), (second,), SHAPE)
    third = b.add(Pointwise(lambda a: a[0] * a[1]), (second, other), SHAPE)
    graph = chained(b.graph())
    assert len(graph.nodes) == 2  # the input and one chain: what reads twice lies in it
    chain = graph.nodes[1].op.call  # type: ignore[attr-defined]  # an operation cell by cell
    assert [link.name for link in chain.links] == [f"node {i}" for i in (first, second, other, third)]

    b = Builder(SHAPE)
    left, right = (b.add(cellwise(lambda x: x + 1), (0,), SHAPE) for _ in range(2))
    rolled = [b.add(Pointwise(lambda a: a[0] + a[1]), (left, right), SHAPE), b.constant(SHAPE[1:])]
    b.add(Pointwise(lambda a: a[0] + a[1] + a[2]), (rolled[0], left, rolled[1]), SHAPE)
    graph = chained(b.graph())
    assert len(graph.nodes) == 5  # only one of the two terms joins its sum
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    want = evaluate(b.graph(), kernels_of(x), x, lambda key: b.arrays[key])
    np.testing.assert_array_equal(evaluate(graph, kernels_of(x), x, lambda key: b.arrays[key]), want)


OPERATIONS: list[Callable[[Any], Any]] = [
    lambda x: x.exp().clamp(max=3),
    lambda x: x * x,
    lambda x: x.sigmoid() * x,
    lambda x: x.bfloat16().float(),
    lambda x: (x > 0) * x,
    lambda x: 1 - x / 2,
    lambda x: x.detach().view_as(x),
    lambda x: x[:, :1] + x,
    lambda x: x.contiguous().tanh(),
    lambda x: (x + 1).add_(x),
    lambda x: x.addcmul(x, x.sin()),
]


@given(picked=st.lists(st.integers(0, len(OPERATIONS) - 1), min_size=1, max_size=6), shared=st.booleans())
@settings(max_examples=30, deadline=None)
def test_torch_writes_only_to_what_nobody_reads(picked: list[int], shared: bool) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.linspace(-1, 1, 4)[:, None, None]

    def function(x: Any) -> Any:
        y = x + weight if shared else x
        z = y
        for number in picked:
            z = OPERATIONS[number](z)
        return z * y if shared else z

    x = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    before, held = x.clone(), weight.clone()
    exact = tilekit.exact(function)
    for _ in range(2):
        torch.testing.assert_close(exact(x), function(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(x, before)
    assert torch.equal(weight, held)


def test_torch_takes_no_memory_for_what_may_be_written_over() -> None:
    """A chain of ten takes one array, counted and foreseen."""
    torch = pytest.importorskip("torch")
    from tests.tilekit.exact._live import Live

    def function(x: Any) -> Any:
        y = x + 1
        for _ in range(3):
            y = torch.nn.functional.silu(y * 2).sigmoid()
        return y

    x = torch.randn(1, 4, 16, 16)
    exact = tilekit.exact(function)
    planned = exact.plan(x)
    exact(x)
    with Live() as live:
        exact(x)
    assert planned.peak_bytes == x.nbytes
    assert live.peak <= 1.1 * planned.peak_bytes


def test_scratch_counts_what_the_links_hold() -> None:
    """Two arrays beside the result where both halves of a product are made anew."""
    b = Builder(SHAPE)
    left, right = (b.add(cellwise(lambda x: x + 1), (0,), SHAPE) for _ in range(2))
    b.add(Pointwise(lambda a: a[0] * a[1]), (left, right), SHAPE)
    (node,) = chained(b.graph()).nodes[1:]
    assert isinstance(node.op, Pointwise)
    assert isinstance(node.op.call, Chain)
    assert node.op.call.scratch(full(SHAPE)) == 2 * node.nbytes


def test_the_link_that_gave_nan_is_named() -> None:
    torch = pytest.importorskip("torch")

    class Bad(torch.nn.Module):  # type: ignore[misc,name-defined]  # torch is not always there
        def forward(self, x: Any) -> Any:
            return (x - 2).log()

    network = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Tanh(), Bad(), torch.nn.Sigmoid(), torch.nn.Tanh())
    with pytest.raises(tilekit.InputError, match=r"^2 \(Pointwise\) gave NaN"):
        tilekit.exact(network)(-torch.ones(1, 2, 4, 4))


def test_convolutions_take_arrays_as_they_lie() -> None:
    """Sound, pictures and clips whose channels come last: no operation turns an array, in any number of axes."""
    torch = pytest.importorskip("torch")
    from tilekit._exact.trace import trace

    for n, kind in ((1, torch.nn.Conv1d), (2, torch.nn.Conv2d), (3, torch.nn.ConvTranspose3d)):
        conv = kind(4, 6, 3, padding=1, stride=2)

        def function(x: Any, conv: Any = conv) -> Any:
            return conv(x.movedim(-1, 1)).movedim(1, -1).relu()

        x = torch.randn(2, *(7, 6, 5)[:n], 4)
        graph = trace(function, x).graph
        assert [type(node.op).__name__ for node in graph.nodes] == [
            "Input",
            "Constant",
            "Constant",
            "Conv",
            "Pointwise",
        ]
        exact = tilekit.exact(function)
        torch.testing.assert_close(exact(x), function(x), rtol=1e-5, atol=1e-6)
        blocks = torch.cat([block for _, block in exact.stream(x)], exact.plan(x, stream=True).axis)
        torch.testing.assert_close(blocks, function(x), rtol=1e-5, atol=1e-6)


def test_what_is_read_turned_stays_turned() -> None:
    torch = pytest.importorskip("torch")
    conv = torch.nn.Conv2d(4, 4, 3, padding=1)

    def function(x: Any) -> Any:
        made = conv(x.permute(0, 3, 1, 2))
        return made.permute(0, 2, 3, 1) + made.permute(0, 3, 2, 1)

    x = torch.randn(1, 6, 6, 4)
    torch.testing.assert_close(tilekit.exact(function)(x), function(x), rtol=1e-5, atol=1e-6)
