"""
An autoencoder of MLX evaluated exactly in less memory: that of mflux where it is installed, else a small decoder.

    python examples/mlx_autoencoder.py

Weights are seeded; a network that mflux has loaded is used in the same way: ``tilekit.exact(flux.vae.decode)``.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import mlx.core as mx
from mlx import nn

import tilekit


def of_mflux() -> tuple[Callable[[Any], Any], Any]:
    """Give the decode of mflux's autoencoder of Flux, in float32, and latents."""
    import_module("mflux.models.common.config.model_config").ModelConfig.precision = mx.float32
    vae = import_module("mflux.models.flux.model.flux_vae.vae").VAE()
    return vae.decode, mx.random.normal((1, 16, 5, 4), key=mx.random.key(1))


def of_our_own() -> tuple[Callable[[Any], Any], Any]:
    """Give a decoder with group normalisation, and latents; MLX has channels last."""
    mx.random.seed(0)
    layers: list[Any] = [nn.Conv2d(4, 32, 3, padding=1)]
    for _ in range(3):
        layers += [nn.GroupNorm(4, 32, pytorch_compatible=True), nn.SiLU(), nn.Upsample(2)]
        layers += [nn.Conv2d(32, 32, 3, padding=1)]
    return nn.Sequential(*layers, nn.Conv2d(32, 3, 3, padding=1)), mx.random.normal((1, 24, 32, 4))


def main() -> None:
    """Compare with the plain call."""
    try:
        decode, z = of_mflux()
    except ImportError:  # of mflux, or of what it needs
        decode, z = of_our_own()
    plain = decode(z)
    exact = tilekit.exact(decode)
    plan = exact.plan(z)
    print(plan)
    difference = float(mx.abs(exact(z) - plain).max() / mx.abs(plain).max())
    print(f"exact: largest difference from the plain call {difference:.1e}")
    print(f"memory: {plan.peak_bytes / plan.plain_bytes:.0%} of the plain call")


if __name__ == "__main__":
    main()
