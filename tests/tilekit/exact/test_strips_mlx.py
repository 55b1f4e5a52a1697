"""Strips over a ring of two processes of MLX; one of them dies. What waits is ended after a time."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

mx = pytest.importorskip("mlx.core")
if not mx.distributed.is_available("ring"):
    pytest.skip("this MLX has no ring", allow_module_level=True)

SECONDS = 90


def test_two_processes_of_a_ring_give_what_one_gives(tmp_path: Path) -> None:
    ranks = _ring(tmp_path)
    assert [rank["place"] for rank in ranks] == [
        [[0, 1], [0, 18], [0, 6], [0, 3]],
        [[0, 1], [0, 18], [6, 14], [0, 3]],
    ]
    assert max(rank["error"] for rank in ranks) <= 1e-6
    # what the first convolution gives, before it is repeated: rows times channels
    assert [rank["sent"] for rank in ranks] == [9 * 8 * 4] * 2
    assert ranks[0]["whole"] <= 1e-6
    assert ranks[1]["whole"] is None
    assert "lost another rank" in ranks[0]["lost"]


def _ring(folder: Path) -> list[dict[str, Any]]:
    """Run two processes, of which the second dies in the end."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(2)]
        for free in held:
            free.bind(("127.0.0.1", 0))
        hosts = [[f"127.0.0.1:{free.getsockname()[1]}"] for free in held]
    (folder / "hosts.json").write_text(json.dumps(hosts))
    env = os.environ | {"MLX_HOSTFILE": str(folder / "hosts.json")}
    command = [sys.executable, str(Path(__file__).parent / "_mlx_ranks.py"), str(folder), "die"]
    with ExitStack() as stack:
        running = []
        for rank in range(2):
            log = stack.enter_context((folder / f"{rank}.log").open("wb"))
            started = subprocess.Popen(command, env=env | {"MLX_RANK": str(rank)}, stdout=log, stderr=log)
            stack.callback(started.wait)
            stack.callback(started.kill)
            running.append(started)
        for started in running:
            started.wait(timeout=SECONDS)
    said = "\n".join((folder / f"{rank}.log").read_text() for rank in range(2))
    assert all((folder / f"{rank}.json").exists() for rank in range(2)), said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
