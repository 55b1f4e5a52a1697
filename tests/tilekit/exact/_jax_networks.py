"""Networks of JAX with weights of their own, as functions of one array."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from tests.tilekit.exact._jax_functions import numbers

__all__ = ["LAST", "NETWORKS", "Net"]

LAST = ("NHWC", "HWIO", "NHWC")
FIRST = ("NCHW", "OIHW", "NCHW")
VIDEO = ("NDHWC", "DHWIO", "NDHWC")


class Net:
    """
    A decoder: convolutions, group norms, attention over all cells, nearest upsampling.

    Parameters
    ----------
    layout : tuple of str
        Of the input, the weights and the output.
    """

    def __init__(self, layout: tuple[str, str, str] = LAST) -> None:
        self.layout = layout
        self.channel = layout[0].index("C")
        sizes = {"in": (4, 8), "a": (8, 8), "b": (8, 8), "q": (8, 8), "up": (8, 8), "c": (8, 8), "out": (8, 3)}
        self.weights = {name: self._weight(*row, seed=i) for i, (name, row) in enumerate(sizes.items())}
        self.weights["query"] = numbers(8, 24, seed=20) * 0.3

    def _weight(self, given: int, made: int, seed: int) -> Any:
        places = {"I": given, "O": made}
        return numbers(*(places.get(letter, 3) for letter in self.layout[1]), seed=seed) * 0.2

    def conv(self, x: Any, name: str) -> Any:
        """Convolve."""
        weight = self.weights[name].astype(x.dtype)
        return lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=self.layout)

    def norm(self, x: Any) -> Any:
        """Normalise groups of two channels, with sums in float32."""
        moved = jnp.moveaxis(x, self.channel, -1)
        split = moved.reshape(*moved.shape[:-1], 4, 2).astype(jnp.float32)
        axes = (*range(1, moved.ndim - 1), moved.ndim)
        split = (split - split.mean(axes, keepdims=True)) * lax.rsqrt(split.var(axes, keepdims=True) + 1e-5)
        return jnp.moveaxis(split.reshape(moved.shape), -1, self.channel).astype(x.dtype)

    def block(self, x: Any, name: str) -> Any:
        """Add what a norm, an activation and a convolution make."""
        return x + self.conv(jax.nn.silu(self.norm(x)), name)

    def attend(self, x: Any) -> Any:
        """Let every cell look at all."""
        moved = jnp.moveaxis(x, self.channel, -1)
        flat = moved.reshape(1, -1, 8)
        parts = jnp.split((flat @ self.weights["query"].astype(x.dtype))[:, :, None], 3, axis=-1)
        made = jax.nn.dot_product_attention(*parts).reshape(moved.shape)
        return x + jnp.moveaxis(made, -1, self.channel)

    def __call__(self, z: Any) -> Any:
        """Decode."""
        x = self.attend(self.block(self.conv(z, "in"), "a"))
        shape = [n if d in {0, self.channel} else 2 * n for d, n in enumerate(x.shape)]
        x = self.conv(jax.image.resize(x, shape, "nearest"), "up")
        return self.conv(jax.nn.silu(self.block(x, "c")), "out")


def _causal(z: Any) -> Any:
    """Convolve over time with the first frame repeated; shuffle channels into pixels."""
    x = z
    for seed in (30, 31):
        x = jnp.concatenate([x[:, :1], x[:, :1], x], axis=1)
        weight = numbers(3, 3, 3, 4, 4, seed=seed) * 0.3
        x = jax.nn.gelu(
            lax.conv_general_dilated(x, weight, (1, 1, 1), ((0, 0), (1, 1), (1, 1)), dimension_numbers=VIDEO)
        )
    n, t, h, w, _ = x.shape
    return x.reshape(n, t, h, w, 2, 2, 1).transpose(0, 1, 2, 4, 3, 5, 6).reshape(n, t, 2 * h, 2 * w, 1)


def _encode(x: Any) -> Any:
    """Halve twice, by a stride and by a mean of windows."""
    weight = numbers(3, 3, 3, 8) * 0.3
    x = lax.conv_general_dilated(x, weight, (2, 2), ((0, 1), (0, 1)), dimension_numbers=LAST)
    x = lax.reduce_window(jax.nn.relu(x), 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    weight = numbers(3, 3, 8, 4) * 0.3
    return lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=LAST)


NETWORKS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "decoder": (Net(), (1, 24, 12, 4)),
    "decoder, channels first": (Net(FIRST), (1, 4, 24, 12)),
    "causal": (_causal, (1, 13, 8, 8, 4)),
    "encoder": (_encode, (1, 96, 32, 3)),
}
"""By name, the network and the shape of its input."""
