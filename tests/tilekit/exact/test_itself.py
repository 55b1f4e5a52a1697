"""What is not worth cutting is called as it is: never above a plain call, however small."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilekit
from tilekit.backends.limits import Limits
from tilekit.testing import limited

torch = pytest.importorskip("torch")

from tests.tilekit.exact._live import Live  # noqa: E402  # needs torch

nn, F = torch.nn, torch.nn.functional
LOOK = 64
"""Bytes of the look for NaN in what comes out."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave small networks uncut, as they are outside of the tests."""
    monkeypatch.setattr("tilekit._exact.planner.SMALL", 1 << 24)


class Called(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """A function as a layer."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def looked_up(x: Any) -> Any:
    bag = F.embedding_bag(x.flatten(1).abs().clamp(max=2).long(), torch.ones(3, x.shape[-1]).to(x.dtype))
    return x + bag.reshape(-1, 1, 1, x.shape[-1])


LAYERS: dict[str, Any] = {
    "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "adaptive pool": lambda: nn.AdaptiveAvgPool2d((5, 3)),
    "blend": lambda: nn.Upsample(scale_factor=1.7, mode="bilinear"),
    "smooth": lambda: Called(lambda x: F.interpolate(x, size=(6, 7), mode="bicubic")),
    "ceil pool": lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "in place": lambda: nn.Sequential(nn.ELU(), nn.ReLU(inplace=True), nn.Hardtanh(inplace=True)),
    "bag": lambda: Called(looked_up),
    "one cell": lambda: nn.ConvTranspose2d(4, 4, 1, padding=(1, 0)),
    "norm": lambda: nn.GroupNorm(2, 4),
    "named": lambda: Called(lambda x: (y := x * 2, z := y.sin(), y.cos() + z)[2]),
    "attention": lambda: Called(lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None])[0]),
}


@settings(max_examples=8)
@given(
    st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4),
    st.sampled_from(["float32", "bfloat16"]),
    st.integers(5, 12),
)
def test_small_networks_take_what_a_plain_call_takes_at_most(names: list[str], dtype: str, rows: int) -> None:
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    network = nn.Sequential(*(LAYERS[name]() for name in names)).to(kind)
    x = torch.randn(1, 4, rows, 9).to(kind)
    call, before = tilekit.exact(network), x.clone()
    with torch.no_grad(), Live() as plain:
        want = network(x.clone()) if names[0] == "in place" else network(x)
    plan = call.plan(x)
    with Live() as live:
        made = call(x)
    copied = x.nbytes if names[0] == "in place" else 0
    assert live.peak <= plain.peak - copied + LOOK
    assert abs(live.peak - plan.peak_bytes) <= 0.1 * plan.peak_bytes + LOOK
    assert plan.itself or plan.peak_bytes < plan.plain_bytes
    assert torch.allclose(made, want, atol=1e-5 if dtype == "float32" else 0.1)
    assert torch.equal(x, before)


def test_a_plan_to_call_the_function_as_it_is_goes_through_json() -> None:
    network, x = nn.AdaptiveAvgPool2d(5), torch.randn(1, 3, 17, 17)
    plan = tilekit.exact(network).plan(x)
    assert plan.itself
    assert "as it is" in str(plan)
    assert tilekit.ExactPlan.from_json(plan.to_json()) == plan
    cut = tilekit.exact(nn.Sequential(network, nn.SiLU(), nn.SiLU()), 10_000)
    with pytest.raises(tilekit.PlanError, match="another function"):
        cut(x, plan=plan)
    same = tilekit.exact(network, 10_000)
    assert torch.equal(same(x, plan=plan), network(x))


def test_a_least_that_is_named_is_no_more_than_a_plain_call() -> None:
    network, x = nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Softmax2d()), torch.randn(1, 2, 7, 7)
    with pytest.raises(tilekit.PlanError) as refused:
        tilekit.exact(network, 1).plan(x)
    found = re.search(r"takes (\d+) ", str(refused.value))
    assert found is not None
    with torch.no_grad(), Live() as plain:
        network(x)
    assert int(found[1]) <= plain.peak
    assert torch.allclose(tilekit.exact(network, int(found[1]))(x), network(x))


def test_nan_is_named_by_its_layer() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Conv2d(2, 2, 1), nn.Softmax2d())
    with torch.no_grad():
        network[1].bias[0] = torch.nan
    call, x = tilekit.exact(network), torch.randn(1, 2, 7, 7)
    assert call.plan(x).itself
    with pytest.raises(tilekit.InputError, match=r"a weight of 1 \(of the weights\)"):
        call(x)


class Counting(nn.Module):  # type: ignore[misc, name-defined]
    """Notes what it last saw, which no later call reads."""

    seen: Any = None

    def forward(self, x: Any) -> Any:
        self.seen = F.adaptive_avg_pool2d(x, 5)
        return self.seen * 1


@pytest.mark.parametrize("function", [Counting(), lambda x: F.adaptive_avg_pool2d(x.mul_(2), 5)])
def test_what_writes_to_its_input_or_its_objects_is_not_called(function: Any) -> None:
    x = torch.randn(1, 2, 7, 7)
    before = x.clone()
    call = tilekit.exact(function)
    assert not call.plan(x).itself
    made = call(x)
    assert torch.equal(x, before)
    assert getattr(function, "seen", None) is None
    assert torch.allclose(made, function(x), atol=1e-6)


def test_calls_at_the_same_time_leave_compiling_on() -> None:
    pytest.importorskip("torch._dynamo")
    from torch._dynamo import eval_frame

    from tilekit._exact.frontends._torch.record import uncompiled

    before = eval_frame._stance.stance
    first, second = uncompiled(), uncompiled()
    first.__enter__()
    second.__enter__()
    assert eval_frame._stance.stance == "force_eager"
    first.__exit__(None, None, None)
    assert eval_frame._stance.stance == "force_eager"
    second.__exit__(None, None, None)
    assert eval_frame._stance.stance == before


def test_devices_with_limits_are_handed_no_function_as_it_is() -> None:
    network, x = nn.Sequential(nn.Conv2d(2, 8, 3), nn.AdaptiveAvgPool2d(5)), torch.randn(1, 2, 7, 7)
    with limited(Limits(elements=1 << 40)):
        assert not tilekit.exact(network).plan(x).itself
    with limited(Limits(elements=20)), pytest.raises(tilekit.PlanError, match="small enough for the device"):
        tilekit.exact(network).plan(x)


def test_what_torch_takes_beside_attention_is_counted() -> None:
    x = torch.randn(1, 2, 3, 16, 8)

    def attend(x: Any) -> Any:
        return F.scaled_dot_product_attention(x, x, x)

    with Live() as plain:
        attend(x)
    assert tilekit.exact(attend).plan(x).plain_bytes == plain.peak
