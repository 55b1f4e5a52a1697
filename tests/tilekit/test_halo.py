"""The measured reach, and crops that equal the whole."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, tuples

import tilekit as tk
from tilekit.testing import Library, enlarge, local_decoder, local_encoder

SMALL = tk.Geometry(
    "small", (tk.Axis("frames", 2, tk.Causal(4)), tk.Axis("height", 3, tk.Linear(2)), tk.Axis("width", 4, tk.Linear(2)))
)
PIXELS = tk.Geometry("pixels", (tk.Axis("height", 2, tk.Linear(4)), tk.Axis("width", 3, tk.Linear(4))))
PAIRS = tuples(integers(0, 2), integers(0, 2))
Numbers = np.ndarray[Any, Any]


def numbers(*shape: int) -> Numbers:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@settings(max_examples=10)
@given(reach=tuples(PAIRS, PAIRS, PAIRS))
def test_the_reach_of_a_decoder_is_found_and_its_crops_equal_the_whole(xp: Library, reach: Any) -> None:
    decode = xp.wrap(local_decoder(SMALL, reach), "float32")
    halo = tk.measure_halo(decode, (1, 2, 7, 7, 7), geometry=SMALL, like=xp.array(numbers(1)))
    assert halo == dict(zip(("frames", "height", "width"), reach, strict=True))
    z = xp.array(numbers(2, 2, 9, 5, 7))
    options: dict[str, Any] = {"geometry": SMALL, "blend": "crop", "halo": halo, "tile_batch_size": 3}
    tiling = tk.Tiling(frames=(12, 4), height=(4, 0), width=(6, 2))
    got = tk.decode_tiled(decode, z, tiling, **options)
    np.testing.assert_allclose(xp.numpy(got), xp.numpy(decode(z)), atol=1e-6)
    blocks = list(tk.stream_tiled(decode, z, tiling, **options))
    assert [start for start, _ in blocks] == [0, 9, 21]  # cores of three latents
    np.testing.assert_array_equal(np.concatenate([xp.numpy(b) for _, b in blocks], axis=2), xp.numpy(got))


@settings(max_examples=10)
@given(reach=tuples(PAIRS, PAIRS, PAIRS))
def test_the_same_of_an_encoder(reach: Any) -> None:
    encode = local_encoder(SMALL, reach)
    halo = tk.measure_halo(encode, (1, 2, 25, 14, 14), geometry=SMALL)
    assert halo == dict(zip(("frames", "height", "width"), reach, strict=True))
    x = numbers(1, 2, 33, 10, 14)
    tiling = tk.Tiling(frames=(12, 4), height=(4, 0), width=(6, 2))
    got = tk.encode_tiled(encode, x, tiling, geometry=SMALL, blend="crop", halo=halo)
    np.testing.assert_allclose(got, encode(x), atol=1e-6)


def convolutions(torch: Any, padding: str) -> Any:
    """Two upsamplings by 2 with convolutions between: 3x3, dilated 3x3, and 1x5."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 8, 3, padding=1, padding_mode=padding),
        torch.nn.SiLU(),
        torch.nn.Upsample(scale_factor=2),
        torch.nn.Conv2d(8, 8, 3, padding=2, dilation=2, padding_mode=padding),
        torch.nn.SiLU(),
        torch.nn.Upsample(scale_factor=2),
        torch.nn.Conv2d(8, 3, (1, 5), padding=(0, 2), padding_mode=padding),
    ).requires_grad_(False)


@pytest.mark.parametrize("padding", ["zeros", "reflect", "replicate"])
def test_a_convolutional_decoder_is_exact_with_its_own_padding_at_the_border(padding: str) -> None:
    torch = pytest.importorskip("torch")
    decode = convolutions(torch, padding)
    halo = tk.measure_halo(decode, (1, 2, 9, 11), geometry=PIXELS)
    assert halo == {"height": (2, 2), "width": (3, 3)}  # 1 + 2/2 cells, and half a cell more
    z = torch.from_numpy(numbers(1, 2, 15, 17))
    got = tk.decode_tiled(decode, z, tk.Tiling(height=(20, 0), width=(24, 0)), geometry=PIXELS, blend="crop", halo=halo)
    torch.testing.assert_close(got, decode(z), atol=1e-5, rtol=1e-5)
    less = {"height": (0, 0), "width": (0, 0)}
    wrong = tk.decode_tiled(
        decode, z, tk.Tiling(height=(20, 0), width=(24, 0)), geometry=PIXELS, blend="crop", halo=less
    )
    assert float((wrong - decode(z)).abs().max()) > 1e-3


def test_a_strided_encoder_is_exact_and_sees_more_on_one_side() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [torch.nn.ZeroPad2d((0, 1, 0, 1)), torch.nn.Conv2d(2, 6, 3, stride=2), torch.nn.SiLU()]
    layers += [
        torch.nn.ZeroPad2d((0, 1, 0, 1)),
        torch.nn.Conv2d(6, 6, 3, stride=2),
        torch.nn.Conv2d(6, 4, 3, padding=1),
    ]
    encode = torch.nn.Sequential(*layers).requires_grad_(False)
    halo = tk.measure_halo(encode, (1, 2, 36, 28), geometry=PIXELS)
    assert halo == {"height": (1, 2), "width": (1, 2)}
    x = torch.from_numpy(numbers(1, 2, 60, 52))
    got = tk.encode_tiled(encode, x, tk.Tiling(height=(16, 0), width=(20, 0)), geometry=PIXELS, blend="crop", halo=halo)
    torch.testing.assert_close(got, encode(x), atol=1e-5, rtol=1e-5)


def causal_decoder(torch: Any) -> Callable[[Any], Any]:
    """Causal in time: replicates the first frame, doubles the frames twice and drops the first one each time."""
    torch.manual_seed(0)
    first, second = (torch.nn.Conv3d(2, 2, (3, 1, 1)).requires_grad_(False) for _ in range(2))

    def back(conv: Any, x: Any) -> Any:
        return conv(torch.cat([x[:, :, :1], x[:, :, :1], x], dim=2))

    def double(x: Any) -> Any:
        return x.repeat_interleave(2, dim=2)[:, :, 1:]

    def decode(z: Any) -> Any:
        x = double(back(second, double(back(first, z).sin())).sin())
        return x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)

    return decode


def test_a_causal_decoder_that_treats_its_first_frame_apart_is_exact() -> None:
    torch = pytest.importorskip("torch")
    decode = causal_decoder(torch)
    halo = tk.measure_halo(decode, (1, 2, 9, 2, 2), geometry=SMALL, like=torch.zeros(1))
    assert halo == {"frames": (3, 0), "height": (0, 0), "width": (0, 0)}
    z = torch.from_numpy(numbers(1, 2, 14, 3, 2))
    for size in (4, 8, 12):
        got = tk.decode_tiled(decode, z, tk.Tiling(frames=(size, 0)), geometry=SMALL, blend="crop", halo=halo)
        torch.testing.assert_close(got, decode(z), atol=1e-6, rtol=1e-6)


def test_group_normalisation_is_recognised_and_refused() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(2, 8)
    decode = torch.nn.Sequential(*convolutions(torch, "zeros")[:2], norm, *convolutions(torch, "zeros")[2:])
    with pytest.raises(tk.HaloError, match=r"16 height, 16 width: the function has global parts"):
        tk.measure_halo(decode.requires_grad_(False), (1, 2, 8, 8), geometry=PIXELS)


def test_attention_over_the_whole_is_refused_and_over_a_frame_leaves_time_to_be_cut() -> None:
    def attend(z: Numbers, axes: tuple[int, ...]) -> Numbers:
        weights = np.exp(z)
        mixed = (weights * z).sum(axis=axes, keepdims=True) / weights.sum(axis=axes, keepdims=True)
        return np.asarray(enlarge(z + mixed, SMALL), dtype=np.float32)

    with pytest.raises(tk.HaloError, match="global parts"):
        tk.measure_halo(lambda z: attend(z, (2, 3, 4)), (1, 2, 5, 4, 4), geometry=SMALL)

    def decode(z: Numbers) -> Numbers:
        return attend(z, (3, 4))

    halo = tk.measure_halo(decode, (1, 2, 5, 4, 4), geometry=SMALL)
    assert halo == {"frames": (0, 0), "height": None, "width": None}
    z = numbers(1, 2, 9, 4, 6)
    got = tk.decode_tiled(decode, z, tk.Tiling(frames=(8, 0)), geometry=SMALL, blend="crop", halo=halo)
    np.testing.assert_allclose(got, decode(z), atol=1e-6)
    with pytest.raises(tk.PlanError, match="width: an axis along which the function sees all of it"):
        tk.decode_tiled(decode, z, tk.Tiling(width=(4, 0)), geometry=SMALL, blend="crop", halo=halo)


def test_a_shape_too_short_for_the_reach_is_tried_at_twice_its_length() -> None:
    decode = local_decoder(PIXELS, [(4, 0), (1, 1)])
    assert tk.measure_halo(decode, (1, 2, 4, 4), geometry=PIXELS) == {"height": (4, 0), "width": (1, 1)}


def test_noise_and_dependence_on_position_are_refused() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(tk.HaloError, match="two results for one input"):
        tk.measure_halo(lambda z: enlarge(z + random.standard_normal(z.shape), PIXELS), (1, 2, 8, 8), geometry=PIXELS)

    def embedded(z: Numbers) -> Numbers:
        return enlarge(z + np.arange(z.shape[2], dtype=z.dtype)[:, None], PIXELS)

    with pytest.raises(tk.HaloError, match="depends on where a tile lies"):
        tk.measure_halo(embedded, (1, 2, 8, 8), geometry=PIXELS)


def test_weights_of_zero_and_of_next_to_nothing_count_as_reach() -> None:
    def decode(z: Numbers) -> Numbers:
        return enlarge(z + np.float32(1e-30) * np.pad(z, [(0, 0), (0, 0), (0, 0), (2, 0)])[..., :-2], PIXELS)

    assert tk.measure_halo(decode, (1, 2, 8, 8), geometry=PIXELS) == {"height": (0, 0), "width": (2, 0)}


def test_a_function_that_refuses_nan_is_measured_all_the_same() -> None:
    def decode(z: Numbers) -> Numbers:
        if np.isnan(z).any():
            msg = "no NaN, please"
            raise ValueError(msg)
        return np.asarray(local_decoder(PIXELS, [(1, 2), (0, 1)])(z))

    assert tk.measure_halo(decode, (1, 2, 8, 8), geometry=PIXELS) == {"height": (1, 2), "width": (0, 1)}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: tk.measure_halo(lambda z: z, (1, 2, 8, 8), geometry=PIXELS), tk.TileShapeError, "height 32, width 32"),
        (lambda: tk.measure_halo(lambda z: None, (1, 2, 8, 8), geometry=PIXELS), tk.BackendError, "returned NoneType"),
        (lambda: tk.plan((1, 2, 8, 8), geometry=PIXELS, halo={"depth": (1, 1)}), tk.PlanError, "no axis 'depth'"),
        (
            lambda: tk.plan((1, 2, 8, 8), tk.Tiling(width=(8, 0)), geometry=PIXELS, halo={"height": (1, 1)}),
            tk.PlanError,
            "width: an axis along which the function is not in the halo",
        ),
        (
            lambda: tk.plan((1, 2, 8, 8), tk.Tiling(width=(8, 0)), geometry=PIXELS, halo={"width": (-1, 1)}),
            tk.PlanError,
            "a halo must be at least 0 and at most",
        ),
        (
            lambda: tk.decode_tiled(lambda z: z, numbers(1, 2, 8, 8), geometry=PIXELS, blend="crop"),
            tk.PlanError,
            "see tilekit.measure_halo",
        ),
        (
            lambda: tk.decode_tiled(lambda z: z, numbers(1, 2, 8, 8), geometry=PIXELS, halo={}),
            tk.PlanError,
            "see tilekit.measure_halo",
        ),
        (
            lambda: tk.decode_tiled(lambda z: z, numbers(1, 2, 8, 8), geometry=PIXELS, blend="cosine"),  # type: ignore[arg-type]
            tk.PlanError,
            "got 'cosine'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_a_function_that_uses_its_memory_again_is_measured() -> None:
    decode = local_decoder(PIXELS, [(2, 1), (0, 3)])
    memory: dict[tuple[int, ...], Numbers] = {}

    def reusing(z: Numbers) -> Numbers:
        result = decode(z)
        kept = memory.setdefault(result.shape, result)
        kept[...] = result
        return kept

    assert tk.measure_halo(reusing, (1, 4, 9, 9), geometry=PIXELS) == {"height": (2, 1), "width": (0, 3)}


def test_the_calls_are_foretold_and_counted() -> None:
    calls, told = [], []
    decode = local_decoder(PIXELS, [(4, 0), (1, 1)])

    def counted(z: Numbers) -> Numbers:
        calls.append(z.shape)
        return np.asarray(decode(z))

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    tk.measure_halo(counted, (1, 2, 9, 9), geometry=PIXELS, progress=progress)
    assert told == [(n, 18) for n in range(19)] + [(n, 10) for n in range(11)]
    assert len(calls) == 28
    calls.clear()
    told.clear()
    tk.measure_halo(counted, (1, 2, 4, 9), geometry=PIXELS, progress=progress)  # too short for a reach of 4
    assert told == [(n, 18) for n in range(19)] * 2 + [(n, 10) for n in range(11)]
    assert len(calls) == 46


@pytest.mark.parametrize(("geometry", "shape"), [(PIXELS, (1, 2, 9, 10)), (SMALL, (1, 2, 9, 9, 9))])
@pytest.mark.parametrize("axis", [-1, -2])
def test_a_function_that_is_local_only_while_its_input_is_small_is_refused(
    geometry: tk.Geometry, shape: tuple[int, ...], axis: int
) -> None:
    def decode(z: Numbers) -> Numbers:
        far = z.mean(axis=axis, keepdims=True) if z.shape[axis] > 12 else 0
        return np.asarray(enlarge(z + far, geometry), np.float32)

    with pytest.raises(tk.HaloError, match=r"differs from the whole of .*1[46].* how large it is"):
        tk.measure_halo(decode, shape, geometry=geometry)


def test_the_same_of_an_encoder_that_sees_the_mean_of_long_inputs() -> None:
    encode = local_encoder(SMALL, [(1, 1), (0, 1), (1, 0)])

    def drifting(x: Numbers) -> Numbers:
        return np.asarray(encode(x + (x.mean(axis=2, keepdims=True) if x.shape[2] > 30 else 0)), np.float32)

    assert tk.measure_halo(encode, (1, 2, 25, 14, 14), geometry=SMALL)["frames"] == (1, 1)
    with pytest.raises(tk.HaloError, match="differs from the whole of 11 frames, 7 height, 7 width"):
        tk.measure_halo(drifting, (1, 2, 25, 14, 14), geometry=SMALL)


def test_a_slight_dependence_on_the_size_of_a_tile_is_refused_in_float32() -> None:
    """By a thousandth of the result over the whole width, which float32 does not round away."""

    def sloped(z: Numbers) -> Numbers:
        slope = np.linspace(0, 1e-3, 4 * z.shape[3], dtype=np.float32)
        return np.asarray(enlarge(z, PIXELS) * (1 + slope), np.float32)

    with pytest.raises(tk.HaloError, match="depends on where a tile lies or how large it is"):
        tk.measure_halo(sloped, (1, 4, 9, 9), geometry=PIXELS)
