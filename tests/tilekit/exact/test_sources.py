"""`exact.stream` of a source: parts that follow one another until they end, equal to a call of the whole."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tilekit
from tilekit._errors import InputError, PlanError, TileShapeError

Layer = Callable[[Any, Any], Any]


def _weight(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).uniform(-0.5, 0.5, shape).astype(np.float32)


def _conv(kernel: int, stride: int, padding: int) -> Layer:
    return lambda b, x: b.conv(x, _weight(3, 3, kernel), stride=stride, padding=padding)


def _padded(before: int, after: int, mode: str) -> Layer:
    return lambda b, x: b.pad(x, ((0, 0), (0, 0), (before, after)), mode)


def _longer(factor: int) -> Layer:
    return lambda b, x: b.upsample(x, factor, axes=(2,))


def _skip(kernel: int) -> Layer:
    def add(b: Any, x: Any) -> Any:
        padded = b.pad(x, ((0, 0), (0, 0), (kernel - 1, 0)), "replicate")
        return b.pointwise(np.add, x, b.pointwise(np.tanh, b.conv(padded, _weight(3, 3, kernel))))

    return add


LAYERS = st.one_of(
    st.builds(_conv, st.integers(1, 4), st.integers(1, 2), st.integers(0, 2)),
    st.builds(_padded, st.integers(0, 3), st.integers(0, 3), st.sampled_from(["constant", "replicate", "reflect"])),
    st.builds(_longer, st.integers(2, 3)),
    st.builds(_skip, st.integers(1, 3)),
)


def _network(layers: Sequence[Layer]) -> tilekit.GraphFunction:
    def build(b: Any, x: Any) -> Any:
        for layer in layers:
            x = layer(b, x)
        return b.pointwise(np.tanh, x)

    return tilekit.GraphFunction(build)


def _cut(x: Any, sizes: Sequence[int], asked: list[int] | None = None) -> Iterator[Any]:
    """Cut an array in parts along axis 2, and note how many rows were asked for."""
    at = number = 0
    while at < x.shape[2]:
        n = sizes[number % len(sizes)]
        if asked is not None:
            asked.append(min(at + n, x.shape[2]))
        yield x[:, :, at : at + n]
        at, number = at + n, number + 1


def _whole(blocks: Iterator[tuple[int, Any]], axis: int = 2) -> Any:
    """Put blocks together, which begin where those before them end."""
    held: list[Any] = []
    for start, block in blocks:
        assert start == sum(np.shape(before)[axis] for before in held)
        held.append(np.asarray(block))
    return np.concatenate(held, axis)


def _array(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(LAYERS, min_size=1, max_size=4),
    st.integers(40, 90),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.sampled_from([None, 1, 3, 8]),
)
def test_a_source_gives_what_the_whole_gives(layers: list[Layer], n: int, sizes: list[int], rows: int | None) -> None:
    """For random networks, lengths, and cuts of the source; lengths that differ by whole units of all rates."""
    network, x = _network(layers), _array(1, 3, n)
    try:
        want = network(x)
    except TileShapeError:  # nothing is left of so few rows
        assume(False)
    made = _whole(tilekit.exact(network).stream(_cut(x, sizes), axis=2, rows=rows))
    np.testing.assert_allclose(made, want, atol=1e-5)


def test_one_plan_serves_all_lengths_also_the_shortest() -> None:
    network = _network([_conv(3, 1, 1), _longer(2), _skip(3)])
    exact = tilekit.exact(network)
    for n in (1, 2, 5, 16, 17, 40, 200):
        x = _array(1, 3, n)
        np.testing.assert_allclose(_whole(exact.stream(x, axis=2, rows=4)), network(x), atol=1e-5)
    assert len(exact._sources.held) == 1


@pytest.mark.parametrize("layers", [[_longer(2), _skip(3)], [_conv(3, 2, 1), _conv(3, 1, 0)]])
def test_what_is_too_long_to_be_followed_ends_as_shorter_inputs_do(
    layers: list[Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilekit._exact.sources.plan.LARGE", 0)
    network = _network(layers)
    exact = tilekit.exact(network)
    for n in (100, 101, 203):
        x = _array(1, 3, n)
        np.testing.assert_allclose(_whole(exact.stream(_cut(x, [5]), axis=2, rows=4)), network(x), atol=1e-5)
    (plan,) = exact._sources.held.values()
    assert max(plan.others) < 100


def test_parts_are_asked_for_when_a_step_needs_them() -> None:
    """Two convolutions that each look one row ahead: the first step reads 4 rows, and gives 2 that these complete."""
    exact = tilekit.exact(_network([_conv(3, 1, 1), _conv(3, 1, 1)]))
    asked: list[int] = []
    seen = [(start, asked[-1]) for start, _ in exact.stream(_cut(_array(1, 3, 40), [1], asked), axis=2, rows=4)]
    assert seen[:4] == [(0, 4), (2, 8), (6, 12), (10, 16)]


def test_nothing_of_a_part_is_kept_longer_than_it_is_read() -> None:
    import weakref

    exact, alive = tilekit.exact(_network([_conv(3, 1, 1)])), []

    def parts() -> Iterator[Any]:
        for _ in range(30):
            part = np.ones((1, 3, 2), np.float32)
            alive.append(weakref.ref(part))
            yield part
            del part

    for _ in exact.stream(parts(), axis=2, rows=2):
        assert sum(ref() is not None for ref in alive) <= 3


def test_what_is_made_again_at_the_end_needs_no_rows_that_are_gone() -> None:
    """Pads before each convolution are made again in each step, from rows that the end has less of."""
    network = _network([_padded(0, 3, "constant"), _skip(1), _padded(0, 3, "constant"), _conv(2, 1, 0)])
    exact = tilekit.exact(network)
    for n in (39, 40, 41):
        x = _array(1, 3, n)
        np.testing.assert_allclose(_whole(exact.stream(_cut(x, [1]), axis=2, rows=3)), network(x), atol=1e-5)


@pytest.mark.parametrize("n", [40, 41, 43])
def test_an_end_that_reads_rows_again_finds_them(n: int) -> None:
    """A mirror image after the last row, of rows that the steps before have read."""
    network, x = _network([_padded(0, 3, "reflect"), _conv(2, 1, 0)]), _array(1, 3, n)
    for rows in (1, 4):
        made = _whole(tilekit.exact(network).stream(_cut(x, [1]), axis=2, rows=rows))
        np.testing.assert_allclose(made, network(x), atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 4, 30])
def test_a_reader_may_fill_one_buffer_again_and_again(rows: int) -> None:
    network = _network([lambda b, x: b.pointwise(np.negative, x), _conv(3, 1, 1), _skip(2)])
    x, buffer = _array(1, 3, 60), np.empty((1, 3, 3), np.float32)

    def parts() -> Iterator[Any]:
        for k in range(0, 60, 3):
            buffer[:] = x[:, :, k : k + 3]
            yield buffer
        buffer[:] = 0

    made = _whole(tilekit.exact(network).stream(parts(), axis=2, rows=rows))
    np.testing.assert_allclose(made, network(x), atol=1e-5)


def test_a_length_that_the_function_does_not_take_is_refused_at_the_end() -> None:
    exact = tilekit.exact(_network([_conv(3, 1, 1)]))
    blocks = exact.stream(_cut(_array(1, 3, 20), [4]), axis=2, lengths=range(1, 1000, 3), rows=4)
    assert next(blocks)[0] == 0
    with pytest.raises(InputError, match=r"after 20 rows.*19 or 22"):
        list(blocks)


@pytest.mark.parametrize(
    "layer",
    [
        lambda b, x: b.group_norm(x, 1),
        lambda b, x: b.pad(x, ((0, 0), (0, 0), (2, 0)), "circular"),
        lambda b, x: b.pointwise(np.add, x, b.constant(_array(1, 3, x.shape[2]))),
        lambda b, x: b.pointwise(np.add, x, b.constant(np.full((1, 3, 1), x.shape[2], np.float32))),
        lambda b, x: b.whole(lambda a: a - a.mean(), x, shape=x.shape),
    ],
)
@pytest.mark.parametrize("large", [0, 1 << 13])
def test_what_is_not_alike_all_along_the_axis_is_refused(
    layer: Layer, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilekit._exact.sources.plan.LARGE", large)
    exact = tilekit.exact(_network([_conv(3, 1, 1), layer]))
    with pytest.raises(PlanError, match="give the whole input"):
        list(exact.stream(_cut(_array(1, 3, 60), [7]), axis=2))


def test_a_function_that_goes_by_the_length_is_refused_when_that_is_known() -> None:
    """What came out was not proven for that length."""
    odd = tilekit.exact(_network([lambda b, x: b.conv(x, _weight(3, 3, 3), padding=1) if x.shape[2] % 2 else x]))
    assert len(list(odd.stream(_array(1, 3, 61), axis=2, rows=8))) > 1
    with pytest.raises(PlanError, match=r"after 60 rows.* cannot be shown to do the same"):
        list(odd.stream(_array(1, 3, 60), axis=2, rows=8))


_NAN = np.full((1, 3, 2), np.nan, np.float32)


@pytest.mark.parametrize(
    ("x", "options", "error", "text"),
    [
        ([], {"axis": 2}, InputError, "before its first row"),
        ([np.ones((1, 3, 0), np.float32)], {"axis": 2}, InputError, "before its first row"),
        ([_array(1, 3, 2), _array(1, 2, 2)], {"axis": 2}, InputError, r"part 1 is \(1, 2, n\)"),
        ([_array(1, 3, 2), _array(1, 3, 2).astype(np.float64)], {"axis": 2}, InputError, "part 1 .* of float64"),
        ([_array(1, 3, 2), "end"], {"axis": 2}, InputError, "part 1 is of type str"),
        ([_array(1, 3, 2), _NAN], {"axis": 2}, InputError, "part 1: NaN or infinity .* before is right"),
        ([_NAN, _array(1, 3, 2)], {"axis": 2}, InputError, "part 0: NaN or infinity .* nothing was computed"),
        ([_array(1, 3, 2)], {}, PlanError, "axis: got None"),
        ([_array(1, 3, 2)], {"axis": 3}, PlanError, "axis: got 3, but part 0"),
        ([_array(1, 3, 2)], {"axis": -1}, PlanError, "axis: got -1"),
        ([_array(1, 3, 2)], {"axis": 2, "rows": 0}, PlanError, "rows: got 0"),
        ([_array(1, 3, 2)], {"axis": 2, "lengths": range(9, 1, -1)}, PlanError, "a rising range"),
        ([_array(1, 3, 2)], {"axis": 2, "lengths": 8}, PlanError, "lengths: got 8"),
        (_array(1, 3, 2), {"rows": 8}, PlanError, "give axis as well"),
        (3, {"axis": 2}, PlanError, "got int"),
    ],
)
def test_bad_sources_are_refused(x: Any, options: dict[str, Any], error: type[Exception], text: str) -> None:
    exact = tilekit.exact(_network([_conv(3, 1, 1)]))
    with pytest.raises(error, match=text):
        list(exact.stream(x, **options))


def test_nan_that_comes_up_on_the_way_is_named_by_its_rows() -> None:
    exact = tilekit.exact(tilekit.GraphFunction(lambda b, x: b.pointwise(np.sqrt, x)))
    x = np.ones((1, 3, 40), np.float32)
    x[:, :, 20] = -1
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match="from row 16 of the output on"):
        list(exact.stream(_cut(x, [4]), axis=2, rows=8))


def test_a_budget_is_held_by_smaller_steps_or_refused_with_the_least() -> None:
    network = _network([_conv(3, 1, 1), _longer(2), _conv(3, 1, 1)])
    x = _array(1, 3, 300)
    with pytest.raises(PlanError, match="takes") as refused:
        list(tilekit.exact(network, 50).stream(x, axis=2))
    least = int(str(refused.value).partition("takes ")[2].partition(" ")[0])
    np.testing.assert_allclose(_whole(tilekit.exact(network, least).stream(x, axis=2)), network(x), atol=1e-5)
    for budget in (2 * least, 8 * least):
        exact = tilekit.exact(network, budget)
        np.testing.assert_allclose(_whole(exact.stream(x, axis=2)), network(x), atol=1e-5)
    with pytest.raises(PlanError, match="smaller rows="):
        list(tilekit.exact(network, least).stream(x, axis=2, rows=64))


def test_threads_share_a_plan_and_a_copy_makes_its_own() -> None:
    network = _network([_conv(3, 1, 1), _skip(2)])
    exact = tilekit.exact(network)
    arrays = [_array(1, 3, n) for n in (30, 31, 44, 57)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda x: _whole(exact.stream(_cut(x, [5]), axis=2, rows=4)), arrays))
    for x, block in zip(arrays, made, strict=True):
        np.testing.assert_allclose(block, network(x), atol=1e-5)
    assert not deepcopy(exact)._sources.held


def test_progress_says_the_steps_that_are_made() -> None:
    seen: list[tuple[int, int]] = []
    exact = tilekit.exact(_network([_conv(3, 1, 1)]), progress=lambda done, total: seen.append((done, total)))
    list(exact.stream(_array(1, 3, 20), axis=2, rows=4))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {0}
