"""Statistics that merge, normalisation by given statistics, and which cells a layer needs."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tilekit import BackendError, PlanError
from tilekit.norms import Convolution, GroupStats, Transposed, group_norm
from tilekit.testing import Library

FLOAT32 = 1e-5
LEVELS = [(0.0, 1.0), (100.0, 0.01), (-3.0, 20.0)]


def picture(shape: tuple[int, ...], mean: float, deviation: float, seed: int) -> np.ndarray:
    """Noise on a slope, so that the parts of the array differ in mean."""
    slope = np.linspace(-1, 1, shape[-1])
    return (mean + deviation * (np.random.default_rng(seed).standard_normal(shape) + 2 * slope)).astype(np.float32)


def grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """float64, shape (B, groups, values): what the statistics are of."""
    return x.astype(np.float64).reshape(x.shape[0], groups, -1)


def published(parts: list[GroupStats]) -> np.ndarray:
    """The variance as "Tiled VAE" was published: the mean of the variances of the tiles, weighted by their size."""
    total = sum(part.count for part in parts)
    return np.asarray(sum(part.variance * part.count for part in parts) / total)


Cuts = list[tuple[int, int]]


@st.composite
def partitions(draw: st.DrawFn, length: int) -> Cuts:
    cuts = sorted(draw(st.sets(st.integers(1, length - 1), max_size=5)))
    return list(zip([0, *cuts], [*cuts, length], strict=True))


@pytest.mark.parametrize(("mean", "deviation"), LEVELS)
@settings(max_examples=8)
@given(cuts=st.tuples(partitions(23), partitions(40)), groups=st.sampled_from([1, 2, 6]), seed=st.integers(0, 99))
def test_merging_any_partition_equals_the_whole(
    xp: Library, mean: float, deviation: float, cuts: tuple[Cuts, Cuts], groups: int, seed: int
) -> None:
    rows, columns = cuts
    host = picture((2, 6, 23, 40), mean, deviation, seed)
    x = xp.array(host)
    parts = [GroupStats.of(x[:, :, a:b, c:d], groups) for a, b in rows for c, d in columns]
    merged, values = GroupStats.merged(parts), grouped(host, groups)
    assert merged.count == values.shape[-1]
    np.testing.assert_allclose(merged.mean, values.mean(-1), rtol=FLOAT32, atol=FLOAT32 * deviation)
    np.testing.assert_allclose(merged.variance, values.var(-1), rtol=FLOAT32)
    np.testing.assert_allclose(GroupStats.merged(parts[::-1]).m2, merged.m2, rtol=1e-9)


@pytest.mark.parametrize(("mean", "deviation"), LEVELS)
def test_the_published_mean_of_variances_fails_the_same_test(mean: float, deviation: float) -> None:
    host = picture((2, 6, 23, 40), mean, deviation, 0)
    parts = [GroupStats.of(host[..., a : a + 10], 2) for a in range(0, 40, 10)]
    error = np.abs(published(parts) / grouped(host, 2).var(-1) - 1).max()
    assert error > 0.3  # the spread between the tiles is left out


def test_long_sums_keep_their_digits(xp: Library) -> None:
    """A million values to a group, at mean 100 and deviation 0.01: one running float32 sum would be off by percents."""
    host = picture((1, 4, 512, 1024), 100.0, 0.01, 1)
    stats, values = GroupStats.of(xp.array(host), 2), grouped(host, 2)
    np.testing.assert_allclose(stats.variance, values.var(-1), rtol=FLOAT32)


@pytest.mark.parametrize("channels_last", [False, True])
def test_group_norm_of_a_part_takes_the_statistics_of_the_whole(xp: Library, channels_last: bool) -> None:
    host, rng = picture((2, 6, 9, 16), 100.0, 0.01, 2), np.random.default_rng(3)
    weight, bias = (rng.standard_normal(6).astype(np.float32) for _ in range(2))
    values = grouped(host, 3)
    want = (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-6)
    want = want.reshape(host.shape) * weight[:, None, None] + bias[:, None, None]
    axis = -1 if channels_last else 1
    x = xp.array(np.ascontiguousarray(np.moveaxis(host, 1, axis)))
    part = x[:, 3:7, ...] if channels_last else x[:, :, 3:7, :]
    stats = GroupStats.of(x, 3, channel_axis=axis)
    got = xp.numpy(group_norm(part, stats, xp.array(weight), xp.array(bias), 1e-6, channel_axis=axis))
    # Neither the mean nor the shift may cost digits: the error stays at that of float32 at outputs of scale 1.
    np.testing.assert_allclose(np.moveaxis(got, axis, 1), want[:, :, 3:7], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_reduced_in_float32_and_keeps_its_dtype(xp: Library, dtype: str) -> None:
    if dtype == "bfloat16" and xp.name not in {"torch", "mlx", "jax"}:
        pytest.skip(f"{xp.name} has no bfloat16")
    if dtype == "float16" and xp.name == "array_api_strict":
        pytest.skip("the standard has no float16")
    x = xp.array(picture((1, 4, 64, 64), 300.0, 8.0, 4), dtype)  # squares beyond the range of float16
    held = xp.numpy(x).astype(np.float32)
    stats, values = GroupStats.of(x, 2), grouped(held, 2)
    np.testing.assert_allclose(stats.variance, values.var(-1), rtol=FLOAT32)
    got = group_norm(x, stats, None, None, 1e-6)
    assert got.dtype == x.dtype
    want = (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True))
    np.testing.assert_allclose(xp.numpy(got).reshape(want.shape), want, atol=0.02)  # one rounding, at the end


def test_float64_stays_float64(xp: Library) -> None:
    if xp.name in {"mlx", "jax"}:
        pytest.skip(f"{xp.name} computes float64 nowhere, or only when told to")
    host = picture((1, 4, 32, 32), 100.0, 0.01, 5).astype(np.float64) + 1e-9
    stats, values = GroupStats.of(xp.array(host), 2), grouped(host, 2)
    np.testing.assert_allclose(stats.variance, values.var(-1), rtol=1e-11)
    want = (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-6)
    got = xp.numpy(group_norm(xp.array(host), stats, None, None, 1e-6))
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=1e-10)


def test_statistics_say_when_they_met_nan_or_infinity() -> None:
    for bad in (np.nan, np.inf, -np.inf, 1e30):
        x = np.ones((1, 2, 3, 3), np.float32)
        x[0, 1, 1, 1] = bad
        with np.errstate(all="ignore"):
            assert not GroupStats.of(x, 1).is_finite
    assert GroupStats.of(np.ones((1, 2, 3, 3), np.float32), 1).is_finite


def test_what_does_not_fit_is_refused_with_its_numbers(xp: Library) -> None:
    x = xp.array(np.ones((2, 6, 4, 4), np.float32))
    stats = GroupStats.of(x, 3)
    with pytest.raises(PlanError, match=r"got 4 for 6 channels"):
        GroupStats.of(x, 4)
    with pytest.raises(PlanError, match=r"got 0 for 6 channels"):
        GroupStats.of(x, 0)
    with pytest.raises(PlanError, match=r"empty array, got shape \(2, 6, 0, 4\)"):
        GroupStats.of(x[:, :, :0, :], 3)
    with pytest.raises(PlanError, match=r"\(2, 3\) and \(2, 2\)"):
        stats.merge(GroupStats.of(x, 2))
    with pytest.raises(PlanError, match=r"3 for 4 channels"):
        group_norm(x[:, :4, ...], stats, None, None, 1e-6)
    with pytest.raises(PlanError, match=r"2 samples do not fit an array of 1"):
        group_norm(x[:1, ...], stats, None, None, 1e-6)
    with pytest.raises(PlanError, match=r"weight: got shape \(5,\), expected \(6,\)"):
        group_norm(x, stats, xp.array(np.ones(5, np.float32)), None, 1e-6)


def test_weights_of_another_library_are_refused() -> None:
    strict = pytest.importorskip("array_api_strict")
    x = np.ones((1, 2, 3, 3), np.float32)
    with pytest.raises(BackendError, match=r"bias: an array of array-api, but the tile is of numpy"):
        group_norm(x, GroupStats.of(x, 1), None, strict.ones(2), 1e-6)


def test_weights_on_another_device_are_refused() -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones(1, 2, 3, 3)
    with pytest.raises(BackendError, match=r"weight: on device meta, but the tile is on cpu; move one of them"):
        group_norm(x, GroupStats.of(x, 1), torch.ones(2, device="meta"), None, 1e-6)


def convolve(x: np.ndarray, law: Convolution) -> np.ndarray:
    """Run the layer that the law speaks of, with uneven weights."""
    padded = np.pad(np.repeat(x, law.upsample), (law.before, law.after))
    windows = np.lib.stride_tricks.sliding_window_view(padded, law.kernel)[:: law.stride]
    return np.asarray(windows @ np.arange(1, law.kernel + 1))


def spread(x: np.ndarray, law: Transposed) -> np.ndarray:
    full = np.zeros((len(x) - 1) * law.stride + law.kernel + law.output_padding)
    for i, value in enumerate(x):
        full[i * law.stride : i * law.stride + law.kernel] += value * np.arange(1, law.kernel + 1)
    return full[law.padding : len(full) - law.padding]


@settings(max_examples=300)
@given(
    law=st.builds(
        Convolution, st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.integers(1, 3)
    ),
    cells=st.integers(1, 40),
    ends=st.tuples(st.integers(0, 40), st.integers(1, 40)),
)
def test_a_tile_with_the_cells_it_needs_gives_what_the_whole_gives(
    law: Convolution, cells: int, ends: tuple[int, int]
) -> None:
    check(law, convolve, cells, ends)


LAWS = st.builds(Transposed, st.integers(1, 9), st.integers(1, 5), st.integers(0, 3), st.integers(0, 1))


@settings(max_examples=300)
@given(law=LAWS, cells=st.integers(1, 40), ends=st.tuples(st.integers(0, 200), st.integers(1, 40)))
def test_the_same_of_transposed_convolutions(law: Transposed, cells: int, ends: tuple[int, int]) -> None:
    assume(law.kernel > 2 * law.padding and law.output_padding < law.stride)
    check(law, spread, cells, ends)


def check(law: Convolution | Transposed, run: object, cells: int, ends: tuple[int, int]) -> None:
    length = law.length(cells)
    assume(length > 0)
    start = ends[0] % length
    stop = min(length, start + ends[1])
    x = np.random.default_rng(cells).standard_normal(cells)
    low, high = law.need((start, stop), cells)
    assume(low < high)  # a window that lies in the padding alone needs no cell
    assert callable(run)
    whole, tile = run(x, law), run(x[low:high], law)
    assert whole.shape == (length,)
    offset = start - law.first(low)
    np.testing.assert_allclose(tile[offset : offset + stop - start], whole[start:stop], atol=1e-12)
