"""What a plan forecasts is what a run takes, counted in bytes of live tensors."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tilekit as tk
from tilekit._exact import planner
from tilekit._exact.kernels import kernels_of
from tilekit._exact.ops import Moments

torch = pytest.importorskip("torch")
from tests.tilekit.exact._live import Live  # noqa: E402  # needs torch


def counted(call: Callable[[], Any]) -> int:
    """Count the peak of a call, without tensors that were there before."""
    with Live() as live:
        call()
    return int(live.peak)


class Residual(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch is not typed here
    def __init__(self, channels: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = torch.nn.GroupNorm(2, channels) if norm else torch.nn.Identity()
        self.first = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.second = torch.nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Any) -> Any:
        return x + self.second(torch.nn.functional.silu(self.first(self.norm(x))))


def decoder(dtype: Any, *, norm: bool) -> Any:
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(4, 16, 3, padding=1),
        Residual(16, norm=norm),
        torch.nn.Upsample(scale_factor=2),
        torch.nn.Conv2d(16, 16, 3, padding=1),
        Residual(16, norm=norm),
        torch.nn.PixelShuffle(2),
        Residual(4, norm=norm),
        torch.nn.Conv2d(4, 3, 3, padding=1),
    ]
    return torch.nn.Sequential(*layers).to(dtype)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [None, 0.6])
def test_a_plan_forecasts_what_a_call_takes(dtype: Any, share: float | None, *, norm: bool) -> None:
    network = decoder(dtype, norm=norm)
    z = torch.randn(1, 4, 64, 48).to(dtype)
    budget = None if share is None else int(share * tk.exact(network).plan(z).plain_bytes)
    decode = tk.exact(network, budget)
    plan = decode.plan(z)
    assert counted(lambda: decode(z)) == pytest.approx(plan.peak_bytes, rel=0.1)
    with torch.no_grad():
        assert plan.peak_bytes <= counted(lambda: network(z))
    streamed = decode.plan(z, stream=True)
    assert counted(lambda: [None for _ in decode.stream(z)]) == pytest.approx(streamed.peak_bytes, rel=0.1)


class Chunked(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch is not typed here
    """A decoder of clips that makes some frames at a time, with what it hands on to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(4, 8, (1, 3, 3), padding=(0, 1, 1))
        self.norm = torch.nn.GroupNorm(2, 8)
        self.last = torch.nn.Conv3d(8, 3, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Any) -> Any:
        parts: list[Any] = []
        before: Any = 0.0
        for frames in x.split(4, 2):
            before = self.first(frames) + before
            parts.append(self.last(torch.nn.functional.silu(self.norm(before))))
        return torch.cat(parts, 2)


@pytest.mark.parametrize("share", [None, 0.5])
def test_a_stream_whose_output_is_made_part_by_part_takes_what_is_forecast(share: float | None) -> None:
    torch.manual_seed(0)
    network, z = Chunked(), torch.randn(1, 4, 12, 32, 32)
    budget = None if share is None else int(share * tk.exact(network).plan(z).plain_bytes)
    call = tk.exact(network, budget)
    plan = call.plan(z, stream=True)
    assert (plan.axis, len(plan.stages)) == (2, 6)  # frames come, and rows slide in each part
    taken = counted(lambda: [None for _ in call.stream(z)])
    assert taken == pytest.approx(plan.peak_bytes, rel=0.02)


def test_zeros_that_no_stride_reaches_cost_no_copy() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 5, stride=2, padding=2))
    z = torch.randn(1, 4, 33, 30, generator=torch.Generator().manual_seed(0))
    call = tk.exact(network, 1 << 30)
    with torch.no_grad():
        plain = counted(lambda: network(z))
        assert call.plan(z).peak_bytes <= plain
        assert counted(lambda: call(z)) <= 1.02 * plain
        torch.testing.assert_close(call(z), network(z))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [1, 2])
def test_norms_of_small_half_precisions_take_no_more_than_a_plain_call(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, batch: int
) -> None:
    monkeypatch.setattr(planner, "SMALL", 1 << 24)  # so that it is not cut
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.GroupNorm(2, 8), torch.nn.SiLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Conv2d(8, 3, 3, padding=1)).to(dtype)
    torch.nn.init.normal_(network[1].weight, 1, 0.3)
    torch.nn.init.normal_(network[1].bias)
    z = torch.randn(batch, 3, 29, 23, generator=torch.Generator().manual_seed(0)).to(dtype)
    call = tk.exact(network)
    with torch.no_grad():
        plain = counted(lambda: network(z))
        assert call.plan(z).peak_bytes <= 1.01 * plain
        assert len(call.plan(z).stages) == len(call.plan(z).stages[0].steps) == 1
        assert counted(lambda: call(z)) <= 1.02 * plain
        torch.testing.assert_close(call(z), network(z), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "groups"), [((2, 8, 5, 7), 4), ((1, 4, 96, 192), 1), ((1, 4, 257, 263), 2)])
def test_moments_of_half_precisions_are_those_in_float64(dtype: Any, shape: tuple[int, ...], groups: int) -> None:
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 4).to(dtype)
    kernels, op = kernels_of(x), Moments(groups, (0,), 1)
    rows = x.double().reshape(shape[0], groups, -1)
    for held in (x, x.to(memory_format=torch.channels_last)):
        made = kernels.finish(op, kernels.part(op, held))
        torch.testing.assert_close(made[..., 0].double(), rows.mean(-1), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(made[..., 1].double(), rows.var(-1, correction=0), atol=3e-5, rtol=3e-5)


def test_moments_of_half_precisions_make_nothing_wider() -> None:
    x = torch.ones((1, 4, 96, 192), dtype=torch.bfloat16)
    kernels, op = kernels_of(x), Moments(2, (0,), 1)
    assert counted(lambda: kernels.part(op, x)) < 512
    assert counted(lambda: kernels.part(op, x[..., 1:])) > x.nbytes // 16  # a copy of some rows, as they are cut


def test_one_object_serves_several_threads() -> None:
    network = decoder(torch.float32, norm=True)
    decode = tk.exact(network)
    inputs = [torch.randn(1, 4, 24 + 8 * (i % 2), 16) for i in range(6)]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(decode, inputs))
    for z, result in zip(inputs, results, strict=True):
        assert not result.requires_grad  # that of the weights
        torch.testing.assert_close(result, network(z).detach(), atol=1e-5, rtol=1e-5)
