"""Convolutions over time as sums of convolutions of frames, where a device is better at those."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilekit as tk
from tilekit.backends import backend_of
from tilekit.backends.limits import Limits, pretended

FRAMES = Limits(frames=True)


class Pair:
    """The same convolution in torch and MLX, as modules and as leaves of ltx_models."""

    def __init__(self, kernel: tuple[int, int, int], stride: int, padding: tuple[int, int, int], *, bias: bool) -> None:
        rng = np.random.default_rng(0)
        self.weight = rng.standard_normal((5, 3, *kernel), np.float32)
        self.bias = rng.standard_normal(5, np.float32) if bias else None
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def torch_leaf(self) -> Any:
        torch: Any = pytest.importorskip("torch")
        from ltx_models.nn import backend

        leaf = backend("torch").Conv3d(3, 5, self.kernel, self.stride, self.padding, bias=self.bias is not None)
        leaf.weight.data = torch.from_numpy(self.weight)
        if self.bias is not None:
            leaf.bias.data = torch.from_numpy(self.bias)
        return leaf

    def mlx_leaf(self) -> Any:
        mx: Any = pytest.importorskip("mlx.core")
        from ltx_models.nn import backend

        leaf = backend("mlx").Conv3d(3, 5, self.kernel, self.stride, self.padding, bias=self.bias is not None)
        leaf.weight = mx.array(np.moveaxis(self.weight, 1, -1))
        if self.bias is not None:
            leaf.bias = mx.array(self.bias)
        return leaf


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    time=st.integers(0, 1),
    side=st.integers(0, 1),
    bias=st.booleans(),
    batch=st.integers(1, 2),
)
@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_a_leaf_gives_the_same_frame_by_frame(
    library: str, kernel: tuple[int, int, int], stride: int, time: int, side: int, bias: bool, batch: int
) -> None:
    pair = Pair(kernel, stride, (time, side, side), bias=bias)
    x = np.random.default_rng(1).standard_normal((batch, 5, 6, 7, 3), np.float32)
    if library == "torch":
        torch: Any = pytest.importorskip("torch")
        leaf, given_ = pair.torch_leaf(), torch.from_numpy(x)
    else:
        mx: Any = pytest.importorskip("mlx.core")
        leaf, given_ = pair.mlx_leaf(), mx.array(x)
    backend = backend_of(given_)
    wanted = backend.to_numpy(leaf(given_))
    with pretended(FRAMES):
        got = backend.to_numpy(leaf(given_))
    assert got.shape == wanted.shape
    assert np.allclose(got, wanted, atol=1e-5)


def test_half_precision_is_summed_in_float32() -> None:
    torch: Any = pytest.importorskip("torch")
    leaf = Pair((3, 3, 3), 1, (1, 1, 1), bias=True).torch_leaf()
    x = torch.randn(1, 5, 6, 7, 3)
    exact = leaf(x)
    leaf, x = leaf.to(torch.bfloat16), x.to(torch.bfloat16)
    with pretended(FRAMES):
        got = leaf(x)
    assert got.dtype == torch.bfloat16
    assert (got.float() - exact).abs().max() < 0.06 * exact.abs().max()


def test_exact_runs_go_frame_by_frame_on_torch() -> None:
    torch: Any = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    layers = [nn.Conv3d(4, 6, 3, padding=1), nn.SiLU(), nn.Conv3d(6, 3, (3, 1, 3), stride=(2, 1, 1), bias=False)]
    net, x = nn.Sequential(*layers).eval(), torch.randn(1, 4, 9, 6, 8)
    f = tk.exact(net)
    with torch.no_grad(), pretended(FRAMES):
        f(x)  # the canary asks for convolutions over three axes
        with pytest.importorskip("tilekit.backends._faults_torch").TorchFaults(Limits()) as faults:
            got = f(x)
        assert faults.convolution > 0
        assert faults.unfolded == 0  # none over three axes
        assert torch.allclose(got, net(x), atol=1e-5)


def test_exact_runs_go_frame_by_frame_on_mlx() -> None:
    mx: Any = pytest.importorskip("mlx.core")
    w = mx.random.normal((6, 3, 3, 3, 4), key=mx.random.key(0))

    def net(x: Any) -> Any:
        return mx.maximum(mx.conv3d(x, w, padding=1), 0)

    x = mx.random.normal((1, 5, 6, 7, 4), key=mx.random.key(1))
    with pretended(FRAMES):
        got = tk.exact(net)(x)
    assert np.allclose(np.array(got), np.array(net(x)), atol=1e-5)
