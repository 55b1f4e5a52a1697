"""Commands that are killed, terminated and interrupted at random moments: no half file looks finished."""

import multiprocessing
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.ltx_models.pipeline_files import contexts, write_whole

from ltx_models.cli import main
from ltx_models.media import _files, iter_frames, probe_video, read_latents, write_video
from ltx_models.media._files import remove_leftovers, unfinished
from ltx_models.nn import backend as get_backend

pytest.importorskip("av")
pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of this kind are of POSIX")
SEED = 11
CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGINT: 130}
Names = dict[str, Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Names:
    folder = tmp_path_factory.mktemp("killed")
    found = write_whole(folder, get_backend("torch"))
    save_file(dict(zip(("video", "audio"), contexts(1), strict=True)), folder / "embeds.safetensors")
    write_video(folder / "clip.mp4", np.random.default_rng(0).uniform(-1, 1, (1, 3, 17, 64, 96)), fps=25)
    return found | {"embeds": folder / "embeds.safetensors", "clip": folder / "clip.mp4", "folder": folder}


@pytest.fixture(scope="module")
def server() -> Any:
    """Processes forked of one that has imported everything, so that a run is its work and not its imports."""
    # one that tests before these started has not loaded what these need, so that signals would meet its imports
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "av", "safetensors", "ltx_models.cli", "ltx_models.pipelines"])
    process = begin(context, ["plan", "--tiling", "none"])
    process.join(300)
    assert process.exitcode == 0
    return context


def begin(server: Any, arguments: list[str]) -> Any:
    """Start a command in a process of its own, and wait until it begins."""
    begun = server.Event()
    process = server.Process(target=quietly, args=(arguments, begun))
    process.start()
    assert begun.wait(60)
    return process


def quietly(arguments: list[str], begun: Any) -> None:
    """Run a command as a process of its own would, and say when it begins."""
    # before the command and after it, an interrupt is not the command's: it ends the process as it ends any
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    import torch

    torch.set_num_threads(1)
    begun.set()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main(arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise SystemExit(code)


def commands(files: Names, place: Path) -> dict[str, tuple[list[str], Path]]:
    """Give each command, and the file that it makes."""
    whole, video = str(files["path"]), place / "a.mp4"
    size = ["-H", "64", "-W", "64", "-n", "17", "--dtype", "float32", "--embeds", str(files["embeds"])]
    made = ["--save-latents", str(place / "a.safetensors"), "-o", str(video)]
    model = ["--checkpoint-path", whole, "--spatial-upsampler-path", str(files["upsampler"])]
    return {
        "generate": (["generate", *model, *size, *made], video),
        "decode": (
            ["decode", str(files["folder"] / "done.safetensors"), "--checkpoint", whole, "-o", str(video)],
            video,
        ),
        "convert": (["convert", whole, str(place / "mlx"), "--layout", "mlx"], place / "mlx"),
        "reconstruct": (["reconstruct", str(files["clip"]), "--frames", "17", "-o", str(video)], video),
    }


@pytest.fixture(scope="module")
def whole_runs(files: Names, server: Any) -> dict[str, tuple[float, Any]]:
    """What each command makes, and how long it takes, where nobody stops it."""
    found: dict[str, tuple[float, Any]] = {}
    for verb in ("generate", "decode", "convert", "reconstruct"):
        place = files["folder"] / verb
        place.mkdir()
        arguments, target = commands(files, place)[verb]
        process = begin(server, arguments)
        begun = time.monotonic()
        process.join(300)
        assert process.exitcode == 0, verb
        found[verb] = time.monotonic() - begun, contents(target)
        if verb == "generate":
            (place / "a.safetensors").rename(files["folder"] / "done.safetensors")
    return found


def contents(target: Path) -> Any:
    """Read a result whole; fails where it is not."""
    if target.is_dir():
        return {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    info = probe_video(target)
    frames = list(iter_frames(target))
    assert info.frames == len(frames)
    return info.audio, frames


def same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one == other
        return
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])


def visible(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("number", list(CODES), ids=lambda number: number.name)
@pytest.mark.parametrize("verb", ["generate", "decode", "convert", "reconstruct"])
def test_stopped_at_random_moments_nothing_unfinished_bears_a_name(
    verb: str,
    number: signal.Signals,
    files: Names,
    server: Any,
    whole_runs: dict[str, tuple[float, Any]],
    tmp_path: Path,
) -> None:
    seconds, wanted = whole_runs[verb]
    arguments, target = commands(files, tmp_path)[verb]
    # once at any moment of the run, and once as soon as the result is being written
    draw = random.Random(f"{SEED} {verb} {number}")
    for moment in (draw.uniform(0.05, 0.95) * seconds, None):
        process = begin(server, arguments)
        stop(process, number, tmp_path, verb, moment)
        # at a random moment the command may not have begun, or be over: then the signal ends the process as it ends any
        by_default = set() if moment is None else {-number}
        assert process.exitcode in {CODES[number], 0} | by_default, (verb, moment)
        if target.exists():
            same(contents(target), wanted)
        if process.exitcode == 0:
            assert target.exists()
        if number != signal.SIGKILL:
            assert sorted(p.name for p in tmp_path.iterdir()) == visible(tmp_path), (
                f"nothing hidden is left ({process.exitcode}, {moment})"
            )
            # these two go on after a file is complete: with the next file, or with the comparison
            assert process.exitcode == 0 or not target.exists() or verb in {"convert", "reconstruct"}
        latents = tmp_path / "a.safetensors"
        if latents.exists():
            assert np.isfinite(read_latents(latents).latents).all()
            if verb == "generate":
                one, other = read_latents(latents), read_latents(files["folder"] / "done.safetensors")
                np.testing.assert_array_equal(one.latents, other.latents)
        for path in tmp_path.iterdir():
            if not path.name.startswith("."):
                path.rename(files["folder"] / f"{verb}-{number.name}-{moment}-{path.name}")


def stop(process: Any, number: int, place: Path, verb: str, moment: float | None) -> None:
    """Send a signal after so long, or when the result is being written."""
    end = time.monotonic() + (60 if moment is None else moment)
    while process.is_alive() and time.monotonic() < end:
        begun: list[Path] = []
        with suppress(FileNotFoundError):  # a folder that gets its final name while it is listed
            begun = list(place.glob(".mlx.*.part/**/*.safetensors" if verb == "convert" else ".a.mp4.*.part"))
        if moment is None and begun and (verb != "generate" or (place / "a.safetensors").exists()):
            break
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)
    process.join(300)


def test_after_a_kill_the_next_run_clears_up_and_latents_give_the_same_video(
    files: Names, server: Any, whole_runs: dict[str, tuple[float, Any]], tmp_path: Path
) -> None:
    arguments, video = commands(files, tmp_path)["generate"]
    process = begin(server, arguments)
    stop(process, signal.SIGKILL, tmp_path, "generate", None)
    assert visible(tmp_path) == ["a.safetensors"]
    assert len(hidden := [p for p in tmp_path.iterdir() if p.name.startswith(".a.mp4.")]) == 1, hidden
    again = ["decode", str(tmp_path / "a.safetensors"), "--checkpoint", str(files["path"]), "-o", str(video)]
    assert main(again) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "a.safetensors"]
    same(contents(video), whole_runs["generate"][1])


def test_a_signal_between_two_steps_of_clearing_away_leaves_nothing(
    files: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = iter([signal.SIGTERM])

    def unlucky(part: Path) -> None:
        for number in signals:
            os.kill(os.getpid(), number)
        remove(part)

    remove = _files._remove
    monkeypatch.setattr(_files, "_remove", unlucky)
    with ThreadPoolExecutor(1) as pool:
        other = unfinished(tmp_path / "other")  # what another thread has begun is not the command's
        pool.submit(lambda: other.__enter__().write_text("half")).result()
        assert main(commands(files, tmp_path)["reconstruct"][0]) == CODES[signal.SIGTERM]
        assert [p.name[:7] for p in tmp_path.iterdir()] == [".other."]
        pool.submit(other.__exit__, None, None, None).result()
    assert not list(tmp_path.iterdir())


# ---- what others are writing stays -----------------------------------------------------------------------------


def idle(place: str, ready: Any) -> None:
    with unfinished(Path(place)) as part:
        part.write_text("half")
        ready.set()
        time.sleep(60)


def test_leftovers_of_dead_processes_go_and_what_is_being_written_stays(server: Any, tmp_path: Path) -> None:
    ready = server.Event()
    process = server.Process(target=idle, args=(str(tmp_path / "a.mp4"), ready))
    process.start()
    assert ready.wait(30)
    others = [".b.mp4.1-00000000-abcdef.part", ".a.mp4.1-00000000-abcdef.part", ".a.mp4.notes.part"]
    for name in others:  # of another file, of another machine, of another program
        (tmp_path / name).write_text("not ours")
    mine = next(tmp_path.glob(f".a.mp4.{process.pid}-*.part"))
    remove_leftovers(tmp_path / "a.mp4")
    assert mine.exists(), "its process lives"
    process.kill()
    process.join()
    before = mine.with_suffix(".before")
    before.write_text("what stood there")
    remove_leftovers(tmp_path / "a.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others, before.name])
    (tmp_path / "a.mp4").write_text("whole")
    remove_leftovers(tmp_path / "a.mp4")
    assert not before.exists()
