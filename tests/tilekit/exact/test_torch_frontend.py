"""A traced function of torch gives, box by box, what the plain call gives."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._pull import Pull

import tilekit
from tilekit._exact.boxes import Box, full, within
from tilekit._exact.ops import Whole

torch = pytest.importorskip("torch")

from tests.tilekit.exact._live import Live  # noqa: E402  # needs torch
from tests.tilekit.exact._torch_cases import CASES  # noqa: E402

from tilekit._exact.frontends._torch import trace  # noqa: E402


def some_box(data: st.DataObject, shape: tuple[int, ...]) -> Box:
    ends = [sorted((data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1)))) for n in shape]
    return tuple((start, stop + 1) for start, stop in ends)


def numbers(shape: tuple[int, ...], dtype: Any = None) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype or torch.float32)


def agree(made: Any, want: Any, tolerance: float) -> None:
    assert made.dtype == want.dtype
    assert made.shape == want.shape
    if want.is_complex() or want.is_floating_point():
        largest = want.abs().max().item() or 1.0
        assert (made - want).abs().max().item() <= tolerance * largest
    else:
        assert torch.equal(made, want)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=5)
@given(data=st.data())
def test_a_box_is_the_cut_of_the_plain_call(name: str, data: st.DataObject) -> None:
    function, shape = CASES[name]
    x = numbers(shape)
    with torch.no_grad():
        want = function(x.clone())
    pull = Pull(trace(function, x), x)
    for box in (full(tuple(want.shape)), some_box(data, tuple(want.shape))):
        agree(pull(box), want[within(full(tuple(want.shape)), box)], 1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "adaptive max pool",
        "avg pool divisor",
        "cells",
        "codes",
        "extremes",
        "gather some",
        "grid_sample",
        "half turn",
        "index mask",
        "masked writes",
        "middle",
        "patches",
        "patches put back",
        "prelu",
        "quarter turns",
        "samples of clips",
        "scatter add",
        "searchsorted",
        "table",
        "windows that are summed",
        "zeroed",
    ],
)
def test_what_networks_often_use_is_understood(name: str) -> None:
    function, shape = CASES[name]
    assert not any(isinstance(node.op, Whole) for node in trace(function, numbers(shape)).graph.nodes)


def test_windows_that_overlap_are_read_as_they_lie() -> None:
    """A product with one matrix keeps the axes apart, though torch itself would merge them, and copies no window."""
    function, shape = CASES["short filter"]
    graph = trace(function, numbers(shape)).graph
    kinds = [type(node.op).__name__ for node in graph.nodes if graph.live[node.index]]
    assert kinds == ["Input", "Windows", "Permute", "MatMul", "Reshape"]
    x = numbers((3, 4, 400))
    with torch.no_grad(), Live() as live:
        made = tilekit.exact(function)(x)
    assert live.peak <= 1.1 * made.nbytes


class Scaled(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch is not typed here
    def __init__(self) -> None:
        super().__init__()
        self.gamma = torch.nn.Parameter(torch.full((8, 1, 1), 1.5))

    def forward(self, x: Any) -> Any:
        return torch.nn.functional.normalize(x, dim=1) * self.gamma.to(x).contiguous()


@pytest.mark.parametrize("born", [False, True], ids=["weights from before", "weights of inference mode"])
def test_inference_mode_changes_nothing(born: bool) -> None:
    layers = torch.nn
    with torch.inference_mode(mode=born):
        net = layers.Sequential(
            layers.Conv2d(4, 8, 3, padding=1),
            layers.Dropout(0.5),
            layers.GroupNorm(2, 8),
            Scaled(),
            layers.Linear(9, 5),
            layers.Conv2d(8, 3, 3, padding=1),
        ).eval()
    with torch.inference_mode():
        x = torch.randn(1, 4, 12, 9)
        f = tilekit.exact(net)
        assert torch.allclose(f(x), net(x), atol=1e-5)
        assert not any(type(node.op).__name__ == "Whole" for node in trace(net, x).graph.nodes)
        assert torch.allclose(
            torch.cat([block for _, block in f.stream(x)], f.plan(x, stream=True).axis), net(x), atol=1e-5
        )
    with torch.no_grad():
        assert torch.allclose(f(x), net(x), atol=1e-5)


@pytest.mark.parametrize("lower", [True, False])
def test_a_triangle_takes_little_more_than_its_cells(lower: bool) -> None:
    from tests.tilekit.exact._live import Live

    from tilekit._exact.frontends._torch.calls import Triangle

    triangle = Triangle(lower, -2, torch.device("cpu"))
    with Live() as live:
        made = triangle(((0, 3), (5, 105), (10, 210)))
    assert live.peak <= 1.3 * 100 * 200
    whole = torch.ones(105, 210).tril(-2) if lower else torch.ones(105, 210).triu(-2)
    assert torch.equal(made, whole.bool()[5:, 10:].expand(3, -1, -1))


def test_windows_put_back_take_the_memory_of_their_cells() -> None:
    from tilekit._exact.frontends._torch.patches import Folded

    x = numbers((1, 8 * 9, 10, 10))
    made = Folded((3, 3), (1, 1), (1, 1))([x])
    assert torch.equal(made, torch.nn.functional.fold(x.flatten(2), (12, 12), 3))
    assert made.untyped_storage().nbytes() == made.nbytes


def test_an_exact_call_within_another_is_followed_through() -> None:
    torch.manual_seed(0)
    net, x = torch.nn.Conv2d(2, 3, 3), torch.randn(1, 2, 9, 8)
    inner = tilekit.exact(net)
    with torch.no_grad():
        assert torch.allclose(tilekit.exact(inner)(x), net(x), atol=1e-6)
        assert torch.allclose(tilekit.exact(lambda x: 2 * inner(x))(x), 2 * net(x), atol=1e-6)


def test_a_block_that_is_still_read_may_be_written_to() -> None:
    torch.manual_seed(0)
    layer, x = torch.nn.Conv1d(16, 16, 3, padding=1), torch.randn(1, 16, 256)

    def doubled(x: Any) -> Any:
        y = torch.sin(x) * 2
        return torch.cat([y, layer(y)], 2)

    call, blocks = tilekit.exact(doubled), []
    for _, block in call.stream(x):
        blocks.append(block.clone())
        block.zero_()
    assert len(blocks) > 1
    assert torch.allclose(torch.cat(blocks, 2), doubled(x), atol=1e-5)
