"""What becomes of a command whose output nobody takes, and of an interrupt that somebody swallowed."""

import os
import shlex
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra 'video'")
pytest.importorskip("torch")

from ltx_models import default_checkpoint, media
from ltx_models.checkpoints.latent_space import latent_space
from ltx_models.cli import encode, main, stopping
from ltx_models.cli.standard_streams import PatientStream


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "a.safetensors"
    values = np.random.default_rng(0).normal(size=(1, 128, 2, 2, 2)).astype(np.float32)
    media.write_latents(path, values, fps=25, space=latent_space(default_checkpoint()))
    return path


def shell(command: str, latents: Path, video: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which decode is the decode of the latents."""
    backend = "mlx" if find_spec("mlx") else "torch"  # of which either will do, and the first is imported in no time
    decode = (sys.executable, "-m", "ltx_models.cli", "decode", str(latents), "--backend", backend, "-o", str(video))
    line = f"decode() {{ {shlex.join(decode)}; }}; {command}"
    given = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=os.environ | given)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("set -o pipefail; decode | true", 0, ""),
        ("decode 2>&-", 0, ""),
        ("decode >&- 2>&-", 0, ""),
        ("decode 2>/dev/full", 0, ""),
        ("decode >/dev/full", 1, "standard output cannot be written: No space left on device; files are complete"),
    ],
)
def test_a_video_is_made_whatever_becomes_of_the_output(
    latents: Path, tmp_path: Path, command: str, code: int, said: str
) -> None:
    """A closed pipe lost the video; a full standard output was called a full disk of the video."""
    done = shell(command, latents, tmp_path / "a.mp4")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert media.probe_video(tmp_path / "a.mp4").frames == 9


def test_a_stream_that_fails_is_asked_once() -> None:
    class Broken:
        asked = 0

        def write(self, text: str) -> int:
            self.asked += 1
            raise BrokenPipeError

    stream = PatientStream(Broken())
    assert (stream.write("one"), stream.write("three")) == (3, 5)
    assert stream.stream.asked == 1
    assert isinstance(stream.error, BrokenPipeError)
    assert (PatientStream(None).write("text"), PatientStream(None).isatty()) == (4, False)


@pytest.mark.parametrize("name", ["a:b.mp4", "http:clip.mp4", "file:a.mp4", "12:30.mp4"])
def test_names_with_a_colon_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    frames = np.zeros((1, 3, 3, 32, 32), np.float32)
    sound = np.zeros((1, 2, 4800), np.float32)
    media.write_video(name, frames, fps=25, audio=(sound, 48000))
    assert media.read_video(name).video.shape == frames.shape
    media.write_audio(f"{name}.wav", sound, 48000)
    assert media.read_audio(f"{name}.wav")[0].shape == sound.shape
    media.write_video(f"again {name}", frames, fps=25, audio=media.OriginalAudio(f"{name}.wav"))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"{name}.wav", f"again {name}"])


class Swallower:
    """An object that is interrupted while it is thrown away, where Python drops exceptions."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_an_interrupt_that_is_swallowed_ends_the_run_all_the_same(
    latents: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    verb: str,
) -> None:
    dropped: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: dropped.append(told.exc_type))
    module = sys.modules[f"ltx_models.cli.{verb}"]
    load = getattr(module, f"load_{verb}r")

    def swallowing(*args: Any, **options: Any) -> Any:
        Swallower(number)
        return load(*args, **options)

    monkeypatch.setattr(module, load.__name__, swallowing)
    clip = tmp_path / "clip.mp4"
    media.write_video(clip, np.zeros((1, 3, 9, 32, 32), np.float32), fps=25)
    output = tmp_path / ("out.mp4" if verb == "decode" else "out.safetensors")
    given = [str(latents)] if verb == "decode" else [str(clip), "--frames", "9"]
    assert main([verb, *given, "--backend", "torch", "-o", str(output)]) == 128 + number
    assert dropped == [stopping.Stopped]
    assert capsys.readouterr().err == "ltx-models: interrupted; nothing unfinished is left\n"
    assert not output.exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Panic(BaseException):
    """What code in Rust raises where an exception stops it midway: no `Exception`."""


@pytest.mark.parametrize("kind", [ImportError, SystemError, Panic])
def test_what_interrupted_code_makes_of_an_interrupt_is_no_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[BaseException]
) -> None:
    def translated(args: Any) -> Any:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            msg = "half an import"
            raise kind(msg) from error

    monkeypatch.setattr(encode, "read_fitted", translated)
    assert main(["encode", "-o", str(tmp_path / "a.safetensors")]) == 130
    assert capsys.readouterr().err == "ltx-models: interrupted; nothing unfinished is left\n"


def test_a_signal_while_an_error_is_told_ends_the_run_as_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*args: Any) -> Any:
        msg = "no such clip"
        raise ValueError(msg)

    monkeypatch.setattr(encode, "read_fitted", refused)
    monkeypatch.setattr("ltx_models.cli.also_missing", lambda told: signal.raise_signal(signal.SIGTERM))
    assert main(["encode", "-o", str(tmp_path / "a.safetensors")]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "ltx-models: interrupted; nothing unfinished is left\n"
