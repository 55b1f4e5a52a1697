"""The queue of the page: one process at a time, told to stop, killed, and taken up again; and what a wish becomes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltx_models.cli.web.folder import Folder
from ltx_models.cli.web.queue import Queue
from ltx_models.cli.web.runs import Run, read_run, told, write_run
from ltx_models.cli.web.wish import Wish, as_flags, generate_parser
from ltx_models.media import MediaError

# A run in place of one of the networks: says how far it is, and ends as its title asks.
STANDIN = """
import json, os, sys, time
from pathlib import Path
how = sys.argv[2]
def say(**event): print(json.dumps(event), flush=True)
Path("keep").mkdir(exist_ok=True)
with open("../../order", "a") as order: order.write("+" + how)
say(event="note", text="begins")
print("no json", flush=True)
for k in range(3): say(event="progress", phase="denoise", done=k, total=3, seconds_left=1.0, peak_bytes=100 + k)
Path("pid").write_text(str(os.getpid()))
while how == "wait" and not Path("go").exists(): time.sleep(0.01)
if how == "fail": sys.exit("ltx-models: width: got 1, allowed is 2")
if how == "abort": os.kill(os.getpid(), 9)
with open("../../order", "a") as order: order.write("-" + how)
say(event="done", output="video.mp4", seconds=1.5, peak_bytes=7)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "files")


@pytest.fixture
def queue(folder: Folder, tmp_path: Path) -> Iterator[Queue]:
    (tmp_path / "ltx_models_standin.py").write_text(STANDIN)
    made = Queue(folder, (sys.executable, str(tmp_path / "ltx_models_standin.py")))
    yield made
    made.close()


def until(queue: Queue, name: str, wanted: Callable[[Run], bool]) -> Run:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        run = queue.find(name)
        if run is not None and wanted(run):
            return run
        time.sleep(0.01)
    raise AssertionError(queue.find(name))


def submit(queue: Queue, how: str) -> str:
    place = queue.folder.new_run()
    queue.submit(Run(place.name, "generate", how, (how,)))
    return place.name


def test_one_runs_at_a_time_in_order(queue: Queue, folder: Folder) -> None:
    first, second, third = (submit(queue, how) for how in ("wait", "b", "c"))
    until(queue, first, lambda run: run.done == 2)
    assert (queue.ahead(second), queue.ahead(third), queue.ahead(first)) == (1, 2, 0)
    assert queue.busy() == first
    assert [queue.find(name).state for name in (second, third)] == ["waiting"] * 2  # type: ignore[union-attr]
    (folder.of(first) / "go").touch()
    done = [until(queue, name, lambda run: run.over) for name in (first, second, third)]
    assert [run.state for run in done] == ["done"] * 3
    assert (folder.root / "order").read_text() == "+wait-wait+b-b+c-c"
    assert (done[0].seconds, done[0].peak_bytes, done[0].notes) == (1.5, 7, ("begins",))
    assert read_run(folder.of(first)) == done[0]
    assert not (folder.of(first) / "keep").exists()


def test_a_run_that_fails_says_why_and_the_next_one_runs(queue: Queue, folder: Folder) -> None:
    failed, killed, good = (submit(queue, how) for how in ("fail", "abort", "good"))
    run = until(queue, failed, lambda run: run.over)
    assert (run.state, run.error) == ("failed", "width: got 1, allowed is 2")
    assert (folder.of(failed) / "keep").exists()
    if os.name == "posix":
        run = until(queue, killed, lambda run: run.over)
        assert run.state == "stopped"
        assert "SIGKILL" in run.error
    assert until(queue, good, lambda run: run.over).state == "done"


@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are of POSIX")
def test_a_cancelled_run_ends_and_goes_on(queue: Queue, folder: Folder) -> None:
    name, waiting = submit(queue, "wait"), submit(queue, "other")
    until(queue, name, lambda run: run.done == 2)
    with pytest.raises(MediaError, match="is running already"):
        queue.submit(queue.find(name))  # type: ignore[arg-type]
    queue.cancel(waiting)
    assert queue.find(waiting).state == "cancelled"  # type: ignore[union-attr]
    queue.cancel(name)
    run = until(queue, name, lambda run: run.over)
    assert run.state == "cancelled"
    assert (folder.of(name) / "keep").exists()
    pid = int((folder.of(name) / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    (folder.of(name) / "go").touch()
    queue.submit(run)
    assert until(queue, name, lambda run: run.over).state == "done"


@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are of POSIX")
def test_what_a_server_leaves_is_found_by_the_next(queue: Queue, folder: Folder, tmp_path: Path) -> None:
    name = submit(queue, "wait")
    until(queue, name, lambda run: run.done == 2)
    later = Queue(folder, (sys.executable, str(tmp_path / "ltx_models_standin.py")))
    found = later.find(name)
    assert found is not None
    if Path("/proc/self/cmdline").exists():
        assert found.state == "running"  # its process outlived the server
        with pytest.raises(MediaError, match="is running already"):
            later.submit(found)
    os.kill(int((folder.of(name) / "pid").read_text()), signal.SIGKILL)
    until(queue, name, lambda run: run.over)
    write_run(folder.of(name), found)  # as the server that was killed would have left it
    left = later.find(name)
    assert left is not None
    assert left.state == "stopped"
    assert "Go on continues it" in left.error
    (folder.of(name) / "go").touch()
    later.submit(left)
    assert until(later, name, lambda run: run.over).state == "done"
    later.close()


def test_a_record_that_cannot_be_written_does_not_stop_the_queue(
    queue: Queue, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        msg = "No space left on device"
        raise OSError(28, msg)

    name = submit(queue, "wait")
    until(queue, name, lambda run: run.done == 2)
    monkeypatch.setattr("ltx_models.cli.web.queue.write_run", full)
    (folder.of(name) / "go").touch()
    assert until(queue, name, lambda run: run.over).state == "done"


def test_records_are_read_again_and_damaged_ones_are_none(tmp_path: Path) -> None:
    place = tmp_path / "20261121-000000-abcdef"
    place.mkdir()
    run = Run(place.name, "generate", "title", ("--a=1",), notes=("x",), asked={"peaks": {"decode": 3}})
    write_run(place, run)
    assert read_run(place) == run
    for text in ("", "[]", "{", json.dumps({"name": "x"}), '{"flags": 3, "notes": 4}'):
        (place / "run.json").write_text(text)
        assert read_run(place) is None


def test_lines_of_a_run_are_folded() -> None:
    run = Run("a", "generate", "t", ())
    run = told(run, {"event": "preview", "path": "previews/../../denoise_003.png"})
    assert run.preview == "denoise_003.png"
    assert told(run, {"event": "unheard"}).preview == "denoise_003.png"


def test_nothing_that_is_typed_becomes_a_flag() -> None:
    wish = Wish("--output-path=/etc/passwd", negative_prompt="-h", memory="--offload", numbers={"seed": 3.0})
    flags = wish.flags()
    assert flags == ["--prompt=--output-path=/etc/passwd", "--negative-prompt=-h", "--seed=3", "--memory=--offload"]
    with pytest.raises(ValueError, match="memory"):
        generate_parser().parse_args(flags)
    args = generate_parser().parse_args(flags[:3])
    assert (args.prompt, args.negative_prompt, args.seed) == ("--output-path=/etc/passwd", "-h", 3)
    assert str(args.output_path) == "output.mp4"


def test_a_wish_says_what_cannot_be() -> None:
    pictures = (Path("a.png"), Path("b.png"))
    assert Wish("p", pictures=pictures, at="0, 16").flags()[-8:] == [
        "--image", "a.png", "0", "1", "--image", "b.png", "16", "1",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="got '0' for 2 pictures"):
        Wish("p", pictures=pictures).flags()
    with pytest.raises(ValueError, match="got '0,-1' for 2 pictures"):
        Wish("p", pictures=pictures, at="0,-1").flags()
    with pytest.raises(ValueError, match=r"seed: got 1\.5, expected a whole number"):
        Wish("p", numbers={"seed": 1.5}).flags()
    with pytest.raises(ValueError, match="fps: got nan"):
        Wish("p", numbers={"fps": float("nan")}).flags()
    with pytest.raises(ValueError, match="has 10001 characters"):
        Wish("p" * 10_001).flags()
    with pytest.raises(ValueError, match="got 9, allowed are 8"):
        Wish("p", pictures=[Path("a.png")] * 9, at="0").flags()


def test_a_retake_has_the_sizes_of_its_clip() -> None:
    numbers = {"width": 64.0, "height": 64.0, "frames": 9.0, "fps": 24.0, "seed": 3.0, "start": 0.5, "end": 1.0}
    wish = Wish("p", pipeline="dev", backend="mlx", numbers=numbers, clip=Path("given/clip"), snap=True)
    assert wish.flags() == [
        "--prompt=p", "--pipeline=dev", "--backend=mlx", "--device=auto", "--seed=3", "--start-time=0.5",
        "--end-time=1.0", "--video-path=given/clip",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"start of the part: got 0\.5, but there is no clip"):
        Wish("p", numbers={"start": 0.5}).flags()
    with pytest.raises(ValueError, match="a clip needs both, in seconds"):
        Wish("p", numbers={"start": 0.5, "end": None}, clip=Path("clip")).flags()


def test_flags_of_networks_are_handed_on(tmp_path: Path) -> None:
    there = tmp_path / "a folder"
    there.mkdir()
    parser = generate_parser()
    given = [
        "--checkpoint-path", str(there), "--lora", "x.safetensors", "0.5", "--lora", "y.safetensors", "--offload",
        "--quantization", "int8", "--device", "cuda:1",
    ]  # fmt: skip
    args = parser.parse_args(given)
    names = {"checkpoint_path", "lora", "offload", "quantization", "device", "dtype"}
    again = parser.parse_args(as_flags(parser, args, names))
    assert {name: getattr(again, name) for name in names} == {name: getattr(args, name) for name in names}
