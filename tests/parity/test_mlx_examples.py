"""
`tilekit.exact` with the autoencoders of mlx-examples as they are, seeded and narrow, encode and decode.

``TILEKIT_MLX_EXAMPLES`` names a checkout of ml-explore/mlx-examples. Its EnCodec is not here: its recurrent layer is a
kernel of Metal.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

mx = pytest.importorskip("mlx.core")
from tests.parity.mlx_networks import hold_to_the_plain_call  # noqa: E402
from tests.tilekit.exact._mlx_networks import seeded  # noqa: E402

CHECKOUT = os.environ.get("TILEKIT_MLX_EXAMPLES")
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="TILEKIT_MLX_EXAMPLES does not name a checkout of mlx-examples")


def module(folder: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a file beside its own, without what its package imports at its head."""
    package = ModuleType(f"mlx_examples_{Path(folder).name}")
    package.__path__ = [str(Path(str(CHECKOUT)) / folder)]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return import_module(f"{package.__name__}.{name}")


def stable_diffusion(monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = "stable_diffusion/stable_diffusion"
    config = module(folder, "config", monkeypatch).AutoencoderConfig(block_out_channels=(32, 32, 64, 64))
    return module(folder, "vae", monkeypatch).Autoencoder(config)


def flux(monkeypatch: pytest.MonkeyPatch) -> Any:
    file = module("flux/flux", "autoencoder", monkeypatch)
    names = ("resolution", "in_channels", "ch", "out_ch", "ch_mult", "num_res_blocks", "z_channels")
    widths = dict(zip(names, (64, 3, 32, 3, [1, 1, 2, 2], 2, 16), strict=True))
    return file.AutoEncoder(file.AutoEncoderParams(**widths, scale_factor=0.36, shift_factor=0.12))


def functions(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Give what is called, and the shape of its input, channels last; the means alone are given by an encoder."""
    vae = seeded({"Stable Diffusion": stable_diffusion, "Flux": flux}[name](monkeypatch))
    if name == "Flux":
        return {"decode": (vae.decode, (1, 12, 8, 16)), "encode": (vae.encoder, (1, 96, 64, 3))}
    return {"decode": (vae.decode, (1, 12, 8, 4)), "encode": (lambda x: vae.encode(x)[0], (1, 96, 64, 3))}


@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize("name", ["Stable Diffusion", "Flux"])
def test_exact_equals_the_plain_call(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, shape = functions(name, monkeypatch)[way]
    hold_to_the_plain_call(function, mx.random.normal(shape, key=mx.random.key(1)))
