"""Commands that keep their blocks: killed at any moment they go on, and give the same file."""

import random
import shutil
import signal
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ltx_models.command_line import run
from tests.ltx_models.test_killed import begin
from tests.ltx_models.test_killed import server as server_of_test_killed

pytest.importorskip("av", reason="needs the extra 'video'")
pytest.importorskip("torch", reason="needs the extra 'torch'")

import ltx_models
from ltx_models.checkpoints.latent_space import latent_space
from ltx_models.cli import encode
from ltx_models.cli.frames import FrameFile
from ltx_models.media import VideoWriter, read_latents, write_latents, write_video

server = server_of_test_killed
LATENTS, SIZE = 40, 2  # 313 frames of 64x64
WAYS = {
    "exact": ("--memory", "8MB"),
    "tiles": ("--tiling", "64/0,40/16"),
    "devices": ("--tiling", "64/0,40/16", "--device", "cpu,cpu"),
}


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keep") / "latents.safetensors"
    values = np.random.default_rng(0).standard_normal((1, 128, LATENTS, SIZE, SIZE), dtype=np.float32)
    write_latents(path, values, fps=25, space=latent_space(ltx_models.default_checkpoint()))
    return path


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of this kind are of POSIX")
@pytest.mark.parametrize("way", WAYS)
def test_a_decode_that_is_killed_goes_on_and_gives_the_same_file(
    server: Any, latents: Path, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "decode", latents, "-o", tmp_path / "want.mp4", *WAYS[way])
    assert (code, err) == (0, "")
    arguments = ("decode", latents, "-o", tmp_path / "got.mp4", *WAYS[way], "--keep", tmp_path / "kept")
    source, kills = random.Random(3), 0
    seen: list[int] = []
    for _ in range(8):
        before = len(list((tmp_path / "kept").glob("*.npy")))
        process = begin(server, [str(a) for a in arguments])
        while process.is_alive() and len(list((tmp_path / "kept").glob("*.npy"))) < before + 1:
            time.sleep(0.002)
        time.sleep(source.uniform(0, 0.02))
        process.kill()
        process.join(120)
        if process.exitcode == 0:  # done before it could be killed: from the beginning
            shutil.rmtree(tmp_path / "kept")
            (tmp_path / "got.mp4").unlink()
            kills = 0
            seen.clear()
            continue
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        seen.append(len(list((tmp_path / "kept").glob("*.npy"))))
        if kills == 3:
            break
    assert kills >= 2
    assert seen == sorted(seen)
    assert not (tmp_path / "got.mp4").exists()
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert "frames are kept; goes on after them" in err
    assert f"{tmp_path / 'kept'} holds" in out
    assert digest(tmp_path / "got.mp4") == digest(tmp_path / "want.mp4")
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_of_another_decode_is_refused(
    latents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(1).standard_normal((1, 128, 2, 2, 2), dtype=np.float32)
    space = latent_space(ltx_models.default_checkpoint())
    for number in range(2):
        write_latents(tmp_path / f"{number}.safetensors", values + number, fps=25, space=space)
    base = ("decode", tmp_path / "0.safetensors", "-o", tmp_path / "a.mp4", "--keep", tmp_path / "kept")
    assert run(capsys, *base)[0] == 0
    want = digest(tmp_path / "a.mp4")
    other = ("decode", tmp_path / "1.safetensors", *base[2:])
    for arguments, text in {
        other: "holds blocks of another run: input is",
        (*base, "--dtype", "bfloat16"): "dtype is 'bfloat16', was 'float32'",
        (*base, "--tiling", "64/32"): "plan is '64/32",
        (*base[:2], "-o", tmp_path / "kept" / "a.mp4", *base[4:]): "would lie in",
    }.items():
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert text in err
    torn = next((tmp_path / "kept").glob("*.npy"))
    torn.write_bytes(torn.read_bytes()[:-1])
    code, _, err = run(capsys, *base)
    assert code == 2
    assert "remove this block and those after it, and the run goes on before it" in err
    assert digest(tmp_path / "a.mp4") == want


def test_a_reconstruction_keeps_latents_and_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = np.random.default_rng(0).uniform(-1, 1, (1, 3, 17, 64, 64)).astype(np.float32)
    write_video(tmp_path / "clip.mp4", video, fps=25)
    arguments: tuple[object, ...] = ("reconstruct", tmp_path / "clip.mp4", "--tiling", "64/0,8/0", "--compare", "none")
    assert run(capsys, *arguments, "-o", tmp_path / "want.mp4")[0] == 0
    arguments = (*arguments, "-o", tmp_path / "got.mp4", "--keep", tmp_path / "kept")
    add, frames = FrameFile.append, 0

    def stops(self: Any, block: Any) -> None:
        nonlocal frames
        frames += block.shape[2]
        if frames > 8:
            raise KeyboardInterrupt
        add(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(FrameFile, "append", stops)
        assert run(capsys, *arguments)[0] == 130
    monkeypatch.setattr(encode, "encode", lambda *_: pytest.fail("encoded again"))
    code, _, err = run(capsys, *arguments)
    assert code == 0
    assert "frames are kept; goes on after them" in err
    assert digest(tmp_path / "got.mp4") == digest(tmp_path / "want.mp4")
    code, _, err = run(capsys, *arguments[:2], "--frames", 9, *arguments[2:])
    assert code == 2
    assert "holds blocks of another run: input is" in err
    (tmp_path / "kept" / "holiday.png").touch()
    code, _, err = run(capsys, *arguments)
    assert "holds 'holiday.png', which is none of this verb's" in err


def test_several_devices_are_for_tiles(latents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "decode", latents, "-o", tmp_path / "a.mp4", "--device", "cpu,cpu")
    assert code == 2
    assert "exact work goes from frame to frame on one device; give --tiling" in err
    clip = tmp_path / "clip.mp4"
    write_video(clip, np.zeros((1, 3, 9, 64, 96), np.float32), fps=25)
    base = ("encode", clip, "--frames", 9, "--tiling", "64/32")
    for devices in ("cpu", "cpu,cpu"):
        code, _, err = run(capsys, *base, "--device", devices, "-o", tmp_path / f"{devices}.safetensors")
        assert (code, err) == (0, "")
    one, several = (read_latents(tmp_path / f"{devices}.safetensors").latents for devices in ("cpu", "cpu,cpu"))
    assert np.array_equal(one, several)
    code, _, err = run(capsys, "decode", latents, "-o", tmp_path / "a.mp4", "--tiling", "64/0", "--device", "cpu,nope")
    assert code == 2
    assert "device: got 'nope', torch has cpu" in err


def generated(args: Any, tmp_path: Path, name: str) -> tuple[object, ...]:
    return ("generate", "-p", "a red circle moving right", "-H", 64, "-W", 64, "-n", 17, "-o", tmp_path / name, *args)


def test_a_generation_keeps_its_stages_and_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from ltx_models.pipelines import steps

    code, _, err = run(capsys, *generated((), tmp_path, "want.mp4"))
    assert code == 0, err
    keep = ("--keep", tmp_path / "kept")
    calls: list[int] = []
    denoise, stops_at = steps.denoise_stage, 2

    def counted(run_: Any, stage: Any) -> Any:
        calls.append(stage.number)
        if len(calls) == stops_at:
            raise KeyboardInterrupt
        return denoise(run_, stage)

    monkeypatch.setattr(steps, "denoise_stage", counted)
    assert run(capsys, *generated(keep, tmp_path, "got.mp4"))[0] == 130
    assert calls == [0, 1]  # the second stage was begun
    with monkeypatch.context() as patch:
        patch.setattr(VideoWriter, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(capsys, *generated(keep, tmp_path, "got.mp4"))[0] == 130
    assert calls == [0, 1, 1]  # the first was kept
    code, _, err = run(capsys, *generated(keep, tmp_path, "got.mp4"))
    assert code == 0, err
    assert calls == [0, 1, 1]
    assert digest(tmp_path / "got.mp4") == digest(tmp_path / "want.mp4")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "holiday.png").touch()
    for arguments, text in {
        (*keep, "--seed", "11"): "is of another run, with another request",
        ("--keep", tmp_path / "foreign"): "which is none of a run's; give a folder of its own",
    }.items():
        code, _, err = run(capsys, *generated(arguments, tmp_path / "elsewhere", "c.mp4"))
        assert code == 2
        assert text in err


def test_weights_are_told_apart_without_reading_all_of_them(tmp_path: Path) -> None:
    from ltx_models.pipelines.kept import weights_digest

    data = bytearray(np.random.default_rng(0).bytes(1 << 20))
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data)
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b")
    data[1 << 19] ^= 1
    (tmp_path / "b").write_bytes(data)
    assert weights_digest(tmp_path / "a") != weights_digest(tmp_path / "b")
    before = weights_digest(tmp_path)
    (tmp_path / "c").touch()
    assert weights_digest(tmp_path) != before
