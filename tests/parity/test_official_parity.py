"""
Whole runs of the official pipelines beside ours: same files, noise and contexts, same latents after all steps.

The official packages ``ltx-core`` and ``ltx-pipelines`` 1.2.0 are read from a checkout of
https://github.com/Lightricks/LTX-2 (tag v1.2.0), which ``nox -s parity`` makes, or ``LTX_OFFICIAL`` names. They run in
a process of their own, so that another version may be installed, and what they need besides need not be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("av")

from tests.ltx_models.pipeline_files import contexts  # noqa: E402
from tests.parity.gemma_folder import HIDDEN, LAYERS, SENTENCES, write_gemma  # noqa: E402
from tests.parity.official_files import OfficialNoise, write_files, write_text_files  # noqa: E402
from tests.parity.official_runs import APG  # noqa: E402

from ltx_models.media import as_float32, iter_frames, read_audio, write_audio, write_video  # noqa: E402
from ltx_models.nn import backend  # noqa: E402
from ltx_models.pipelines import RECIPES, Image, LTX2Pipeline, Reference, Retake  # noqa: E402
from ltx_models.pipelines.settings import SEED, defaults, schedules  # noqa: E402
from ltx_models.pipelines.steps import encode_prompts  # noqa: E402
from ltx_models.sampling import DISTILLED_SIGMAS, STAGE_2_SIGMAS, Guidance, ltx2_sigmas  # noqa: E402

TOLERANCE = 5e-3  # float32 after all steps
SCRIPT = Path(__file__).with_name("official_runs.py")
NOX = Path(__file__).parents[2] / ".nox"
CHECKOUT = Path(os.environ.get("LTX_OFFICIAL", NOX / "official"))
PACKAGES = NOX / "official-packages"
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
NEWER: dict[str, tuple[str, dict[str, Any]]] = {
    "distilled": ("distilled", SIZE),
    "distilled, images": ("distilled", SIZE | {"images": [["a.png", 0, 0.7], ["b.png", 8, 0.6]]}),
    "distilled, keyframes": ("distilled", SIZE | {"num_frames": 17, "keyframes": 2}),
    "distilled, keyframes and images": (
        "distilled",
        SIZE | {"keyframes": [2, 7], "images": [["a.png", 0, 1.0], ["b.png", 5, 0.9]]},
    ),
    "distilled, duration of the prompt": (
        "distilled",
        {key: value for key, value in SIZE.items() if key != "num_frames"},
    ),
    "dev, keyframes": ("one_stage", DEV | {"keyframes": 3}),
    "two stages, keyframes": ("two_stages", DEV | {"keyframes": [4]}),
    "hq, keyframes": ("hq", DEV | {"guidance": QUIET, "keyframes": 1}),
    "reference": ("reference", SIZE | {"references": [["clip.mp4", 1.0]], "lora": "lora"}),
    "retake": ("retake", CLIP | PARTS),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "distilled": ("distilled", SIZE),
    "distilled, images": ("distilled", SIZE | {"images": [["a.png", 0, 0.7, 33], ["b.png", 8, 0.6, 20]]}),
    "distilled, wide": (
        "distilled",
        SIZE | {"width": 192, "num_frames": 17, "frame_rate": 29.97, "images": [["b.png", 9, 0.9, 33]]},
    ),
    "dev": ("one_stage", DEV),
    "dev, image": ("one_stage", DEV | {"images": [["a.png", 0, 1.0, 0]]}),
    "dev, skipping steps": (
        "one_stage",
        DEV | {"guidance": {"video": GUIDED | {"skip_step": 1}, "audio": GUIDED | {"skip_step": 2}}},
    ),
    "dev, video guided alone": ("one_stage", DEV | {"guidance": {"video": GUIDED, "audio": {}}}),
    **{f"dev, {kind}": ("one_stage", DEV | {"guided_by": kind}) for kind in ("apg", "star")},
    "dev, pictures alone": ("one_stage", DEV | {"without": ["audio"]}),
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
    **{
        f"prompts, {version}": (
            "one_stage",
            DEV | {"version": version, "prompt": f" {SENTENCES[0]}\n", "negative_prompt": SENTENCES[1][:18]},
        )
        for version in ("2.3.0", "2.0.0")
    },
    **{f"2.5, {name}": (kind, ask | {"version": "2.5.0"}) for name, (kind, ask) in NEWER.items()},
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
def files(folder: Path) -> Callable[[dict[str, Any]], dict[str, str]]:
    """Give the checkpoint of a case: one without a language model, or of a version with one."""

    @cache
    def write(version: str | None, *, with_text: bool) -> dict[str, str]:
        if version is None:
            return write_files(folder, backend("torch"))
        at = folder / version
        at.mkdir()
        if not with_text:
            return write_files(at, backend("torch"), version=version)
        gemma = write_gemma(at / "gemma")
        return write_text_files(at, backend("torch"), version, LAYERS + 1, HIDDEN) | {"gemma": str(gemma)}

    return lambda ask: write(ask.get("version"), with_text="prompt" in ask)


@pytest.fixture(scope="module")
def official(
    request: pytest.FixtureRequest, folder: Path, files: Callable[[dict[str, Any]], dict[str, str]]
) -> Callable[[str], Any]:
    """Run all cases that are to be tested in the official packages, once; and give what they keep."""
    sources = [CHECKOUT / "packages" / name / "src" for name in ("ltx-core", "ltx-pipelines")]
    if not all(source.is_dir() for source in sources):
        pytest.skip(
            f"no checkout of the official repository in {CHECKOUT}: git clone --branch v1.2.0 "
            "https://github.com/Lightricks/LTX-2, and name the folder by LTX_OFFICIAL"
        )
    paths = [*map(str, sources), *sys.path, str(PACKAGES)]
    for needed in ("av", "einops", "torchaudio", "transformers", "cloudpickle"):
        if PathFinder.find_spec(needed, paths) is None:
            pytest.skip(f"no {needed}: pip install --no-deps --target {PACKAGES} {needed}")
    chosen = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    asked = {}
    for name, (kind, given) in ((name, case) for name, case in CASES.items() if name in chosen):
        ask = dict(given)
        for key in ("clip", "audio"):
            ask |= {key: str(folder / ask[key])} if key in ask else {}
        ask["images"] = [[str(folder / path), *more] for path, *more in ask.get("images", [])]
        ask["references"] = [[str(folder / path), strength] for path, strength in ask.get("references", [])]
        own = files(ask)
        ask["loras"] = [[own[ask["lora"]], 1.0]] if "lora" in ask else []
        if "gemma" in own:
            ask["gemma"] = own["gemma"]
        if not ask["images"]:
            del ask["images"]
        asked[name] = {"kind": kind, "files": own, "ask": ask}
    (folder / "requests.json").write_text(json.dumps(asked))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
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
    """Run a case in our pipeline, and give its latents, and contexts where it makes them of prompts."""
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
        text_encoder=files.get("gemma"),
    )
    given = {key: ask[key] for key in (*SIZE, "num_inference_steps") if key in ask}
    given |= {"prompt_embeds": contexts(1), "output_type": "latent", "fit": "crop"}
    if guided:
        numbers = {n: g | {"stg_blocks": tuple(g.get("stg_blocks", ()))} for n, g in ask["guidance"].items()}
        norm: dict[str, Any] = {"apg_eta": APG[0], "apg_norm_threshold": APG[1]}
        guidance = {n: Guidance(kind=ask.get("guided_by", "cfg"), **norm, **g) for n, g in numbers.items()}
        given |= {"negative_prompt_embeds": contexts(2), "guidance": guidance}
    contexts_found = {}
    if "prompt" in ask:
        given |= {"prompt": ask["prompt"], "negative_prompt": ask["negative_prompt"]}
        given |= dict.fromkeys(("prompt_embeds", "negative_prompt_embeds"))
        for which, pair in zip(
            ("good", "bad"), encode_prompts(pipe.components, [ask["prompt"], ask["negative_prompt"]]), strict=True
        ):
            for n, x in zip(("video", "audio"), pair, strict=True):
                contexts_found[f"{which}_context_{n}"] = as_float32(x)
    given["images"] = [Image(folder / path, *more) for path, *more in ask.get("images", [])]
    if "audio" in ask:
        given["audio"] = folder / ask["audio"]
    if "keyframes" in ask:
        given["generated_keyframes"] = ask["keyframes"]
    weak = ask.get("attention")
    given["references"] = [Reference(folder / path, strength, weak) for path, strength in ask.get("references", [])]
    if kind == "retake":
        stretch = ask["start_time"], ask["end_time"], ask["regenerate_video"], ask["regenerate_audio"]
        given["retake"] = Retake(folder / ask["clip"], *stretch)
    if kind == "sound" or "without" in ask:
        given["streams"] = ("audio",) if kind == "sound" else ("video",)
    streams = len(given.get("streams", "av"))
    stages = stages_of(kind, ask, streams)[: 1 + recipe.two_stages]
    found = pipe(**given, draw=OfficialNoise(ask["seed"], stages)).latents
    latents = {n: as_float32(x) for n in ("video", "audio") if (x := getattr(found, n)) is not None}
    return latents | contexts_found


def stages_of(kind: str, ask: dict[str, Any], streams: int) -> list[tuple[int, str, int]]:
    """Name what draws noise in the stages of a run, as `OfficialNoise` takes it."""
    if kind == "hq":
        return [(streams, "res_2s", ask["num_inference_steps"]), (streams, "res_2s", 3)]
    ancestral = kind == "distilled" and ask.get("version", "") >= "2.5"
    first = (streams, "ancestral", len(DISTILLED_SIGMAS) - 2) if ancestral else (streams, "euler", 0)
    return [first, (streams, "euler", 0)]


@pytest.mark.parametrize("framework", ["torch", "mlx"])
@pytest.mark.parametrize("name", CASES)
def test_latents_are_those_of_the_official_pipeline(
    name: str,
    framework: Any,
    official: Callable[[str], Any],
    files: Callable[[dict[str, Any]], dict[str, str]],
    folder: Path,
    record_property: Callable[[str, object], None],
) -> None:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[framework])
    if framework == "mlx" and "prompt" in CASES[name][1]:
        pytest.importorskip("mlx_lm")
    wanted, got = official(name), run_ours(name, framework, files(CASES[name][1]), folder)
    assert "video" in got or "video" not in wanted
    assert sum("context" in key for key in wanted) == sum("context" in key for key in got)
    for stream, ours in got.items():
        # given sound goes to no decoder: its latents are those of the last stage
        last = stream if stream in wanted else max(key for key in wanted if key.endswith(f"_{stream}"))
        theirs = wanted[last]
        assert np.abs(theirs).max() > 0.1
        error = float(np.abs(ours - theirs).max())
        record_property(f"{name}, {framework}, {stream}", error)
        assert error <= TOLERANCE, f"{stream}: {error:.2e}"


VERSIONS = {"2.0": (), "2.3": (2, 3, 0), "2.4": (2, 4, 0)}


@pytest.mark.parametrize("version", VERSIONS)
def test_defaults_are_those_of_the_official_tools(version: str, official: Callable[[str], Any]) -> None:
    facts = official("facts.json")
    for name, recipe in RECIPES.items():
        said = facts["hq" if recipe.high_quality else version]
        ours = defaults(recipe, VERSIONS[version])
        scale = 2 if recipe.two_stages else 1
        assert (ours.height, ours.width) == (scale * said["stage_1_height"], scale * said["stage_1_width"]), name
        assert (ours.frames, ours.fps) == (said["num_frames"], said["frame_rate"])
        assert ours.steps == said["num_inference_steps"]
        assert ours.image_crf == facts[version]["default_image_crf"]
        assert said["seed"] == SEED
        for stream, guidance in (("video", ours.video), ("audio", ours.audio)):
            for key, value in said[f"{stream}_guider_params"].items():
                one = getattr(guidance, key)
                assert (list(one) if isinstance(one, tuple) else one) == value, (name, stream, key)


def test_schedules_are_those_of_the_official_tools(official: Callable[[str], Any]) -> None:
    facts = official("facts.json")
    assert list(DISTILLED_SIGMAS) == facts["distilled"]
    assert list(STAGE_2_SIGMAS) == facts["stage_2"]
    for steps, sigmas in facts["sigmas"].items():
        np.testing.assert_allclose(ltx2_sigmas(int(steps)), sigmas, atol=1e-6)
        for name in ("dev", "dev-two-stage", "keyframes"):
            assert schedules(RECIPES[name], int(steps), 8160)[0] == ltx2_sigmas(int(steps))
    first, second = schedules(RECIPES["dev-two-stage-hq"], 15, 16 * 17 * 30)
    np.testing.assert_allclose(first, facts["sigmas_hq"], atol=1e-6)
    assert second == STAGE_2_SIGMAS
    assert schedules(RECIPES["distilled"], 40, 1) == (DISTILLED_SIGMAS, STAGE_2_SIGMAS)
