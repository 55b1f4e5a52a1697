"""The autoencoder in tiles against the same autoencoder whole; `tests/parity` does this with diffusers' own."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilekit import BackendError, InputError, PlanError, TraceError
from tilekit.adapters import TiledAutoencoder, autoencoder_kl, disable_exact_tiling, enable_exact_tiling, hifigan

EXACT = 1e-4  # float32 rounding through the network, at outputs of scale 1
BACKENDS = {"torch": "torch", "mlx": "mlx.core"}
CONFIG = {"block_out_channels": (8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4}


class Case:
    """A backend, how to make an array of it, and autoencoders with weights that let activations live."""

    def __init__(self, name: str) -> None:
        from ltx_models.nn import backend

        self.name, self.nn = name, backend(name)

    def array(self, x: np.ndarray, dtype: str = "float32") -> Any:
        return self.nn.cast(self.nn.asarray(x), self.nn.dtype(dtype))

    def vae(self, seed: int, dtype: str = "float32", **config: Any) -> Any:
        from ltx_models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig

        rng = np.random.default_rng(seed)
        vae = AutoencoderKL(self.nn, AutoencoderKLConfig(**{**CONFIG, **config}))
        weights = {}
        for name, shape in sorted(self.nn.shapes(vae).items()):
            if len(shape) > 1:
                values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
            else:
                values = 0.2 * rng.standard_normal(shape) + ("norm" in name and name.endswith("weight"))
            weights[name] = self.array(values.astype(np.float32), dtype)
        return self.nn.load(vae, weights)


@pytest.fixture(params=sorted(BACKENDS))
def case(request: pytest.FixtureRequest) -> Case:
    pytest.importorskip(BACKENDS[request.param])
    return Case(request.param)


def numpy(x: Any) -> np.ndarray:
    return np.asarray(x.detach() if hasattr(x, "detach") else x, np.float32)


def picture(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Noise on slopes, so that the tiles differ in mean and in variance."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    down, across = np.linspace(-1, 1, shape[2])[:, None], np.linspace(0.2, 1.5, shape[3])
    return np.asarray((noise + down) * across, np.float32)


def error(got: Any, want: Any) -> float:
    """The largest error where the result has scale 1."""
    got, want = numpy(got), numpy(want)
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / want.std())


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("quant", [True, False])
@settings(max_examples=3)  # for each of eight networks
@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(11, 16), st.integers(11, 16)),
    tile=st.sampled_from([24, (32, None), (None, 29)]),
)
def test_exact_equals_untiled(
    case: Case, attention: bool, quant: bool, seed: int, size: tuple[int, int], tile: Any
) -> None:
    vae = case.vae(seed, mid_block_add_attention=attention, use_quant_conv=quant, use_post_quant_conv=quant)
    tiled = autoencoder_kl(vae, tile=tile)
    z = case.array(picture((2, 4, *size), seed))
    assert error(tiled.decode(z), vae.decode(z)) < EXACT
    # Lengths that are no multiple of four: the encoder drops what is left over, at the far end only.
    x = case.array(picture((1, 3, 4 * size[0] + seed % 4, 4 * size[1] + seed % 3), seed))
    assert error(tiled.encode(x), vae.encode(x)) < EXACT


def test_only_exact_passes_the_test_above(case: Case) -> None:
    vae = case.vae(1)
    z, x = case.array(picture((1, 4, 24, 24), 1)), case.array(picture((1, 3, 96, 96), 1))
    for norm in ("fast", "tile"):
        tiled = autoencoder_kl(vae, tile=24, norm=norm)
        assert error(tiled.decode(z), vae.decode(z)) > 10 * EXACT
        assert error(tiled.encode(x), vae.encode(x)) > 10 * EXACT


@pytest.mark.parametrize("offload", ["host", "disk"])
def test_offloaded_tiles_come_back_as_they_were(case: Case, offload: Any) -> None:
    vae, z = case.vae(2), case.array(picture((1, 4, 16, 16), 2))
    assert error(autoencoder_kl(vae, tile=24, offload=offload).decode(z), vae.decode(z)) < EXACT


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_its_dtype_and_is_as_near_as_untiled(case: Case, dtype: str) -> None:
    host = picture((1, 4, 16, 16), 3)
    want = case.vae(3).decode(case.array(host))
    vae, z = case.vae(3, dtype), case.array(host, dtype)
    got = autoencoder_kl(vae, tile=24, offload="disk").decode(z)
    assert str(got.dtype).endswith(dtype)
    single = case.nn.dtype("float32")
    untiled = error(case.nn.cast(vae.decode(z), single), want)
    assert error(case.nn.cast(got, single), want) < 1.5 * untiled


def test_sound_is_tiled_in_time_only(case: Case) -> None:
    vae = case.vae(4, in_channels=1, out_channels=1, latent_channels=8)
    tiled = autoencoder_kl(vae, tile=(48, None))
    z = case.array(picture((1, 8, 60, 4), 4))
    # 240 steps in strips of 48, and these in halves where that saves a fifth of the memory
    assert tiled.plan((1, 8, 60, 4)).tiles == (10 if case.name == "mlx" else 5)
    assert error(tiled.decode(z), vae.decode(z)) < EXACT


def test_a_plan_and_the_best_tile_know_the_shapes(case: Case) -> None:
    tiled = autoencoder_kl(case.vae(5, mid_block_add_attention=False), tile=64)
    whole = autoencoder_kl(tiled.vae, tile=None)
    assert tiled.plan((1, 4, 64, 32)).tiles == 8
    assert sorted(tiled.plan((1, 3, 256, 128), "encode").out_shape) == [1, 8, 32, 64]
    budget = int(0.8 * whole.plan((1, 4, 64, 64)).peak_bytes)
    size = tiled.best_tile((1, 4, 64, 64), budget)
    assert size is not None
    assert autoencoder_kl(tiled.vae, tile=size).plan((1, 4, 64, 64)).peak_bytes <= budget
    assert tiled.best_tile((1, 4, 64, 64), 10**12) is None


def test_progress_is_told(case: Case) -> None:
    told: list[tuple[int, int]] = []
    vae = case.vae(5)
    autoencoder_kl(vae, tile=24).decode(
        case.array(picture((1, 4, 12, 12), 5)), progress=lambda done, total: told.append((done, total))
    )
    assert told[-1][0] == told[-1][1] == len(told)


def test_wrong_input_is_refused_with_its_numbers(case: Case) -> None:
    tiled = autoencoder_kl(case.vae(6), tile=24)
    z = picture((1, 4, 12, 12), 6)
    with pytest.raises(BackendError, match=r"input: .*float16, but the network is .*float32; convert one of them"):
        tiled.decode(case.array(z, "float16"))
    with pytest.raises(BackendError, match=rf"input: an array of numpy, but the network is of {case.name}"):
        tiled.decode(z)
    with pytest.raises(BackendError, match=r"input: got 3 channels .*, the network takes 4"):
        tiled.decode(case.array(z[:, :3]))
    with pytest.raises(PlanError, match=r"input: got shape \(4, 12, 12\), expected 4 axes"):
        tiled.decode(case.array(z[0]))
    z[0, 0, 5, 6] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinity at height 5, width 6"):
        tiled.decode(case.array(z))


def test_tiles_below_the_reach_are_exact_too(case: Case) -> None:
    vae, z = case.vae(6), case.array(picture((1, 4, 12, 12), 6))
    assert error(autoencoder_kl(vae, tile=(3, None)).decode(z), vae.decode(z)) < EXACT


@pytest.mark.parametrize("way", ["decode", "encode"])
def test_nan_names_the_layer_and_ends_the_run(case: Case, way: str) -> None:
    vae, told = case.vae(13), []
    path = {"decode": "decoder.up_blocks.2.resnets.0.conv2", "encode": "encoder.down_blocks.0.resnets.0.conv1"}[way]
    weights = {name: case.array(np.ones(shape, np.float32)) for name, shape in case.nn.shapes(vae).items()}
    weights[f"{path}.bias"] = case.array(np.full(weights[f"{path}.bias"].shape, np.nan, np.float32))
    vae = case.nn.load(vae, weights)
    shape = (1, 4, 12, 12) if way == "decode" else (1, 3, 48, 48)
    run = getattr(autoencoder_kl(vae, tile=16), way)
    with pytest.raises(InputError, match="gave NaN or infinity") as caught:
        run(case.array(picture(shape, 13)), progress=lambda done, total: told.append((done, total)))
    assert case.name == "mlx" or path in str(caught.value)  # MLX names weights by their number
    assert way == "decode" or told[-1][0] < told[-1][1] / 2  # it came up early, and ended the run at the next norm


def test_layers_of_another_dtype_or_device_are_refused() -> None:
    """MLX converts such weights by itself, whole and in pieces alike, and knows no devices."""
    pytest.importorskip("torch")
    case = Case("torch")
    z = case.array(picture((1, 4, 12, 12), 6))
    vae = case.vae(6)
    vae.decoder.up_blocks[1].resnets[0].conv1.half()
    with pytest.raises(TraceError, match="should be the same"):
        autoencoder_kl(vae, tile=24).decode(z)
    with pytest.raises(BackendError, match=r"input: on device meta, but the network is on cpu; move one of them"):
        autoencoder_kl(case.vae(6), tile=24).decode(z.to("meta"))


def test_other_networks_are_refused_by_name() -> None:
    class Strange:
        pass

    with pytest.raises(BackendError, match=r"autoencoder: .*Strange is not supported: expected an AutoencoderKL"):
        autoencoder_kl(Strange(), tile=24)


def test_settings_that_were_refused_once_are_exact_or_refused() -> None:
    torch = pytest.importorskip("torch")
    case, vae = Case("torch"), Case("torch").vae(8)
    z = case.array(picture((1, 4, 12, 12), 8))
    vae.decoder.mid_block.resnets[0].norm2 = torch.nn.Identity()
    assert error(autoencoder_kl(vae, tile=24).decode(z), vae.decode(z)) < EXACT
    vae.decoder.mid_block.resnets[0].norm2 = torch.nn.Dropout(0.5)
    vae.train()
    with pytest.raises(TraceError, match="random"):
        autoencoder_kl(vae, tile=24).decode(z)


def test_the_layers_of_the_model_itself_are_called() -> None:
    """A hook, an adapter or a quantised layer keeps its effect."""
    pytest.importorskip("torch")
    case = Case("torch")
    vae, z = case.vae(9), case.array(picture((1, 4, 12, 12), 9))
    vae.decoder.up_blocks[2].resnets[0].conv1.register_forward_hook(lambda module, args, out: 2 * out)
    assert error(autoencoder_kl(vae, tile=24).decode(z), vae.decode(z)) < EXACT


def test_nothing_is_kept_for_differentiation() -> None:
    pytest.importorskip("torch")
    case = Case("torch")
    vae, z = case.vae(10), case.array(picture((1, 4, 12, 12), 10))
    vae.requires_grad_(True)
    assert not autoencoder_kl(vae, tile=24).decode(z.requires_grad_(True)).requires_grad


def test_only_pipelines_of_diffusers_are_switched() -> None:
    pytest.importorskip("torch")
    with pytest.raises(BackendError, match=r"pipeline: got int, expected one with an autoencoder as its vae"):
        enable_exact_tiling(3)
    vae = Case("torch").vae(11)
    with pytest.raises(BackendError, match=r"AutoencoderKL is no autoencoder of diffusers; use tilekit.exact"):
        enable_exact_tiling(vae)
    disable_exact_tiling(vae)  # was not on
    with pytest.raises(BackendError, match=r"vocoder: .*expected a SpeechT5HifiGan"):
        hifigan(vae, tile=10)


def test_the_adapter_holds_what_it_was_given(case: Case) -> None:
    vae = case.vae(12)
    tiled = autoencoder_kl(vae, tile=(32, None), norm="fast", offload="host")
    assert isinstance(tiled, TiledAutoencoder)
    assert (tiled.vae, tiled.tile, tiled.norm, tiled.offload) == (vae, (32, None), "fast", "host")
