"""Dask as an executor: equal to the run without one, also where a worker is killed in the middle."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tilekit.test_run import SMALL, numbers

import tilekit as tk
from tilekit.testing import enlarge

distributed = pytest.importorskip("distributed", reason="needs the extra 'dask'")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of a cluster's own: ports in use, work taken from workers that died
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of this kind are of POSIX"),
]
TILING = tk.Tiling(frames=(8, 4), height=(6, 2), width=(6, 2))
SHAPE = (1, 3, 5, 6, 7)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


class Decoder:
    """A decoder that notes who computes which tile; slow enough to be killed at work."""

    def __init__(self, log: Path, seconds: float = 0.02) -> None:
        self.log, self.seconds = log, seconds

    def __call__(self, z: Any) -> Any:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(self.seconds)
        return enlarge(z[:, :2, ...], SMALL) * float(z.shape[3]) + float(z.mean())


def kill_after(log: Path, calls: int) -> threading.Thread:
    """Kill the worker that made the last of so many calls, while it is at work."""

    def watch() -> None:
        while not log.exists() or len(log.read_text().split()) < calls:
            time.sleep(0.002)
        os.kill(int(log.read_text().split()[-1]), signal.SIGKILL)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_tiles_computed_by_a_cluster_are_those_computed_here(client: Any, tmp_path: Path) -> None:
    z = numbers(*SHAPE)
    want = tk.decode_tiled(Decoder(tmp_path / "here"), z, TILING, geometry=SMALL)
    log = tmp_path / "there"
    executor = client.get_executor(pure=False)
    got = tk.decode_tiled(Decoder(log), z, TILING, geometry=SMALL, executor=executor, in_flight=6)
    assert np.array_equal(got, want)
    assert len(set(log.read_text().split())) == 2
    assert len(log.read_text().split()) == tk.plan(z.shape, TILING, geometry=SMALL).n_tiles


def test_a_worker_that_is_killed_costs_the_tiles_it_had(client: Any, tmp_path: Path) -> None:
    z, in_flight = numbers(*SHAPE), 6
    want = tk.decode_tiled(Decoder(tmp_path / "here"), z, TILING, geometry=SMALL)
    tiles = tk.plan(z.shape, TILING, geometry=SMALL).n_tiles
    assert tiles >= 24
    log = tmp_path / "killed"
    killer = kill_after(log, tiles // 2)
    executor = client.get_executor(pure=False)
    got = tk.decode_tiled(Decoder(log), z, TILING, geometry=SMALL, executor=executor, in_flight=in_flight)
    killer.join()
    assert np.array_equal(got, want)
    calls = log.read_text().split()
    assert len(set(calls)) >= 2
    # the tile under way, and results that waited on the worker for their turn
    assert tiles < len(calls) <= tiles + in_flight


def test_clips_are_encoded_by_a_cluster_of_which_a_worker_is_killed(client: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra 'torch'")
    pytest.importorskip("av", reason="needs the extra 'video'")
    from ltx_models.clips import encode_clips
    from ltx_models.media import read_latents, write_video

    rng = np.random.default_rng(0)
    for number in range(8):
        video = rng.uniform(-1, 1, (1, 3, 9, 32, 32)).astype(np.float32)
        write_video(tmp_path / f"{number:02}.mp4", video, fps=25)
    clips = sorted(tmp_path.glob("*.mp4"))
    encode_clips(clips, tmp_path / "here")
    made: list[Any] = []

    def told(result: Any) -> None:
        made.append(result.state)
        if len(made) == 3:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    executor = client.get_executor(pure=False)
    results = encode_clips(clips, tmp_path / "there", executor=executor, on_clip=told)
    assert {result.state for result in results} <= {"made", "kept"}  # kept: done by the worker before it died
    for clip in clips:
        one, other = (read_latents(tmp_path / d / f"{clip.stem}.safetensors").latents for d in ("here", "there"))
        assert np.array_equal(one, other)
    assert {r.state for r in encode_clips(clips, tmp_path / "there", executor=executor)} == {"kept"}
