"""``ltx-models generate``: flags, files and errors, on a tiny seeded checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.ltx_models.pipeline_files import contexts, write_whole

from ltx_models.cli import main
from ltx_models.media import iter_frames, probe_video
from ltx_models.nn import backend as get_backend

SMALL = ["-H", "64", "-W", "64", "-n", "9", "--dtype", "float32"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    pytest.importorskip("torch")
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("generate")
    files = write_whole(folder, get_backend("torch"))
    names = ("video", "audio"), ("negative_video", "negative_audio")
    arrays = {
        name: x for pair, seed in zip(names, (1, 2), strict=True) for name, x in zip(pair, contexts(seed), strict=True)
    }
    save_file(arrays, folder / "embeds.safetensors")
    whole, upsampler = str(files["path"]), str(files["upsampler"])
    return [
        "generate",
        "--checkpoint-path",
        whole,
        "--spatial-upsampler-path",
        upsampler,
        "--embeds",
        str(folder / "embeds.safetensors"),
    ]


def test_a_video_with_sound_and_decode_again(
    base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, saved, again = tmp_path / "a.mp4", tmp_path / "a.safetensors", tmp_path / "b.mp4"
    assert main([*base, *SMALL, "-o", str(video), "--save-latents", str(saved), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "done"
    steps = [e for e in events if e.get("phase") == "stage 1"]
    assert (steps[-1]["done"], steps[-1]["total"]) == (8, 8)
    assert steps[-1]["peak_bytes"] > 0
    assert steps[1]["seconds_left"] > 0
    assert main(["decode", str(saved), "-o", str(again), "--checkpoint", base[2]]) == 0
    assert probe_video(video).audio == probe_video(again).audio is not None
    for one, other in zip(iter_frames(video), iter_frames(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_frames_previews_and_no_sound(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, previews = tmp_path / "frames", tmp_path / "previews"
    more = ["--frames-png", str(frames), "--no-audio", "--preview-every", "4", "--preview-dir", str(previews)]
    assert main([*base, *SMALL, "--pipeline", "distilled-one-stage", "--memory", "4GiB", *more]) == 0
    assert len(list(frames.glob("*.png"))) == 9
    assert sorted(p.name for p in previews.iterdir()) == ["denoise_004.png", "denoise_008.png"]
    assert "memory 4.0 GiB: transformer as it is, whole in memory" in capsys.readouterr().err


def test_guidance_flags_reach_the_pipeline(base: list[str], tmp_path: Path) -> None:
    made = []
    for k, more in enumerate(
        ([], ["--video-cfg-guidance-scale", "1.5"], ["--apg", "--apg-eta", "0"], ["--steps", "3"])
    ):
        video = tmp_path / f"{k}.mp4"
        plain = ["--video-stg-blocks", "0", "--audio-stg-blocks", "0", "--steps", "2", "--no-audio"]
        assert main([*base, *SMALL, "--pipeline", "dev", *plain, *more, "-o", str(video)]) == 0
        made.append(next(iter_frames(video)))
    assert all((made[0] != other).any() for other in made[1:])


def test_snap_says_what_it_moved(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["-H", "70", "-W", "64", "-n", "10", "--dtype", "float32"]
    assert main([*base, *small, "-o", str(tmp_path / "a.mp4")]) == 2
    assert "height: got 70, must be a multiple of 64; nearest 64 and 128" in capsys.readouterr().err
    assert main([*base, *small, "--snap", "--no-audio", "-o", str(tmp_path / "a.mp4")]) == 0
    assert "frames: 10 moved to 9" in capsys.readouterr().err
    assert probe_video(tmp_path / "a.mp4").frames == 9


def test_help_reads_well_at_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("--spatial-upsampler-path" in line for line in lines)
