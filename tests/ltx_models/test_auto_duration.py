"""How long a clip becomes where no number of frames is given, and prompts that another model writes out (2.5)."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from tests.ltx_models.pipeline_files import LTX2_5, contexts, random, write_whole
from tests.ltx_models.split_files import HEAD, NAMES, SECONDS, write_split

from ltx_models.cli import main
from ltx_models.media import write_audio, write_video
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import Image, LTX2Pipeline, Retake
from ltx_models.pipelines.call import Call
from ltx_models.pipelines.duration import most_frames
from ltx_models.pipelines.request import LTX2Output
from ltx_models.text.duration import DurationConfig, DurationHead, duration_frames
from ltx_models.text.enhancer import check_enhancer, load_enhancer
from ltx_models.text.gemma4 import TextEncoderFile

SIZE: dict[str, Any] = {"height": 64, "width": 64, "output_type": "latent"}
CHAT = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}model {% endif %}"
)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    return write_split(tmp_path_factory.mktemp("split"), get_backend("torch"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of everything, which holds a duration head too."""
    pytest.importorskip("torch")
    folder, nn, draw = tmp_path_factory.mktemp("whole"), get_backend("torch"), np.random.default_rng(3)
    files = write_whole(folder, nn, LTX2_5, "2.5.0")
    with safe_open(files["path"], "numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    config = json.loads(metadata["config"]) | {"duration_head": HEAD}
    for name, shape in nn.shapes(nn.build(lambda: DurationHead(nn, DurationConfig.read(config)))).items():
        tensors[f"duration_head.{name}"] = random(draw, name, shape) * (0 if name.startswith("mlp_out") else 1)
    tensors["duration_head.mlp_out.bias"] += np.float32(np.log(SECONDS))
    save_file(tensors, folder / "head.safetensors", metadata | {"config": json.dumps(config)})
    return files | {"head": folder / "head.safetensors"}


def frames_of(out: LTX2Output) -> int:
    assert out.latents.video is not None
    return 8 * (int(out.latents.video.shape[2]) - 1) + 1


def note_beginning(begun: list[str], phase: str, done: int, total: int) -> None:
    if done == 0:
        begun.append(phase)


def test_the_clip_of_a_prompt_is_as_long_as_the_head_says(split: dict[str, Path]) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("mlx_lm")
    for name in ("mlx", "torch"):
        pipe = LTX2Pipeline.from_pretrained(
            split["folder"], pipeline="distilled-one-stage", backend=name, dtype="float32"
        )
        begun: list[str] = []
        out = pipe("a cat at sea", **SIZE, progress=partial(note_beginning, begun))
        (said,) = [note for note in out.notes if note.startswith("duration: ")]
        seconds = float(said.split()[1])
        frames = duration_frames(seconds, 24.0)
        assert 0.8 * SECONDS < seconds < 1.2 * SECONDS
        assert said.endswith(f"s as the duration head says, within 1 to 20: {frames} frames")
        assert frames_of(out) == frames
        assert begun.count("text") == begun.count("duration") == 1
    assert frames_of(pipe("a cat at sea", **SIZE, auto_duration=(0.2, 0.5))) == 9
    given = pipe("a cat at sea", **SIZE, num_frames=17)
    assert frames_of(given) == 17
    assert not any(note.startswith("duration") for note in given.notes)


def test_the_result_is_that_of_the_number_of_frames(whole: dict[str, Path]) -> None:
    """Whatever recipe, with or without negative prompt: only where the number comes from differs."""
    for name in ("distilled", "dev"):
        more: dict[str, Any] = {"upsampler": whole["upsampler"]} if name == "distilled" else {}
        pipe = LTX2Pipeline.from_pretrained(whole["head"], pipeline=name, dtype="float32", **more)
        asked: dict[str, Any] = SIZE | {"prompt_embeds": contexts(1), "negative_prompt_embeds": contexts(2)}
        asked |= {"generated_keyframes": 1} | ({"num_inference_steps": 2} if name == "dev" else {})
        found = pipe(**asked, auto_duration=(0.3, 0.8))
        again = pipe(**asked, num_frames=frames_of(found))
        for stream in ("video", "audio", "keyframes"):
            one, other = (np.asarray(getattr(x.latents, stream)) for x in (found, again))
            np.testing.assert_array_equal(one, other)


def test_without_a_head_clips_are_as_long_as_before(whole: dict[str, Path]) -> None:
    pipe = LTX2Pipeline.from_pretrained(whole["path"], pipeline="distilled-one-stage")
    asked: dict[str, Any] = {"prompt_embeds": contexts(1), "streams": ("video",), "output_type": "latent"}
    request, _ = pipe.prepare(Call.of(**asked))
    assert (request.size.frames, request.duration) == (121, None)
    with pytest.raises(ValueError, match=r"duration_head: no file of it was given; give duration_head= \(--duration"):
        pipe.prepare(Call.of(**asked, auto_duration=(1, 5)))
    given = LTX2Pipeline.from_pretrained(whole["head"], pipeline="distilled-one-stage")
    request, _ = given.prepare(Call.of(**asked))
    assert (request.size.frames, request.duration) == (473, (1.0, 20.0))


@pytest.mark.parametrize("wrong", [(0, 5), (1, 3600), (5, 1), (float("nan"), 2), (1, float("inf")), (-1, 2), (3,)])
def test_durations_that_are_none_are_refused(whole: dict[str, Path], wrong: Any) -> None:
    pipe = LTX2Pipeline.from_pretrained(whole["head"], pipeline="distilled-one-stage")
    with pytest.raises(ValueError, match=r"auto_duration: got .* seconds; expected a shortest and a longest duration"):
        pipe(**SIZE, prompt_embeds=contexts(1), auto_duration=wrong)


def test_what_says_another_length_is_refused(whole: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_audio(tmp_path / "tone.wav", np.zeros((1, 2, 48000), np.float32), 16000)
    write_video(tmp_path / "clip.mp4", np.zeros((1, 3, 17, 64, 64), np.float32), fps=24)
    pipe = LTX2Pipeline.from_pretrained(whole["head"], pipeline="distilled-one-stage", dtype="float32")
    asked: dict[str, Any] = SIZE | {"prompt_embeds": contexts(1), "auto_duration": (1, 2)}
    others: list[tuple[str, dict[str, Any]]] = [
        ("num_frames", {"num_frames": 17}),
        ("audio", {"audio": tmp_path / "tone.wav"}),
        ("retake", {"retake": Retake(tmp_path / "clip.mp4", 0, 0.5, audio=False)}),
    ]
    for name, other in others:
        with pytest.raises(ValueError, match=f"auto_duration: {name} says how long the clip is"):
            pipe(**asked | other)
    with pytest.raises(ValueError, match=r"no clip of 1 \+ 8k frames lasts 0.1 to 0.2 seconds at 24 frames a second"):
        pipe(**asked | {"auto_duration": (0.1, 0.2)})
    grey = np.full((64, 64, 3), 128, np.uint8)
    with pytest.raises(ValueError, match=r"image: frame 48 is not in the clip, which has frames 0 to 32"):
        pipe(**asked | {"auto_duration": (1, 3)}, images=[Image(grey, 48)])
    with pytest.raises(ValueError, match=r"image: frame 48 is not in the clip, which has frames 0 to 40"):
        pipe(**asked, images=[Image(grey, 48)])
    assert most_frames((1, 2), 24.0) == 41


def test_given_sound_keeps_the_usual_length_where_there_is_a_head(whole: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_audio(tmp_path / "tone.wav", np.zeros((1, 2, 6 * 16000), np.float32), 16000)
    pipe = LTX2Pipeline.from_pretrained(whole["head"], pipeline="distilled-one-stage")
    request, _ = pipe.prepare(Call.of(**SIZE, prompt_embeds=contexts(1), audio=tmp_path / "tone.wav"))
    assert (request.size.frames, request.duration) == (121, None)


def test_a_head_that_says_no_number_is_refused(whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = LTX2Pipeline.from_pretrained(whole["head"], pipeline="distilled-one-stage", dtype="float32", keep=True)
    head = pipe.components.get("duration_head")
    monkeypatch.setattr(type(head), "forward", lambda self, *given: pipe.components.array([float("nan")]))
    with pytest.raises(ValueError, match="the duration head gave nan seconds; give the number of frames"):
        pipe(**SIZE, prompt_embeds=contexts(1))


def test_the_command_line_chooses_the_length(split: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("av")
    out = tmp_path / "clip.mp4"
    call = ["generate", "-p", "a cat at sea", "--pipeline", "distilled-one-stage", "--dtype", "float32", "-o", str(out)]
    for flag, name in (
        ("--transformer-path", "transformer"),
        ("--text-encoder-path", "text_encoder"),
        ("--video-vae-path", "video_vae"),
        ("--audio-vae-path", "audio_vae"),
        ("--duration-head-path", "duration_head"),
    ):
        call += [flag, str(split["folder"] / NAMES[name])]
    call += ["-H", "64", "-W", "64", "--num-generated-keyframes", "1", "--auto-duration"]
    assert main([*call, "0", "3600"]) != 0
    assert "auto_duration: got 0 to 3600 seconds" in capsys.readouterr().err
    assert main([*call, "0.2", "0.5"]) == 0
    assert "within 0.2 to 0.5: 9 frames" in capsys.readouterr().err
    assert out.exists()


@pytest.fixture(scope="module")
def writer(split: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder of a tiny instruction-tuned Gemma 4."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("writer")
    for name, data in TextEncoderFile.read(split["text_encoder"]).assets.items():
        (folder / name).write_bytes(data)
    (folder / "chat_template.jinja").write_text(CHAT)
    config = transformers.Gemma4TextConfig(
        vocab_size=len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]) + 10,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        global_head_dim=32,
        num_global_key_value_heads=1,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0,
        num_kv_shared_layers=0,
    )
    torch.manual_seed(0)
    model = transformers.Gemma4ForCausalLM(config).float()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    described = json.loads((folder / "config.json").read_text())
    described.pop("per_layer_config", None)  # published configurations say it in the words below
    described |= {"global_head_dim": 32, "num_global_key_value_heads": 1}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def test_a_gemma_4_writes_the_same_prompt_on_both_backends(writer: Path) -> None:
    pytest.importorskip("mlx_lm")
    texts = [
        load_enhancer(writer, backend=name, dtype="float32").enhance(
            "a cat at sea", temperature=0, max_new_tokens=8, system_prompt="you rewrite"
        )
        for name in ("torch", "mlx")
    ]
    assert texts[0] == texts[1] != "a cat at sea"


def test_another_model_writes_the_prompt_out(split: dict[str, Path], writer: Path) -> None:
    given: dict[str, Any] = {"pipeline": "distilled-one-stage", "dtype": "float32"}
    asked: dict[str, Any] = SIZE | {"num_frames": 9, "enhance_prompt": True}
    with pytest.raises(
        ValueError, match=r"encodes prompts and does not write; give the folder of an instruction-tuned"
    ):
        LTX2Pipeline.from_pretrained(split["folder"], **given)("a cat at sea", **asked)
    pipe = LTX2Pipeline.from_pretrained(split["folder"], **given, prompt_enhancer=writer)
    out = pipe("a cat at sea", **asked)
    (note,) = [note for note in out.notes if note.startswith("prompt: ")]
    assert note != "prompt: a cat at sea"
    assert frames_of(out) == 9
    assert pipe.components.held == ()


def test_folders_that_cannot_write_are_refused(split: dict[str, Path], writer: Path, tmp_path: Path) -> None:
    silent, other = tmp_path / "silent", tmp_path / "other"
    for folder in (silent, other):
        folder.mkdir()
        for file in writer.iterdir():
            if file.name != ("chat_template.jinja" if folder is silent else "config.json"):
                (folder / file.name).symlink_to(file)
    (other / "config.json").write_text('{"model_type": "llama"}')
    for folder, text in (
        (silent, "the tokenizer has no chat template"),
        (other, r"model_type is 'llama'; prompts are written out by gemma3, gemma3_text, gemma4, gemma4_text"),
        (tmp_path / "nowhere", "no such"),
    ):
        with pytest.raises((ValueError, OSError), match=text):
            LTX2Pipeline.from_pretrained(split["folder"], pipeline="distilled-one-stage", prompt_enhancer=folder)
    assert check_enhancer(writer)["model_type"] == "gemma4_text"
    with pytest.raises(ValueError, match="on torch the language model has no integers"):
        load_enhancer(writer, quantize="int8")
