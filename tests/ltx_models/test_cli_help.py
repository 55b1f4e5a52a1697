"""What the command line tells of itself and of the machine: version, devices, other tools' flags, doctor, forecasts."""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="needs the extra 'video'")

from tests.ltx_models.command_line import run

import ltx_models
import tilekit
from ltx_models.cli import doctor, foreign, machine, main, self_test
from ltx_models.nn import BackendName
from ltx_models.video_vae import LTX2
from tilekit.backends.limits import Limits


def test_the_version_is_that_of_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert ltx_models.__version__ == tilekit.__version__
    assert run(capsys, "--version") == (0, f"ltx-models {tilekit.__version__}\n", "")


def test_the_package_runs_as_a_module() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "ltx_models", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert told == f"ltx-models {tilekit.__version__}\n"


@pytest.mark.parametrize(
    ("system", "processor", "there", "wanted"),
    [
        ("darwin", "arm64", ("torch", "mlx"), "mlx"),
        ("darwin", "arm64", ("torch",), "torch"),
        ("darwin", "x86_64", ("torch", "mlx"), "torch"),
        ("linux", "x86_64", ("torch", "mlx"), "torch"),
        ("linux", "arm64", ("mlx",), "mlx"),
    ],
)
def test_auto_takes_mlx_on_apple_silicon_and_torch_elsewhere(
    monkeypatch: pytest.MonkeyPatch, system: str, processor: str, there: tuple[str, ...], wanted: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setattr(machine, "find_spec", lambda name: name if name in there else None)
    assert machine.backend_name("auto") == wanted
    assert machine.backend_name("torch") == "torch"


@pytest.mark.parametrize(("cuda", "mps", "wanted"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_the_fastest_device(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, wanted: str) -> None:
    torch: Any = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert machine.torch_device() == wanted


def test_what_auto_took_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    flags = ("bench", "--size", "64x32", "--frames", "9")
    assert run(capsys, *flags)[1].splitlines()[0].startswith("runs with ")
    assert "runs with" not in run(capsys, *flags, "--backend", "torch", "--device", "cpu")[1]
    assert "runs with" not in run(capsys, *flags, "--json")[1]


@pytest.mark.parametrize("verb", ["generate", "reconstruct"])
def test_flags_of_other_tools_are_told_ours(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    """Each of the table is refused with ours, and none of them is a flag here; what is named exists."""
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    own = capsys.readouterr().out
    table = foreign.GENERATE if verb == "generate" else foreign.DECODE
    for flag, ours in table.items():
        code, _, err = run(capsys, verb, "x", flag, "3") if verb == "reconstruct" else run(capsys, verb, flag, "3")
        assert code == 2
        assert f"here it is {ours}" in err or "ambiguous" in err, (flag, err)
        for word in ours.replace(",", " ").replace(";", " ").split():
            assert not word.startswith("--") or word in own, (flag, word)


def test_a_near_flag_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean --num-frames?" in run(capsys, "generate", "--num-framse", "9")[2]
    guidance = "--video-cfg-guidance-scale or --video-stg-guidance-scale"
    assert f"did you mean {guidance}?" in run(capsys, "generate", "--guidence", "4")[2]
    assert "did you mean" not in run(capsys, "generate", "--zzzzzz", "4")[2]


def test_a_part_of_a_flag_is_not_taken_for_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "generate", "--num-frame", "9")
    assert code == 2
    assert "did you mean --num-frames?" in err


def test_a_near_verb_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "decod")
    assert (code, err) == (
        2,
        "ltx-models: argument VERB: invalid choice: 'decod'; did you mean decode? (see ltx-models --help)\n",
    )
    assert "did you mean" not in run(capsys, "fly")[2]


def test_several_devices_are_told_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "plan", "--size", "1920x1088", "--frames", "121", "--devices", "4")[1]
    assert "strips: exact, 2 x 2" in out
    assert max(map(len, out.splitlines())) <= 80


def test_plan_tells_whole_blended_and_exact(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("plan", "--exact", "--size", "1920x1088", "--frames", "121", "--dtype", "bfloat16")
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    whole, blended, exact = json.loads(out)["ways"]
    assert [one["way"] for one in (whole, blended, exact)] == ["whole", "blended", "exact"]
    assert exact["work"] == whole["work"] == 1 < blended["work"]
    assert exact["peak_bytes"] < whole["peak_bytes"]
    # 2 overlaps of three tiles in time, 2 of three in height, 4 of five in width
    assert (whole["seams"], blended["seams"], exact["seams"]) == (0, 8, 0)
    budget = json.loads(run(capsys, *arguments, "--json", "--memory", "600MB")[1])["ways"][2]
    assert budget["peak_bytes"] <= 600_000_000
    out = run(capsys, *arguments)[1]
    assert max(map(len, out.splitlines())) <= 80
    assert "the least that an exact decode" in run(capsys, *arguments, "--memory", "1MB")[2]
    assert "go with --exact" in run(capsys, "plan", "--memory", "1GB")[2]
    assert "leave --encode out" in run(capsys, *arguments, "--encode")[2]


def test_plan_reads_headers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast is that of the configuration, whose decoder need not fit anywhere."""
    from ltx_models.cli.comparing import forecast
    from ltx_models.cli.plan import plan_for

    found = forecast.expected(LTX2, plan_for((121, 1088, 1920), "default"), itemsize=2, memory_bytes=2 * 2**30)
    assert found[0].peak_bytes == pytest.approx(11.4 * 2**30, rel=0.01)  # docs/benchmarks/exact.md
    assert found[2].peak_bytes <= 2 * 2**30


def test_seams_scores_what_decode_shows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    import numpy as np

    from ltx_models.checkpoints.latent_space import latent_space
    from ltx_models.media import write_latents

    noise = np.random.default_rng(2).normal(size=(1, 128, 2, 2, 4)).astype(np.float32)
    write_latents(tmp_path / "a.safetensors", noise, fps=24, space=latent_space(ltx_models.default_checkpoint()))
    picture = tmp_path / "map.png"
    flags = (tmp_path / "a.safetensors", "--tiling", "64/32")
    code, out, _ = run(capsys, "seams", *flags, "--png", picture, "--json")
    facts = json.loads(out)
    assert code == 0
    assert [seam["axis"] for seam in facts["seams"]] == ["width", "width"]
    assert facts["largest"] > 1e-3
    assert picture.read_bytes().startswith(b"\x89PNG")
    out = run(capsys, "seams", *flags)[1]
    assert "score: mean square in the overlap" in out
    assert max(map(len, out.splitlines())) <= 90
    assert "there are no seams" in run(capsys, "seams", flags[0], "--tiling", "none")[1]
    assert run(capsys, "seams", *flags, "--png", tmp_path / "map.jpg")[0] == 2
    assert run(capsys, "seams", *flags, "--shown-frame", "1")[2].startswith("ltx-models: --shown-frame: got 1, but it")
    code, _, said = run(capsys, "seams", *flags, "--pictures", tmp_path / "shown", "--shown-frame", "9")
    assert (code, said) == (2, "ltx-models: --shown-frame: got 9, the clip has the frames 0 to 8\n")


def test_seams_shows_a_frame_of_each_way(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    import numpy as np

    from ltx_models.checkpoints.latent_space import latent_space
    from ltx_models.media import write_latents
    from ltx_models.pipelines.pictures import read_picture

    noise = np.random.default_rng(2).normal(size=(1, 128, 2, 2, 4)).astype(np.float32)
    write_latents(tmp_path / "a.safetensors", noise, fps=24, space=latent_space(ltx_models.default_checkpoint()))
    shown = tmp_path / "shown"
    flags = (tmp_path / "a.safetensors", "--tiling", "64/32", "--pictures", shown, "--shown-frame", "8", "--json")
    code, out, _ = run(capsys, "seams", *flags)
    *events, facts = map(json.loads, out.splitlines())
    assert code == 0
    assert {event["phase"] for event in events} == {"whole", "exact", "blended"}
    assert all(event["done"] <= event["total"] == 9 for event in events)
    assert facts["ways"]["exact"]["largest_difference"] < 1e-4 < facts["ways"]["blended"]["largest_difference"]
    pictures = {path.stem: read_picture(path) for path in shown.iterdir()}
    assert set(pictures) == {"whole", "exact", "blended", "exact_difference", "blended_difference", "seams"}
    assert pictures["whole"].shape == (64, 128, 3)
    assert pictures["exact_difference"].max() == 0
    assert pictures["blended_difference"].max() > 0


def test_doctor_tells_what_is_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", _nothing_but_numpy)
    code, out, _ = run(capsys, "doctor", "--no-test", "--json", "--checkpoint", ltx_models.default_pipeline())
    facts = json.loads(out)
    assert code == 0
    assert facts["system"]["tilekit-vae"] == tilekit.__version__
    assert facts["libraries"]["mlx-lm"] == "missing: extra 'text'"
    assert facts["codecs"]["libx264"] == "there"
    assert "self-test" not in facts
    (budgets,) = (rows for name, rows in facts.items() if name.startswith("--memory"))
    assert set(budgets) == set(doctor.BUDGETS)


def _nothing_but_numpy(name: str) -> str:
    raise PackageNotFoundError(name)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_the_self_test_sees_a_wrong_decode(monkeypatch: pytest.MonkeyPatch, backend: BackendName) -> None:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[backend])
    assert "off the whole decode" in self_test._decode(backend)
    right: Any = ltx_models.decode_exact
    monkeypatch.setattr(ltx_models, "decode_exact", lambda *a, **k: right(*a, **k) + 0.01)
    with pytest.raises(ValueError, match=r"self-test: the exact decode of \w+ is 0\.01 off"):
        self_test._decode(backend)


def test_the_self_test_generates() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    assert self_test._generate("torch").startswith("9 frames in ")


@pytest.mark.skipif(sys.platform == "win32", reason="argcomplete answers POSIX shells")
def test_a_shell_is_told_the_verbs(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    line, answer = "ltx-models rec", tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    environment = os.environ | asked | {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    subprocess.run([sys.executable, "-m", "ltx_models"], env=environment, check=False, capture_output=True)
    assert answer.read_text().strip() == "reconstruct"


def test_whole_clips_are_taken_and_those_that_memory_does_not_hold_are_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    import numpy as np

    from ltx_models.cli import clips, reconstruct
    from ltx_models.media import write_video

    clip = tmp_path / "clip.mp4"
    write_video(clip, np.zeros((1, 3, 26, 32, 64), np.float32), fps=24)
    code, out, _ = run(capsys, "encode", clip, "-o", tmp_path / "a.safetensors", "--json")
    assert code == 0
    assert json.loads(out)["shape"] == [1, 128, 4, 1, 2]  # 25 of 26 frames
    a_frame = 32 * 64 * 3 * 5
    monkeypatch.setattr(clips, "memory_bytes", lambda: 2 * 20 * a_frame)
    code, _, err = run(capsys, "encode", clip, "-o", tmp_path / "b.safetensors")
    assert code == 2
    assert "26 frames of 64x32 take" in err
    assert "--frames 17 fits" in err
    assert run(capsys, "encode", clip, "--frames", "17", "-o", tmp_path / "b.safetensors")[0] == 0
    # The reference of a comparison is a stream where the whole decode would take more than a share of memory.
    decoder: Any = ltx_models.load_video_decoder(ltx_models.default_checkpoint(), dtype="float32")
    latents = np.zeros((1, 128, 4, 1, 2), np.float32)
    for least, wanted in ((1, True), (2**40, False)):
        monkeypatch.setattr(reconstruct, "memory_bytes", lambda least=least: least)
        assert reconstruct._streamed(argparse.Namespace(compare=None), decoder, latents) is wanted
        assert reconstruct._streamed(argparse.Namespace(compare="whole"), decoder, latents) is False


def test_doctor_tells_what_a_device_gets_wrong() -> None:
    pytest.importorskip("torch")
    faults = pytest.importorskip("tilekit.backends._faults_torch").TorchFaults(Limits(padded_frame=2**16 - 1))
    with faults:
        told = doctor.canaries()
    rows = next(rows for heading, rows in told.items() if heading.startswith("does torch"))
    assert rows["the padding of time of frames of 65536 elements"] == "WRONG"
    assert rows["a matrix product"] == "right"
    assert float(rows["time of the canary"].partition(" s")[0]) > 0
