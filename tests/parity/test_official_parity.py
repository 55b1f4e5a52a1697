"""
Whole runs of the official pipelines beside ours: same files, noise and contexts, same latents after all steps.

The official packages ``ltx-core`` and ``ltx-pipelines`` 1.2.0 are read from a checkout of
https://github.com/Lightricks/LTX-2 (tag v1.2.0), which ``LTX_OFFICIAL`` names; they run in a process of their own, so
that another version may be installed. They need av, einops, torchaudio, transformers and cloudpickle.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("av")

from tests.ltx_models.pipeline_files import contexts  # noqa: E402
from tests.parity.official_files import OfficialNoise, write_files  # noqa: E402

from ltx_models.media import as_float32, iter_frames, read_audio, write_audio, write_video  # noqa: E402
from ltx_models.nn import backend  # noqa: E402
from ltx_models.pipelines import RECIPES, Image, LTX2Pipeline, Reference, Retake  # noqa: E402
from ltx_models.pipelines.settings import defaults, schedules  # noqa: E402
from ltx_models.sampling import DISTILLED_SIGMAS, STAGE_2_SIGMAS, Ancestral, Guidance, ltx2_sigmas  # noqa: E402

TOLERANCE = 5e-3  # float32 after all steps
SCRIPT = Path(__file__).with_name("official_runs.py")
CHECKOUT = Path(os.environ.get("LTX_OFFICIAL", Path(__file__).parents[2] / ".nox" / "official"))
RECIPE = {
    "one_stage": "dev",
    "distilled": "distilled",
    "two_stages": "dev-two-stage",
    "hq": "dev-two-stage-hq",
    "keyframes": "keyframes",
    "audio": "dev-two-stage",
    "reference": "distilled",
    "sound": "dev",
}
GUIDED = {"cfg_scale": 3.0, "stg_scale": 1.0, "stg_blocks": [1], "modality_scale": 3.0, "rescale_scale": 0.7}
BOTH = {"video": GUIDED, "audio": GUIDED | {"cfg_scale": 7.0}}
QUIET = {
    "video": GUIDED | {"stg_scale": 0.0, "stg_blocks": [], "rescale_scale": 0.45},
    "audio": GUIDED | {"cfg_scale": 7.0, "stg_scale": 0.0, "stg_blocks": [], "rescale_scale": 1.0},
}
SIZE = {"seed": 10, "height": 128, "width": 128, "num_frames": 9, "frame_rate": 24.0}
DEV = SIZE | {"num_inference_steps": 4, "guidance": BOTH}
CLIP = {"seed": 10, "start_time": 0.2, "end_time": 0.5, "clip": "clip.mp4"}
PARTS = {"regenerate_video": True, "regenerate_audio": True}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "distilled": ("distilled", SIZE),
    "distilled, images": ("distilled", SIZE | {"images": [["a.png", 0, 0.7, 33], ["b.png", 8, 0.6, 20]]}),
    "dev": ("one_stage", DEV),
    "dev, image": ("one_stage", DEV | {"images": [["a.png", 0, 1.0, 0]]}),
    "dev, skipping steps": (
        "one_stage",
        DEV | {"guidance": {"video": GUIDED | {"skip_step": 1}, "audio": GUIDED | {"skip_step": 2}}},
    ),
    "dev, video guided alone": ("one_stage", DEV | {"guidance": {"video": GUIDED, "audio": {}}}),
    "two stages": ("two_stages", DEV),
    "two stages, images": ("two_stages", DEV | {"images": [["a.png", 0, 0.8, 33], ["b.png", 3, 1.0, 33]]}),
    "hq": ("hq", DEV | {"guidance": QUIET}),
    "hq, image": ("hq", DEV | {"guidance": QUIET, "images": [["a.png", 0, 0.9, 33]]}),
    "hq, many steps": ("hq", DEV | {"guidance": QUIET, "num_inference_steps": 9}),
    "keyframes": ("keyframes", DEV | {"images": [["a.png", 0, 1.0, 33], ["b.png", 8, 0.8, 33]]}),
    "audio": ("audio", DEV | {"audio": "tone.wav"}),
    "audio, image": ("audio", DEV | {"audio": "tone.wav", "images": [["a.png", 0, 1.0, 33]]}),
    "reference": ("reference", SIZE | {"references": [["clip.mp4", 1.0]], "lora": "lora"}),
    "reference, weak": (
        "reference",
        SIZE | {"references": [["clip.mp4", 0.8]], "lora": "lora", "attention": 0.4},
    ),
    "reference, small": ("reference", SIZE | {"references": [["clip.mp4", 1.0]], "lora": "small"}),
    "reference, slow": ("reference", SIZE | {"references": [["clip.mp4", 1.0]], "lora": "slow", "num_frames": 17}),
    "retake": ("retake", CLIP | PARTS),
    "retake, guided": ("retake", CLIP | PARTS | {"num_inference_steps": 4, "guidance": BOTH}),
    "retake, silent clip": ("retake", CLIP | PARTS | {"clip": "silent.mp4"}),
    "retake, short sound": ("retake", CLIP | PARTS | {"clip": "short.mp4"}),
    "retake, pictures": (
        "retake",
        CLIP | {"regenerate_video": True, "regenerate_audio": False, "frozen_clean": True},
    ),
    "retake, sound, guided": (
        "retake",
        CLIP
        | {"regenerate_video": False, "regenerate_audio": True, "frozen_clean": True}
        | {"num_inference_steps": 4, "guidance": BOTH},
    ),
    "sound": ("sound", DEV | {"guidance": {"audio": GUIDED | {"modality_scale": 1.0}}}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what runs are given."""
    pillow = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("official")
    draw = np.random.default_rng(3)
    for name, size in (("a", (128, 128)), ("b", (150, 144))):
        blocks = draw.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), np.uint8)
        picture = np.repeat(np.repeat(blocks, 8, 0), 8, 1)[: size[0], : size[1]]
        pillow.fromarray(picture).save(folder / f"{name}.png")
    blocks = draw.uniform(-1, 1, (1, 3, 17, 8, 8)).astype(np.float32)
    clip = np.repeat(np.repeat(blocks, 8, 3), 8, 4)
    sound = np.sin(np.arange(2 * 24000, dtype=np.float32).reshape(1, 2, -1) ** 1.2 / 99) / 2
    write_video(folder / "clip.mp4", clip, fps=24, crf=12, audio=(sound[:, :, : 24000 * 17 // 24], 24000))
    write_video(folder / "silent.mp4", clip, fps=24, crf=12)
    write_audio(folder / "tone.wav", sound, 24000)
    write_video(folder / "short.mp4", clip, fps=24, crf=12, audio=(sound[:, :, :9000], 24000))
    for name in ("clip.mp4", "short.mp4", "silent.mp4"):
        np.save(folder / f"{name}.npy", np.stack(list(iter_frames(folder / name))))
        if name != "silent.mp4":
            samples, rate = read_audio(folder / name)
            np.savez(folder / f"{name}.sound.npz", samples=samples, rate=rate)
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, str]:
    return write_files(folder, backend("torch"))


@pytest.fixture(scope="module")
def official(folder: Path, files: dict[str, str]) -> Callable[[str], Any]:
    """Run all cases in the official packages, once; and give what they keep."""
    sources = [CHECKOUT / "packages" / name / "src" for name in ("ltx-core", "ltx-pipelines")]
    if not all(source.is_dir() for source in sources):
        pytest.skip(
            f"no checkout of the official repository in {CHECKOUT}: git clone --branch v1.2.0 "
            "https://github.com/Lightricks/LTX-2, and name the folder by LTX_OFFICIAL"
        )
    for needed in ("av", "einops", "torchaudio", "transformers", "cloudpickle"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"the official packages need {needed}: pip install --no-deps {needed}")
    asked = {}
    for name, (kind, given) in CASES.items():
        ask = dict(given)
        for key in ("clip", "audio"):
            ask |= {key: str(folder / ask[key])} if key in ask else {}
        ask["images"] = [[str(folder / path), *more] for path, *more in ask.get("images", [])]
        ask["references"] = [[str(folder / path), strength] for path, strength in ask.get("references", [])]
        ask["loras"] = [[files[ask["lora"]], 1.0]] if "lora" in ask else []
        if not ask["images"]:
            del ask["images"]
        asked[name] = {"kind": kind, "files": files, "ask": ask}
    (folder / "requests.json").write_text(json.dumps(asked))
    path = os.pathsep.join([*map(str, sources), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder / "requests.json"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    def give(name: str) -> Any:
        if (folder / f"{name}.txt").exists():
            pytest.fail((folder / f"{name}.txt").read_text())
        return json.loads((folder / name).read_text()) if name.endswith(".json") else np.load(folder / f"{name}.npz")

    return give


def run_ours(name: str, framework: Any, files: dict[str, str], folder: Path) -> dict[str, Any]:
    """Run a case in our pipeline, and give its latents."""
    kind, ask = CASES[name]
    guided = "guidance" in ask
    recipe = RECIPES[RECIPE.get(kind, "dev" if guided else "distilled-one-stage")]
    pipe = LTX2Pipeline.from_pretrained(
        files["path"],
        pipeline=recipe.name,
        backend=framework,
        dtype="float32",
        upsampler=files["upsampler"],
        distilled_lora=files["lora"] if recipe.needs_lora else None,
        loras=[(files[ask["lora"]], 1.0)] if "lora" in ask else [],
    )
    given = {key: ask[key] for key in (*SIZE, "num_inference_steps") if key in ask}
    given |= {"prompt_embeds": contexts(1), "output_type": "latent", "fit": "crop"}
    if guided:
        numbers = {n: g | {"stg_blocks": tuple(g.get("stg_blocks", ()))} for n, g in ask["guidance"].items()}
        guidance = {n: Guidance(**g) for n, g in numbers.items()}
        given |= {"negative_prompt_embeds": contexts(2), "guidance": guidance}
    given["images"] = [Image(folder / path, *more) for path, *more in ask.get("images", [])]
    if "audio" in ask:
        given["audio"] = folder / ask["audio"]
    weak = ask.get("attention")
    given["references"] = [Reference(folder / path, strength, weak) for path, strength in ask.get("references", [])]
    if kind == "retake":
        stretch = ask["start_time"], ask["end_time"], ask["regenerate_video"], ask["regenerate_audio"]
        given["retake"] = Retake(folder / ask["clip"], *stretch)
    if kind == "sound":
        given["streams"] = ("audio",)
    streams = len(given.get("streams", "av"))
    count = ask.get("num_inference_steps", 0) if kind == "hq" else 0
    stages = [(streams, count), (streams, 3 if kind == "hq" else 0)][: 1 + recipe.two_stages]
    found = pipe(**given, draw=OfficialNoise(ask["seed"], stages)).latents
    return {n: as_float32(x) for n in ("video", "audio") if (x := getattr(found, n)) is not None}


@pytest.mark.parametrize("framework", ["torch", "mlx"])
@pytest.mark.parametrize("name", CASES)
def test_latents_are_those_of_the_official_pipeline(
    name: str,
    framework: Any,
    official: Callable[[str], Any],
    files: dict[str, str],
    folder: Path,
    record_property: Callable[[str, object], None],
) -> None:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[framework])
    wanted, got = official(name), run_ours(name, framework, files, folder)
    assert set(got) - {"audio"} == set(wanted) & {"video"}
    for stream, ours in got.items():
        # given sound goes to no decoder: its latents are those of the last stage
        last = sorted(key for key in wanted if key.endswith(f"_{stream}"))[-1]
        theirs = wanted[stream] if stream in wanted else wanted[last]
        assert np.abs(theirs).max() > 0.1
        error = float(np.abs(ours - theirs).max())
        record_property(f"{name}, {framework}, {stream}", error)
        assert error <= TOLERANCE, f"{stream}: {error:.2e}"
