"""No plan makes an array that a device gets wrong, and what it forecasts of sizes is what is met."""

from math import inf
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tilekit as tk
from tilekit import PlanError
from tilekit._exact.forecast import forecast
from tilekit._exact.program import program_of
from tilekit._exact.trace import trace
from tilekit.backends.limits import Limits, pretended
from tilekit.testing import limited

torch: Any = pytest.importorskip("torch")
nn = torch.nn
faults_of: Any = pytest.importorskip("tilekit.backends._faults_torch").TorchFaults


class Causal(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(6, 6, 3, padding=(0, 1, 1))

    def forward(self, x: Any) -> Any:
        return self.conv(nn.functional.pad(x, (0, 0, 0, 0, 2, 0)))


class Attend(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        rows = x.flatten(2).mT[:, None]
        return x + nn.functional.scaled_dot_product_attention(rows, rows, rows)[:, 0].mT.reshape(x.shape)


def network(kind: str) -> tuple[Any, tuple[int, ...]]:
    torch.manual_seed(0)
    if kind == "video":
        layers = [nn.Conv3d(4, 6, 3, padding=1), Causal(), nn.SiLU(), nn.Upsample(scale_factor=(1, 2, 2)), Causal()]
        return nn.Sequential(*layers).eval(), (1, 4, 12, 6, 8)
    if kind == "norm":
        layers = [nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Upsample(scale_factor=2)]
        return nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1)).eval(), (1, 4, 16, 12)
    if kind == "attention":
        return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), Attend(), nn.Conv2d(4, 3, 1)).eval(), (1, 4, 12, 10)
    layers = [nn.Conv1d(4, 8, 5, padding=2), nn.ConvTranspose1d(8, 4, 8, stride=4, padding=2), nn.Tanh()]
    return nn.Sequential(*layers).eval(), (1, 4, 64)


KINDS = ["video", "norm", "attention", "sound"]


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    limited_by=st.sampled_from(["elements", "convolution", "unfolded", "padded_frame", "work"]),
    share=st.floats(0.05, 1.2),
    stream=st.booleans(),
)
@example("video", "work", 0.2, True)
@example("attention", "work", 0.3, False)
@example("sound", "work", 0.1, False)
@torch.no_grad()  # type: ignore[untyped-decorator]
def test_results_are_right_or_refused(kind: str, limited_by: str, share: float, stream: bool) -> None:
    net, shape = network(kind)
    x = torch.randn(shape)
    wanted = net(x)
    whole = {"elements": wanted.numel() * 3, "convolution": wanted.numel() * 2, "unfolded": wanted.numel() * 54}
    with limited(Limits(elements=1 << 40)) as free:
        net(x)
    whole["work"] = free.work
    most = int(whole.get(limited_by, 48) * share)
    chosen: Any = {limited_by: max(1, most)}
    limits = Limits(**chosen, unfolds=limited_by == "unfolded")
    with limited(limits) as faults:
        try:
            f = tk.exact(net)
            blocks = list(f.stream(x)) if stream else [(0, f(x))]
            axis = f.plan(x, stream=True).axis if stream else 0
        except (PlanError, tk.InputError, tk.DeviceError):
            return
    assert not faults.played
    assert getattr(faults, limited_by) <= max(1, most) or limited_by == "padded_frame"
    assert torch.allclose(torch.cat([block for _, block in blocks], axis), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()  # type: ignore[untyped-decorator]
def test_a_limit_makes_smaller_steps(kind: str) -> None:
    net, shape = network(kind)
    x = torch.randn(shape)
    f = tk.exact(net)
    with limited(Limits(elements=1 << 40)) as free:
        wanted = f(x)
    most = max(wanted.numel(), x.numel(), free.elements * 2 // 3)
    if kind == "attention":  # its scores, which are not cut along the keys
        most = 6000
    with limited(Limits(elements=most)) as faults:
        got = f(x)
    assert faults.elements <= most
    assert not faults.played
    assert torch.allclose(got, wanted, atol=1e-5)


def test_a_frame_too_large_for_padding_is_padded_by_concatenation() -> None:
    net, shape = network("video")
    x = torch.randn(shape)
    with torch.no_grad():
        wanted = net(x)
        with limited(Limits(padded_frame=20)) as faults:
            assert not torch.allclose(net(x), wanted)
            assert faults.played
            faults.played.clear()
            assert torch.allclose(tk.exact(net)(x), wanted, atol=1e-6)
            assert not faults.played


def test_a_refusal_names_the_operation_and_its_multiply_adds() -> None:
    net, shape = network("attention")
    text = (
        r"no plan keeps every step small enough for the device: 1 \(Attention\) with \d+ multiply-adds, of which the "
        r"device finishes 900 before its driver ends them; give a smaller input"
    )  # a single query has 960: 120 keys of 4 channels, twice
    with pretended(Limits(work=900)), pytest.raises(PlanError, match=text):
        tk.exact(net).plan(torch.zeros(shape))


def test_a_refusal_names_the_array() -> None:
    net, shape = network("attention")
    with limited(Limits(elements=500)), pytest.raises(PlanError, match=r"small enough for the device: .* elements"):
        tk.exact(net).plan(torch.zeros(shape))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()  # type: ignore[untyped-decorator]
def test_what_is_forecast_of_sizes_is_met(kind: str) -> None:
    net, shape = network(kind)
    x = torch.randn(shape)
    f = tk.exact(net)
    plan = f.plan(x)
    limits = Limits(elements=1 << 40, convolution=1 << 40)
    program = program_of(trace(net, x).graph, plan.stages)
    dry = forecast(program, limits=limits)
    counted = dry.over * (1 << 40)
    with faults_of(limits) as faults:
        f(x, plan=plan)
    assert faults.convolution <= counted < inf
    assert faults.elements <= max(counted, x.numel(), *(w.numel() for w in net.parameters()))
    work = dict(dry.largest)["work"]  # counts the zeros between cells that a transposed convolution spreads, by 4
    assert work // (5 if kind == "sound" else 2) < faults.work <= work
