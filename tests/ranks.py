"""
Ranks of a test: processes that are forked from one that has imported what they need, so that all of them wait once.

``python tests/ranks.py WORLD SCRIPT FOLDER MODULE ...`` imports the modules, and then runs ``SCRIPT FOLDER`` so many
times at once, with RANK in the environment and what it says in ``FOLDER/RANK.log``.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def told_by_ranks(world: int, script: Path, folder: Path, *modules: str) -> list[dict[str, Any]]:
    """Run a script as so many ranks, and give what each has written to ``FOLDER/RANK.json``."""
    command = [sys.executable, __file__, str(world), str(script), str(folder), *modules]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        started.wait(timeout=150)
    finally:
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    logs = [folder / f"{rank}.log" for rank in range(world)]
    said = "\n".join(log.read_text() for log in logs if log.exists())
    assert all((folder / f"{rank}.json").exists() for rank in range(world)), said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


def _fork(world: int, script: str, folder: str, *modules: str) -> None:
    for module in modules:
        importlib.import_module(module)
    for rank in range(world):
        if os.fork() == 0:
            log = os.open(Path(folder) / f"{rank}.log", os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ["RANK"] = str(rank)
            sys.argv = [script, folder]
            runpy.run_path(script, run_name="__main__")
            return
    for _ in range(world):
        os.wait()


if __name__ == "__main__":
    _fork(int(sys.argv[1]), *sys.argv[2:])
