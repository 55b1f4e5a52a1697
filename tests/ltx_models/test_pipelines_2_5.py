"""What the pipelines do with a checkpoint of LTX-2.5, and with none other: sampler, generated keyframes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ltx_models.pipeline_files import LTX2_5, contexts, write_whole
from tests.ltx_models.split_files import DIFFUSION_VAE, video_vae_file, write

from ltx_models import plan_exact
from ltx_models.cli import main
from ltx_models.media import as_float32, iter_frames, write_video
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import RECIPES, Image, LTX2Pipeline, Reference, Retake
from ltx_models.pipelines.call import Call
from ltx_models.pipelines.settings import defaults
from ltx_models.sampling import Ancestral, Euler, Guidance, Res2s
from ltx_models.video_vae.diffusion import DiffusionDecoderConfig

SIZE: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 17}
ASKED: dict[str, Any] = SIZE | {"prompt_embeds": contexts(1), "output_type": "latent"}
GREY = np.full((64, 64, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    folder, nn = tmp_path_factory.mktemp("whole"), get_backend("torch")
    vae = write(folder / "vae.safetensors", *video_vae_file(nn, np.random.default_rng(5)))
    return write_whole(folder, nn, LTX2_5, "2.5.0") | {"vae": vae}


def pipeline(files: dict[str, Path], name: str, nn: str = "torch", **more: Any) -> LTX2Pipeline:
    lora = files["lora"] if RECIPES[name].needs_lora else None
    given: dict[str, Any] = {"upsampler": files["upsampler"], "distilled_lora": lora, "backend": nn} | more
    return LTX2Pipeline.from_pretrained(files["path"], pipeline=name, dtype="float32", **given)


def latents(pipe: LTX2Pipeline, **given: Any) -> dict[str, Any]:
    found = pipe(**ASKED | given).latents
    return {n: as_float32(x) for n in ("video", "audio", "keyframes") if (x := getattr(found, n)) is not None}


@pytest.mark.parametrize("version", [(2,), (2, 3, 0), (2, 4, 1), (2, 5, 0), (3,)])
def test_only_the_distilled_first_stage_from_2_5_on_draws_noise_again(version: tuple[int, ...]) -> None:
    for name, recipe in RECIPES.items():
        first = defaults(recipe, version).sampler
        if name.startswith("distilled") and version >= (2, 5):
            assert first == Ancestral(eta=1.0), name
        else:
            assert first == recipe.sampler == (Res2s() if name == "dev-two-stage-hq" else Euler()), name


def test_a_clip_that_leads_is_sampled_without_new_noise(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_video(tmp_path / "clip.mp4", np.zeros((1, 3, 17, 64, 64), np.float32), fps=24)
    pipe = pipeline(files, "distilled-one-stage")
    clip = Path(tmp_path / "clip.mp4")
    asked = ASKED | {"streams": ("video",)}
    plain, _ = pipe.prepare(Call.of(**asked))
    led, _ = pipe.prepare(Call.of(**asked, references=[Reference(clip)]))
    kept, _ = pipe.prepare(Call.of(**asked | dict.fromkeys(SIZE), retake=Retake(clip, 0, 0.5, audio=False)))
    assert [request.samplers[0] for request in (plain, led, kept)] == [Ancestral(), Euler(), Euler()]


def test_noise_is_drawn_for_both_streams_in_each_step_but_the_last(files: dict[str, Path]) -> None:
    drawn: list[str] = []

    def draw(name: str, like: Any) -> Any:
        drawn.append(name)
        return like * 0 + 1

    latents(pipeline(files, "distilled"), draw=draw)
    assert drawn == ["video", "audio"] * (1 + 7 + 1)  # first latents, seven steps of the first stage, second latents


def test_a_seed_repeats_on_both_backends(files: dict[str, Path]) -> None:
    pytest.importorskip("mlx.core")
    one, other, again = (latents(pipeline(files, "distilled", nn), seed=3) for nn in ("torch", "mlx", "torch"))
    for name in one:
        assert np.abs(one[name] - other[name]).max() < 5e-3
        np.testing.assert_array_equal(one[name], again[name])


def test_the_diffusion_decoder_gives_the_same_frames_whatever_the_budget(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlx.core")
    pytest.importorskip("av")
    asked = SIZE | {"prompt_embeds": contexts(1), "streams": ("video",), "seed": 4}
    torch, mlx = (pipeline(files, "distilled-one-stage", nn, video_vae=files["vae"]) for nn in ("torch", "mlx"))
    saved, whole = tmp_path / "clip.safetensors", torch(**asked).frames
    assert whole.shape == (1, 17, 64, 64, 3)
    least = plan_exact(DiffusionDecoderConfig.read(DIFFUSION_VAE), (1, 128, 3, 2, 2)).peak_bytes // 3
    np.testing.assert_allclose(torch(**asked, decode_bytes=least, save_latents=saved).frames, whole, atol=1e-4)
    np.testing.assert_allclose(mlx(**asked).frames, whole, atol=5e-3)
    again = {name: asked[name] for name in asked if name != "seed"}
    assert np.abs(torch(**again, seed=5).frames - whole).max() > 0.01

    one, other = tmp_path / "generated.mp4", tmp_path / "decoded.mp4"
    torch(**asked, output=one)
    call = ["decode", str(saved), "-o", str(other), "--checkpoint", str(files["vae"]), "--dtype", "float32", "--exact"]
    assert main(call) == 0, capsys.readouterr().err
    np.testing.assert_array_equal(np.stack(list(iter_frames(one))), np.stack(list(iter_frames(other))))


@pytest.mark.parametrize("more", [[], ["--memory", "6MiB"], ["--compare", "stream", "--backend", "mlx"]])
def test_a_clip_goes_through_the_diffusion_decoder_and_is_compared_with_the_whole(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    pytest.importorskip("av")
    pytest.importorskip("mlx.core")
    clip = np.random.default_rng(0).uniform(-1, 1, (1, 3, 17, 64, 96)).astype(np.float32)
    write_video(tmp_path / "clip.mp4", clip, fps=24)
    call = [
        "reconstruct",
        str(tmp_path / "clip.mp4"),
        "--checkpoint",
        str(files["vae"]),
        "--dtype",
        "float32",
        "--json",
    ]
    assert main([*call, "-o", str(tmp_path / "out.mp4"), *more]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["difference"]["largest"] < 1e-4
    assert "exact diffusion decode of latents 1x128x3x2x3" in facts["chosen"]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_keyframes_are_generated_in_the_first_stage(files: dict[str, Path], name: str) -> None:
    pytest.importorskip("mlx.core")
    given: dict[str, Any] = {"generated_keyframes": 2}
    if RECIPES[name].guided:
        guidance = {stream: Guidance(3, 1, (0,), 3, 0.7) for stream in ("video", "audio")}
        given |= {"num_inference_steps": 2, "guidance": guidance, "negative_prompt_embeds": contexts(2)}
    one, other = (latents(pipeline(files, name, nn), **given) for nn in ("torch", "mlx"))
    side = 1 if RECIPES[name].two_stages else 2
    assert one["keyframes"].shape == (1, 128, 2, side, side)
    assert one["video"].shape == (1, 128, 3, 2, 2)
    assert all(np.abs(one[n] - other[n]).max() < 5e-3 for n in one)
    without = latents(pipeline(files, name), **given | {"generated_keyframes": 0})
    assert "keyframes" not in without
    assert np.abs(without["video"] - one["video"]).max() > 1e-3


def test_generated_keyframes_go_with_given_ones(files: dict[str, Path]) -> None:
    pipe = pipeline(files, "distilled-one-stage")
    images = [Image(GREY, 0, crf=0), Image(GREY, 8, 0.8, crf=0)]
    both = latents(pipe, images=images, generated_keyframes=[12, 3, 12])
    assert both["keyframes"].shape == (1, 128, 2, 2, 2)
    given = latents(pipe, images=images)
    np.testing.assert_allclose(both["video"][:, :, :1], given["video"][:, :, :1], atol=1e-4)


def test_keyframes_that_cannot_be_generated_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    pipe = pipeline(files, "distilled-one-stage")
    for asked, text in (
        (16, r"keyframes: got 16 for 17 frames; expected 0 or more, and at least 18 frames"),
        (-1, "keyframes: got -1 for 17 frames"),
        ([3, 17], r"generated_keyframes: got \[3, 17\], the clip has frames 0 to 16"),
    ):
        with pytest.raises(ValueError, match=text):
            pipe(**ASKED, generated_keyframes=asked)
    with pytest.raises(ValueError, match=r"got \[8\], but there is no video in this run"):
        pipe(**ASKED, generated_keyframes=1, streams=("audio",))
    write_video(tmp_path / "clip.mp4", np.zeros((1, 3, 17, 64, 64), np.float32), fps=24)
    retake = Retake(tmp_path / "clip.mp4", 0, 0.5, audio=False)
    with pytest.raises(ValueError, match="but a retake keeps the frames of its clip"):
        pipe(**ASKED | dict.fromkeys(SIZE), streams=("video",), generated_keyframes=1, retake=retake)
    older = write_whole(tmp_path, get_backend("torch"))
    with pytest.raises(ValueError, match=r"but this transformer knows none; take a checkpoint of 2\.5"):
        pipeline(older, "distilled-one-stage")(**ASKED, generated_keyframes=1)
