"""The forecast of several devices is what an executor over devices takes, in a time that is counted."""

from concurrent.futures import Future
from heapq import heapreplace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tilekit as tk
from tilekit import LTX2_VIDEO, SD_IMAGE, PlanError, Tiling

TILINGS = st.builds(
    Tiling,
    height=st.sampled_from([(64, 0), (64, 32), (96, 32), (128, 64)]),
    width=st.sampled_from([(64, 32), (128, 32), (160, 64)]),
    frames=st.sampled_from([(16, 8), (24, 8), (32, 16)]),
)


class Clocked:
    """An executor whose devices take a cell of pixels a tick; waiting for a result lets the time pass."""

    def __init__(self, devices: int) -> None:
        self._max_workers = devices
        self.free, self.now = [0] * devices, 0

    def submit(self, function: Any, /, *given: Any) -> Any:
        frames, height, width = given[1].shape[2:]
        done = max(self.free[0], self.now) + (1 + 8 * (frames - 1)) * 32 * height * 32 * width
        heapreplace(self.free, done)
        future, clock = Future[Any](), self
        future.set_result(function(*given))

        class Waiting:
            def result(self) -> Any:
                clock.now = max(clock.now, done)
                return future.result()

            def cancel(self) -> bool:
                return False

        return Waiting()


def decode(z: Any) -> Any:
    frames, height, width = z.shape[2:]
    return np.zeros((1, 1, 1 + 8 * (frames - 1), 32 * height, 32 * width), np.float32)


@given(tiling=TILINGS, devices=st.integers(1, 6), frames=st.integers(1, 6), height=st.integers(2, 6))
def test_the_forecast_is_what_devices_take(tiling: Tiling, devices: int, frames: int, height: int) -> None:
    z = np.zeros((1, 1, frames, height, 5), np.float32)
    planned, pool = tk.plan(z.shape, tiling, geometry=LTX2_VIDEO), Clocked(devices)
    tk.decode_tiled(decode, z, tiling, executor=pool)
    assert planned.makespan(devices) == pytest.approx(pool.now / prod(planned.out_sizes))


@given(tiling=TILINGS, devices=st.integers(1, 9))
def test_devices_share_the_work_of_the_tiles(tiling: Tiling, devices: int) -> None:
    planned = tk.plan((1, 1, 5, 6, 7), tiling, geometry=LTX2_VIDEO)
    assert planned.makespan(1) == pytest.approx(planned.redundant_work)
    assert planned.redundant_work / devices <= planned.makespan(devices) * (1 + 1e-9)


@pytest.mark.parametrize("devices", [0, -1, 1.5, True, "2"])
def test_no_devices_are_refused(devices: Any) -> None:
    with pytest.raises(PlanError, match="devices must be an integer of at least 1"):
        tk.plan((1, 4, 8, 8), Tiling(width=(32, 8)), geometry=SD_IMAGE).makespan(devices)
