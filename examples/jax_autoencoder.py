"""
A decoder of JAX evaluated exactly in less memory: one of Flax where it is installed, else a plain function.

    python examples/jax_autoencoder.py

Weights are seeded; those of a trained model are used in the same way.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import tilekit


def of_flax() -> tuple[Callable[[Any], Any], Any]:
    """Give a decoder of Flax with group normalisation, and latents."""
    from flax import linen as nn

    class Decoder(nn.Module):  # type: ignore[misc]  # Flax has no types here
        @nn.compact  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            x = nn.Conv(16, (3, 3))(x)
            for _ in range(2):
                x = nn.silu(nn.GroupNorm(4)(x))
                x = jax.image.resize(x, (1, 2 * x.shape[1], 2 * x.shape[2], 16), "nearest")
                x = nn.Conv(16, (3, 3))(x)
            return nn.Conv(3, (3, 3))(x)

    z = jax.random.normal(jax.random.key(0), (1, 32, 24, 4))
    model = Decoder()
    variables = model.init(jax.random.key(1), z)
    return lambda z: model.apply(variables, z), z


def of_our_own() -> tuple[Callable[[Any], Any], Any]:
    """Give two convolutions around an upsampling, and latents."""
    first, last = (
        jax.random.normal(jax.random.key(i), shape) / 8 for i, shape in ((1, (3, 3, 4, 16)), (2, (3, 3, 16, 3)))
    )

    def decode(z: Any) -> Any:
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(z, first, (1, 1), "SAME", dimension_numbers=layout)
        x = jax.image.resize(jax.nn.silu(x), (1, 4 * x.shape[1], 4 * x.shape[2], 16), "nearest")
        return jax.lax.conv_general_dilated(x, last, (1, 1), "SAME", dimension_numbers=layout)

    return decode, jax.random.normal(jax.random.key(0), (1, 32, 24, 4))


def main() -> None:
    """Compare with the plain call."""
    try:
        decode, z = of_flax()
    except ImportError:
        decode, z = of_our_own()
    plain = decode(z)
    half = tilekit.exact(decode).plan(z).plain_bytes // 2
    exact = tilekit.exact(decode, half)
    plan = exact.plan(z)
    print(plan)
    difference = float(jnp.abs(exact(z) - plain).max() / jnp.abs(plain).max())
    print(f"exact: largest difference from the plain call {difference:.1e}")
    print(f"memory: {plan.peak_bytes / plan.plain_bytes:.0%} of the plain call")


if __name__ == "__main__":
    main()
