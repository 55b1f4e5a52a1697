"""Laws of memory over random small networks: what is forecast is what is counted, budgets are held."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilekit

torch = pytest.importorskip("torch")

from tests.tilekit.exact._live import Live  # noqa: E402  # needs torch
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from tilekit.backends.torch_onednn import onednn_dtypes  # noqa: E402

nn, F = torch.nn, torch.nn.functional
SLACK = 1024
"""Bytes of places, means and the like, which count in networks of a few thousand cells alone."""


class Attended(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """Attention of every cell to all."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.inner = heads, nn.Conv2d(channels, 3 * channels, 1)

    def forward(self, x: Any) -> Any:
        b, c, rows, columns = x.shape
        q, k, v = self.inner(x).reshape(b, 3, self.heads, c // self.heads, -1).transpose(-1, -2).unbind(1)
        return x + F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, rows, columns)


class Called(nn.Module):  # type: ignore[misc, name-defined]
    """A function as a layer."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def resized(mode: str, factor: float) -> Any:
    options = {} if mode in {"nearest", "area"} else {"align_corners": False}
    return Called(lambda x: F.interpolate(x, scale_factor=factor, mode=mode, **options))


def unfolded(x: Any) -> Any:
    rows = 2 * (x.shape[2] // 2), 2 * (x.shape[3] // 2)
    x = x[:, :, : rows[0], : rows[1]]
    return F.fold(F.unfold(x, 2, stride=2) * 0.5, rows, 2, stride=2)


LAYERS = {
    "conv": lambda c: nn.Conv2d(c, c, 3, padding=1),
    "wide conv": lambda c: nn.Conv2d(c, c, 5, padding=2, padding_mode="replicate"),
    "strided conv": lambda c: nn.Conv2d(c, c, 3, stride=2, padding=1),
    "transposed": lambda c: nn.ConvTranspose2d(c, c, 4, stride=2, padding=1),
    "depthwise": lambda c: nn.Conv2d(c, c, 3, padding=1, groups=c),
    "norm": lambda c: nn.GroupNorm(2, c),
    "instance": nn.InstanceNorm2d,
    "activation": lambda c: nn.SiLU(),
    "attention": lambda c: Attended(c, 2),
    "one head": lambda c: Attended(c, 1),
    "nearest": lambda c: resized("nearest", 2.0),
    "bilinear": lambda c: resized("bilinear", 1.5),
    "bicubic": lambda c: resized("bicubic", 2.0),
    "area": lambda c: resized("area", 0.5),
    "max pool": lambda c: nn.MaxPool2d(3, 2, 1),
    "mean pool": lambda c: nn.AvgPool2d(2, 2, ceil_mode=True),
    "softmax": lambda c: nn.Softmax(1),
    "gated": lambda c: Called(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True))),
    "windows": lambda c: Called(unfolded),
    "sum": lambda c: Called(lambda x: x.cumsum(2) * 0.1),
}
PIECE = 1 << 16
"""Bytes of one piece that is made wider on the way, which may be above what a plain call of a tiny network takes."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

networks = st.lists(st.sampled_from(sorted(LAYERS)), min_size=2, max_size=6)
sizes = st.tuples(st.integers(12, 40), st.integers(12, 40))


def made(names: list[str], dtype: str) -> Any:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), *(LAYERS[name](8) for name in names), nn.Conv2d(8, 3, 3, padding=1)]
    return nn.Sequential(*layers).to(DTYPES[dtype]).eval()


def counted(call: Any) -> int:
    live = Live()
    with live:
        call()
    return int(live.peak)


@settings(max_examples=10, deadline=None)
@given(networks, sizes, st.sampled_from(sorted(DTYPES)), st.booleans())
def test_the_forecast_is_what_is_counted_and_not_above_plain(
    names: list[str], size: tuple[int, int], dtype: str, channels_last: bool
) -> None:
    network = made(names, dtype)
    x = torch.randn(1, 3, *size).to(DTYPES[dtype])
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    exact = tilekit.exact(network)
    plan = exact.plan(x)
    taken = counted(lambda: exact(x))
    with torch.no_grad():
        assert taken <= max(1.02 * counted(lambda: network(x)), PIECE)
    assert 0.9 * taken - SLACK <= plan.peak_bytes <= 1.1 * taken + SLACK


def rounded(x: Any) -> Any:
    """A norm as it is written by hand: in float32, rounded twice."""
    wide = x.float()
    return (x * torch.rsqrt(wide.pow(2).mean(1, keepdim=True) + 1e-6)).to(x.dtype) * 2


def of_channels(x: Any) -> Any:
    weight = torch.linspace(0.5, 2, x.shape[1], dtype=x.dtype)
    return F.rms_norm(x.movedim(1, -1), x.shape[1:2], weight, 1e-6).movedim(-1, 1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    ("layer", "share"),
    [
        (Called(lambda x: (x.float().sin() + 1).to(x.dtype)), 0.3),
        (Called(rounded), 0.6),
        (Called(of_channels), 0.35),
        (nn.MaxPool2d(3, 2, 1), 0.7),
    ],
    ids=["wide chain", "norm by hand", "norm of channels", "padded pool"],
)
def test_wide_and_padded_copies_are_made_in_pieces(layer: Any, share: float, dtype: str) -> None:
    """Beside what goes in and comes out there is a part of a copy, where a plain call has all of it."""
    torch.manual_seed(0)
    network = nn.Sequential(Called(lambda x: x * 2), layer, Called(lambda x: x[:, :, ::4] * 2)).requires_grad_(False)
    x = torch.randn(1, 8, 96, 64).to(DTYPES[dtype])
    exact = tilekit.exact(network, 1 << 30)
    plan = exact.plan(x)
    assert [len(stage.steps) for stage in plan.stages] == [1]  # strips would hide a copy
    torch.testing.assert_close(exact(x), network(x))
    taken, plain = counted(lambda: exact(x)), counted(lambda: network(x))
    assert taken <= (share if dtype == "bfloat16" else 0.8) * plain
    assert taken == pytest.approx(plan.peak_bytes, rel=0.1)


class Read(nn.Module):  # type: ignore[misc, name-defined]
    """A recurrent layer over the columns, whose rows lie one batch after the other, and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.out = nn.GRU(8, 8, batch_first=True), nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        return self.out(self.rows(x.flatten(0, 2))[0])


def rolled(x: Any) -> Any:
    """Channels that lie together after a join too."""
    return F.scaled_dot_product_attention(x, x.roll(1, 2), x)


def summed(x: Any) -> Any:
    """A sum that lies as its first array does, and must be copied to be seen in one row."""
    return (torch.tanh(x.permute(0, 2, 3, 1)) + 1).flatten()


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (lambda: Called(summed), torch.ones(1, 8, 24, 16)),
        (Read, torch.ones(1, 4, 6, 12, 8)),
        (
            lambda: nn.Sequential(nn.Conv2d(8, 8, 1), Attended(8, 1)),
            torch.ones(1, 8, 20, 16).to(memory_format=torch.channels_last),
        ),
        (lambda: Called(rolled), torch.ones(1, 8, 20, 16).to(memory_format=torch.channels_last)),
        (lambda: Called(lambda x: F.interpolate(x, size=(29, 35))), torch.ones(1, 4, 20, 16)),
        (lambda: Called(lambda x: x.std(1)), torch.ones(1, 2, 40, 32)),
        (lambda: Called(lambda x: torch.fft.fft(x, dim=3).real), torch.ones(1, 4, 20, 16)),
    ],
    ids=["sum", "recurrent", "attention", "joined", "nearest", "pairs", "complex"],
)
def test_how_an_array_lies_is_forecast(layer: Any, x: Any) -> None:
    network = layer().requires_grad_(False).eval()
    exact = tilekit.exact(network)
    plan = exact.plan(x)
    torch.testing.assert_close(exact(x), network(x))
    assert counted(lambda: exact(x)) == pytest.approx(plan.peak_bytes, rel=0.05)


class Noted(TorchDispatchMode):
    """Tells the name of each operation, and what it is given."""

    def __init__(self, tell: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.tell(func._opname, args)
        return func(*args, **(kwargs or {}))


def test_windows_are_taken_without_a_number_for_each_cell() -> None:
    """Places of eight bytes are twice the cells themselves, and are written down again in each strip."""
    names: list[str] = []
    exact = tilekit.exact(lambda x: x.unfold(2, 16, 8) * 3)
    x = torch.randn(1, 1, 8192)
    with Noted(lambda name, args: names.append(name)):
        made = list(exact.stream(x))
    assert len(made) > 2
    torch.testing.assert_close(torch.cat([block for _, block in made], 2), x.unfold(2, 16, 8) * 3)
    assert "unfold" in names
    assert not {"index_select", "lift_fresh"}.intersection(names)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("size", "small"), [((4, 6), True), ((40, 40), False)])
def test_a_strip_smaller_than_its_weight_is_turned_in_its_place(dtype: str, size: tuple[int, int], small: bool) -> None:
    """
    Where channels lie together torch would copy the weight into their order, anew for each strip.

    OneDNN has no kernels for float64, and for half precisions on some processors alone.
    """
    turned = small and DTYPES[dtype] in onednn_dtypes()
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, 3, padding=1).to(DTYPES[dtype]).requires_grad_(False)
    network = Called(lambda x: conv((x * 2).permute(0, 3, 1, 2)).permute(0, 2, 3, 1) * 3)
    x = torch.randn(1, *size, 64).to(DTYPES[dtype])
    exact = tilekit.exact(network, 1 << 30)
    plan = exact.plan(x)
    given: list[bool] = []
    with Noted(lambda name, args: given.append(args[0].is_contiguous()) if "convolution" in name else None):
        made = exact(x)
    assert given == [turned]
    assert made.is_contiguous()
    torch.testing.assert_close(made, network(x))
    assert counted(lambda: exact(x)) == pytest.approx(plan.peak_bytes, abs=SLACK)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_frames_whose_channels_lie_together_are_convolved_in_some_order(dtype: str) -> None:
    """Torch's own kernels turn them, those of oneDNN do not; a norm of half precisions takes more of the latter."""
    conv = nn.Conv3d(32, 16, 3, padding=1).to(DTYPES[dtype]).requires_grad_(False)
    network = Called(lambda x: F.group_norm(conv((x * 2).movedim(-1, 1)), 2) * 3)
    x = torch.randn(1, 4, 4, 4, 32).to(DTYPES[dtype])
    exact = tilekit.exact(network, 1 << 30)
    plan = exact.plan(x)
    assert counted(lambda: exact(x)) == pytest.approx(plan.peak_bytes, abs=SLACK)


@settings(max_examples=10, deadline=None)
@given(networks, sizes, st.sampled_from(sorted(DTYPES)), st.floats(0.2, 0.9))
def test_a_budget_that_is_accepted_is_held(names: list[str], size: tuple[int, int], dtype: str, share: float) -> None:
    network = made(names, dtype)
    x = torch.randn(1, 3, *size).to(DTYPES[dtype])
    budget = int(share * tilekit.exact(network).plan(x).plain_bytes)
    exact = tilekit.exact(network, budget)
    try:
        plan = exact.plan(x)
    except tilekit.PlanError:
        return
    assert plan.peak_bytes <= budget
    assert counted(lambda: exact(x)) <= budget + SLACK


@pytest.mark.parametrize("turn", [lambda x: x.flip(2), lambda x: torch.rot90(x, 2, (2, 3))])
def test_what_is_turned_round_is_copied(turn: Any) -> None:
    network, x = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Called(turn)).eval(), torch.randn(1, 3, 64, 48)
    exact = tilekit.exact(network, tilekit.exact(network).plan(x).plain_bytes * 3 // 4)
    plan = exact.plan(x)
    assert counted(lambda: exact(x)) == pytest.approx(plan.peak_bytes, rel=0.1)
    torch.testing.assert_close(exact(x), network(x))


@pytest.mark.parametrize("options", [(3, 2, 0, 1), (2, 3, 0, 2), (3, 2, 1, 1), (4, 2, 1, 0)])
def test_a_transposed_convolution_is_cut_by_the_call_itself(options: tuple[int, ...]) -> None:
    kernel, stride, padding, more = options
    network = nn.ConvTranspose2d(4, 4, kernel, stride, padding, more).requires_grad_(False)
    x = torch.ones(1, 4, 16, 16)
    exact = tilekit.exact(network)
    assert counted(lambda: exact(x)) <= 1.01 * counted(lambda: network(x))
    torch.testing.assert_close(exact(x), network(x))


@pytest.mark.parametrize("place", ["host", "disk"])
def test_what_waits_elsewhere_is_not_on_the_device(place: Any) -> None:
    torch.manual_seed(0)
    c = 16
    layers = [nn.Conv2d(4, c, 3, padding=1), nn.GroupNorm(4, c), nn.Conv2d(c, c, 3, padding=1), nn.GroupNorm(4, c)]
    net = nn.Sequential(*layers, nn.Conv2d(c, 1, 3, padding=1)).requires_grad_(False)
    x = torch.randn(1, 4, 96, 32)
    budget = tilekit.exact(net).plan(x).plain_bytes // 3
    away = tilekit.exact(net, budget, offload=place)
    plan = away.plan(x)
    assert plan.work < 1.01
    assert any(kept.place == place for stage in plan.stages for kept in stage.keep)
    with Live() as live:
        got = away(x)
    torch.testing.assert_close(got, net(x), atol=1e-5, rtol=1e-5)
    if place == "disk":  # what is on the host of a processor is there as well
        assert tilekit.exact(net, budget).plan(x).work > 1.01
        assert plan.peak_bytes / 2 < live.peak <= plan.peak_bytes + SLACK <= budget + SLACK


@pytest.mark.parametrize("share", [0.5, 0.6])
def test_a_stream_of_transposed_convolutions_holds_its_budget(share: float) -> None:
    """A strip that ends between the cells of a stretched input is cut from more than it has, which must not stay."""
    torch.manual_seed(0)
    layers = [nn.ConvTranspose3d(2, 4, (3, 4, 4), (1, 2, 2), 1), nn.GroupNorm(2, 4)]
    net = nn.Sequential(*layers, nn.ConvTranspose3d(4, 2, 2, 2, groups=2)).requires_grad_(False)
    x = torch.randn(1, 2, 4, 14, 12)
    budget = int(share * counted(lambda: net(x)))
    exact = tilekit.exact(net, budget)
    plan = exact.plan(x, stream=True)
    assert len(plan.stages[-1].steps) > 2
    taken = counted(lambda: [None for _ in exact.stream(x)])
    assert taken <= budget
    assert taken == pytest.approx(plan.peak_bytes, rel=0.02)
    whole = torch.cat([block for _, block in exact.stream(x)], plan.axis)
    torch.testing.assert_close(whole, net(x), atol=1e-5, rtol=1e-5)
