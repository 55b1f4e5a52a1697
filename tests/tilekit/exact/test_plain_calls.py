"""What a plain call is forecast to take is what it is counted to take, or less where Python keeps a name too long."""

from collections.abc import Callable
from typing import Any

import pytest

import tilekit

torch = pytest.importorskip("torch")

from tests.tilekit.exact._live import Live  # noqa: E402  # needs torch
from tests.tilekit.exact._published import counted  # noqa: E402

nn, F = torch.nn, torch.nn.functional
TINY = 1024
"""Bytes of statistics, which a norm of torch makes and gives beside its result."""


class Cached(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """A causal decoder that makes two frames at a time and hands its last frames on, as those of clips do."""

    def __init__(self, *, copies: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Conv3d(4, 4, (3, 3, 3), padding=(0, 1, 1)) for _ in range(8))
        self.copies = copies

    def forward(self, z: Any) -> Any:
        caches: list[Any] = [None] * len(self.layers)
        made = []
        for frames in z.split(4, 2):
            x = F.interpolate(frames, scale_factor=(1.0, 4.0, 4.0))
            for i, layer in enumerate(self.layers):
                before = caches[i] if caches[i] is not None else x[:, :, :1].expand(-1, -1, 2, -1, -1)
                x = torch.cat([before, x], 2)
                caches[i] = x[:, :, -2:].clone() if self.copies else x[:, :, -2:]
                x = layer(x)
            made.append(x)
        return torch.cat(made, 2)


def plain(network: Any, x: Any) -> int:
    """Count what a plain call takes."""
    with torch.no_grad(), Live() as live:
        network(x)
    return int(live.peak)


@pytest.mark.parametrize("make", [lambda: Cached(copies=True), lambda: Cached(copies=False), lambda: in_a_row(8)])
def test_without_computing_the_same_is_counted(make: Callable[[], Any]) -> None:
    network = make()
    x = torch.zeros(1, 4, 20, 6, 5) if isinstance(network, Cached) else torch.zeros(1, 3, 20, 24)
    taken = plain(network, x)
    assert counted(network, network, x) == taken


def in_a_row(c: int) -> Any:
    """A network of which no name lives longer than its array is needed."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, c, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(c, c, 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(2), nn.Conv2d(c // 4, 3, 3, padding=1))


def test_where_no_name_lives_too_long_the_forecast_is_the_count() -> None:
    network, x = in_a_row(8), torch.zeros(1, 3, 20, 24)
    assert tilekit.exact(network).plan(x).plain_bytes == plain(network, x)


def named(x: Any) -> Any:
    y = x * 2
    z = F.pad(y, (1, 1, 1, 1)) * 3  # y is held until the end
    return F.pad(z, (1, 1, 1, 1)) + 1


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("make", [Cached, lambda copies: named])
def test_the_forecast_is_not_above_the_count(make: Callable[..., Any], copies: bool) -> None:
    network = make(copies=copies)
    x = torch.zeros(1, 4, 20, 6, 5)
    assert tilekit.exact(network).plan(x).plain_bytes <= plain(network, x) + TINY


def test_frames_that_are_copied_let_the_rest_go_in_exact_calls_too() -> None:
    x = torch.randn(1, 4, 20, 6, 5, generator=torch.Generator().manual_seed(0))
    network = Cached(copies=True).requires_grad_(False)
    assert plain(network, x) < 0.9 * plain(Cached(copies=False), x)
    call = tilekit.exact(network, 1 << 30)
    plan = call.plan(x)
    assert (len(plan.stages), len(plan.stages[0].steps)) == (1, 1)  # nothing is cut
    with Live() as live:
        got = call(x)
    torch.testing.assert_close(got, network(x), atol=1e-5, rtol=1e-5)
    assert live.peak <= plain(network, x) + TINY
    assert live.peak == pytest.approx(plan.peak_bytes, rel=0.02)
