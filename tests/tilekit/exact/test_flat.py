"""One number everywhere where the input varies is an error on a device that is known to give such, and there alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tilekit as tk
from tilekit import DeviceError
from tilekit.backends import Backend, backend_of, flat
from tilekit.backends.limits import Limits, pretended
from tilekit.testing import Library

FAR = Limits(elements=1 << 40)
"""A device that has limits, which no plan comes near."""


@contextmanager
def playing(library: str, limits: Limits) -> Iterator[Any]:
    """Play faults of which no plan knows."""
    module = pytest.importorskip(f"tilekit.backends._faults_{library}")
    with pretended(FAR), getattr(module, f"{library.title()}Faults")(limits) as faults:
        yield faults


def network(library: str, last: Callable[[Any], Any] | None = None) -> tuple[Any, Any]:
    """A function of one array of pictures, and one."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((1, 4, 48, 60)).astype(np.float32)
    first, second = (rng.standard_normal(s).astype(np.float32) for s in ((8, 4, 3, 3), (3, 8, 3, 3)))
    if library == "torch":
        torch: Any = pytest.importorskip("torch")
        conv = torch.nn.functional.conv2d
        w1, w2 = torch.from_numpy(first), torch.from_numpy(second)

        def function(x: Any) -> Any:
            y = conv(conv(x, w1, padding=1).tanh(), w2, padding=1)
            return y if last is None else last(y)

        return function, torch.from_numpy(values)
    mx: Any = pytest.importorskip("mlx.core")
    m1, m2 = (mx.array(np.moveaxis(w, 1, -1)) for w in (first, second))

    def of_mlx(x: Any) -> Any:
        y = mx.conv2d(mx.tanh(mx.conv2d(x, m1, padding=1)), m2, padding=1)
        return y if last is None else last(y)

    return of_mlx, mx.array(np.moveaxis(values, 1, -1))


WAYS = ["call", "stream", "host", "disk"]


def ran(function: Any, x: Any, way: str) -> Any:
    kept: dict[str, Any] = {"offload": way} if way in {"host", "disk"} else {}
    f = tk.exact(function, **kept)
    return list(f.stream(x)) if way == "stream" else f(x)


@pytest.mark.parametrize("library", ["torch", "mlx"])
@pytest.mark.parametrize("way", WAYS)
def test_zeros_of_a_device_are_an_error_that_names_block_and_operation(library: str, way: str) -> None:
    function, x = network(library)
    with playing(library, Limits(convolution=2000)) as faults:
        with pytest.raises(DeviceError, match=r"block \[0:1, .* is one number everywhere.*\(Conv\) gave one number"):
            ran(function, x, way)
        assert faults.played
    with playing(library, Limits(convolution=1 << 30)):
        assert ran(function, x, way) is not None


@pytest.mark.parametrize("library", ["torch", "mlx"])
@pytest.mark.parametrize("way", WAYS)
def test_a_black_picture_is_one_where_it_is_meant(library: str, way: str) -> None:
    """Where the input is one number, where the function clamps, and on devices of which nothing is known."""
    function, x = network(library)
    clamped, _ = network(library, (lambda y: (y - 1e9).clamp(0, 1)) if library == "torch" else _clamp)
    with pretended(FAR):
        ran(function, x * 0, way)
        ran(clamped, x, way)
    with playing(library, Limits(convolution=2000)), pretended(Limits()):
        ran(function, x, way)


@pytest.mark.parametrize("library", ["torch", "mlx"])
@pytest.mark.parametrize("way", WAYS)
def test_zeros_before_pixels_are_shuffled_are_found(library: str, way: str) -> None:
    """Behind them every place of a patch has the number of its channel's bias, so that the picture is not flat."""
    function, x = network(library, _shuffled)
    with playing(library, Limits(convolution=2000)) as faults:
        with pytest.raises(DeviceError, match=r"\(Conv\) gave one number"):
            ran(function, x, way)
        assert faults.played
    with playing(library, Limits(convolution=1 << 30)):
        assert ran(function, x, way) is not None


@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_a_pattern_that_is_meant_is_given(library: str) -> None:
    function, x = network(library, lambda y: _shuffled(y * 0))
    with pretended(FAR):
        ran(function, x, "call")


def _shuffled(y: Any) -> Any:
    """Add a bias to two channels, and make patches of 2x1 of them."""
    if type(y).__module__.startswith("mlx"):
        import mlx.core as mx

        b, h, w, _ = y.shape
        return (y[..., :2] + mx.array([0.1, 0.2])).transpose(0, 1, 3, 2).reshape(b, h * 2, w, 1)
    torch: Any = pytest.importorskip("torch")
    b, _, h, w = y.shape
    return (y[:, :2] + torch.tensor([0.1, 0.2])[:, None, None]).transpose(1, 2).reshape(b, 1, h * 2, w)


def _clamp(y: Any) -> Any:
    import mlx.core as mx

    return mx.minimum(mx.maximum(y - 1e9, 0.0), 1.0)


def test_a_weight_of_zeros_makes_zeros() -> None:
    torch: Any = pytest.importorskip("torch")
    conv = torch.nn.Conv2d(4, 3, 3, padding=1).requires_grad_(False)
    conv.weight.zero_()
    with pretended(FAR):
        tk.exact(conv)(torch.randn(1, 4, 16, 20))


def test_an_attended_block_is_looked_into_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clamped, x = network("torch", lambda y: (y - 1e9).clamp(0, 1))
    asked: list[Any] = []
    accuse = tk._exact.run.accuse  # type: ignore[attr-defined]

    def counted(call: Any, box: Any) -> None:
        asked.append(box)
        accuse(call, box)

    monkeypatch.setattr("tilekit._exact.run.accuse", counted)
    f = tk.exact(clamped, memory_bytes=130_000)
    with pretended(FAR):
        assert len(f.plan(x).step_peaks) > 2
        f(x)
    assert len(asked) == 1


@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_looking_costs_less_than_a_hundredth(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements looked at, over the multiply-adds of the run; none at all on a processor."""
    function, x = network(library)
    looked: list[int] = []
    _counting(backend_of(x), looked, monkeypatch)
    tk.exact(function)(x)
    assert not looked
    with pretended(FAR):
        tk.exact(function)(x)
    multiplied = 48 * 60 * 9 * (4 * 8 + 8 * 3)
    assert 0 < sum(looked) < multiplied / 100


@pytest.mark.parametrize("name", ["numpy", "torch", "mlx"])
def test_a_few_elements_show_that_an_array_varies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(name)
    if library.missing:
        pytest.skip(library.missing)
    x = np.zeros((1, 3, 40, 500), np.float32)
    assert flat.is_flat(library.array(x))
    x[0, 1] = 2.0
    assert flat.is_flat(library.array(x))  # one number for each channel
    x[0, 1, 7, 3] = 1.0
    assert not flat.is_flat(library.array(x))
    x[:] = np.random.default_rng(0).random(x.shape)
    looked: list[int] = []
    _counting(backend_of(library.array(x)), looked, monkeypatch)
    assert not flat.is_flat(library.array(x))
    assert sum(looked) <= 3 * flat.SAMPLE
    assert not flat.is_flat(library.array(x[0, 0, 0, :3] * 0))


def _counting(backend: Backend, looked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    kind: Any = type(backend)
    is_constant = kind.is_constant

    def counted(self: Backend, part: Any) -> bool:
        looked.append(int(np.prod(part.shape)))
        return bool(is_constant(self, part))

    monkeypatch.setattr(kind, "is_constant", counted)
