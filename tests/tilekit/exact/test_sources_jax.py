"""`exact.stream` of a source with functions of JAX."""

from typing import Any

import numpy as np
import pytest

import tilekit

jax = pytest.importorskip("jax")
jnp = jax.numpy


def test_a_source_gives_what_the_whole_gives() -> None:
    rng = np.random.default_rng(0)
    weight = jnp.array(rng.normal(size=(3, 4, 4)).astype(np.float32))

    def network(x: Any) -> Any:
        y = jax.lax.conv_general_dilated(x, weight, (1,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC"))
        y = jnp.repeat(jnp.concatenate([y[:, :1], jax.nn.silu(y)], 1), 2, axis=1)
        return jnp.tanh(y[:, 1:])

    exact = tilekit.exact(network)
    for n in (3, 20, 51):
        x = jnp.array(rng.normal(size=(1, n, 4)).astype(np.float32))
        blocks = [np.asarray(b) for _, b in exact.stream((x[:, k : k + 3] for k in range(0, n, 3)), axis=1, rows=4)]
        np.testing.assert_allclose(np.concatenate(blocks, 1), np.asarray(network(x)), atol=1e-5)


def test_positions_and_statistics_are_refused() -> None:
    for function in (lambda x: x + jnp.arange(x.shape[1])[:, None], lambda x: x - x.mean(1, keepdims=True)):
        with pytest.raises(tilekit.PlanError, match="give the whole input"):
            list(tilekit.exact(function).stream([jnp.ones((1, 20, 3))], axis=1))
