"""Functions of MLX through `exact`: equal to the plain call, in the memory that the plan says."""

import functools
from pathlib import Path
from typing import Any

import pytest

mx = pytest.importorskip("mlx.core")
from mlx import nn  # noqa: E402
from tests.tilekit.exact._mlx_networks import Film, Painter, Reader, seeded  # noqa: E402

import tilekit  # noqa: E402

NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "picture": (Painter, (1, 20, 12, 4)),
    "odd picture": (Painter, (1, 13, 7, 4)),
    "several pictures": (Painter, (2, 12, 8, 4)),
    "video": (Film, (1, 7, 8, 6, 8)),
    "encoder": (lambda: seeded(Reader()).encode, (1, 64, 44, 3)),
}


@functools.cache
def made(name: str) -> tuple[Any, Any, Any]:
    make, shape = NETWORKS[name]
    function = make() if name == "encoder" else seeded(make())
    x = mx.random.normal(shape, key=mx.random.key(1))
    plain = function(x)
    mx.eval(x, plain)
    return function, x, plain


def error(a: Any, b: Any) -> float:
    return float(mx.max(mx.abs(a.astype(mx.float32) - b.astype(mx.float32))) / mx.max(mx.abs(b.astype(mx.float32))))


def peak(call: Any) -> tuple[Any, int]:
    """Call, and give the bytes that were active at the peak beside those before."""
    mx.clear_cache()
    active = mx.get_active_memory()
    mx.reset_peak_memory()
    result = call()
    mx.eval(result)
    return result, int(mx.get_peak_memory()) - active


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_equals_the_plain_call_and_takes_what_is_forecast(name: str) -> None:
    function, x, plain = made(name)
    exact = tilekit.exact(function)
    plan = exact.plan(x)
    result, taken = peak(lambda: exact(x))
    before = peak(lambda: function(x))[1]
    assert (result.shape, result.dtype) == (plain.shape, plain.dtype)
    assert error(result, plain) <= (0 if name == "video" else 1e-5)
    assert plan.work == pytest.approx(1, abs=0.01)
    assert not plan.notes
    assert taken <= 1.1 * plan.peak_bytes + (1 << 16)
    assert taken < before / 3


@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_the_memory_of_a_plain_call_is_enough(name: str) -> None:
    function, x, plain = made(name)
    budget = peak(lambda: function(x))[1] // 2
    exact = tilekit.exact(function, memory_bytes=budget)
    result, taken = peak(lambda: exact(x))
    assert error(result, plain) <= 1e-5
    assert taken <= 1.05 * budget + (1 << 16)


def test_borders_copied_along_two_axes_are_made_one_after_the_other() -> None:
    x = mx.random.normal((1, 64, 64, 16), key=mx.random.key(0))
    mx.eval(x)
    exact = tilekit.exact(lambda x: mx.pad(x, [(0, 0), (2, 1), (1, 1), (0, 0)], "edge"), memory_bytes=10 * x.nbytes)
    taken = peak(lambda: exact(x))[1]
    assert taken == pytest.approx(exact.plan(x).peak_bytes, rel=0.1)


def test_a_budget_that_no_plan_meets_is_refused() -> None:
    norm = seeded(nn.GroupNorm(2, 4, pytorch_compatible=True))
    with pytest.raises(tilekit.PlanError, match="memory_bytes"):
        tilekit.exact(norm, memory_bytes=1000)(mx.zeros((1, 32, 32, 4)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_stream_gives_the_blocks_in_order(name: str) -> None:
    function, x, plain = made(name)
    exact = tilekit.exact(function)
    axis = exact.plan(x, stream=True).axis
    at, blocks = 0, []
    for start, block in exact.stream(x):
        assert start == at
        at += block.shape[axis]
        blocks.append(block)
    assert error(mx.concatenate(blocks, axis=axis), plain) <= 1e-5


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=str)
@pytest.mark.parametrize("make", [Painter, Film])
def test_half_precision_is_as_near_to_float32_as_the_plain_call(make: Any, dtype: Any) -> None:
    shape = (1, 12, 8, 4) if make is Painter else (1, 5, 6, 6, 8)
    module = seeded(make(), dtype)
    x = mx.random.normal(shape, key=mx.random.key(1)).astype(dtype)
    plain, result = module(x), tilekit.exact(module)(x)
    assert result.dtype == plain.dtype
    if make is Film:
        assert mx.array_equal(result, plain)
        return
    wide = seeded(make())
    wide.update(nn.utils.tree_map(lambda w: w.astype(mx.float32), module.parameters()))
    true = wide(x.astype(mx.float32))
    assert error(result, true) <= 1.25 * error(plain, true)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [3, 4])
def test_a_convolution_between_transposes_keeps_its_weight(kernel: int, bias: bool) -> None:
    conv = seeded(nn.Conv1d(3, 3, kernel, bias=bias))
    x = mx.random.normal((1, 3, 40), key=mx.random.key(1))

    def function(x: Any) -> Any:
        return conv(x.swapaxes(1, 2)).swapaxes(1, 2)

    assert error(tilekit.exact(function)(x), function(x)) == 0


def test_small_parts_keep_nothing_else_alive() -> None:
    layers = [nn.Conv1d(4, 4, 5, padding=4, dilation=2) for _ in range(24)]
    module = seeded(nn.Sequential(*layers))
    x = mx.random.normal((1, 2000, 4), key=mx.random.key(1))
    mx.eval(x)
    exact = tilekit.exact(module)
    forecast = exact.plan(x, stream=True).peak_bytes
    starts, taken = peak(lambda: [start for start, _ in exact.stream(x)])
    assert len(starts) > 3
    assert taken <= 1.1 * forecast + (1 << 13)


def test_weights_and_layers_that_change_are_seen() -> None:
    module = seeded(Film())
    x = mx.random.normal((1, 4, 6, 6, 8), key=mx.random.key(1))
    exact = tilekit.exact(module)
    exact(x)
    module.first.conv.weight = module.first.conv.weight * 2
    assert mx.array_equal(exact(x), module(x))
    module.norms[0] = nn.Identity()
    assert mx.array_equal(exact(x), module(x))


def test_a_method_can_be_put_in_its_own_place() -> None:
    module = seeded(Reader())
    x = mx.random.normal((1, 32, 32, 3), key=mx.random.key(1))
    plain = module.encode(x)
    module.encode = tilekit.exact(module.encode)
    for _ in range(2):
        assert error(module.encode(x), plain) <= 1e-5
    module.last.bias = module.last.bias + 1.0
    assert error(module.encode(x), plain + 1.0) <= 1e-5


def test_a_function_that_is_not_understood_runs_as_it_is_and_the_plan_says_so() -> None:
    exact = tilekit.exact(lambda x: mx.logcumsumexp(x, 1) * 2)
    x = mx.random.normal((1, 40, 3))
    assert mx.array_equal(exact(x), mx.logcumsumexp(x, 1) * 2)
    assert "CumLogAddExp" in str(exact.plan(x))


def test_nan_is_refused_and_named() -> None:
    module = seeded(Film())
    module.convs[1].conv.weight = module.convs[1].conv.weight * float("nan")
    x = mx.random.normal((1, 3, 4, 4, 8))
    with pytest.raises(tilekit.InputError, match=r"convs\.1"):
        tilekit.exact(module)(x)
    with pytest.raises(tilekit.InputError, match="NaN"):
        tilekit.exact(module)(x * float("inf"))


# the networks of this project ---------------------------------------------------------------------------------------


def own(name: str) -> tuple[Any, tuple[int, ...]]:
    """Give a network of `ltx_models` in MLX, and the shape of its input."""
    from tests.ltx_models.test_audio_vae import TINY, filled
    from tests.ltx_models.test_autoencoder_kl import CONFIG, make_weights

    from ltx_models import default_checkpoint, load_video_decoder, load_video_encoder, load_vocoder
    from ltx_models.audio_vae import AudioDecoder, AudioEncoder
    from ltx_models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
    from ltx_models.nn import backend

    library = backend("mlx")
    if name == "video decoder":
        return load_video_decoder(default_checkpoint(), backend="mlx", dtype="float32"), (1, 128, 3, 3, 2)
    if name == "video encoder":
        return load_video_encoder(default_checkpoint(), backend="mlx", dtype="float32"), (1, 3, 17, 64, 64)
    if name == "audio decoder":
        return filled(library, AudioDecoder(library, TINY)), (1, 2, 16, 4)
    if name == "audio encoder":
        return filled(library, AudioEncoder(library, TINY)), (1, 2, 61, 16)
    if name == "vocoder":
        path = Path(__file__).parents[2] / "reference" / "ltx2" / "vocoder_20_batch2.safetensors"
        return load_vocoder(path, backend="mlx", dtype="float32"), (1, 2, 6, 64)
    weights = {key: library.asarray(value) for key, value in make_weights(library, CONFIG).items()}
    kl: Any = library.load(AutoencoderKL(library, AutoencoderKLConfig.read(CONFIG)), weights)
    return (kl.decode, (1, 4, 24, 16)) if name == "picture decoder" else (kl.encode, (1, 3, 64, 48))


@pytest.mark.parametrize(
    "name",
    [
        "video decoder",
        "video encoder",
        "audio decoder",
        "audio encoder",
        "vocoder",
        "picture decoder",
        "picture encoder",
    ],
)
def test_the_networks_of_ltx_models_need_no_adapter(name: str) -> None:
    function, shape = own(name)
    x = mx.random.normal(shape, key=mx.random.key(1))
    plain = function(x)
    exact = tilekit.exact(function)
    result, taken = peak(lambda: exact(x))
    assert error(result, plain) <= (1e-5 if "picture" in name else 0)
    assert not exact.plan(x).notes
    assert taken < peak(lambda: function(x))[1]
