"""`exact.stream` of a source with modules of torch: clips, pictures, memory that does not grow, weights read anew."""

from collections.abc import Iterator
from typing import Any

import pytest

import tilekit
from tilekit.backends.limits import Limits
from tilekit.testing import limited

torch = pytest.importorskip("torch")

from tests.tilekit.exact._live import Live  # noqa: E402  # needs torch

F = torch.nn.functional
ATOL = 1e-5


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


class Causal(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """A decoder of clips that repeats the first frame, norms each frame, doubles time and drops its first frame."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(2, 4, 3, padding=(0, 1, 1))
        self.out = torch.nn.ConvTranspose3d(4, 2, (2, 2, 2), stride=(2, 2, 2))

    def forward(self, x: Any) -> Any:
        y = self.conv(torch.cat([x[:, :, :1]] * 2 + [x], 2))
        y = y / (y.pow(2).mean((1, 3, 4), keepdim=True) + 1e-3).sqrt()
        return self.out(F.silu(y))[:, :, 1:]


class Downward(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """An encoder of pictures: strides, a residual, a border that is copied."""

    def __init__(self) -> None:
        super().__init__()
        self.down = torch.nn.Conv2d(2, 4, 3, stride=2)
        self.same = torch.nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Any) -> Any:
        y = self.down(F.pad(x, (0, 1, 0, 1)))
        return y + torch.tanh(self.same(y))


def _parts(x: Any, axis: int, rows: int) -> Iterator[Any]:
    yield from x.split(rows, axis)


@pytest.mark.parametrize(
    ("network", "shape", "axis", "lengths"),
    [
        (Causal, (1, 2, 13, 4, 5), 2, None),
        (Downward, (1, 2, 30, 10), 2, None),
        (Downward, (2, 2, 12, 26), 3, range(2, 99, 2)),
    ],
)
def test_a_source_gives_what_the_whole_gives(network: Any, shape: Any, axis: int, lengths: range | None) -> None:
    torch.manual_seed(0)
    module, x = network(), torch.randn(shape)
    exact = tilekit.exact(module)
    for rows in (1, 4):
        blocks = [b for _, b in exact.stream(_parts(x, axis, 3), axis=axis, lengths=lengths, rows=rows)]
        assert torch.allclose(torch.cat(blocks, axis), module(x), atol=ATOL)
        assert len(blocks) > 1


def test_live_bytes_do_not_grow_and_are_forecast() -> None:
    module = torch.nn.Sequential(torch.nn.Conv1d(4, 16, 5, padding=2), torch.nn.SiLU(), torch.nn.Conv1d(16, 4, 5))
    exact = tilekit.exact(module)
    peaks = []
    for n in (400, 1600):
        x = torch.randn(1, 4, n)
        list(exact.stream(x, axis=2, rows=32))
        with Live() as live:
            for _ in exact.stream((part.clone() for part in _parts(x, 2, 32)), axis=2, rows=32):
                pass
        peaks.append(live.peak)
    (plan,) = exact._sources.held.values()
    forecast = plan.counted(tilekit._exact.kernels.kernels_of(x).scratch).peak_bytes  # type: ignore[attr-defined]
    assert peaks[0] == peaks[1]
    assert 0.9 * peaks[0] <= forecast <= 1.1 * peaks[0]


def test_steps_are_small_enough_for_the_device() -> None:
    module = torch.nn.Sequential(torch.nn.Conv1d(4, 16, 5, padding=2), torch.nn.SiLU(), torch.nn.Conv1d(16, 4, 5))
    x = torch.randn(1, 4, 400)
    parts, want = [part.clone() for part in _parts(x, 2, 20)], module(x)
    assert len(list(tilekit.exact(module).stream(parts, axis=2))) < 10
    with limited(Limits(elements=16 * 40)):
        blocks = [b for _, b in tilekit.exact(module).stream(parts, axis=2)]
    assert torch.allclose(torch.cat(blocks, 2), want, atol=ATOL)
    assert max(block.shape[2] for block in blocks) <= 40


def test_weights_are_read_when_they_are_used() -> None:
    module = Causal()
    exact, x = tilekit.exact(module), torch.randn(1, 2, 9, 4, 4)
    list(exact.stream(x, axis=2, rows=2))
    (plan,) = exact._sources.held.values()
    module.conv.weight.mul_(2)
    made = torch.cat([b for _, b in exact.stream(x, axis=2, rows=2)], 2)
    assert torch.allclose(made, module(x), atol=ATOL)
    module.conv = torch.nn.Conv3d(2, 4, 5, padding=(1, 2, 2))
    made = torch.cat([b for _, b in exact.stream(x, axis=2, rows=2)], 2)
    assert torch.allclose(made, module(x), atol=ATOL)
    assert list(exact._sources.held.values()) != [plan]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.cumsum(2),
        lambda x: torch.cat([x, x[:, :, :1]], 2),
        lambda x: x.flip(2),
        lambda x: x + torch.arange(x.shape[2]),
        lambda x: x * torch.tensor(float(x.shape[2])),
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: F.interpolate(x, scale_factor=2, mode="linear", align_corners=True),
        lambda x: x[:, :, : x.shape[2] // 2],
        lambda x: x.mean(2),
    ],
)
def test_what_looks_at_the_whole_axis_is_refused(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilekit._exact.sources.plan.LARGE", 1 << 13)  # no longer inputs are tried
    with pytest.raises(tilekit.PlanError, match="give the whole input"):
        list(tilekit.exact(function).stream([torch.ones(1, 2, 30)] * 3, axis=2))


def test_lengths_that_a_function_fails_at_are_refused_with_the_cure(capfd: pytest.CaptureFixture[str]) -> None:
    exact = tilekit.exact(torch.nn.Sequential(torch.nn.PixelUnshuffle(2), torch.nn.Conv2d(12, 4, 3, padding=1)))
    x = torch.randn(1, 3, 30, 20)
    with pytest.raises(tilekit.TraceError, match="lengths="):
        next(exact.stream(_parts(x, 2, 3), axis=2))
    assert not capfd.readouterr().err  # torch prints what its stand-ins fail at
    with torch.no_grad():
        blocks = [b for _, b in exact.stream(_parts(x, 2, 3), axis=2, lengths=range(2, 1000, 2), rows=4)]
    assert torch.allclose(torch.cat(blocks, 2), exact.function(x), atol=1e-6)
