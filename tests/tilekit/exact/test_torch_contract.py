"""What users hand in and do around a call: the result is right, or the refusal says why."""

from typing import Any

import pytest

import tilekit

torch = pytest.importorskip("torch")

nn, F = torch.nn, torch.nn.functional
X = torch.randn(1, 4, 24, 16, generator=torch.Generator().manual_seed(0))


def convolutions() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1)).requires_grad_(False)


def agree(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("largest", [lambda x: x.abs().max(), lambda x: x.mean(), lambda x: x.norm()])
def test_a_single_number_of_all_cells_is_kept(largest: Any) -> None:
    net = convolutions()

    def scaled(x: Any) -> Any:
        return net(x / largest(x))

    cut = tilekit.exact(scaled, 20_000)
    agree(cut(X), scaled(X))
    agree(torch.cat([block for _, block in cut.stream(X)], cut.plan(X, stream=True).axis), scaled(X))
