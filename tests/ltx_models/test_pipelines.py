"""The pipelines end to end, on a tiny seeded checkpoint: what they promise, on both backends."""

from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ltx_models.pipeline_files import contexts, write_whole

from ltx_models.media import as_float32, probe_video, read_audio, read_latents, write_audio, write_video
from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import (
    RECIPES,
    Call,
    Image,
    LTX2Pipeline,
    Reference,
    Retake,
    Size,
    fitted,
    plan_memory,
    read_memory,
)
from ltx_models.pipelines.pictures import read_picture
from ltx_models.pipelines.request import Request
from ltx_models.pipelines.run import Run
from ltx_models.pipelines.settings import defaults
from ltx_models.pipelines.steps import encode_text, enhance_prompt
from ltx_models.sampling import Cancelled, Guidance

SMALL: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    return write_whole(tmp_path_factory.mktemp("whole"), get_backend("torch"))


def pipeline(files: dict[str, Path], name: str, nn: str = "torch", **more: Any) -> LTX2Pipeline:
    lora = files["lora"] if RECIPES[name].needs_lora else None
    given: dict[str, Any] = {"upsampler": files["upsampler"], "distilled_lora": lora, "backend": nn} | more
    return LTX2Pipeline.from_pretrained(files["path"], pipeline=name, dtype="float32", **given)


def latents(pipe: LTX2Pipeline, **given: Any) -> dict[str, Any]:
    asked: dict[str, Any] = SMALL | {"prompt_embeds": contexts(1), "output_type": "latent"} | given
    if pipe.recipe.guided:
        asked = {"num_inference_steps": 3, "negative_prompt_embeds": contexts(2)} | asked
        asked.setdefault("guidance", {"video": Guidance(3, 1, (0,), 3, 0.7), "audio": Guidance(7, 1, (0,), 3, 0.7)})
    found = pipe(**asked).latents
    return {n: as_float32(x) for n in ("video", "audio") if (x := getattr(found, n)) is not None}


def same(a: dict[str, Any], b: dict[str, Any], tolerance: float = 5e-3) -> bool:
    return a.keys() == b.keys() and all(np.abs(a[n] - b[n]).max() <= tolerance for n in a)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_both_backends_give_the_same_latents(files: dict[str, Path], name: str) -> None:
    pytest.importorskip("mlx.core")
    one, other = (latents(pipeline(files, name, nn)) for nn in ("torch", "mlx"))
    assert one["video"].shape == (1, 128, 2, 2, 2)
    assert one["audio"].shape == (1, 8, round(9 / 24 * 25), 16)
    assert same(one, other)
    assert np.abs(one["video"]).max() > 0.1


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a clip with sound, shorter than its pictures, and a tone."""
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("media")
    clip = np.random.default_rng(0).uniform(-1, 1, (1, 3, 17, 64, 64)).astype(np.float32)
    tone = np.sin(np.arange(2 * 16000, dtype=np.float32).reshape(1, 2, -1) / 9) / 2
    write_video(folder / "clip.mp4", clip, fps=Fraction(24), audio=(tone[:, :, :9600], 16000))
    write_audio(folder / "tone.wav", tone, 16000)
    return folder


BLACK, GREY = (np.full((64, 64, 3), value, np.uint8) for value in (0, 128))
CONDITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "images": ("distilled", {"images": [Image(BLACK, 0, 0.7), Image(GREY, 4, 0.6), Image(GREY, -1)], "fit": "crop"}),
    "keyframes": ("keyframes", {"images": [Image(BLACK, 0), Image(GREY, -1, 0.8)], "fit": "crop"}),
    "sound": ("dev-two-stage", {"audio": "tone.wav"}),
    "references": ("distilled-one-stage", {"references": [Reference(Path("clip.mp4"), 0.9, 0.4)] * 2}),
    "retake": ("distilled-one-stage", {"retake": Retake(Path("clip.mp4"), 0.2, 0.5)}),
    "retake of sound": ("dev", {"retake": Retake(Path("clip.mp4"), 0.2, 0.5, video=False)}),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_both_backends_agree_on_what_is_given(files: dict[str, Path], media: Path, name: str) -> None:
    pytest.importorskip("mlx.core")
    recipe, given = CONDITIONS[name]
    given = dict(given)
    if "audio" in given:
        given["audio"] = media / given["audio"]
    if "references" in given:
        given["references"] = [replace(one, path=media / one.path) for one in given["references"]]
    if "retake" in given:
        given["retake"] = replace(given["retake"], path=media / given["retake"].path)
        given |= dict.fromkeys(SMALL)
    one, other = (latents(pipeline(files, recipe, nn), **given) for nn in ("torch", "mlx"))
    assert same(one, other)
    free = latents(pipeline(files, recipe), **({} if "retake" not in given else {"num_frames": 17}))
    assert not same(one, free, 1e-3)


def test_given_sound_is_not_led_away_from_anything(files: dict[str, Path], media: Path) -> None:
    """The negative prompt of sound is for sound that is made; neither it nor a scale changes what given sound does."""
    pipe = pipeline(files, "dev")
    video = contexts(2)[0]
    given: dict[str, Any] = {"audio": media / "tone.wav"}
    one, other = (latents(pipe, **given, negative_prompt_embeds=(video, contexts(n)[1])) for n in (2, 3))
    assert same(one, other, 0)
    guidance = {"video": Guidance(3, 1, (0,), 3, 0.7), "audio": Guidance(2, 1, (1,), 1, 0)}
    assert same(one, latents(pipe, **given, guidance=guidance), 0)


def test_the_first_stage_starts_from_noise_alone(files: dict[str, Path]) -> None:
    """Whatever the first noise level: a schedule that begins lower is run on the same noise."""
    drawn: list[Any] = []
    shown: list[Any] = []

    def draw(name: str, like: Any) -> Any:
        drawn.append(like * 0 + 3)
        return drawn[-1]

    def note(phase: str, step: int, sigma: float, now: dict[str, Any]) -> bool:
        shown.append(now["video"])
        return False

    with pytest.raises(Cancelled):
        latents(
            pipeline(files, "distilled-one-stage"), sigmas=[0.5, 0.4999999, 0], draw=draw, callback_on_step_end=note
        )
    np.testing.assert_allclose(as_float32(shown[0]), 3, atol=1e-4)


def test_a_seed_repeats_and_another_does_not(files: dict[str, Path]) -> None:
    pipe = pipeline(files, "distilled-one-stage")
    first = latents(pipe, seed=1)
    assert same(first, latents(pipe, seed=1), 0)
    assert not same(first, latents(pipe, seed=2))
    assert not same(first, latents(pipe, seed=1, prompt_embeds=contexts(3)), 1e-6)


def test_networks_are_let_go_after_a_run(files: dict[str, Path]) -> None:
    pipe = pipeline(files, "distilled")
    latents(pipe)
    assert pipe.components.held == ()
    kept = pipeline(files, "distilled-one-stage", keep=True)
    latents(kept)
    assert "transformer" in kept.components.held


@pytest.mark.parametrize("stream", ["video", "audio"])
def test_a_stream_alone(files: dict[str, Path], stream: str) -> None:
    assert latents(pipeline(files, "dev"), streams=(stream,)).keys() == {stream}


def test_a_given_first_frame_is_kept(files: dict[str, Path], nn: Backend) -> None:
    picture = np.full((64, 64, 3), 200, np.uint8)
    pipe = pipeline(files, "distilled-one-stage", nn.name)
    shown, weak = (latents(pipe, images=[Image(picture, 0, s, crf=0)])["video"] for s in (1.0, 0.2))
    encoder = pipe.components.get("video_encoder")
    clip = pipe.components.array(np.full((1, 3, 1, 64, 64), 200 / 127.5 - 1, np.float32))
    wanted = as_float32(encoder(clip))
    np.testing.assert_allclose(shown[:, :, :1], wanted, atol=1e-4)
    assert np.abs(weak[:, :, :1] - wanted).max() > 0.05


def test_keyframes_and_references_change_the_result(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    pipe = pipeline(files, "distilled-one-stage")
    plain = latents(pipe)
    key = latents(pipe, images=[Image(np.zeros((64, 64, 3), np.uint8), -1, crf=0)])
    write_video(tmp_path / "ref.mp4", np.zeros((1, 3, 9, 64, 64), np.float32), fps=24)
    seen = latents(pipe, references=[Reference(tmp_path / "ref.mp4")])
    assert key["video"].shape == seen["video"].shape == plain["video"].shape
    assert not same(plain, key, 1e-4)
    assert not same(plain, seen, 1e-4)


def test_the_distilled_lora_acts_in_the_second_stage_only(files: dict[str, Path]) -> None:
    seen: dict[str, list[Any]] = {}

    def note(phase: str, step: int, sigma: float, now: dict[str, Any]) -> None:
        seen.setdefault(phase, []).append(as_float32(now["video"]).copy())

    one = latents(pipeline(files, "dev-two-stage"), callback_on_step_end=note)
    stages, seen = seen, {}
    other = latents(pipeline(files, "keyframes"), callback_on_step_end=note)
    assert [len(steps) for steps in stages.values()] == [3, 3]
    np.testing.assert_array_equal(stages["stage 1"][-1], seen["stage 1"][-1])
    assert not same({"audio": one["audio"]}, {"audio": other["audio"]}), "one keeps the first stage's sound"


def test_a_run_writes_a_video_with_sound_and_can_be_decoded_again(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    pipe = pipeline(files, "distilled")
    saved, video = tmp_path / "latents.safetensors", tmp_path / "clip.mp4"
    told: list[tuple[str, int, int]] = []
    out = pipe(
        **SMALL,
        prompt_embeds=contexts(1),
        output=video,
        save_latents=saved,
        progress=lambda *told_now: told.append(told_now),
    )
    info = probe_video(video)
    assert (info.frames, info.height, info.width, info.fps) == (9, 64, 64, Fraction(24))
    assert info.audio is not None
    assert read_audio(video)[1] == out.sample_rate == 24000
    assert out.audio.shape[2] == 240 * (4 * 9 - 3)
    assert [t for t in told if t[0] == "stage 2"][-1] == ("stage 2", 3, 3)
    assert told[-1][0] == "decode"
    again = read_latents(saved)
    np.testing.assert_array_equal(again.latents, as_float32(out.latents.video))
    np.testing.assert_array_equal(again.audio, as_float32(out.latents.audio))


def test_frames_and_sound_are_given_as_arrays(files: dict[str, Path]) -> None:
    out = pipeline(files, "distilled-one-stage")(**SMALL, prompt_embeds=contexts(1))
    assert out.frames.shape == (1, 9, 64, 64, 3)
    assert 0 <= out.frames.min() <= out.frames.max() <= 1
    assert np.abs(out.audio).max() <= 1


def test_given_sound_leads_and_is_written(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    tone = np.sin(np.arange(24000, dtype=np.float32) / 9)[None, None] / 2
    write_audio(tmp_path / "tone.wav", tone, 24000)
    pipe = pipeline(files, "dev")
    led = latents(pipe, audio=tmp_path / "tone.wav")
    assert not same({"video": led["video"]}, {"video": latents(pipe)["video"]})
    late = latents(pipe, audio=tmp_path / "tone.wav", seed=3)
    np.testing.assert_array_equal(led["audio"], late["audio"])
    with pytest.raises(ValueError, match=r"has 1\.00 s of sound, the clip needs 1\.38 s"):
        latents(pipe, audio=tmp_path / "tone.wav", num_frames=33)


def test_a_retake_keeps_what_lies_outside(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip = np.random.default_rng(0).uniform(-1, 1, (1, 3, 25, 64, 64)).astype(np.float32)
    write_video(tmp_path / "clip.mp4", clip, fps=Fraction(24), crf=0)
    pipe = pipeline(files, "distilled-one-stage")
    asked: dict[str, Any] = {"prompt_embeds": contexts(1), "output_type": "latent"}
    one, other = (
        as_float32(pipe(**asked, retake=Retake(tmp_path / "clip.mp4", 0.0, 0.3), seed=seed).latents.video)
        for seed in (1, 2)
    )
    assert np.abs(one[:, :, :2] - other[:, :, :2]).max() > 0.1
    np.testing.assert_allclose(one[:, :, 2:], other[:, :, 2:], atol=1e-6)
    with pytest.raises(ValueError, match=r"the clip lasts 1\.04 s"):
        pipe(**asked, retake=Retake(tmp_path / "clip.mp4", 2.0, 3.0))
    with pytest.raises(ValueError, match="are the clip's own"):
        pipe(**asked, height=64, retake=Retake(tmp_path / "clip.mp4", 0.0, 0.3))


def test_prompts_go_through_the_language_model(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    class Encoder:
        def tokenize(self, prompts: list[str]) -> tuple[str, ...]:
            asked.append(tuple(prompts))
            return tuple(prompts)

        def hidden_states(self, tokens: tuple[str, ...]) -> Any:
            assert pipe.components.held == ("text_encoder",), "the connectors come when the language model is gone"
            return torch.ones(1), torch.ones(1)

        def enhance(self, prompt: str, seed: int) -> str:
            return f"{prompt}, written out by {seed}"

    def connectors(hidden: Any, mask: Any, padding_side: str) -> Any:
        assert pipe.components.held == ("connectors",)
        x, y = (np.concatenate(pair) for pair in zip(contexts(1), contexts(2), strict=True))
        return torch.tensor(x), torch.tensor(y), mask

    import torch

    pipe = pipeline(files, "dev")
    monkeypatch.setattr(pipe.components, "_load", {"text_encoder": Encoder(), "connectors": connectors}.get)
    text = encode_text(Run(pipe.components, request(pipe)))
    assert asked == [("a fox", "rain")]
    np.testing.assert_array_equal(text["video"].negative, contexts(2)[0])
    assert enhance_prompt(Run(pipe.components, replace(request(pipe), seed=4))) == "a fox, written out by 4"
    assert pipe.components.held == ()


def request(pipe: LTX2Pipeline) -> Request:
    guidance = {name: Guidance(3) for name in ("video", "audio")}
    return Request(pipe.recipe, Size(64, 64, 9, 24), "a fox", "rain", ((1.0, 0.0),), guidance)


def test_a_callback_stops_the_run(files: dict[str, Path]) -> None:
    with pytest.raises(Cancelled, match="step 2 of 8"):
        latents(pipeline(files, "distilled-one-stage"), callback_on_step_end=lambda phase, step, *_: step < 1)


def test_previews_come_as_often_as_asked(files: dict[str, Path]) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []
    pipe = pipeline(files, "distilled-one-stage")
    latents(pipe, preview=lambda _, step, picture: seen.append((step, tuple(picture.shape))), preview_every=3)
    assert seen == [(3, (3, 64, 64)), (6, (3, 64, 64))]
    assert pipe.components.held == ()


@pytest.mark.parametrize(
    ("name", "height", "preview", "text"),
    [
        ("distilled", 64, True, "got 128x64, of which the first of two stages makes 64x32, too small for previews"),
        ("distilled", 64, False, None),
        ("distilled", 128, True, None),
        ("distilled-one-stage", 32, False, "got 128x32; latent: height and width are .1, 4. cells"),
        ("distilled-one-stage", 64, True, None),
    ],
)
def test_frames_that_cannot_be_decoded_are_refused_before_the_run(
    files: dict[str, Path], tmp_path: Path, name: str, height: int, preview: bool, text: str | None
) -> None:
    call = Call.of(
        prompt_embeds=contexts(1),
        height=height,
        width=128,
        num_frames=9,
        output=tmp_path / "a.mp4",
        preview=(lambda *_: None) if preview else None,
    )
    with nullcontext() if text is None else pytest.raises(ValueError, match=text):
        pipeline(files, name).prepare(call)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"height": 96}, "height: got 96, must be a multiple of 64; nearest 64 and 128"),
        ({"num_frames": 10}, "frames: got 10, must be 1 . 8k; nearest 9 and 17"),
        ({"frame_rate": 0.0}, "frame rate: got 0.0"),
        ({"prompt_embeds": None}, "either a prompt or prompt_embeds"),
        ({"prompt_embeds": None, "prompt": " "}, "prompt: is empty"),
        ({"prompt_embeds": None, "prompt": "a fox"}, "no language model was given"),
        ({"images": [Image("missing.png", 3)]}, "missing.png: cannot be read"),
        ({"images": [Image(np.zeros((64, 64, 3), np.uint8), 9)]}, "frame 9 is not in the clip"),
        ({"images": [Image(np.zeros((64, 200, 3), np.uint8))]}, "would lose 68% of a side"),
        ({"streams": ("smell",)}, "this checkpoint has video, audio"),
    ],
)
def test_what_does_not_fit_is_refused(files: dict[str, Path], given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        latents(pipeline(files, "distilled"), **given)


def test_pictures_are_read_in_the_colours_of_their_profile(tmp_path: Path) -> None:
    """A profile that swaps red and green: what the file calls red is shown green."""
    pillow, colours = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageCms")
    profile = bytearray(colours.ImageCmsProfile(colours.createProfile("sRGB")).tobytes())
    at = {bytes(profile[i : i + 4]): i for i in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)}
    red, green = (profile[at[tag] + 4 : at[tag] + 12] for tag in (b"rXYZ", b"gXYZ"))
    profile[at[b"rXYZ"] + 4 : at[b"rXYZ"] + 12] = green
    profile[at[b"gXYZ"] + 4 : at[b"gXYZ"] + 12] = red
    picture = pillow.new("RGB", (4, 4), (250, 10, 20))
    for given, wanted in ((bytes(profile), (10, 250, 20)), (b"none", (250, 10, 20))):
        picture.save(tmp_path / "a.png", icc_profile=given)
        assert np.abs(read_picture(tmp_path / "a.png").astype(int) - wanted).max() <= 3


def test_missing_files_are_named_before_anything_is_read(files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="spatial upsampler"):
        pipeline(files, "distilled", upsampler=None)
    with pytest.raises(ValueError, match="needs the distilled LoRA"):
        pipeline(files, "dev-two-stage", distilled_lora=None)
    with pytest.raises(ValueError, match="pipeline: got 'fast', allowed are"):
        LTX2Pipeline.from_pretrained(files["path"], pipeline="fast")


def test_snap_says_what_it_moved() -> None:
    size, notes = fitted(Size(500, 300, 100, 24), two_stages=True, snap=True)
    assert (size.height, size.width, size.frames) == (512, 320, 97)
    assert len(notes) == 3


def test_defaults_follow_the_version() -> None:
    dev, hq = RECIPES["dev"], RECIPES["dev-two-stage-hq"]
    assert defaults(dev, ()).video.stg_blocks == (29,)
    assert defaults(dev, (2, 3)).video.stg_blocks == (28,)
    assert defaults(dev, (2, 3)).audio.cfg_scale == 7
    assert (defaults(hq, (2, 3)).height, defaults(hq, (2, 3)).steps) == (1088, 15)
    assert defaults(dev, (2, 4)).image_crf == 18


def test_memory_presets_choose_the_first_that_fits(files: dict[str, Path]) -> None:
    whole = plan_memory(files["path"], read_memory("1GB"))
    assert (whole.quantize, whole.offload) == (None, False)
    less = plan_memory(files["path"], int(whole.transformer_bytes * 1.2))
    assert less.quantize == "fp8"
    least = plan_memory(files["path"], int(less.transformer_bytes / 0.75 * 0.98))
    assert least.offload
    with pytest.raises(ValueError, match="is too little"):
        plan_memory(files["path"], 1000)
    with pytest.raises(ValueError, match="expected a size such as 16GB or 500MiB"):
        read_memory("lots")


def test_quantised_and_offloaded_runs_are_close(files: dict[str, Path]) -> None:
    plain = latents(pipeline(files, "distilled"))
    assert same(plain, latents(pipeline(files, "distilled", offload=True)), 1e-5)
    rounded = latents(pipeline(files, "distilled", quantize="fp8"))
    assert not same(plain, rounded, 1e-6)
    assert np.abs(plain["video"] - rounded["video"]).mean() < 0.1
