"""What machine and user can do to `generate`: full disks, places without permission, missing packages, wrong values."""

import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.ltx_models.pipeline_files import contexts, write_whole

from ltx_models import default_checkpoint
from ltx_models.cli import main
from ltx_models.lora import check_lora
from ltx_models.media import (
    DiskError,
    MediaError,
    VideoWriter,
    iter_frames,
    read_latents,
    refuse_unwritable,
    write_latents,
    write_picture,
    write_video,
)
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import LTX2Pipeline
from ltx_models.text import TextEncoder

pytest.importorskip("torch")
pytest.importorskip("av")
SMALL = ["-H", "64", "-W", "64", "-n", "9", "--dtype", "float32"]
Names = dict[str, Path]
Call = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Names:
    folder = tmp_path_factory.mktemp("refusals")
    found = write_whole(folder, get_backend("torch"))
    names = ("video", "audio", "negative_video", "negative_audio")
    save_file(dict(zip(names, (*contexts(1), *contexts(2)), strict=True)), folder / "embeds.safetensors")
    write_video(folder / "clip.mp4", np.random.default_rng(0).uniform(-1, 1, (1, 3, 9, 64, 96)), fps=25)
    write_picture(folder / "wide.png", np.zeros((3, 64, 128), np.float32))
    (folder / "broken.png").write_bytes((folder / "wide.png").read_bytes()[:60])
    return found | {n: folder / f for n, f in (("clip", "clip.mp4"), ("embeds", "embeds.safetensors"))}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command; give its exit code and what it said on standard error."""

    def run(*arguments: object) -> tuple[int, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as left:
            code = int(left.code or 0)
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return code, error

    return run


@pytest.fixture
def generate(call: Call, files: Names, tmp_path: Path) -> Call:
    def run(*more: object, output: Path = tmp_path / "a.mp4", embeds: bool = True) -> tuple[int, str]:
        given = ["--embeds", files["embeds"]] if embeds else []
        model = ["--checkpoint-path", files["path"], "--spatial-upsampler-path", files["upsampler"]]
        return call("generate", *model, *given, *SMALL, "-o", output, *more)

    return run


# ---- disks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small disk can be made here: {error}")
    if done.returncode:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, left: int) -> None:
    """Leave so many bytes free, in whole pages of 4096."""
    (disk / "filler").write_bytes(b"x" * (512 * 1024 - left))


def fill_when_writing(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full from the first frames on."""
    write = VideoWriter.write

    def late(writer: VideoWriter, frames: Any) -> None:
        fill(disk, 0)
        write(writer, frames)

    monkeypatch.setattr(VideoWriter, "write", late)


def test_a_disk_too_small_for_latents_is_refused_before_any_work(generate: Call, disk: Path) -> None:
    fill(disk, 0)
    for more in ({"output": disk / "a.mp4"}, {}):
        flags = [] if more else ["--save-latents", disk / "a.safetensors"]
        code, error = generate(*flags, **more)
        assert code == 1
        assert re.search(r"cannot write .+/disk/a\.\w+: 4\.0 KiB are needed, 0 B are free on that disk; free ", error)
        assert "pipeline distilled" in error
        assert "stage 1" not in error
    assert [p.name for p in disk.iterdir()] == ["filler"]


def test_a_disk_that_fills_while_decoding_costs_no_latents(
    generate: Call, call: Call, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Names
) -> None:
    assert generate("--no-audio", output=tmp_path / "whole.mp4")[0] == 0
    fill_when_writing(disk, monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, error = generate("--no-audio", output=disk / "a.mp4")
    assert code == 1
    assert re.search(r"cannot write .+/disk/a\.mp4: No space left on device \(\d.* were written, \d.* are free", error)
    kept = re.search(r"the latents are in (.+); what goes on from there: (.+)", error)
    assert kept, error
    assert shlex.split(kept[2]) == ["ltx-models", "decode", kept[1], "--checkpoint", str(files["path"])]
    assert [p.name for p in disk.iterdir()] == ["filler"]
    monkeypatch.undo()
    assert (
        call("decode", kept[1], "--checkpoint", files["path"], "--audio", "none", "-o", tmp_path / "again.mp4")[0] == 0
    )
    one, other = (list(iter_frames(tmp_path / name)) for name in ("whole.mp4", "again.mp4"))
    np.testing.assert_array_equal(one, other)


def test_latents_go_elsewhere_when_their_own_place_is_full(
    files: Names, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pipe = LTX2Pipeline.from_pretrained(files["path"], pipeline="distilled-one-stage", dtype="float32")

    def late(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("denoise", 4):
            fill(disk, 0)

    with pytest.raises(DiskError, match=r"disk/x\.safetensors: No space left") as caught:
        pipe(
            prompt_embeds=contexts(1),
            height=64,
            width=64,
            num_frames=9,
            progress=late,
            save_latents=disk / "x.safetensors",
        )
    assert str(tmp_path / "x.latents.safetensors") in caught.value.__notes__[0]
    assert read_latents(tmp_path / "x.latents.safetensors").audio is not None


@pytest.mark.parametrize("verb", ["decode", "reconstruct", "convert", "encode"])
def test_a_full_disk_ends_every_verb_with_code_1(
    verb: str, call: Call, files: Names, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = files["path"].parent / "saved.safetensors"
    write_latents(saved, np.random.default_rng(0).normal(size=(1, 128, 2, 2, 2)), fps=24)
    if verb == "decode":
        fill_when_writing(disk, monkeypatch)
    else:
        fill(disk, 200_000 if verb == "convert" else 4096)
    arguments: dict[str, list[Any]] = {
        "decode": [saved, "--checkpoint", default_checkpoint(), "-o", disk / "a.mp4"],
        "reconstruct": [files["clip"], "--frames", "9", "-o", disk / "a.mp4"],
        "encode": [files["clip"], "--frames", "9", "-o", disk / "a.safetensors"],
        "convert": [files["path"], disk / "a", "--layout", "split"],
    }
    code, error = call(verb, *arguments[verb])
    assert code == 1, error
    assert re.search(r"/disk/a\S*: (No space left on device|\d.* are needed)", error)
    assert re.search(r"\d are free|B are free", error)
    assert [p.name for p in disk.iterdir()] == ["filler"]


def test_places_without_permission_are_refused_before_any_work(generate: Call, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for place, reason in ((disk, "Read-only file system"), (tmp_path / "file", "Not a directory")):
        code, error = generate(output=place / "a.mp4")
        assert code == 2
        assert f"cannot write {place}/a.mp4: {reason}; choose a folder that exists and can be written" in error
        assert generate("--save-latents", place / "a.safetensors")[0] == 2
    assert not (tmp_path / "a.mp4").exists()


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Without the rights of root, which may write everywhere."""
    place = tmp_path / "a.mp4"
    refuse_unwritable(place)  # imports what it needs, which another user may not read
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            else:
                tmp_path.chmod(0o500)
            refuse_unwritable(place)
        except MediaError as error:
            os._exit(7 if f"cannot write {place}: Permission denied; choose a folder" in str(error) else 8)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


# ---- packages --------------------------------------------------------------------------------------------------


# the backend that is imported in no time, where either will do
QUICK = ["--backend", "mlx"] if find_spec("mlx") else []


@pytest.mark.parametrize(
    ("package", "more", "text"),
    [
        ("torch", ["--backend", "torch"], "pip install 'tilekit-vae[torch]'"),
        ("mlx.core", ["--backend", "mlx"], "pip install 'tilekit-vae[mlx]'"),
        ("av", QUICK, "pip install 'tilekit-vae[video]'"),
        ("torchao", ["--quantization", "int8", "--backend", "torch"], "pip install torchao"),
        ("huggingface_hub", [*QUICK, "--checkpoint-path", "owner/name"], "pip install 'tilekit-vae[hub]'"),
    ],
)
def test_missing_packages_are_named_with_the_remedy(
    package: str, more: list[str], text: str, files: Names, tmp_path: Path
) -> None:
    """In a process of its own, where nothing has been imported before."""
    code = f"import sys; sys.modules[{package!r}] = None\nfrom ltx_models.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["generate", "--checkpoint-path", files["path"], "--embeds", files["embeds"], *SMALL, *more]
    line = [sys.executable, "-c", code, *map(str, command)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_missing_language_model_library_is_named(
    generate: Call, files: Names, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gemma = tmp_path / "gemma"
    gemma.mkdir()
    (gemma / "config.json").write_text('{"model_type": "gemma3"}')
    (gemma / "tokenizer.json").write_text("{}")
    save_file({"x": np.ones(1)}, gemma / "model.safetensors")
    monkeypatch.setitem(sys.modules, "transformers", None)
    code, error = generate("--prompt", "a fox", "--gemma-root", gemma, embeds=False)
    assert code == 2
    assert "needs transformers" in error
    assert "pip install 'tilekit-vae[text]'" in error


# ---- LoRAs -----------------------------------------------------------------------------------------------------


def changed(files: Names, target: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    save_file(change(load_file(files["lora"])), target)
    return target


LORAS: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    (lambda x: {k: v[:, :-1] if "lora_A" in k else v for k, v in x.items()}, r"transformer_blocks\.\S+: LoRA "),
    (lambda x: {k: v[:-1] if "lora_B" in k else v for k, v in x.items()}, r"for a weight of \(\d+, \d+\), expected"),
    (lambda x: {k: v.T if "lora_A" in k else v for k, v in x.items()}, r"expected \(out, r\) x \(r, in\)"),
    (lambda x: {k: v[..., None] for k, v in x.items()}, r"LoRA \(\d+, 2, 1\) x"),
    (lambda x: x | {"diffusion_model.caption_projection.linear_1.lora_A.weight": np.ones((2, 4), np.float32)},
     r"1 keys match no layer of this model: diffusion_model\.caption_projection\S+; is it of another version of LTX-2"),
    (lambda x: {k: v for k, v in x.items() if "lora_B" not in k}, "has 0 factors lora_B or lora_up, expected one"),
    (lambda x: {"weight": np.ones(2, np.float32)}, "is it a LoRA"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), LORAS)
def test_loras_that_do_not_belong_to_the_checkpoint_are_refused_by_name(
    files: Names, tmp_path: Path, change: Any, text: str, generate: Call
) -> None:
    wrong = changed(files, tmp_path / "wrong.safetensors", change)
    code, error = generate("--lora", wrong)
    assert code == 2
    assert re.search(text, error), error
    assert str(wrong) in error
    assert "pipeline" not in error, "refused before anything is begun"
    code, error = generate("--pipeline", "dev-two-stage", "--distilled-lora", wrong)
    assert (code, bool(re.search(text, error))) == (2, True)


def test_loras_fit_quantised_files_as_they_fit_plain_ones(files: Names, tmp_path: Path) -> None:
    from ltx_models.convert import convert

    convert(files["path"], tmp_path / "fp8.safetensors", quantize="fp8")
    check_lora(files["lora"], tmp_path / "fp8.safetensors")
    check_lora(files["lora"], files["path"])


# ---- values of flags -------------------------------------------------------------------------------------------

VALUES: list[tuple[list[str], str]] = [
    (["-H", "65"], r"height: got 65, must be a multiple of 64; nearest 64 and 128"),
    (["-H", "0"], r"--height: expected a whole number of at least 1, got '0'"),
    (["-W", "-64"], r"--width: expected a whole number of at least 1, got '-64'"),
    (["-W", "wide"], r"--width: expected a whole number of at least 1, got 'wide'"),
    (["-n", "10"], r"frames: got 10, must be 1 \+ 8k; nearest 9 and 17"),
    (["-n", "1.5"], r"--num-frames: expected a whole number"),
    (["--frame-rate", "0"], r"frame.rate: .*0"),
    (["--frame-rate", "nan"], r"frame.rate: .*nan"),
    (["--fps", "-24"], r"frame.rate: .*-24"),
    (["--seed", "x"], r"--seed: .*'x'"),
    (["--seed", "-1"], r"seed: got -1, .*0"),
    (["--steps", "0"], r"--num-inference-steps/--steps: expected a whole number of at least 1, got '0'"),
    (["--pipeline", "slow"], r"--pipeline: invalid choice: 'slow' \(choose from '?distilled"),
    (["--backend", "jax"], r"--backend: invalid choice: 'jax'"),
    (["--dtype", "int8"], r"--dtype: invalid choice: 'int8'"),
    (["--quantization", "int3"], r"--quantization: invalid choice: 'int3'"),
    (["--quantization", "int4"], r"quantize: got 'int4', allowed with torch are 'fp8', 'int8'"),
    (["--device", "warp"], r"device: got 'warp', torch has cpu"),
    (["--memory", "lots"], r"--memory: expected a size such as 16GB or 500MiB, .* got 'lots'"),
    (["--memory", "0.1MB"], r"memory: 97.7 KiB is too little; this checkpoint needs at least"),
    (["--pipeline", "dev-two-stage"], r"needs the distilled LoRA"),
    (["--image", "wide.png"], r"--image takes FILE FRAME STRENGTH \[CRF\], got 1 values"),
    (["--lora", "a", "1", "2"], r"--lora takes FILE \[STRENGTH\], got 3 values"),
    (["--memory", "8GB", "--offload"], r"chooses quantize and offload itself"),
    (["--image", "missing.png", "0", "1"], r"missing\.png: cannot be read as a picture: No such file"),
    (["--image", "broken.png", "0", "1"], r"broken\.png: cannot be read as a picture"),
    (["--image", "wide.png", "0", "1"], r"wide\.png: 128x64 would lose 50% of a side.*--fit crop"),
    (["--image", "wide.png", "9", "1"], r"frame 9 is not in the clip, which has frames 0 to 8"),
    (["--image", "wide.png", "0", "2"], r"strength is 2\.0, allowed is 0 to 1"),
    (["--image", "wide.png", "0", "nan"], r"strength is nan, allowed is 0 to 1"),
    (["--image", "wide.png", "0", "1", "99", "--fit", "crop"], r"image crf: got 99, allowed is 0"),
    (["--image", "wide.png", "0.5", "1"], r"--image: got '0\.5', expected a whole number"),
    (["--fit", "stretch"], r"--fit: invalid choice: 'stretch'"),
    (["--lora", "missing.safetensors"], r"missing\.safetensors: no such file"),
    (["--lora", "a.safetensors", "strong"], r"--lora: got 'strong', expected a number"),
    (["--video-conditioning", "missing.mp4", "1"], r"cannot read missing\.mp4"),
    (["--video-conditioning", "clip.mp4", "much"], r"--video-conditioning: got 'much', expected a number"),
    (["--audio-path", "missing.wav"], r"cannot read missing\.wav"),
    (["--audio-path", "clip.mp4"], r"clip\.mp4: .*no sound"),
    (["--audio-path", "missing.wav", "--audio-start-time", "-1"], r"audio_start: got -1\.0, expected seconds"),
    (["--audio-start-time", "3"], r"--audio-start-time: got 3\.0, but it goes with --audio-path"),
    (["--video-path", "clip.mp4"], r"--video-path needs --start-time and --end-time"),
    (["--start-time", "1"], r"--start-time: got 1\.0, but it goes with --video-path"),
    (["--video-cfg-guidance-scale", "nan"], r"--video-cfg-guidance-scale: got nan, allowed is a finite number"),
    (["--video-stg-blocks", "99", "--pipeline", "dev"], r"--video-stg-blocks: got 99, allowed is 0 to 2"),
    (["--audio-rescale-scale", "2", "--pipeline", "dev"], r"--audio-rescale-scale: got 2, allowed is 0 to 1"),
    (["--video-skip-step", "-1", "--pipeline", "dev"], r"--video-skip-step: got -1, allowed is 0 or more"),
    (["--apg-eta", "1"], r"--apg-eta: got 1\.0, but it goes with --apg"),
    (["--preview-every", "0"], r"--preview-every: expected a whole number of at least 1"),
    (["--only-audio", "--no-audio"], r"not allowed with argument"),
    (["--only-audio"], r"cannot write (.*/)?a\.mp4: its name must end in \.wav or \.flac"),
    (["--only-audio", "--save-latents", "l.safetensors", "-o", "a.wav"], r"there are no pictures in this run"),
    (["--frames-png", "."], r"--frames-png: got \., which is there and not empty; give a new folder"),
    (["-o", "a.avi"], r"cannot write a\.avi: its name must end in \.mp4"),
    (["-o", "."], r"is a folder"),
    (["--save-latents", "missing/l.safetensors"], r"cannot write missing/l\.safetensors"),
    (["--prompt", "a fox"], r"prompt"),
    (["--enhance-prompt"], r"enhance"),
    (["--embeds", "clip.mp4"], r"clip\.mp4"),
    (["--embeds", "lora.safetensors"], r"expected the arrays video and audio"),
    (["--checkpoint-path", "missing.safetensors"], r"missing\.safetensors: no such file"),
    (["--checkpoint-path", "clip.mp4"], r"clip\.mp4: expected a \.safetensors file"),
    (["--checkpoint-path", "upsampler.safetensors"], r"no transformer in it"),
    (["--spatial-upsampler-path", "tiny-2.3.safetensors"], r"tiny-2\.3\.safetensors"),
    (["--gemma-root", "nowhere"], r"--gemma-root"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "text"), VALUES, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_wrong_values_name_flag_value_and_remedy(
    more: list[str], text: str, generate: Call, files: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = files["path"].parent
    monkeypatch.chdir(folder)
    before = {p.name for p in folder.iterdir()}
    code, error = generate(*more)
    said = error.splitlines()[-1]
    assert code == 2, error
    assert re.search(text, said), said
    assert len(error) < 1000
    assert {p.name for p in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("prompt", "text"), [("", "prompt: is empty"), ("  \n ", "prompt: is empty"), (None, "give --prompt, or --embeds")]
)
def test_prompts_that_say_nothing_are_refused(prompt: str | None, text: str, generate: Call) -> None:
    code, error = generate(*([] if prompt is None else ["--prompt", prompt]), embeds=False)
    assert code == 2
    assert text in error


def test_what_a_pipeline_does_not_use_is_said(generate: Call) -> None:
    code, error = generate("--negative-prompt", "rain", "--video-cfg-guidance-scale", "2", "--steps", "4", "--no-audio")
    assert code == 0
    assert "negative_prompt, guidance, num_inference_steps: not used by the pipeline 'distilled'" in error
    code, error = generate("--video-cfg-guidance-scale", "3", "--no-audio")
    assert (code, "not used" in error) == (0, False)


class Words:
    """A tokenizer: a number for each word."""

    bos_token_id = 2

    def __call__(self, text: str, truncation: bool) -> dict[str, list[int]]:
        return {"input_ids": [2] * len(text.split())}


def test_a_prompt_that_is_too_long_is_cut_and_that_is_said_in_one_line(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = TextEncoder(get_backend("torch"), None, Words(), 32)  # type: ignore[arg-type]  # only words are counted
    kept: list[int] = []

    def run(args: Any) -> None:
        kept.append(len(encoder.tokenize(["word " * 5000]).ids[0]))

    monkeypatch.setattr("ltx_models.cli.plan.run", run)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert call("plan") == (
            0,
            "ltx-models: prompt 0 has 5000 tokens, the limit is 32; the last 4968 are left out\n",
        )
    assert kept == [32]
