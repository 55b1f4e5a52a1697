"""Tiles that an executor computes: equal bit for bit, few at a time, and clear when something fails."""

import pickle
import random
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers
from tests.tilekit.test_run import SMALL, numbers, tilings

import tilekit as tk
from tilekit.backends import backend_of
from tilekit.testing import Library, enlarge


class Shuffled:
    """An executor that computes what was submitted in random order, and only when a result is asked for."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.open: list[tuple[Future[Any], Any, tuple[Any, ...]]] = []
        self.calls = self.most = 0

    def submit(self, fn: Any, /, *args: Any) -> Any:
        outer, future = self, Future[Any]()

        class Lazy:
            def result(self) -> Any:
                while not future.done():
                    chosen = outer.random.randrange(len(outer.open))
                    target, function, inputs = outer.open.pop(chosen)
                    outer.calls += 1
                    try:
                        target.set_result(function(*inputs))
                    except ValueError as error:
                        target.set_exception(error)
                return future.result()

            def cancel(self) -> bool:
                outer.open = [row for row in outer.open if row[0] is not future]
                return True

        self.open.append((future, fn, args))
        self.most = max(self.most, len(self.open))
        return Lazy()


def decoder(z: Any) -> Any:
    """A decoder whose tiles disagree, so that the order of blending shows."""
    return enlarge(z[:, :2, ...], SMALL) * float(z.shape[3])


@given(tiling=tilings(), seed=integers(0, 99), in_flight=integers(1, 5), size=integers(1, 3))
def test_every_order_of_finishing_gives_the_same_bits(
    xp: Library, tiling: tk.Tiling, seed: int, in_flight: int, size: int
) -> None:
    z, decode = xp.array(numbers(1, 3, 5, 6, 7)), xp.wrap(decoder)
    options: dict[str, Any] = {"geometry": SMALL, "tile_batch_size": size}
    want = xp.numpy(tk.decode_tiled(decode, z, tiling, **options))
    executor = Shuffled(seed)
    got = tk.decode_tiled(decode, z, tiling, **options, executor=executor, in_flight=in_flight)
    assert np.array_equal(xp.numpy(got), want)
    assert executor.most <= in_flight
    stream = tk.stream_tiled(decode, z, tiling, **options, executor=Shuffled(seed), in_flight=in_flight)
    joined = np.concatenate([xp.numpy(block) for _, block in stream], axis=2)
    alone = np.concatenate([xp.numpy(block) for _, block in tk.stream_tiled(decode, z, tiling, **options)], axis=2)
    assert np.array_equal(joined, alone)


def test_threads_and_processes_compute_tiles() -> None:
    z, tiling = numbers(1, 3, 5, 6, 7), tk.Tiling(height=(6, 2), width=(6, 2))
    want = tk.decode_tiled(decoder, z, tiling, geometry=SMALL)
    for pool in (ThreadPoolExecutor(2), ProcessPoolExecutor(2, mp_context=get_context("spawn"))):
        with pool:
            assert np.array_equal(tk.decode_tiled(decoder, z, tiling, geometry=SMALL, executor=pool), want)


def test_an_error_names_its_tile_and_the_rest_is_not_computed() -> None:
    calls = 0

    def fails(z: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            msg = "out of memory"
            raise ValueError(msg)
        return decoder(z)

    z, tiling = numbers(1, 3, 5, 6, 7), tk.Tiling(height=(4, 2), width=(4, 2))
    with pytest.raises(ValueError, match="out of memory") as caught:
        tk.decode_tiled(fails, z, tiling, geometry=SMALL)
    assert caught.value.__notes__ == ["in tile (0, 0, 2) of the plan"]
    calls, executor = 0, Shuffled(0)
    with pytest.raises(ValueError, match="out of memory"):
        tk.decode_tiled(fails, z, tiling, geometry=SMALL, executor=executor, in_flight=4)
    assert executor.open == []
    stream = tk.stream_tiled(decoder, z, tiling, geometry=SMALL, executor=executor, in_flight=4)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert executor.open == []


def test_what_goes_to_another_process_is_no_part_of_a_larger_array(xp: Library) -> None:
    x = xp.array(numbers(64, 64))
    part = x[:4, :4]
    backend = backend_of(x)
    detached = backend.detached(part)
    assert np.array_equal(xp.numpy(detached), xp.numpy(part))
    if xp.name in {"numpy", "torch"}:
        assert len(pickle.dumps(detached)) < 1000


def test_more_in_flight_is_foretold_and_wrong_numbers_are_refused() -> None:
    plan = tk.plan((1, 3, 5, 6, 7), tk.Tiling(height=(4, 2), width=(4, 2)), geometry=SMALL)
    peaks = [plan.peak_bytes(in_flight=n) for n in (1, 2, 4)]
    assert peaks == sorted(peaks)
    assert peaks[2] > peaks[0]
    z = numbers(1, 3, 5, 6, 7)
    with pytest.raises(tk.BackendError, match=r"in_flight: got 2 without an executor"):
        tk.decode_tiled(decoder, z, geometry=SMALL, in_flight=2)
    wrong: Any = 3
    with pytest.raises(tk.BackendError, match=r"executor: got a int, expected an object with submit"):
        tk.decode_tiled(decoder, z, geometry=SMALL, executor=wrong)
    for count in (0, True, 1.5):
        bad: Any = count
        with pytest.raises(tk.BackendError, match=r"in_flight: got .*, expected an integer of at least 1"):
            tk.decode_tiled(decoder, z, geometry=SMALL, executor=Shuffled(0), in_flight=bad)
