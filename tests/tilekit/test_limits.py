"""Large arrays that a device gets wrong: never made by a plan, or refused."""

from concurrent.futures import ThreadPoolExecutor
from math import inf, prod
from time import sleep
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tilekit import (
    LTX2_VIDEO,
    SD_IMAGE,
    InputError,
    PlanError,
    TileShapeError,
    Tiling,
    decode_tiled,
    encode_tiled,
    norms,
    plan,
    stream_tiled,
)
from tilekit.backends import Place, backend_of
from tilekit.backends.limits import KNOWN, Limits, known_of, limits_of, warn_of
from tilekit.testing import Library, libraries, limited

torch: Any = pytest.importorskip("torch")
LIBRARIES = [x for x in libraries() if x.name in {"torch", "mlx", "numpy"} and not x.read_only]


@pytest.fixture(params=LIBRARIES, ids=lambda x: x.name)
def library(request: pytest.FixtureRequest) -> Library:
    """Libraries on which faults of devices can be played."""
    held: Library = request.param
    if held.missing:
        pytest.skip(held.missing)
    return held


def enlarge(z: Any) -> Any:
    if hasattr(z, "repeat_interleave"):
        return z[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
    xp = backend_of(z).namespace(z)
    return xp.repeat(xp.repeat(z[:, :3], 8, 2), 8, 3)


def reduce(x: Any) -> Any:
    return x[:, :, ::8, ::8] + 0.5 * x[:, :, 4::8, 4::8]


TILING = Tiling(width=(128, 32), height=(64, 16))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    batch=st.integers(1, 3),
    together=st.integers(1, 4),
    elements=st.integers(500, 120_000),
    way=st.sampled_from(["whole", "stream", "encode"]),
)
def test_results_are_right_or_refused(
    library: Library, height: int, width: int, batch: int, together: int, elements: int, way: str
) -> None:
    z = library.array(np.random.default_rng(height).standard_normal((batch, 4, height, width)), "float32")
    x = enlarge(z)
    kept: dict[str, Any] = {"geometry": SD_IMAGE, "tile_batch_size": together}
    got: Any
    with limited(Limits(elements=elements), library.name) as faults:
        try:
            if way == "whole":
                got, wanted = decode_tiled(enlarge, faults.array(z), TILING, **kept), x
            elif way == "stream":
                got, wanted = [block for _, block in stream_tiled(enlarge, faults.array(z), TILING, **kept)], x
            else:
                got, wanted = encode_tiled(reduce, faults.array(x), TILING, **kept), None
        except (PlanError, InputError):
            return
    assert not faults.played
    assert faults.elements <= elements
    got = np.concatenate([library.numpy(block) for block in got], 2) if isinstance(got, list) else library.numpy(got)
    assert np.allclose(got, library.numpy(reduce(x) if wanted is None else wanted), atol=1e-5)


@pytest.mark.parametrize("way", ["function", "method", "operator", "made of nothing"])
def test_the_test_device_spoils_every_library(library: Library, way: str) -> None:
    values = np.ones((2, 30), np.float32)
    ways: dict[str, Any] = {
        "function": lambda xp, x: xp.concatenate([x, x]),
        "method": lambda xp, x: x.reshape(60).repeat(2) if library.name == "numpy" else x.astype(xp.int32) + 1,
        "operator": lambda xp, x: x * 2 + 1,
        "made of nothing": lambda xp, x: xp.ones((100,)),
    }
    if library.name == "torch":
        ways["method"] = lambda xp, x: x.clone()
    x = library.array(values)
    xp = backend_of(x).namespace(x)
    with limited(Limits(elements=59), library.name) as faults:
        large = ways[way](xp, faults.array(x))
    assert faults.played
    assert faults.elements >= 60
    assert not library.numpy(large).any()
    with limited(Limits(elements=1 << 10), library.name) as faults:
        right = ways[way](xp, faults.array(x))
    assert not faults.played
    assert library.numpy(right).all()
    assert library.numpy(ways[way](xp, x)).all()  # and nothing is left of it


def test_what_is_followed_or_compiled_on_the_test_device_stays_right() -> None:
    mx = pytest.importorskip("mlx.core")
    double = mx.compile(lambda x: x * 2)
    x = mx.ones((100,))
    with limited(Limits(elements=50), "mlx") as faults:
        assert not mx.any(double(x)).item()
    assert faults.played
    assert mx.all(double(x) == 2).item()


def test_the_test_device_spoils_what_is_too_large() -> None:
    z = torch.randn(1, 4, 16, 16)
    with limited(Limits(elements=4096)) as faults:
        large = torch.cat([z] * 5)
    assert not large.any()
    assert faults.played == ["aten.cat.default"]


def test_a_convolution_is_spoilt_by_its_output_or_what_it_unfolds() -> None:
    convolve = torch.nn.functional.conv3d
    x, w = torch.randn(1, 3, 2, 8, 8), torch.randn(5, 3, 1, 3, 3)
    right = convolve(x, w, padding=(0, 1, 1))
    with limited(Limits(convolution=5 * 128, unfolded=128 * 27)) as faults:
        assert torch.equal(convolve(x, w, padding=(0, 1, 1)), right)
    assert (faults.convolution, faults.unfolded) == (5 * 128, 128 * 27)
    for limits in (Limits(convolution=5 * 128 - 1), Limits(unfolded=128 * 27 - 1)):
        with limited(limits):
            assert not convolve(x, w, padding=(0, 1, 1)).any()


def test_padding_of_time_is_spoilt_by_large_frames() -> None:
    x = torch.ones(1, 1, 2, 16, 16)
    with limited(Limits(padded_frame=255)) as faults:
        assert not torch.nn.functional.pad(x, (0, 0, 0, 0, 2, 0)).any()
        assert torch.nn.functional.pad(x[:, :, :, :, :15], (0, 0, 0, 0, 2, 0)).any()
        assert torch.cat([x[:, :, :1], x], 2).all()
    assert len(faults.played) == 1


def test_a_result_that_is_too_large_is_streamed_instead() -> None:
    z = torch.randn(1, 4, 32, 48)
    with limited(Limits(elements=3 * 256 * 384 - 1)) as faults:
        with pytest.raises(PlanError, match=r"the result would have 294912 elements.*stream_tiled"):
            decode_tiled(enlarge, z, TILING, geometry=SD_IMAGE)
        blocks = [block for _, block in stream_tiled(enlarge, z, TILING, geometry=SD_IMAGE)]
    assert torch.allclose(torch.cat(blocks, 2), enlarge(z), atol=1e-5)
    assert not faults.played


def test_tiles_share_a_call_only_as_far_as_the_device_goes() -> None:
    z, shapes = torch.randn(1, 4, 8, 64), []

    def decode(tile: Any) -> Any:
        shapes.append(tuple(tile.shape))
        return tile.clone()

    with limited(Limits(elements=64 * 512)), pytest.raises(TileShapeError):
        decode_tiled(decode, z, Tiling(width=(128, 32)), geometry=SD_IMAGE, tile_batch_size=9)
    assert shapes == [(4, 4, 8, 16)]


def test_refusals_say_what_to_do() -> None:
    z = torch.randn(1, 4, 32, 48)
    text = r"input of shape .* has 6144 elements.*NumPy array or a file"
    with limited(Limits(elements=100)), pytest.raises(InputError, match=text):
        decode_tiled(enlarge, z, TILING, geometry=SD_IMAGE)
    with limited(Limits(elements=140_000)), pytest.raises(PlanError, match="most_elements=140000"):
        list(stream_tiled(enlarge, z, Tiling(height=(128, 64)), geometry=SD_IMAGE))
    with limited(Limits(elements=300_000)), pytest.raises(PlanError, match="give tile_batch_size=12"):
        decode_tiled(enlarge, z, TILING, geometry=SD_IMAGE, tile_batch_size=16)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 60)),
    most=st.integers(10_000, 40_000_000),
    inside=st.integers(0, 128),
)
def test_fit_keeps_every_array_of_a_tile_small(cells: tuple[int, int, int], most: int, inside: int) -> None:
    shape = (1, 128, *cells)
    kept: dict[str, Any] = {"geometry": LTX2_VIDEO, "memory_bytes": 1 << 40}
    # two cells overlap, and a tile of frames that is not the first has one before its own
    short = [min(most_cells, n) for most_cells, n in zip((4, 3, 3), cells, strict=True)]
    least = prod(axis.law.length(n) for axis, n in zip(LTX2_VIDEO.axes, short, strict=True)) * max(3, inside)
    if least > most:
        with pytest.raises(PlanError, match="most_elements"):
            Tiling.fit(shape, most_elements=most, decoder_elements_per_cell=inside, **kept)
        return
    tiling = Tiling.fit(shape, most_elements=most, decoder_elements_per_cell=inside, **kept)
    assert plan(shape, tiling, geometry=LTX2_VIDEO).largest_output * max(3, inside) <= most
    assert Tiling.fit(shape, most_elements=1 << 60, **kept) == Tiling.fit(shape, **kept)


@pytest.mark.parametrize("way", ["whole", "stream"])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(side=st.integers(4, 10), together=st.integers(1, 2), most=st.integers(10_000, 500_000))
def test_fit_keeps_every_operation_of_a_tile_short(
    library: Library, way: str, side: int, together: int, most: int
) -> None:
    z = library.array(np.random.default_rng(side).standard_normal((1, 4, side, side + 2)), "float32")
    weight = library.array(np.random.default_rng(0).standard_normal((3, 3)), "float32")

    def decode(x: Any) -> Any:
        return (
            backend_of(x).namespace(x).moveaxis(_product(backend_of(x).namespace(x).moveaxis(enlarge(x), 1, -1)), -1, 1)
        )

    def _product(x: Any) -> Any:
        return x @ weight

    wanted = library.numpy(decode(z))
    kept: dict[str, Any] = {"geometry": SD_IMAGE, "tile_batch_size": together}
    try:
        tiling = Tiling.fit(z.shape, memory_bytes=1 << 40, most_work=most, decoder_work_per_cell=9, **kept)
    except PlanError as error:
        assert "even the smallest tiles have an operation (in multiply-adds) of" in str(error)  # noqa: PT017
        assert 9 * together * 8 * 8 * 9 > most  # three latents a side
        return
    with limited(Limits(work=most), library.name) as faults:
        if way == "whole":
            got = library.numpy(decode_tiled(decode, faults.array(z), tiling, **kept))
        else:
            got = np.concatenate(
                [library.numpy(x) for _, x in stream_tiled(decode, faults.array(z), tiling, **kept)], 2
            )
    assert not faults.played
    assert 0 < faults.work <= most
    assert np.allclose(got, wanted, atol=1e-4)


def test_rows_belong_to_versions() -> None:
    def unfolds(version: str) -> bool:
        return any(row.limits.unfolds for row in known_of(Place("mlx", "metal", version)))

    assert unfolds("0.30.4")
    assert not unfolds("0.31.0")
    assert not unfolds("0.32.4")
    assert [row.advice != "" for row in known_of(Place("torch", "cuda", "2.9.1+cu128"))] == [True]
    assert not known_of(Place("torch", "cuda", "2.10.0"))
    assert not known_of(Place("torch", "cuda", "2.8.0"))
    assert limits_of(torch.zeros(1)) == Limits()


def test_every_row_names_its_source_and_limits_or_advice() -> None:
    for row in KNOWN:
        assert "#" in row.source
        assert row.limits.any or row.advice
        assert row.date


def test_the_stricter_of_two_limits_counts() -> None:
    both = Limits(elements=5, unfolds=True, work=9) & Limits(elements=3, padded_frame=7, work=8)
    assert both == Limits(elements=3, padded_frame=7, work=8, unfolds=True)
    assert Limits().elements == Limits().work == inf
    assert Limits(work=9).any
    for place in (Place("mlx", "metal", "0.40"), Place("torch", "mps", "3.0")):
        assert min(row.limits.work for row in known_of(place)) == 2**42


def test_a_library_below_the_framework_mends_a_row() -> None:
    old = Place("torch", "cuda", "2.9.1", (("cudnn", "9.10"),))
    assert known_of(old)
    assert not known_of(old._replace(libraries=(("cudnn", "9.15"),)))


def test_what_only_another_version_cures_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilekit.backends.limits.place_of", lambda x: Place("torch", "cuda", "2.9.0"))
    with pytest.warns(UserWarning, match=r"torch 2\.9\.0 on cuda: convolutions .*; install torch 2\.10"):
        warn_of(torch.zeros(1))
    monkeypatch.setattr("tilekit.backends.limits.place_of", lambda x: Place("torch", "mps", "2.9.0"))
    warn_of(torch.zeros(1))


def queue() -> Any:
    nn = torch.nn
    torch.manual_seed(0)
    first, last = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
    weight = torch.ones(8)
    tasks: list[Any] = [
        norms.Apply("first", first, channels=8, reach=norms.Convolution(3, before=1, after=1)),
        norms.Norm("norm", 2, weight, weight, 1e-6),
        norms.Apply("last", last, channels=3, reach=norms.Convolution(3, before=1, after=1)),
    ]
    return norms.TaskQueue(tasks)


def queue_of(library: Library) -> Any:
    """The same for every library: a layer that sees its neighbours, a norm, and that layer again."""
    if library.name == "torch":
        return queue()
    kept: dict[str, Any] = {"channels": 4, "reach": norms.Convolution(3, before=1, after=1)}
    see = neighbours if library.name == "numpy" else by_convolution
    weight = library.array(np.ones(4, np.float32))
    tasks: list[Any] = [
        norms.Apply("first", see, **kept),
        norms.Norm("norm", 2, weight, weight, 1e-6),
        norms.Apply("last", see, **kept),
    ]
    return norms.TaskQueue(tasks)


def neighbours(x: Any) -> Any:
    """Add the cells above and to the left, with zeros beyond the border."""
    y = x.copy()
    y[:, :, 1:] += x[:, :, :-1]
    y[:, :, :, 1:] += x[:, :, :, :-1]
    return y


def by_convolution(x: Any) -> Any:
    mx = pytest.importorskip("mlx.core")
    weight = mx.array(np.random.default_rng(0).standard_normal((4, 3, 3, 4)).astype(np.float32))
    return mx.moveaxis(mx.conv2d(mx.moveaxis(x, 1, -1), weight, padding=1), -1, 1)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(tile=48, share=1.15, norm="fast")  # whose estimate has larger arrays than its strips
@given(tile=st.sampled_from([None, 16, 24, 32, 48]), share=st.floats(0.2, 1.2), norm=st.sampled_from(["exact", "fast"]))
@torch.no_grad()  # type: ignore[untyped-decorator]
def test_norms_in_tiles_are_right_or_refused(library: Library, tile: int | None, share: float, norm: Any) -> None:
    net = queue_of(library)
    x = library.array(np.random.default_rng(0).standard_normal((1, 4, 64, 48)), "float32")
    wanted = library.numpy(net.run(x, tile=tile, norm=norm))
    largest = net.plan(x.shape, tile=tile, norm=norm).largest_elements
    most = int(share * largest)
    with limited(Limits(elements=most, convolution=most), library.name) as faults:
        try:
            made = net.run(faults.array(x), tile=tile, norm=norm)
        except (PlanError, InputError) as error:
            assert share < 1
            assert f"{most} that {library.name}" in str(error) or f"{most} right" in str(error)  # noqa: PT017
        else:
            assert np.allclose(library.numpy(made), wanted, atol=1e-5)
            assert faults.elements <= most
    assert not faults.played


@pytest.mark.parametrize(("norm", "share"), [("exact", 0.4), ("fast", 0.7), ("tile", 0.5)])
@torch.no_grad()  # type: ignore[untyped-decorator]
def test_norms_in_tiles_take_no_long_calls(library: Library, norm: Any, share: float) -> None:
    net = queue_of(library)
    x = library.array(np.random.default_rng(0).standard_normal((1, 4, 64, 8)), "float32")
    most = int(share * net.plan(x.shape, tile=None).largest_work)
    size: int | None = 8  # memory alone is no reason to cut so few channels
    if norm != "exact" or library.name == "torch":
        size = net.fit(x.shape, memory_bytes=1 << 40, step=8, norm=norm, most_work=most)
        assert size is not None
    wanted = library.numpy(net.run(x, tile=size, norm=norm))
    with limited(Limits(work=most), library.name) as faults:
        assert np.allclose(library.numpy(net.run(faults.array(x), tile=size, norm=norm)), wanted, atol=1e-5)
        text = r"tile: .*\(Local\) with \d+ multiply-adds, .* finishes .*most_work=\.\.\.\) finds one"
        with pytest.raises(PlanError, match=text):
            net.run(faults.array(x), tile=None, norm=norm)
    assert not faults.played
    assert (faults.work > most // 4) == (library.name != "numpy")  # whose layer here adds, and multiplies nothing
    assert faults.work <= most
    with pytest.raises(
        PlanError, match="no tile has arrays of at most inf elements and calls of at most 10 multiply-adds"
    ):
        net.fit(x.shape, memory_bytes=1 << 40, step=32, norm=norm, most_work=10)


@torch.no_grad()  # type: ignore[untyped-decorator]
def test_an_estimate_takes_no_long_calls() -> None:
    x = torch.zeros(1, 4, 64, 8)
    text = r"statistics cannot be estimated: first \(Local\) with \d+ multiply-adds, .* smaller tile, or norm='exact'"
    net = queue()
    most = net.plan(x.shape, tile=16).largest_work
    assert net.plan(x.shape, tile=16, norm="fast").largest_work > most  # its copy is a little larger than a tile
    with limited(Limits(work=most)) as faults, pytest.raises(PlanError, match=text):
        net.run(x, tile=16, norm="fast")
    assert not faults.played


def test_a_tile_is_found_whose_arrays_are_small() -> None:
    net, shape = queue(), (1, 4, 64, 48)
    whole = net.plan(shape, tile=None).largest_elements
    size = net.fit(shape, memory_bytes=1 << 40, step=8, most_elements=whole // 2)
    assert size is not None
    assert net.plan(shape, tile=size).largest_elements <= whole // 2
    with pytest.raises(PlanError, match="no tile has arrays of at most 10 elements"):
        net.fit(shape, memory_bytes=1 << 40, most_elements=10)


def test_views_on_the_test_device_stay_within_their_memory() -> None:
    x = np.arange(400.0).reshape(20, 20)[:, ::2]
    with limited(Limits(elements=100), "numpy") as faults:
        again = np.lib.stride_tricks.as_strided(faults.array(x), x.shape, x.strides)
    assert np.array_equal(again, x)
    assert not faults.played


@pytest.mark.parametrize("name", ["numpy", "mlx"])
def test_threads_play_one_after_the_other_and_are_all_counted(name: str) -> None:
    library = Library(name)
    if library.missing:
        pytest.skip(library.missing)
    xp = backend_of(library.array(np.zeros(1))).namespace(library.array(np.zeros(1)))
    kept = [getattr(xp, function) for function in ("zeros", "concatenate")]
    rounds = 30
    inside: list[int] = []

    def made(x: Any) -> bool:
        y = xp.concatenate([x, x + 1, x])  # three times as large
        return bool(library.numpy(y.sum() if name == "numpy" else xp.sum(y)) > 0)

    def alone(size: int) -> tuple[list[bool], int]:
        with limited(Limits(elements=3 * 40), name) as faults:
            inside.append(size)
            sleep(0.02)  # so that the other thread comes meanwhile
            assert inside == [size]
            x = faults.array(library.array(np.ones(size, np.float32)))
            right = [made(x) for _ in range(rounds)]
            inside.remove(size)
        return right, faults.elements

    with ThreadPoolExecutor(2) as pool:  # 41 is too large, 40 is not
        (small, fewer), (large, more) = pool.map(alone, (40, 41))
    assert (all(small), any(large), fewer, more) == (True, False, 120, 123)
    with limited(Limits(elements=1000), name) as faults, ThreadPoolExecutor(2) as pool:
        arrays = [faults.array(library.array(np.ones(n, np.float32))) for n in range(1, rounds)]
        assert all(pool.map(made, arrays))
    assert faults.elements == 3 * (rounds - 1)
    assert kept == [getattr(xp, function) for function in ("zeros", "concatenate")]
