"""`exact.stream` of a source with functions of MLX."""

import numpy as np
import pytest

import tilekit

mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")


def test_a_source_gives_what_the_whole_gives() -> None:
    """Axis 1 is time: channels are last in MLX."""
    rng = np.random.default_rng(0)
    conv, out = nn.Conv1d(3, 4, 3, padding=1), nn.Conv1d(4, 2, 4, stride=2)

    def network(x: object) -> object:
        y = nn.silu(conv(x))
        y = mx.repeat(mx.concatenate([y[:, :1], y[:, :1], y], axis=1), 2, axis=1)
        return out(mx.pad(y, [(0, 0), (1, 2), (0, 0)]))

    exact = tilekit.exact(network)
    for n in (1, 7, 40, 75):
        x = mx.array(rng.normal(size=(1, n, 3)).astype(np.float32))
        blocks = [np.array(b) for _, b in exact.stream((x[:, k : k + 3] for k in range(0, n, 3)), axis=1, rows=4)]
        np.testing.assert_allclose(np.concatenate(blocks, 1), np.array(network(x)), atol=1e-5)


def test_positions_and_statistics_are_refused() -> None:
    for function in (lambda x: x + mx.arange(x.shape[1])[:, None], lambda x: x - mx.mean(x, axis=1, keepdims=True)):
        with pytest.raises(tilekit.PlanError, match="give the whole input"):
            list(tilekit.exact(function).stream([mx.ones((1, 20, 3))], axis=1))
