"""The queue: one run at a time, each as a process of its own, which can be cancelled, killed or run out of memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ltx_models.cli.web.folder import Folder
from ltx_models.cli.web.runs import Run, read_run, told, write_run
from ltx_models.media import MediaError
from tilekit._run.leftovers import alive

PATIENCE = 20.0  # seconds that a run has to clear up after it is told to stop
COMMAND = (sys.executable, "-m", "ltx_models")


class Queue:
    """
    Runs that wait, and the one that runs.

    Parameters
    ----------
    folder : Folder
        Where they write.
    command : sequence of str
        What is put before the verb.
    offline : bool
        Whether runs are kept from asking the network for files, as all of them are here.
    """

    def __init__(self, folder: Folder, command: Sequence[str] = COMMAND, *, offline: bool = True) -> None:
        self.folder = folder
        self._command = tuple(command)
        self._offline = offline
        self._lock = threading.Condition()
        self._runs: dict[str, Run] = {}  # of this server's life
        self._waiting: deque[str] = deque()
        self._process: subprocess.Popen[str] | None = None
        self._current = ""
        self._cancelled: set[str] = set()
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="queue of runs", daemon=True)
        self._worker.start()

    def submit(self, run: Run) -> None:
        """
        Put a run at the end of the queue.

        Parameters
        ----------
        run : Run
            Whose folder is there.

        Raises
        ------
        MediaError
            If it is in the queue already, or its folder cannot be written.
        """
        with self._lock:
            known = self._runs.get(run.name)
            known = known or _left(read_run(self.folder.of(run.name)))
            if known is not None and not known.over:
                msg = f"run: {run.name} is {known.state} already"
                raise MediaError(msg)
            fresh = replace(run, state="waiting", phase="", done=0, total=0, error="", notes=(), seconds=None)
            write_run(self.folder.of(run.name), fresh)
            self._cancelled.discard(run.name)
            self._runs[run.name] = fresh
            self._waiting.append(run.name)
            self._lock.notify_all()

    def find(self, name: str) -> Run | None:
        """Give what is known of a run, of this or an earlier server, or None."""
        with self._lock:
            if name in self._runs:
                return self._runs[name]
        try:
            return _left(read_run(self.folder.of(name)))
        except MediaError:
            return None

    def all(self) -> list[Run]:
        """Give all runs, the newest first."""
        with self._lock:
            mine = dict(self._runs)
        return [mine.get(run.name) or _left(run) or run for run in self.folder.all_runs()]

    def ahead(self, name: str) -> int:
        """Count the runs that come before one that waits."""
        with self._lock:
            waiting = list(self._waiting)
            return waiting.index(name) + bool(self._current) if name in waiting else 0

    def busy(self) -> str:
        """Give the name of the run that runs or waits longest; empty where there is none."""
        with self._lock:
            return self._current or next(iter(self._waiting), "")

    def count(self) -> int:
        """Count the runs that wait."""
        with self._lock:
            return len(self._waiting)

    def forget(self, name: str) -> None:
        """Forget a run whose folder is gone."""
        with self._lock:
            self._runs.pop(name, None)

    def cancel(self, name: str) -> None:
        """Take a run out of the queue, or tell it to stop; what it had finished is kept."""
        with self._lock:
            if name in self._waiting:
                self._waiting.remove(name)
                self._keep(replace(self._runs[name], state="cancelled", error="cancelled before it began"))
                return
            if name != self._current or self._process is None:
                return
            self._cancelled.add(name)
            process = self._process
        threading.Thread(target=_stop, args=(process,), daemon=True).start()

    def close(self) -> None:
        """End the run that runs, and leave those that wait for another time."""
        with self._lock:
            self._closed = True
            process = self._process
            self._lock.notify_all()
        if process is not None:
            _stop(process)
        self._worker.join(PATIENCE)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                name = self._current = self._waiting.popleft()
                self._keep(replace(self._runs[name], state="running"))
            try:
                self._carry_out(name)
            except Exception as error:  # a server whose queue died would wait for ever
                self._update(name, state="failed", error=f"{type(error).__name__}: {error}")
            finally:
                with self._lock:
                    self._current, self._process = "", None

    def _carry_out(self, name: str) -> None:
        """Run one run to its end."""
        begun = time.monotonic()
        last: deque[str] = deque(maxlen=30)
        with self._start(self._runs[name]) as process:
            errors = threading.Thread(target=_drain, args=(process.stderr, last), daemon=True)
            errors.start()
            for line in process.stdout or ():
                with suppress(ValueError):
                    event = json.loads(line)
                    with self._lock:
                        self._runs[name] = told(self._runs[name], event if isinstance(event, dict) else {})
            code = process.wait()
            errors.join()
        with self._lock:
            run = self._ended(self._runs[name], code, list(last))
            self._keep(run if run.seconds is not None else replace(run, seconds=time.monotonic() - begun))
        if run.state == "done":
            self.folder.forget_kept(name)

    def _start(self, run: Run) -> subprocess.Popen[str]:
        """Start the process of a run, in the folder of the run."""
        environment = os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
        environment |= {"HF_HUB_OFFLINE": "1"} if self._offline else {}
        with self._lock:
            self._process = subprocess.Popen(
                [*self._command, run.verb, *run.flags, "--json"],
                cwd=self.folder.of(run.name),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # an interrupt of the terminal reaches the server alone, which tells the run
            )
            self._keep(replace(self._runs[run.name], process=self._process.pid))
            return self._process

    def _ended(self, run: Run, code: int, said: list[str]) -> Run:
        """Say how a run ended."""
        if code == 0:
            return replace(run, state="done", error="")
        if run.name in self._cancelled:
            return replace(run, state="cancelled", error="cancelled; what was finished is kept, and Go on continues it")
        if self._closed:
            return replace(run, state="stopped", error=SERVER_ENDED)
        if code < 0:
            return replace(run, state="stopped", error=_killed(-code))
        lines = [line.removeprefix("ltx-models: ") for line in said if line.strip()]
        return replace(run, state="failed", error=lines[-1] if lines else f"the run ended with exit code {code}")

    def _update(self, name: str, **changes: Any) -> None:
        with self._lock:
            self._keep(replace(self._runs[name], **changes))

    def _keep(self, run: Run) -> None:
        """Remember a run here, and on disk as far as that is possible: a full disk must not stop the queue."""
        self._runs[run.name] = run
        with suppress(OSError, MediaError):
            write_run(self.folder.of(run.name), run)


SERVER_ENDED = "the server ended while this run was at work; what was finished is kept, and Go on continues it"


def _left(run: Run | None) -> Run | None:
    """Say what became of a run that an earlier server left unfinished: its process may have outlived the server."""
    if run is None or run.over or (run.state == "running" and _at_work(run.process)):
        return run
    return replace(run, state="stopped", error=SERVER_ENDED)


def _at_work(process: int) -> bool:
    """Whether a process of ours lives."""
    if not process or not alive(process):
        return False
    try:
        return b"ltx_models" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # of systems without such files
        return True


def _killed(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return (
        f"the process of this run was killed ({name}), as systems do when memory is short; what was finished is kept, "
        "and Go on continues it; a smaller memory budget, picture or number of frames needs less"
    )


def _stop(process: subprocess.Popen[str]) -> None:
    """Tell a process to stop, and end it where it does not listen."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def _drain(stream: Any, last: deque[str]) -> None:
    """Read what a process says, so that it never waits for a reader."""
    last.extend(line.strip() for line in stream)
