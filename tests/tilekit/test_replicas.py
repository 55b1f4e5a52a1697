"""Copies of a function that take turns, and functions that every process loads once."""

import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tilekit.test_run import SMALL, numbers

import tilekit as tk
from tilekit.testing import Library, enlarge

TILING = tk.Tiling(height=(4, 2), width=(4, 2))


def decoder(z: Any) -> Any:
    return enlarge(z[:, :2, ...], SMALL) * float(z.shape[3])


class OnDevice:
    """An array that knows where it is, as those of torch do."""

    def __init__(self, values: Any, device: str) -> None:
        self.values, self.device = values, device

    def to(self, device: str) -> "OnDevice":
        return OnDevice(self.values, device)


def test_every_copy_works_and_none_works_twice_at_once(xp: Library) -> None:
    z = xp.array(numbers(1, 3, 5, 6, 7))
    want = xp.numpy(tk.decode_tiled(xp.wrap(decoder), z, TILING, geometry=SMALL))
    both = threading.Barrier(2)
    seen: list[set[int]] = [set(), set()]

    def copy(number: int) -> Any:
        busy = threading.Lock()

        def compute(tile: Any) -> Any:
            assert busy.acquire(blocking=False), "two tiles at once"
            if not seen[number]:
                both.wait(30)  # which only passes where both copies are at work at once
            seen[number].add(threading.get_ident())
            result = xp.wrap(decoder)(tile)
            busy.release()
            return result

        return compute

    replicas = tk.Replicas([copy(0), copy(1)])
    assert len(replicas) == 2
    with ThreadPoolExecutor(2) as pool:
        got = tk.decode_tiled(replicas, z, TILING, geometry=SMALL, executor=pool)
    assert np.array_equal(xp.numpy(got), want)
    assert all(seen)


def test_tiles_go_to_the_device_of_the_copy_and_results_come_back() -> None:
    been: list[str] = []

    def on(device: str) -> Any:
        def compute(x: OnDevice) -> OnDevice:
            been.append(x.device)
            assert x.device == device
            return OnDevice(x.values + 1, device)

        return compute

    replicas = tk.Replicas([on("fake:0"), on("fake:1")], devices=["fake:0", "fake:1"])
    results = [replicas(OnDevice(number, "cpu")) for number in range(4)]
    assert [(r.values, r.device) for r in results] == [(n + 1, "cpu") for n in range(4)]
    assert been == ["fake:0", "fake:1"] * 2


def test_the_device_of_a_module_is_that_of_its_weights() -> None:
    torch = pytest.importorskip("torch")
    modules = [torch.nn.Conv2d(3, 3, 1).requires_grad_(False) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    x = torch.randn(1, 3, 8, 8)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(tk.Replicas(modules), [x] * 6))
    assert all(torch.equal(part, modules[0](x)) for part in parts)
    meta = torch.nn.Conv2d(3, 3, 1, device="meta")
    with pytest.raises(NotImplementedError, match="meta"):  # it went there, and nothing can come back
        tk.Replicas([meta])(x)


def test_a_copy_that_fails_is_free_again() -> None:
    def fails(x: Any) -> Any:
        msg = "out of memory"
        raise ValueError(msg)

    replicas = tk.Replicas([fails])
    for _ in range(3):
        with pytest.raises(ValueError, match="out of memory"):
            replicas(np.zeros(1))


def test_wrong_copies_are_refused() -> None:
    with pytest.raises(tk.BackendError, match="functions: got none, expected at least one callable"):
        tk.Replicas([])
    with pytest.raises(tk.BackendError, match="functions: got int, expected"):
        tk.Replicas([decoder, 3])
    with pytest.raises(tk.BackendError, match="devices: got 1 for 2 functions; give one for each"):
        tk.Replicas([decoder, decoder], devices=["cpu"])
    with pytest.raises(tk.BackendError, match="loader: got a str, expected a function that loads"):
        tk.Loaded("path")


def load(log: str, factor: float) -> Any:
    """Load a network: note that, and who did."""
    with Path(log).open("a") as file:
        file.write(f"{os.getpid()}\n")

    def network(z: Any) -> Any:  # local: it cannot be pickled
        return decoder(z) * factor

    return network


def fail(path: str) -> Any:
    msg = f"no file {path}"
    raise FileNotFoundError(msg)


def test_every_process_loads_once(tmp_path: Path) -> None:
    z, log = numbers(1, 3, 5, 6, 7), tmp_path / "log"
    loaded = tk.Loaded(load, str(log), factor=2.0)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(load(str(log), 2.0))
    want = tk.decode_tiled(lambda tile: decoder(tile) * 2.0, z, TILING, geometry=SMALL)
    log.unlink()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for _ in range(2):
            assert np.array_equal(tk.decode_tiled(loaded, z, TILING, geometry=SMALL, executor=pool), want)
    loads = log.read_text().split()
    assert len(loads) == len(set(loads)) <= 2
    with ThreadPoolExecutor(4) as threads:
        assert np.array_equal(tk.decode_tiled(loaded, z, TILING, geometry=SMALL, executor=threads), want)
    assert log.read_text().split().count(str(os.getpid())) == 1


def test_a_load_that_fails_says_so(tmp_path: Path) -> None:
    loaded = tk.Loaded(fail, "network.safetensors")
    assert repr(loaded) == "fail('network.safetensors')"
    with pytest.raises(FileNotFoundError, match="no file network") as caught:
        loaded(numbers(1))
    assert caught.value.__notes__ == [f"while process {os.getpid()} loaded fail('network.safetensors')"]
    z = numbers(1, 3, 5, 6, 7)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(FileNotFoundError) as caught:
        tk.decode_tiled(loaded, z, TILING, geometry=SMALL, executor=pool)
    assert "loaded fail('network.safetensors')" in " ".join(caught.value.__notes__)
    assert "in tile (0, 0, 0) of the plan" in caught.value.__notes__
