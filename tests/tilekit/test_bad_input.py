"""Bad input is refused with where, what and the way out; before any decoder call where it can be known."""

import threading
from typing import Any

import numpy as np
import pytest

import tilekit as tk
from tilekit.testing import Library, enlarge, reduce

SMALL = tk.Geometry(
    "small", (tk.Axis("frames", 2, tk.Causal(4)), tk.Axis("height", 3, tk.Linear(2)), tk.Axis("width", 4, tk.Linear(2)))
)
TILING = tk.Tiling(frames=(8, 4), height=(4, 2))
Numbers = np.ndarray[Any, Any]
ALL = [tk.decode_tiled, tk.stream_tiled, tk.encode_tiled]


def ones(*shape: int) -> Numbers:
    return np.ones(shape, np.float32)


def never(_: Any) -> Any:
    msg = "the decoder was called"
    raise AssertionError(msg)


def decode(z: Numbers) -> Numbers:
    return enlarge(z, SMALL)


@pytest.mark.parametrize("run", ALL)
@pytest.mark.parametrize("tiling", [TILING, None])
@pytest.mark.parametrize("size", [0, -1, True, 1.5, "2", None])
def test_a_tile_batch_size_that_is_no_positive_integer_is_refused_even_for_one_tile(
    run: Any, tiling: Any, size: Any
) -> None:
    with pytest.raises(tk.PlanError, match="tile_batch_size must be an integer of at least 1, got"):
        run(never, ones(1, 2, 5, 4, 4), tiling, geometry=SMALL, tile_batch_size=size)


@pytest.mark.parametrize("run", ALL)
@pytest.mark.parametrize(
    ("shape", "tiling", "text"),
    [
        ((1, 2, 5, 4), None, "small: expected 5 axes, got shape"),
        ((1, 2, 5, 4, 4, 1), None, "small: expected 5 axes, got shape"),
        ((1, 2, 0, 4, 4), None, "small: frames is empty"),
        ((0, 2, 5, 4, 4), None, "small: axis 0 is empty"),
        ((1, 2, 5, 4, 4), tk.Tiling(frames=(9, 4)), "frames: tile size must be a multiple of 4, got 9; take 8 or 12"),
        ((1, 2, 5, 4, 4), tk.Tiling(width=(4, 1)), "width: overlap must be a multiple of 2, got 1; take 0 or 2"),
        ((1, 2, 5, 4, 4), tk.Tiling(width=(4, 2, 3)), "width: min_size must be a multiple of 2, got 3"),
        ((1, 2, 5, 4, 4), tk.Tiling(depth=(4, 2)), "small has no axis 'depth'; it has frames, height, width"),
        ((1, 2, 5, 4, 4), tk.Tiling.by_count(width=(9, 0)), "width, in latents of 2: tile count must be between 1 and"),
        ((1, 2, 5, 4, 4), tk.TilingConfig.spatial_only(512, 32), None),
    ],
)
def test_shapes_and_tilings_that_do_not_fit_are_refused(run: Any, shape: Any, tiling: Any, text: str | None) -> None:
    if text is None:  # a tile above the size of the axis is one tile
        assert len(tk.plan(shape, tiling, geometry=SMALL).tiles) == 1
        return
    with pytest.raises(tk.PlanError, match=text):
        run(never, ones(*shape), tiling, geometry=SMALL)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: tk.Tiling(width=(4, 4)),
            "width: overlap must be smaller than the tile size, got overlap=4 with size=4",
        ),
        (lambda: tk.Tiling(width=(4, -2)), "overlap at least 0"),
        (lambda: tk.Tiling(width=(0, 0)), "must be at least 1"),
        (lambda: tk.Tiling(width=(4.0, 2)), "must be integers"),  # type: ignore[arg-type]
        (lambda: tk.Tiling(width=(True, 0)), "must be integers"),
        (lambda: tk.Tiling(width=(4,)), r"give \(size, overlap\)"),
        (lambda: tk.Tiling(width=4), r"give \(size, overlap\)"),  # type: ignore[arg-type]
        (lambda: tk.Tiling.by_count(width=(0, 0)), "must be at least 1"),
        (lambda: tk.Tiling.by_count(width=(2, 0, 0)), "must be at least 1"),
    ],
)
def test_tilings_with_impossible_numbers_are_refused(call: Any, text: str) -> None:
    with pytest.raises(tk.PlanError, match=text):
        call()


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 3, 16, 8, 8), r"frames: length must be 1 \+ 4k, got 16; crop or pad"),
        ((1, 3, 17, 7, 8), "height: length must be a multiple of 2, got 7"),
    ],
)
def test_encoding_refuses_sizes_off_the_grid(shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(tk.PlanError, match=text):
        tk.encode_tiled(never, ones(*shape), geometry=SMALL)


@pytest.mark.parametrize("run", ALL)
def test_nan_is_refused_before_any_call_and_the_tile_is_named(xp: Library, run: Any) -> None:
    z = ones(1, 2, 9, 8, 4)
    z[0, 1, 8, 7, 2] = np.nan
    with pytest.raises(
        tk.InputError, match=r"tile \(.*\): the input has NaN in frames \d+ to 8, height \d+ to 7, width 0 to 3"
    ):
        run(never, xp.array(z), TILING, geometry=SMALL)


def test_the_first_tile_with_nan_is_named() -> None:
    z = ones(1, 2, 9, 8, 4)
    z[0, 0, 4, 1, 0] = np.nan
    with pytest.raises(tk.InputError, match=r"tile \(1, 0, 0\): the input has NaN in frames 0 to 2") as caught:
        tk.decode_tiled(never, z[:, :, 2:], TILING, geometry=SMALL)
    assert "nothing was decoded" in str(caught.value)


def test_integers_are_let_through() -> None:
    clip = np.zeros((1, 3, 9, 4, 4), np.uint8)
    assert (
        tk.encode_tiled(lambda x: reduce(x.astype(np.float32), SMALL), clip, TILING, geometry=SMALL).dtype == np.float32
    )


def foreign(z: Any) -> Any:
    return memoryview(bytes(4))


def other_library(z: Any) -> Any:
    strict = pytest.importorskip("array_api_strict")
    return strict.asarray(np.asarray(decode(np.asarray(z))))


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (lambda z: None, tk.BackendError, r"tile \(0, 0, 0\): decode returned None"),
        (lambda z: [1.0], tk.BackendError, "decode returned something that is not an array"),
        (foreign, tk.BackendError, "decode returned something that is not an array"),
        (other_library, tk.BackendError, "an array of array-api, the input is one of numpy; convert"),
        (lambda z: decode(z).astype(np.int32), tk.BackendError, "dtype int32, expected floating-point"),
        (lambda z: decode(z) > 0, tk.BackendError, "dtype bool, expected floating-point"),
        (lambda z: decode(z).astype(np.complex64), tk.BackendError, "dtype complex64, expected floating-point"),
        (
            lambda z: decode(z)[:, :, 1:],
            tk.TileShapeError,
            r"shape \(1, 2, 4, 4, 8\), the plan expects \(1, channels, 5, 4, 8\)",
        ),
        (lambda z: decode(z)[..., :-1], tk.TileShapeError, r"shape \(1, 2, 5, 4, 7\)"),
        (lambda z: decode(z)[0], tk.TileShapeError, r"shape \(2, 5, 4, 8\)"),
        (lambda z: decode(z)[:, :0], tk.TileShapeError, r"shape \(1, 0, 5, 4, 8\)"),
        (lambda z: np.concatenate([decode(z)] * 2), tk.TileShapeError, r"shape \(2, 2, 5, 4, 8\)"),
    ],
)
@pytest.mark.parametrize("run", [tk.decode_tiled, lambda *a, **k: list(tk.stream_tiled(*a, **k))])
def test_a_decoder_that_returns_something_else_is_refused(run: Any, function: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        run(function, ones(1, 2, 5, 4, 4), TILING, geometry=SMALL)


def test_a_single_tile_is_checked_as_well() -> None:
    with pytest.raises(tk.TileShapeError, match="is small the geometry of the model"):
        tk.decode_tiled(lambda z: z, ones(1, 2, 5, 4, 4), geometry=SMALL)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda y: y.astype(np.float64), tk.BackendError, "float64 on .*, the tiles before it were float32"),
        (lambda y: np.concatenate([y, y], axis=1), tk.TileShapeError, r"the plan expects \(1, 2, "),
    ],
)
def test_a_later_tile_may_not_change_dtype_or_channels(change: Any, error: Any, text: str) -> None:
    calls = 0

    def fickle(z: Numbers) -> Numbers:
        nonlocal calls
        calls += 1
        result: Numbers = decode(z) if calls < 3 else change(decode(z))
        return result

    with pytest.raises(error, match=text):
        tk.decode_tiled(fickle, ones(1, 2, 5, 4, 4), TILING, geometry=SMALL)


def test_an_error_of_a_batch_names_its_tiles() -> None:
    with pytest.raises(tk.TileShapeError, match=r"tile \(0, 0, 0\) and 1 more: decode returned shape"):
        tk.decode_tiled(lambda z: decode(z)[:1], ones(1, 2, 5, 8, 4), TILING, geometry=SMALL, tile_batch_size=2)


@pytest.mark.parametrize(
    ("function", "array"), [(None, ones(1, 2, 5, 4, 4)), (decode, [[1.0]]), (decode, None), (decode, "latents")]
)
def test_what_is_no_function_and_no_array_is_refused(function: Any, array: Any) -> None:
    with pytest.raises(
        tk.BackendError, match=r"must be callable, got NoneType|expected an array of one of the libraries"
    ):
        tk.decode_tiled(function, array, geometry=SMALL)


def test_without_a_batch_axis_tiles_cannot_be_batched() -> None:
    line = tk.Geometry("line", (tk.Axis("time", 0, tk.Linear(2)),), batch=None, channel=None)
    with pytest.raises(tk.PlanError, match="line has no batch axis to put 2 tiles on"):
        tk.decode_tiled(never, ones(6), tk.Tiling(time=(4, 0)), geometry=line, tile_batch_size=2)
    np.testing.assert_array_equal(
        tk.decode_tiled(lambda z: enlarge(z, line), ones(6), tk.Tiling(time=(4, 2)), geometry=line), ones(12)
    )


def test_a_failing_decoder_leaves_a_running_decode_in_another_thread_alone() -> None:
    z = np.random.default_rng(0).standard_normal((1, 2, 9, 8, 4)).astype(np.float32)
    want = tk.decode_tiled(decode, z, TILING, geometry=SMALL)
    started, failed = threading.Event(), threading.Event()
    got: list[Numbers] = []

    def slow(tile: Numbers) -> Numbers:
        started.set()
        assert failed.wait(30)
        return decode(tile)

    thread = threading.Thread(target=lambda: got.append(tk.decode_tiled(slow, z, TILING, geometry=SMALL)))
    thread.start()
    assert started.wait(30)
    with pytest.raises(tk.BackendError):
        tk.decode_tiled(lambda _: None, z, TILING, geometry=SMALL)
    failed.set()
    thread.join()
    np.testing.assert_array_equal(got[0], want)


def test_errors_are_built_in_errors_too() -> None:
    for error, kind in [
        (tk.PlanError, ValueError),
        (tk.InputError, ValueError),
        (tk.TileShapeError, ValueError),
        (tk.HaloError, ValueError),
        (tk.DiskError, OSError),
        (tk.BackendError, TypeError),
    ]:
        assert issubclass(error, kind)
        assert issubclass(error, tk.TilekitError)
