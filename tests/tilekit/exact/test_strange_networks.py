"""Networks that no family of autoencoders has: exact, as a call, as a stream and under a budget."""

import re
from collections.abc import Callable
from typing import Any

import pytest

import tilekit as tk

torch = pytest.importorskip("torch")

from tests.tilekit.exact._live import Live  # noqa: E402  # needs torch

nn, F = torch.nn, torch.nn.functional
Function = Callable[[Any], Any]


def conv(a: int, b: int, **options: Any) -> Any:
    return nn.Conv2d(a, b, 3, **{"padding": 1, **options})


class Net(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """Layers by name, and a function of them and the input."""

    def __init__(self, function: Callable[[Any, Any], Any], **layers: Any) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def u_net(m: Any, x: Any) -> Any:
    first = m.first(x)
    low = F.silu(m.down(first))
    up = m.up(low)[:, :, : x.shape[2], : x.shape[3]]
    return m.last(torch.cat([F.silu(m.norm(up)), first], 1))


def axial(m: Any, x: Any) -> Any:
    h = m.first(x)
    b, c, rows, columns = h.shape
    q = h.permute(0, 2, 3, 1).reshape(b * rows, columns, c)
    h = h + F.scaled_dot_product_attention(q, q, q).reshape(b, rows, columns, c).permute(0, 3, 1, 2)
    q = h.permute(0, 3, 2, 1).reshape(b * columns, rows, c)
    return m.last(h + F.scaled_dot_product_attention(q, q, q).reshape(b, columns, rows, c).permute(0, 3, 2, 1))


def modulated(m: Any, x: Any) -> Any:
    style = m.style(x.mean((2, 3)))
    weight = m.first.weight[None] * (1 + style[:, :, None, None, None])
    weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    b, c, rows, columns = x.shape
    return F.conv2d(x.reshape(1, b * c, rows, columns), weight.flatten(0, 1), padding=1, groups=b).unflatten(1, (b, -1))


def apart(m: Any, x: Any) -> Any:
    biases = torch.cat([m.first.bias, m.last.bias, m.last.bias[:1]]).view(4, 2)
    h = F.conv2d(x, m.first.weight, biases[:, 1], padding=1)
    return F.conv2d(torch.tanh(h), m.last.weight, m.last.bias[1].expand(3), padding=1)


def blended(m: Any, x: Any) -> Any:
    out, count = torch.zeros_like(x), torch.zeros_like(x)
    for i in range(0, x.shape[2], 8):
        out[:, :, i : i + 12] += m.first(x[:, :, i : i + 12])
        count[:, :, i : i + 12] += 1
    return out / count


def recurrent(m: Any, x: Any) -> Any:
    rows = m.first(x).unbind(2)
    state, out = torch.zeros_like(rows[0]), []
    for row in rows:
        state = torch.tanh(state * 0.5 + row)
        out.append(state)
    return torch.stack(out, 2)


def resized(m: Any, x: Any) -> Any:
    h = F.interpolate(m.first(x), scale_factor=1.7, mode="bicubic", antialias=True)
    return m.last(h) + F.interpolate(F.adaptive_avg_pool2d(x, (5, 3)), size=h.shape[2:], mode="bilinear")


def cached(m: Any, x: Any) -> Any:
    past = torch.zeros_like(x[:, :, :1]).expand(-1, -1, 2, -1, -1)
    out = []
    for chunk in x.split(2, 2):
        given = torch.cat([past, chunk], 2)
        past = given[:, :, -2:].clone()
        out.append(m.first(given))
    return torch.cat(out, 2)


def spectral(m: Any, x: Any) -> Any:
    return m.last(torch.fft.irfft2(torch.fft.rfft2(m.first(x)) * 2, s=x.shape[-2:]))


def rotated(m: Any, x: Any) -> Any:
    h = m.first(x).flatten(2).transpose(1, 2)
    angles = torch.arange(h.shape[1])[:, None] * torch.tensor([0.1, 0.7])
    turned = torch.view_as_complex(h.reshape(*h.shape[:2], 2, 2).contiguous()) * torch.polar(
        torch.ones_like(angles), angles
    )
    h = torch.view_as_real(turned).flatten(2).transpose(1, 2).unflatten(2, x.shape[2:])
    return m.last(h)


def sung(m: Any, x: Any) -> Any:
    size, phase = m.first(x).chunk(2, 1)
    window = torch.hann_window(8)
    return torch.istft(torch.polar(size.exp(), phase), 8, 4, window=window)


def wavelets(m: Any, x: Any) -> Any:
    low, high = m.first(x).chunk(2, 1)
    out = torch.zeros(*low.shape[:2], 2 * low.shape[2], 2 * low.shape[3])
    for i in range(2):
        for j in range(2):
            out[:, :, i::2, j::2] = low + (-1) ** (i + j) * high
    return out


def shifted(m: Any, x: Any) -> Any:
    h, out = m.first(x), torch.zeros(2, 4, 20, 18)
    out[:, :1, 1:], out[:, 1:2, :-1], out[:, 2:] = h[:, :1, :-1], h[:, 1:2, 1:], h[:, 2:]
    return m.last(out)


def in_order(m: Any, x: Any) -> Any:
    out = torch.empty(x.shape[0], 4, *x.shape[2:])
    for i in range(0, x.shape[2], 5):
        out[:, :, i : i + 5] = m.first(x[:, :, i : i + 5])
        if i:
            out[:, :, i] += out[:, :, i - 1]
    return out


def handed_on(m: Any, x: Any) -> Any:
    parts: list[Any] = []
    for rows in x.split(5, 2):
        h = m.first(rows)
        parts.append(torch.cat([h[:, :, :1] + parts[-1][:, :, -1:], h[:, :, 1:]], 2) if parts else h)
    return torch.cat(parts, 2)


def near(m: Any, x: Any) -> Any:
    rows = torch.arange(x.shape[1])
    mask = (rows[:, None] - rows).abs() < 6
    q, k, v = (part.unsqueeze(1) for part in m.rows(x).chunk(3, 2))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def gaps(m: Any, x: Any) -> Any:
    return F.conv_transpose2d(x, m.first.weight.transpose(0, 1), m.first.bias, stride=3)


def masked(m: Any, x: Any) -> Any:
    known = (x.mean(1, keepdim=True) > 0).to(x)
    count = F.conv2d(known, torch.ones(1, 1, 3, 3), padding=1)
    return torch.where(count > 0, m.first(x * known) * 9 / count.clamp(min=1), torch.zeros(2, 4, 20, 18))


def shifted_windows(m: Any, x: Any) -> Any:
    h = torch.roll(m.first(x), (-2, -2), (2, 3))
    b, c, rows, columns = h.shape
    q = h.reshape(b, c, rows // 4, 4, columns // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    q = (q @ q.mT).softmax(-1) @ q
    h = q.reshape(b, rows // 4, columns // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(h.shape)
    return m.last(torch.roll(h, (2, 2), (2, 3)))


def neighbours(m: Any, x: Any) -> Any:
    h = m.first(x)
    near = F.unfold(h, 5, padding=2).view(1, 2, 4, 25, *x.shape[2:])
    seen = torch.einsum("bdchw,bdcnhw->bdnhw", h.view(1, 2, 4, *x.shape[2:]), near).softmax(2)
    return m.last(torch.einsum("bdnhw,bdcnhw->bdchw", seen, near).flatten(1, 2))


def vocoder(m: Any, x: Any) -> Any:
    size, phase = m.first(x).chunk(2, 1)
    return torch.istft(torch.polar(size.exp(), phase), 14, 3, window=torch.hann_window(14), length=240)


def two() -> dict[str, Any]:
    return {"first": conv(3, 4), "last": conv(4, 3)}


def picture(*shape: int) -> tuple[int, ...]:
    return shape or (2, 3, 20, 18)


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "odd transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(3, 6, 5, 3, 1, 2), nn.ELU(), nn.ConvTranspose2d(6, 3, 4, (1, 2), (3, 0))
        ),
        picture(1, 3, 13, 11),
    ),
    "cropped transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 6, 2, 4, 0, (1, 3), dilation=2), nn.Conv2d(6, 3, 7, 5)),
        picture(1, 3, 9, 11),
    ),
    "gaps that read nothing": (lambda: Net(gaps, first=nn.Conv2d(3, 4, 1)), picture(1, 3, 6, 5)),
    "circular": (
        lambda: nn.Sequential(conv(3, 4, padding_mode="circular"), nn.SiLU(), conv(4, 3, padding_mode="reflect")),
        picture(),
    ),
    "circular frames": (
        lambda: Net(lambda m, x: F.pad(F.silu(m.first(x)), (1,) * 6, mode="circular"), first=nn.Conv3d(1, 1, 3)),
        (1, 1, 4, 6, 5),
    ),
    "U-Net": (
        lambda: Net(
            u_net,
            first=conv(3, 4),
            down=conv(4, 8, stride=2),
            up=nn.ConvTranspose2d(8, 4, 2, 2),
            norm=nn.GroupNorm(2, 4),
            last=conv(8, 3),
        ),
        picture(1, 3, 23, 21),
    ),
    "axial attention": (lambda: Net(axial, **two()), picture(1, 3, 10, 12)),
    "modulated": (lambda: Net(modulated, first=conv(3, 4), style=nn.Linear(3, 4)), picture()),
    "blended tiles": (lambda: Net(blended, first=conv(3, 3)), picture()),
    "recurrent rows": (lambda: Net(recurrent, first=conv(3, 3)), picture(1, 3, 10, 8)),
    "resized": (lambda: Net(resized, **two()), picture(1, 3, 14, 12)),
    "frames with a cache": (lambda: Net(cached, first=nn.Conv3d(3, 4, 3, padding=(0, 1, 1))), (1, 3, 5, 6, 5)),
    "Fourier": (lambda: Net(spectral, **two()), picture()),
    "rotary by complex numbers": (lambda: Net(rotated, **two()), picture()),
    "inverse Fourier vocoder": (lambda: Net(sung, first=nn.Conv1d(3, 10, 3, padding=1)), (1, 3, 9)),
    "GRU": (lambda: Net(lambda m, x: m.rows(x)[0], rows=nn.GRU(6, 4, bidirectional=True)), (2, 9, 6)),
    "running sum": (lambda: Net(lambda m, x: m.last(m.first(x).cumsum(2) * 0.1), **two()), picture()),
    "biases that lie apart": (lambda: Net(apart, **two()), picture()),
    "wavelets": (lambda: Net(wavelets, first=conv(3, 4)), picture()),
    "shifted channels": (lambda: Net(shifted, **two()), picture()),
    "written in order": (lambda: Net(in_order, first=conv(3, 4)), picture()),
    "handed on": (lambda: Net(handed_on, first=conv(3, 4)), picture()),
    "partial convolution": (lambda: Net(masked, first=conv(3, 4)), picture()),
    "attention to what is near": (lambda: Net(near, rows=nn.Linear(8, 24)), (2, 40, 8)),
    "norm of a batch": (
        lambda: Net(lambda m, x: F.batch_norm(m.first(x), None, None, training=True), **two()),
        picture(),
    ),
    "norm of channels that lie together": (
        lambda: nn.Sequential(nn.Linear(3, 8), Net(lambda m, x: m.norm(x.movedim(-1, 1)), norm=nn.GroupNorm(2, 8))),
        picture(2, 20, 18, 3),
    ),
    "shifted windows": (lambda: Net(shifted_windows, **two()), picture(1, 3, 32, 24)),
    "over its largest": (lambda: Net(lambda m, x: (h := m.first(x)) / h.abs().amax(), **two()), picture()),
    "norm of pictures": (
        lambda: Net(lambda m, x: m.last(F.layer_norm(h := m.first(x), h.shape[1:])), first=conv(3, 8), last=conv(8, 3)),
        picture(1, 3, 40, 18),
    ),
    "products of rows": (
        lambda: Net(
            lambda m, x: m.last(torch.einsum("bchw,wk->bchk", m.first(x), m.table)),
            first=conv(3, 8),
            last=conv(8, 3),
            table=nn.Parameter(torch.randn(18, 18)),
        ),
        picture(2, 3, 40, 18),
    ),
    "neighbours": (lambda: Net(neighbours, first=conv(3, 8), last=conv(8, 3)), picture(1, 3, 20, 18)),
    "inverse Fourier transform": (lambda: Net(vocoder, first=nn.Conv1d(3, 16, 3, padding=1)), (1, 3, 82)),
    "sums of windows": (
        lambda: Net(lambda m, x: F.fold(m.first(x), (1, 727), (1, 16), stride=(1, 9)), first=nn.Conv1d(3, 16, 3)),
        (1, 3, 82),
    ),
    "triangles": (
        lambda: Net(lambda m, x: m.last(m.first(x).tril(2)), first=conv(3, 8), last=conv(8, 3)),
        picture(1, 3, 40, 18),
    ),
    "flat": (lambda: Net(lambda m, x: m.first(x).flatten(1), first=conv(3, 3)), picture()),
    "pixel": (lambda: nn.Sequential(conv(3, 4), nn.GroupNorm(2, 4), conv(4, 3)), picture(1, 3, 1, 1)),
}


def close(got: Any, want: Any) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("name", NETWORKS)
def test_strange_networks_are_exact(name: str) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    network, x = make().eval(), torch.randn(shape)
    with torch.no_grad():
        want = network(x)
    call = tk.exact(network)
    close(call(x), want)
    axis = call.plan(x, stream=True).axis
    close(torch.cat([block for _, block in call.stream(x)], axis), want)
    close(call(x, plan=tk.ExactPlan.from_json(call.plan(x).to_json())), want)


@pytest.mark.parametrize(
    "name",
    [
        "wavelets",
        "shifted channels",
        "partial convolution",
        "attention to what is near",
        "norm of a batch",
        "norm of channels that lie together",
    ],
)
def test_no_more_than_a_plain_call_and_what_is_forecast(name: str) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    network, x = make().eval(), torch.randn(shape)
    with Live() as plain, torch.no_grad():
        network(x)
    call = tk.exact(network)
    peak = call.plan(x).peak_bytes
    with Live() as live:
        call(x)
    assert live.peak <= 1.01 * plain.peak
    assert live.peak == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(
    "name", ["odd transposed", "circular frames", "U-Net", "resized", "running sum", "frames with a cache"]
)
def test_the_least_that_is_named_works(name: str) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    network, x = make().eval(), torch.randn(shape)
    with pytest.raises(tk.PlanError, match="needs least") as refused:
        tk.exact(network, 1).plan(x)
    least = int(re.findall(r"takes (\d+) ", str(refused.value))[0])
    call = tk.exact(network, least)
    assert call.plan(x).peak_bytes <= least
    with torch.no_grad():
        close(call(x), network(x))


@pytest.mark.parametrize(
    "name",
    [
        "shifted windows",
        "norm of pictures",
        "products of rows",
        "neighbours",
        "inverse Fourier transform",
        "sums of windows",
        "triangles",
    ],
)
def test_half_of_a_plain_call_is_enough(name: str) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    network, x = make().eval(), torch.randn(shape)
    with Live() as plain, torch.no_grad():
        want = network(x)
    call = tk.exact(network, plain.peak // 2)
    assert call.plan(x).work <= 1.5
    with Live() as live:
        got = call(x)
    close(got, want)
    assert live.peak <= plain.peak // 2
    assert live.peak == pytest.approx(call.plan(x).peak_bytes, rel=0.1)


def test_one_number_has_no_blocks() -> None:
    network = Net(lambda m, x: m.first(x).mean(), first=conv(3, 3))
    x = torch.randn(picture())
    with torch.no_grad():
        torch.testing.assert_close(tk.exact(network)(x), network(x))
    with pytest.raises(tk.PlanError, match="no blocks; call it instead"):
        next(tk.exact(network).stream(x))


def test_infinity_that_a_function_means_is_handed_out() -> None:
    network = Net(lambda m, x: torch.log(F.relu(m.first(x))), first=conv(3, 3))
    x = torch.randn(picture())
    with torch.no_grad():
        want = network(x)
    assert want.isinf().any()
    torch.testing.assert_close(tk.exact(network)(x), want)


def test_what_is_handed_out_may_be_written_to() -> None:
    x = torch.randn(picture())
    call = tk.exact(lambda x: torch.zeros_like(x) + torch.zeros(()))
    blocks = [block for _, block in tk.exact(torch.zeros_like).stream(x)]
    for made in (call(x), tk.exact(torch.zeros_like)(x), *blocks):
        assert (made.add_(1) == 1).all()


def test_a_function_that_looks_at_strides_is_followed_for_each_layout() -> None:
    def laid(x: Any) -> Any:
        return x.as_strided((2, 20, 18), (1080, 18, 1)) if x.is_contiguous() else x * 2

    call, x = tk.exact(laid), torch.randn(picture())
    for given in (x, x.to(memory_format=torch.channels_last), x.transpose(2, 3), x):
        torch.testing.assert_close(call(given), laid(given))


def test_a_change_of_the_default_dtype_is_seen() -> None:
    call, x = tk.exact(lambda x: x * torch.linspace(0, 1, 18)), torch.randn(picture()).half()
    assert call(x).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert call(x).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


OUTSIDE: dict[str, Any] = {
    "x[:, :, i]": lambda x: x[:, :, torch.tensor([1, 18])],
    "index_select": lambda x: x.index_select(3, torch.tensor([0, -1])),
    "index_copy": lambda x: (x + 1).index_copy(3, torch.tensor([-1]), x[..., :1]),
    "index_fill": lambda x: (x + 1).index_fill(3, torch.tensor([18]), 2.0),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_numbers_that_point_outside_are_refused_as_by_torch(name: str) -> None:
    """They were taken from the other end."""
    with pytest.raises(IndexError):
        tk.exact(OUTSIDE[name])(torch.randn(1, 2, 18, 18))
