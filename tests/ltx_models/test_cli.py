"""The command line, as its users call it: what it makes, what it says, and what it refuses in one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra 'video'")
pytest.importorskip("PIL", reason="needs the extra 'video'")

from tests.ltx_models.command_line import run

import ltx_models
from ltx_models import media
from ltx_models.checkpoints.latent_space import Kind, latent_space
from ltx_models.cli import machine, main, missing, options, report
from ltx_models.convert import convert
from ltx_models.defaults import toy_checkpoint
from ltx_models.nn import BackendName
from tilekit import Tiling, TilingConfig

BACKENDS = ("torch", "mlx")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> BackendName:
    name: BackendName = request.param
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[name])
    return name


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of 72x104 with a little more than half a second of sound: nothing of it fits the grid."""
    path = tmp_path_factory.mktemp("cli") / "clip.mp4"
    f, y, x = np.meshgrid(np.arange(12), np.arange(72), np.arange(104), indexing="ij")
    video = np.stack([np.sin(x / 17 + f / 5 + c) * np.cos(y / 13 - f / 7 + c) for c in range(3)])[None]
    sound = 0.3 * np.sin(np.arange(26000) / 20, dtype=np.float32)[None, None]
    media.write_video(path, video.astype(np.float32), fps=24, audio=(sound, 48000))
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# ---- what it makes -----------------------------------------------------------------------------------------


def test_reconstruct_leaves_video_latents_and_pictures_and_says_what_it_did(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path, backend: BackendName
) -> None:
    code, out, err = run(
        capsys, "reconstruct", clip, "--frames", 9, "--tiling", "64/32,16/8", "--tile-batch-size", 2,
        "--backend", backend, "-o", tmp_path / "new/a.mp4", "--pictures", tmp_path / "new",
    )  # fmt: skip
    assert (code, err) == (0, "")
    tmp_path /= "new"
    assert names(tmp_path) == ["a.mp4", "a.safetensors", "plan.png", "sheet.png"]
    read = media.read_video(tmp_path / "a.mp4")
    assert read.video.shape == (1, 3, 9, 64, 96)
    assert read.fps == 24
    # The sound is the original's, up to the packet in which the frames end.
    sound, original = media.read_audio(tmp_path / "a.mp4")[0], media.read_audio(clip)[0]
    assert abs(sound.shape[2] - 9 * 2000) <= 1024
    np.testing.assert_array_equal(sound, original[:, :, : sound.shape[2]])
    assert media.read_latents(tmp_path / "a.safetensors").latents.shape == (1, 128, 2, 2, 3)
    assert "104x72 is off the grid of 32 pixels: cropped to 96x64" in out
    assert "the first 9 of 12 frames" in out
    assert re.search(r"tiles +2 +2 +1\n", out)
    assert re.search(r"calls +1 +1 +1\n", out)
    assert re.search(r"redundant work +1\.33x +1\.33x +1\.00x\n", out)
    assert re.search(r"to the whole +largest \S+, mean \S+,", out)
    assert max(map(len, (line for line in out.splitlines() if str(tmp_path.parent) not in line))) <= 80


def test_the_difference_told_is_that_of_the_arrays(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path, backend: BackendName
) -> None:
    """One tile is the whole decode; two tiles differ by what the library's own calls differ by."""
    told = {}
    for tiling in ("none", "64/32"):
        code, out, _ = run(
            capsys, "reconstruct", clip, "--frames", 9, "--tiling", tiling, "--backend", backend, "--json",
            "-o", tmp_path / "a.mp4",
        )  # fmt: skip
        assert code == 0
        told[tiling] = json.loads(out)
    assert told["none"]["difference"]["largest"] <= 1e-5
    from tilekit import decode_tiled

    decoder: Any = ltx_models.load_video_decoder(ltx_models.default_checkpoint(), backend=backend, dtype="float32")
    latents = decoder.nn.asarray(media.read_latents(tmp_path / "a.safetensors").latents)
    tiled = decode_tiled(decoder, latents, Tiling(height=(64, 32), width=(64, 32)))
    difference = np.abs(media.as_float32(tiled) - media.as_float32(decoder(latents)))
    assert told["64/32"]["difference"]["largest"] == pytest.approx(float(difference.max()), abs=1e-5)
    assert told["64/32"]["difference"]["mean"] == pytest.approx(float(difference.mean()), abs=1e-6)
    assert float(difference.max()) > 1e-3
    # The told fidelity is that of the file's frames before their compression.
    assert told["none"]["psnr"] > 8


def test_encode_then_decode_gives_the_video_of_reconstruct(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path
) -> None:
    pytest.importorskip("torch")
    tiling = ("--tiling", "64/32", "--backend", "torch")
    assert run(capsys, "reconstruct", clip, "--frames", 9, *tiling, "-o", tmp_path / "a.mp4")[0] == 0
    code, out, _ = run(capsys, "encode", clip, "--frames", "all", *tiling, "-o", tmp_path / "b.safetensors", "--json")
    assert code == 0
    assert json.loads(out)["shape"] == [1, 128, 2, 2, 3]
    assert "12 frames are not 1 + 8k: the last 3 are left out" in json.loads(out)["notes"]
    one, other = (media.read_latents(tmp_path / n).latents for n in ("a.safetensors", "b.safetensors"))
    np.testing.assert_array_equal(one, other)
    code, out, _ = run(capsys, "decode", tmp_path / "b.safetensors", *tiling, "-o", tmp_path / "b.mp4")
    assert code == 0
    assert "9 frames of 96x64 at 24 fps, blended tiles, 64/32" in out
    a, b = tmp_path / "a.mp4", tmp_path / "b.mp4"
    np.testing.assert_array_equal(media.read_video(a).video, media.read_video(b).video)
    np.testing.assert_array_equal(media.read_audio(a)[0], media.read_audio(b)[0])
    assert run(capsys, "decode", tmp_path / "b.safetensors", "--audio", "none", "-o", tmp_path / "c.mp4")[0] == 0
    assert media.probe_video(tmp_path / "c.mp4").audio is None


def test_exact_is_without_seams_and_the_default(capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path) -> None:
    pytest.importorskip("torch")
    for flags in ([], ["--exact", "--tiling", "64/32"], ["--memory", "12MB"]):
        code, out, _ = run(
            capsys, "reconstruct", clip, "--frames", 9, "--json", "-o", tmp_path / "a.mp4", *flags, "--backend", "torch"
        )
        told = json.loads(out)
        assert code == 0
        assert told["how"] == "exact"
        assert told["difference"]["largest"] < 1e-4
        assert told["decode"]["redundant_work"] == pytest.approx(1, abs=0.5)
    assert "12" in told["chosen"], "the budget is told"
    out = run(capsys, "decode", tmp_path / "a.safetensors", "--no-exact", "--json", "-o", tmp_path / "b.mp4")[1]
    assert json.loads(out)["how"] == "blended tiles, default"
    assert "exact decode of latents" in run(capsys, "decode", tmp_path / "a.safetensors", "-o", tmp_path / "b.mp4")[1]


def test_plan_counts_the_published_example_and_draws_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["plan", "--size", "1920x1088", "--frames", "121", "--tiling", "512/64,64/24"]
    code, out, _ = run(capsys, *arguments, "--json", "--png", tmp_path / "plan.png")
    facts = json.loads(out)
    assert (code, facts["tiles"], facts["calls"]) == (0, 45, 45)
    # Frames of tiles of 8, 9 and 7 latents over 121, rows of 16, 16 and 6 over 34, columns of 4 x 16 and 4 over 60.
    assert facts["redundant_work"] == pytest.approx((57 + 65 + 49) / 121 * 38 / 34 * 68 / 60)
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert "redundant work 1.79x" in out
    assert max(map(len, out.splitlines())) <= 80
    encode = ["plan", "--size", "3840x2144", "--frames", "9", "--tiling", "512/128", "--encode", "--json"]
    assert json.loads(run(capsys, *encode)[1])["calls"] == 60
    assert json.loads(run(capsys, *encode, "--tile-batch-size", "45")[1])["calls"] == 4


def test_info_counts_what_the_file_holds(capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors import safe_open

    path = ltx_models.default_checkpoint()
    code, out, _ = run(capsys, "info", path, "--json")
    facts = json.loads(out)
    assert code == 0
    with safe_open(path, "numpy") as file:
        keys = list(file.keys())
    assert sum(c["keys"] for c in facts["components"].values()) == len(keys)
    for name, prefix in [("video encoder", "vae.encoder."), ("video decoder", "vae.decoder.")]:
        assert facts["components"][name]["keys"] == sum(k.startswith(prefix) for k in keys)
    assert "vae" in facts["config"]
    code, out, _ = run(capsys, "info")
    assert re.search(r"video decoder +\d+ +[\d,]+ +\d", out)
    assert "config.vae: " in out
    assert json.loads(run(capsys, "info", path, "--config")[1]) == facts["config"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("none", None),
        ("default", TilingConfig.default()),
        ("aggressive", TilingConfig.aggressive()),
        ("conservative", TilingConfig.conservative()),
        ("auto", TilingConfig.auto(704, 1280, 121)),
        ("512/64", Tiling(height=(512, 64), width=(512, 64))),
        ("512/64,64/24", Tiling(height=(512, 64), width=(512, 64), frames=(64, 24))),
        ("-,64/24", Tiling(frames=(64, 24))),
        ("512/64,768/96,-", Tiling(height=(512, 64), width=(768, 96))),
    ],
)
def test_a_tiling_is_what_its_text_says(text: str, wanted: Any) -> None:
    assert options.tiling(text, (121, 704, 1280)) == wanted


# ---- what it refuses ---------------------------------------------------------------------------------------

REFUSED: list[tuple[list[str], str]] = [
    ([], "the following arguments are required"),
    (["fly"], "invalid choice: 'fly'"),
    (["reconstruct", "CLIP", "--frames", "10"], r"expected 1 \+ 8k frames or 'all', got 10; nearest 9 or 17"),
    (["reconstruct", "CLIP", "--frames", "0"], "at least 1, got '0'"),
    (["reconstruct", "CLIP", "--frames", "17"], "has 12 frames, 17 are wanted"),
    (["reconstruct", "CLIP", "--fit", "refuse"], "104x72 is off the grid of 32 pixels; nearest 96x64 or 128x96"),
    (["reconstruct", "nowhere.mp4"], "cannot read nowhere.mp4: No such file"),
    (["reconstruct", "CLIP", "--tiling", "512"], "expected default, .* or SIZE/OVERLAP,.*, got '512'"),
    (["reconstruct", "CLIP", "--frames", "9", "--tiling", "64/64"], "overlap"),
    (["reconstruct", "CLIP", "--frames", "9", "--tiling", "50/0"], "multiple of 32, got 50"),
    (["reconstruct", "CLIP", "--tile-batch-size", "0"], "at least 1, got '0'"),
    (["reconstruct", "CLIP", "--tile-batch-size", "-1"], "at least 1, got '-1'"),
    (["reconstruct", "CLIP", "--memory", "much"], "expected a size such as 16GB or 500MiB"),
    (["reconstruct", "CLIP", "--memory", "0GB"], "expected a size such as 16GB or 500MiB"),
    (["decode", "LATENTS", "--memory", "9kB"], "the least that an exact decode of latents .* needs is"),
    (["reconstruct", "CLIP", "--backend", "jax"], "invalid choice: 'jax'"),
    (["reconstruct", "CLIP", "--dtype", "int8"], "invalid choice: 'int8'"),
    (["reconstruct", "CLIP", "--frames", "9", "--checkpoint", "CLIP"], "expected a .safetensors file"),
    (["reconstruct", "CLIP", "--frames", "9", "--checkpoint", "no.safetensors"], "no such file"),
    (["reconstruct", "CLIP", "-o", "missing/a.mp4"], "cannot write missing/a.mp4: No such file"),
    (["reconstruct", "CLIP", "-o", "."], "is a folder"),
    (["reconstruct", "CLIP", "--latents", "missing/a.safetensors"], "cannot write missing/a.safetensors"),
    (["reconstruct", "CLIP", "--pictures", "p", "--compare", "none"], "leave --compare none out"),
    (["encode", "CLIP", "-o", "missing/a.safetensors"], "cannot write"),
    (["decode", "CLIP"], "cannot read latents"),
    (["decode", "LATENTS", "-o", "missing/a.mp4"], "cannot write"),
    (["decode", "LATENTS", "--audio", "nowhere.wav"], "cannot read nowhere.wav"),
    (["plan", "--size", "1280"], "expected WIDTHxHEIGHT"),
    (["plan", "--size", "1280x720"], r"1280x720 with 121 frames is off the grid .*; nearest 1280x704 with 121"),
    (["plan", "--frames", "20"], "nearest 1280x704 with 17"),
    (["plan", "--tiling", "64/32,10/3"], "multiple of 8, got 10"),
    (["info", "CLIP"], "expected a .safetensors file"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_mistakes_are_one_line_and_exit_code_2_and_leave_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clip: Path,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    latents = clip.with_name("latents.safetensors")
    if not latents.exists():
        space = latent_space(ltx_models.default_checkpoint())
        media.write_latents(latents, np.zeros((1, 128, 1, 1, 1), np.float32), fps=25, space=space)
    given = [{"CLIP": str(clip), "LATENTS": str(latents)}.get(a, a) for a in arguments]
    code, out, err = run(capsys, *given)
    assert code == 2
    assert [line for line in out.splitlines() if not line.startswith("runs with ")] == []
    assert err.count("\n") == 1
    assert err.startswith("ltx-models")
    assert re.search(said, err)
    assert not [n for n in names(tmp_path) if n != "p"]


def test_latents_find_their_own_autoencoder_and_refuse_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Any latents were decoded by the small autoencoder: brown mush, exit status 0."""
    pytest.importorskip("torch")
    toy = toy_checkpoint()
    spaces = {"tiny": latent_space(ltx_models.default_checkpoint()), "toy": latent_space(toy), "none": None}
    spaces["other"] = media.LatentSpace("owner/LTX", "0123456789abcdef")
    latents = np.random.default_rng(0).normal(size=(1, 128, 1, 2, 2)).astype(np.float32)
    for name, space in spaces.items():
        media.write_latents(tmp_path / f"{name}.safetensors", latents, fps=25, space=space)
    flags = ("--backend", "torch", "--json", "-o", tmp_path / "a.mp4")
    refused: dict[tuple[Any, ...], str] = {
        ("none",): "none.safetensors: does not say which autoencoder its latents belong to; name it with --checkpoint",
        ("other",): "belong to the autoencoder of 'owner/LTX', which is none of ours; name its file with --checkpoint",
        ("tiny", "--checkpoint", toy): "belong to the autoencoder of 'tiny-video-vae', and .* has another",
        ("toy", "--checkpoint", ltx_models.default_checkpoint()): "autoencoder of 'toy-distilled', and .* has another",
    }
    for (name, *more), text in refused.items():
        code, _, err = run(capsys, "decode", tmp_path / f"{name}.safetensors", *more, *flags)
        assert (code, err.count("\n")) == (2, 1)
        assert re.search(text, err), err
        assert not (tmp_path / "a.mp4").exists()
    named = ["--checkpoint", toy]
    decoded = []
    for name, given in (("tiny", []), ("toy", []), ("toy", named), ("none", named)):
        assert run(capsys, "decode", tmp_path / f"{name}.safetensors", *given, *flags)[0] == 0
        decoded.append(media.read_video(tmp_path / "a.mp4").video)
    np.testing.assert_array_equal(decoded[1], decoded[2])
    np.testing.assert_array_equal(decoded[1], decoded[3])
    assert np.abs(decoded[1] - decoded[0]).max() > 0.1


@pytest.mark.parametrize("layout", ["official", "split", "mlx"])  # diffusers has no place for so small a network
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_an_autoencoder_is_known_in_every_layout_and_dtype(tmp_path: Path, layout: Any, dtype: Any) -> None:
    target = tmp_path / ("a.safetensors" if layout == "official" else "a")
    convert(toy_checkpoint(), target, layout=layout, dtype=dtype)
    kinds: tuple[Kind, ...] = ("video", "audio")
    for kind in kinds:
        one, other = latent_space(toy_checkpoint(), kind), latent_space(target, kind)
        assert one is not None
        assert other is not None
        assert one.digest == other.digest


def test_nothing_that_is_read_is_written_over(capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path) -> None:
    """Output equal to input lost hours of work; two outputs of one name lost one of them."""
    saved, copy = tmp_path / "l.safetensors", tmp_path / "clip.mp4"
    copy.write_bytes(clip.read_bytes())
    media.write_latents(saved, np.zeros((1, 128, 1, 1, 1), np.float32), fps=25, source=str(copy))
    (tmp_path / "round.mp4").symlink_to("l.safetensors")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for arguments in (
        ("decode", saved, "-o", tmp_path / "round.mp4"),
        ("decode", saved, "-o", copy),
        ("decode", saved, "-o", saved),
        ("decode", saved, "-o", tmp_path / "x.png"),
        ("encode", copy, "-o", tmp_path / "x.mp4"),
        ("encode", saved, "-o", saved),
        ("reconstruct", copy, "-o", copy),
        ("reconstruct", copy, "-o", tmp_path / "new.mp4", "--latents", tmp_path / "new.mp4"),
        ("upscale-latents", saved, "--upsampler", saved, "-o", saved),
        ("vocode", saved, "-o", tmp_path / "x.flac"),
        ("audio-roundtrip", saved, "-o", tmp_path / "round.mp4"),
        ("convert", saved, saved, "--overwrite"),
        ("convert", saved, tmp_path, "--overwrite", "--layout", "mlx"),
        ("plan", "--png", tmp_path / "x.mp4"),
        ("generate", "-p", "a red circle", "-o", tmp_path / "x.png"),
        ("generate", "-p", "a red circle", "-o", tmp_path / "x.mp4", "--save-latents", tmp_path / "x.mp4"),
        ("generate", "-p", "a red circle", "-o", copy, "--audio-path", copy),
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 2, arguments
        assert re.search(r"cannot write .*: (the same file is|its name must end in) .*; choose another name", err)
        assert "Traceback" not in err
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_debug_shows_where_an_error_came_from(clip: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a \.safetensors file"):
        main(["info", str(clip), "--debug"])


def test_a_missing_backend_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'tilekit-vae\[torch\]'"):
        machine.backend_name(None)


INTERRUPTED = """
import os, signal, sys
from ltx_models.cli import main
from ltx_models.media import VideoWriter

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may have been told to ignore it
write = VideoWriter.write

def interrupted(writer, frames):
    write(writer, frames)
    assert [name for name in os.listdir() if name.startswith(".a.mp4")], "the mp4 is begun"
    os.kill(os.getpid(), signal.SIGINT)

VideoWriter.write = interrupted
sys.exit(main(sys.argv[1:]))
"""


def test_an_interrupted_reconstruction_leaves_no_video(tmp_path: Path, clip: Path) -> None:
    """The signal comes when the first frames are in the mp4."""
    pytest.importorskip("torch")
    command = [sys.executable, "-c", INTERRUPTED, "reconstruct", str(clip), "--frames", "9", "-o", "a.mp4"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    assert b"interrupted" in done.stderr
    assert names(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("verb", [[], ["reconstruct"], ["encode"], ["decode"], ["plan"], ["info"]])
def test_help_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(capsys, *verb, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (512, "512 B"), (2048, "2.0 KiB"), (999 * 2**20, "999.0 MiB"), (1.5 * 2**30, "1.5 GiB")],
)
def test_bytes_are_written_as_people_read_them(n_bytes: float, text: str) -> None:
    assert report.size_of(n_bytes) == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["decode", "a.safetensors", "--outptu", "x"],
            "ltx-models decode: got '--outptu', there is no such flag; did you ",
        ),
        (["decode", "a", "--outptu=x"], "did you mean --output?"),
        (["encode", "a.mp4", "--tilling", "none"], "ltx-models encode: .* did you mean --tiling?"),
        (
            ["encode", "a.mp4", "--zzz"],
            r"ltx-models encode: got '--zzz', there is no such flag \(see ltx-models encode",
        ),
        (
            ["info", "a.safetensors", "b.safetensors"],
            "ltx-models info: got 'b.safetensors', nothing more is expected here",
        ),
    ],
)
def test_unknown_arguments_are_said_with_the_verb_and_the_nearest_flag(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(said.replace("?", r"\?"), err), err


def test_all_missing_extras_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were named one at a time, each after the other was installed."""
    message = "video and sound files need PyAV; install it with: pip install 'tilekit-vae[video]'"
    monkeypatch.setattr(missing, "_is_there", lambda name: name == "torch")
    assert missing.also_missing(message) == [
        "also missing: text, hub; all at once: pip install 'tilekit-vae[video,text,hub]'"
    ]
    monkeypatch.setattr(missing, "_is_there", lambda name: name != "av")
    assert missing.also_missing(message) == []
    assert missing.also_missing("cannot read a.mp4") == []
