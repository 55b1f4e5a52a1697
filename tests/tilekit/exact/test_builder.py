"""Networks said by hand."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.tilekit.test_tasks import CASES, make

import tilekit as tk
from tilekit.norms import Convolution
from tilekit.testing import Library


def z_weight(xp: Library) -> Any:
    return xp.array(np.zeros((3, 4, 3, 3), np.float32))


def test_a_network_said_by_hand_equals_its_plain_call(xp: Library) -> None:
    if xp.name == "mlx":
        with pytest.raises(tk.BackendError, match="lays weights out in another way"):
            tk.exact(tk.GraphFunction(lambda b, z: b.conv(z, z_weight(xp))))(z_weight(xp))
        return
    rng = np.random.default_rng(0)
    arrays = {
        n: xp.array(rng.normal(size=s).astype(np.float32))
        for n, s in {"a": (6, 4, 3, 3), "b": (6,), "c": (3, 6, 3, 3)}.items()
    }

    def build(b: tk.GraphBuilder, z: Any) -> Any:
        x = b.conv(z, arrays["a"], arrays["b"], padding=1, name="first")
        x = b.group_norm(x, 2, arrays["b"], arrays["b"], name="norm")
        y = b.pointwise(lambda x: x * x, x)
        x = b.pointwise(lambda x, y: x + y, x, y)
        x = b.upsample(x, 2, axes=(2, 3))
        x = b.pad(x, ((0, 0), (0, 0), (2, 0), (1, 1)), "replicate")
        x = b.concat([x, x], 2)
        return b.conv(x, arrays["c"], stride=2, name="last")

    network = tk.GraphFunction(build)
    z = xp.array(rng.normal(size=(1, 4, 20, 9)).astype(np.float32))
    decode = tk.exact(network)
    np.testing.assert_allclose(xp.numpy(decode(z)), xp.numpy(network(z)), rtol=1e-4, atol=1e-4)
    assert decode.plan((1, 4, 20, 9), like=z).dtype == "float32"


@pytest.mark.parametrize("kind", CASES)
def test_a_list_of_tasks_is_a_network(kind: str, xp: Library) -> None:
    net, x = make(xp, kind, 3, (9, 8))
    network = tk.GraphFunction.from_tasks(net.tasks)
    z = xp.array(x)
    for call in (network, tk.exact(network)):
        np.testing.assert_allclose(xp.numpy(call(z)), net.untiled(x), rtol=2e-3, atol=2e-3)


def test_layers_with_a_reach_are_cut() -> None:
    def blur(x: Any) -> Any:
        wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
        return wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]

    def build(b: tk.GraphBuilder, z: Any) -> Any:
        for i in range(3):
            z = b.apply(z, blur, Convolution(3, before=1, after=1), axes=(2,), shape=z.shape, work=3, name=f"blur {i}")
        return z

    x = np.random.default_rng(0).normal(size=(1, 2, 64, 5)).astype(np.float32)
    blurred = tk.exact(tk.GraphFunction(build))
    plan = blurred.plan(x)
    assert plan.peak_bytes < 0.7 * plan.plain_bytes
    np.testing.assert_allclose(blurred(x), blur(blur(blur(x))), rtol=1e-6)


def test_weights_that_are_wider_than_the_input_make_no_sum_wider() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(8, 8, 3, 3)), rng.normal(size=8)

    def build(b: tk.GraphBuilder, z: Any) -> Any:
        return b.group_norm(b.conv(z, weight, bias, padding=1), 2, bias, bias)

    x = rng.normal(size=(1, 8, 64, 48)).astype(np.float32)
    exact = tk.exact(tk.GraphFunction(build))
    peak = exact.plan(x).peak_bytes
    made = exact(x)  # what is loaded at first does not count
    tracemalloc.start()
    exact(x)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.dtype == np.float32
    assert taken <= 1.15 * peak


def test_what_does_not_fit_is_refused() -> None:
    def narrow(b: tk.GraphBuilder, z: Any) -> Any:
        return b.conv(z, np.zeros((3, 5, 3, 3), np.float32), name="first")

    def small(b: tk.GraphBuilder, z: Any) -> Any:
        return b.conv(z, np.zeros((3, 4, 9, 9), np.float32), name="first")

    z = np.zeros((1, 4, 6, 6), np.float32)
    with pytest.raises(tk.TileShapeError, match=r"first: a weight of shape \(3, 5, 3, 3\)"):
        tk.exact(tk.GraphFunction(narrow))(z)
    with pytest.raises(tk.TileShapeError, match=r"first: gives shape \(1, 3, -2, -2\)"):
        tk.exact(tk.GraphFunction(small))(z)
    with pytest.raises(tk.TraceError, match="gave int"):
        tk.exact(tk.GraphFunction(lambda b, z: 3))(z)  # type: ignore[arg-type, return-value]
    with pytest.raises(tk.TileShapeError, match=r"half \(Pointwise\) gave \(1, 4, 3, 6\)"):
        tk.exact(tk.GraphFunction(lambda b, z: b.pointwise(lambda x: x[:, :, ::2], z, name="half")), 1 << 20)(z)


WEIGHT = np.random.default_rng(0).normal(size=(8, 4, 3, 3)).astype(np.float32)
NARROW = np.zeros(5, np.float32)
Z = np.random.default_rng(1).normal(size=(1, 4, 40, 36)).astype(np.float32)
ELSEWHERE: list[Any] = []


def of_another(b: tk.GraphBuilder, z: Any) -> Any:
    ELSEWHERE.append(b.conv(b.pointwise(np.tanh, z), WEIGHT))
    return ELSEWHERE[0]


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda b, z: b.pointwise(np.add, z, b.constant(NARROW)), "pointwise: shapes .* cannot be broadcast"),
        (lambda b, z: b.group_norm(z, 3), "group_norm: 4 channels in 3 groups"),
        (lambda b, z: b.group_norm(z, 2, NARROW), r"group_norm: .*\(5,\).*expected"),
        (lambda b, z: b.group_norm(z, 0), "group_norm: groups 0"),
        (lambda b, z: b.conv(z, WEIGHT, NARROW), r"conv: .*bias of shape \(5,\)"),
        (lambda b, z: b.conv(z, WEIGHT, stride=0), "conv: stride 0"),
        (lambda b, z: b.conv(z, WEIGHT, padding=-1), "conv: padding -1"),
        (lambda b, z: b.conv(z, WEIGHT[:7, :2], groups=2), "conv: 7 channels out in 2 groups"),
        (lambda b, z: b.upsample(z, 1.5, axes=(2,)), r"upsample: factor 1\.5"),
        (lambda b, z: b.upsample(z, 2, axes=(4,)), r"upsample: axes \(4,\)"),
        (lambda b, z: b.pad(z, [(1, 1)]), "pad: widths"),
        (lambda b, z: b.pad(z, [(0, 0)] * 3 + [(-1, 0)]), "pad: widths"),
        (lambda b, z: b.pad(z, [(0, 0)] * 3 + [(36, 0)], "reflect"), "more than reflect can give"),
        (lambda b, z: b.pad(z, [(0, 0)] * 4, "edge"), "pad: mode 'edge', expected one of"),
        (lambda b, z: b.concat([], 1), "concat: no values"),
        (lambda b, z: b.concat([z, b.conv(z, WEIGHT)], 1), "concat: shapes .* differ"),
        (lambda b, z: b.apply(z, np.tanh, [Convolution(1)], axes=(2, 3), shape=z.shape), "1 reaches for 2 axes"),
        (lambda b, z: b.pointwise(np.add, z, WEIGHT), "got ndarray, expected a value"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_is_said(build: Callable[..., Any], what: str) -> None:
    with pytest.raises((tk.TileShapeError, tk.TraceError), match=what):
        tk.exact(tk.GraphFunction(build))(Z)


def test_a_value_of_another_network_is_refused() -> None:
    tk.exact(tk.GraphFunction(of_another))(Z)
    with pytest.raises(tk.TraceError, match="a value of another network"):
        tk.exact(tk.GraphFunction(lambda b, z: b.pointwise(np.tanh, ELSEWHERE[0])))(Z)


def test_arrays_are_broadcast_as_numpy_does() -> None:
    def build(b: tk.GraphBuilder, z: Any) -> Any:
        rows = b.whole(lambda x: x.mean(3, keepdims=True), z, shape=(1, 4, 40, 1))
        columns = b.whole(lambda x: x.mean(2, keepdims=True), z, shape=(1, 4, 1, 36))
        return b.concat([b.upsample(b.pointwise(np.multiply, rows, columns), 2, axes=(-1,))] * 2, -1)

    one = np.repeat(Z.mean(3, keepdims=True) * Z.mean(2, keepdims=True), 2, -1)
    np.testing.assert_allclose(tk.exact(tk.GraphFunction(build))(Z), np.concatenate([one, one], -1), rtol=1e-6)


def layers(b: tk.GraphBuilder, z: Any, mode: Any = "replicate") -> Any:
    back = WEIGHT.transpose(1, 0, 2, 3).astype(z.dtype)
    z = b.group_norm(b.conv(z, WEIGHT.astype(z.dtype), padding=1), 2)
    z = b.upsample(z, 2, axes=(2, 3))
    return b.conv(b.pad(z, [(0, 0), (0, 0), (1, 1), (1, 1)], mode), back, stride=2)


@pytest.mark.parametrize("share", [None, 0.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_arrays_of_numpy_take_what_is_forecast(dtype: Any, share: float | None) -> None:
    x = np.concatenate([Z] * 4, 2).astype(dtype)
    network = tk.GraphFunction(layers)
    budget = None if share is None else int(share * tk.exact(network).plan(x).plain_bytes)
    exact = tk.exact(network, budget)
    plan = exact.plan(x)
    tracemalloc.start()
    exact(x)
    counted = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counted == pytest.approx(plan.peak_bytes, rel=0.1, abs=1 << 17)


PYTHON = 1 << 15
"""Bytes of objects of Python, of which a run makes some."""


def traced_peak(call: Callable[[], Any]) -> int:
    """Count what NumPy takes for a call."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    call()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return int(peak)


def swish(x: Any) -> Any:
    below = 1 + np.exp(-x)
    return x / below


def centred(x: Any) -> Any:
    squares = x * x
    return x - squares.mean()


def blurred(x: Any) -> Any:
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    two = wide[:, :, :-2] + wide[:, :, 1:-1]  # named, so that NumPy does not write the second sum over it
    return two + wide[:, :, 2:]


@pytest.mark.parametrize("memory_bytes", [None, 1_200_000])
@pytest.mark.parametrize("kind", ["pointwise", "apply", "whole"])
def test_what_calls_are_said_to_take_is_in_forecasts(kind: str, memory_bytes: int | None) -> None:
    def size(shape: tuple[int, ...]) -> int:
        return 4 * int(np.prod(shape))

    def build(b: tk.GraphBuilder, z: Any) -> Any:
        x = b.pointwise(np.tanh, z)
        if kind == "pointwise":
            return b.pointwise(swish, x, scratch=size)
        if kind == "whole":
            return b.whole(centred, x, shape=x.shape, scratch=size)
        reach = Convolution(3, before=1, after=1)
        return b.apply(x, blurred, reach, axes=(2,), shape=x.shape, work=3, scratch=lambda s: 2 * size(s))

    x = np.ones((1, 2, 2000, 60), np.float32)
    call = tk.exact(tk.GraphFunction(build), None if kind == "whole" else memory_bytes)
    plan = call.plan(x)
    assert traced_peak(lambda: call(x)) == pytest.approx(plan.peak_bytes, rel=0.1, abs=PYTHON)
    assert traced_peak(lambda: call.function(x)) == pytest.approx(plan.plain_bytes, rel=0.1, abs=PYTHON)


def test_cells_that_a_layer_spoils_are_in_forecasts() -> None:
    """Each strip is made with eight rows around it, which stay with the block that is cut out of them."""

    def build(b: tk.GraphBuilder, z: Any) -> Any:
        return b.apply(z, np.array, Convolution(9, before=4, after=4), axes=(2,), shape=z.shape)

    x = np.ones((1, 1, 64, 8000), np.float32)
    call = tk.exact(tk.GraphFunction(build), 600_000)
    plan = call.plan(x, stream=True)

    def blocks() -> None:
        for _, _block in call.stream(x):  # held until the next
            pass

    assert traced_peak(blocks) == pytest.approx(plan.peak_bytes, rel=0.1, abs=PYTHON)
