"""
`tilekit.exact` with the autoencoders of mflux as they are: seeded weights, encode and decode.

Most of them round to bfloat16 after each norm, whatever they are given (`ModelConfig.precision`). There two right
results differ as much as bfloat16 does, so they are compared in float32, and once as they are by their distance to it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

mx = pytest.importorskip("mlx.core")
config = pytest.importorskip(
    "mflux.models.common.config.model_config",
    reason="mflux is not installed: nox -s parity",
    exc_type=ImportError,
)
from tests.parity.mlx_networks import hold_to_the_plain_call  # noqa: E402
from tests.tilekit.exact._mlx_networks import seeded  # noqa: E402

import tilekit  # noqa: E402

Make = Callable[[], Any]


def _class(module: str, name: str) -> Any:
    return getattr(import_module(f"mflux.models.{module}"), name)


def _plain(module: str, name: str, **options: Any) -> Make:
    return lambda: _class(module, name)(**options)


def _narrow_wan() -> Any:
    class Narrow(_class("fibo.model.fibo_vae.wan_2_2_vae", "Wan2_2_VAE")):  # type: ignore[misc]
        ENCODER_BASE_DIM, DECODER_BASE_DIM = 16, 32

    return Narrow()


def _narrow_qwen21() -> Any:
    widths = {"base_dim": 8, "decoder_base_dim": 16, "dim_mult": [1, 2, 4, 4, 4]}
    return _class("qwen21.model.qwen21_vae.qwen21_vae", "Qwen21VAE")(widths)


NETWORKS: dict[str, tuple[Make, tuple[int, ...], tuple[int, ...]]] = {
    "Flux": (_plain("flux.model.flux_vae.vae", "VAE"), (1, 16, 5, 4), (1, 3, 40, 32)),
    "Z-Image": (_plain("z_image.model.z_image_vae.vae", "VAE"), (1, 16, 4, 4), (1, 3, 32, 32)),
    "Flux2": (
        _plain("flux2.model.flux2_vae.vae", "Flux2VAE", decoder_block_out_channels=(32, 32, 64, 64)),
        (1, 32, 10, 7),
        (1, 3, 32, 32),
    ),
    "Qwen-Image": (_plain("qwen.model.qwen_vae.qwen_vae", "QwenVAE"), (1, 16, 1, 4, 5), (1, 3, 1, 32, 40)),
    "Qwen-Image 2.1": (_narrow_qwen21, (1, 64, 5, 4), (1, 3, 96, 64)),
    "Wan 2.2": (_narrow_wan, (1, 48, 1, 8, 6), (1, 3, 1, 128, 96)),
    "SeedVR2": (
        _plain("seedvr2.model.seedvr2_vae.vae", "SeedVR2VAE", block_out_channels=(32, 32, 64, 64)),
        (1, 16, 2, 8, 6),
        (1, 3, 5, 48, 64),
    ),
}
ROUNDS = ["Flux", "Flux2", "SeedVR2"]


def made(name: str, way: str) -> tuple[Any, Any]:
    make, latents, pixels = NETWORKS[name]
    vae = seeded(make())
    x = mx.random.normal(latents if way == "decode" else pixels, key=mx.random.key(1))
    mx.eval(x)
    return getattr(vae, way), x


@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize("name", NETWORKS)
def test_exact_equals_the_plain_call(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.ModelConfig, "precision", mx.float32)
    function, x = made(name, way)
    hold_to_the_plain_call(function, x)


@pytest.mark.parametrize("name", ROUNDS)
def test_what_rounds_to_bfloat16_is_as_near_to_float32_as_the_plain_call(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, x = made(name, "decode")
    plain, result = function(x), tilekit.exact(function)(x)
    monkeypatch.setattr(config.ModelConfig, "precision", mx.float32)
    true = function(x)

    def distance(y: Any) -> float:
        return float(mx.sqrt(mx.mean(mx.square(y - true)) / mx.mean(mx.square(true))))

    assert 0 < distance(result) <= 1.25 * distance(plain)
