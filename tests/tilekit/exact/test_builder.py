"""Networks said by hand."""

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
