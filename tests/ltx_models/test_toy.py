"""The embedded toy: from a prompt to a video with sound, without a network, on both backends."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models import (
    LTX2Pipeline,
    default_pipeline,
    load_audio_decoder,
    load_audio_encoder,
    load_connectors,
    load_text_encoder,
    load_transformer,
    load_upsampler,
    load_video_decoder,
    load_video_encoder,
    load_vocoder,
)
from ltx_models.checkpoints import BackendName, open_checkpoint
from ltx_models.cli import main
from ltx_models.media import probe_video, read_audio, read_video
from ltx_models.nn import Backend

CHECKPOINT, UPSAMPLER = (
    default_pipeline() / name for name in ("toy-distilled.safetensors", "toy-spatial-upscaler-x2.safetensors")
)
RED, BLUE = "a red circle moving right, a high tone", "a blue square moving down, a low tone"
MOST_BYTES = 20_000_000


FILLED = {"circle": 0.785, "square": 1.0, "triangle": 0.5}  # the part of the box around it
SHAPES = (
    "a red circle moving right, a high tone",
    "a white circle moving up, silence",
    "a blue square moving down, a low tone",
    "a green square standing still, a high tone",
    "a yellow triangle moving left, middle beeps",
    "a blue triangle moving right, low beeps",
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing reach a network."""

    def refuse(self: Any, address: Any) -> None:
        msg = f"the toy asked for {address}"
        raise AssertionError(msg)

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def pipe() -> Callable[[BackendName], LTX2Pipeline]:
    """Give the toy on a backend, made without a path."""
    kept: dict[str, LTX2Pipeline] = {}

    def find(backend: BackendName) -> LTX2Pipeline:
        need(backend)
        if backend not in kept:
            kept[backend] = LTX2Pipeline.from_pretrained(backend=backend, dtype="float32", keep=True)
        return kept[backend]

    return find


def need(backend: str) -> None:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[backend])
    pytest.importorskip("transformers", reason="the language model comes from transformers")
    if backend == "mlx":
        pytest.importorskip("mlx_lm", reason="on MLX the language model comes from mlx-lm")


def ink(frames: Any) -> Any:
    """Give the mean colour of the pixels that stand out, and the middle of them in each frame (across, down)."""
    ground = np.median(frames[:, :, :6], axis=(0, 1, 2))
    masks = np.abs(frames - ground).max(axis=-1) > 0.25
    assert masks.sum(axis=(1, 2)).min() > 100, "nothing stands out"
    middles = np.array([np.argwhere(mask).mean(axis=0)[::-1] for mask in masks])
    return frames[masks].mean(axis=0), middles


def filled(frames: Any) -> float:
    """Give the part of the box around what stands out that it fills, the median of all frames."""
    ground = np.median(frames[:, :, :6], axis=(0, 1, 2))
    masks = np.abs(frames - ground).max(axis=-1) > 0.3
    boxes = []
    for mask in masks:
        rows, columns = (np.flatnonzero(mask.sum(axis=axis) > 2) for axis in (1, 0))
        boxes.append(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean())
    return float(np.median(boxes))


def pitch(audio: Any, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(audio[0] * np.hanning(audio.shape[2]), axis=1)).sum(axis=0)
    strongest: float = float(np.argmax(spectrum)) * rate / audio.shape[2]
    return strongest


def balances(audio: Any) -> tuple[float, float]:
    """Give the power on the right less that on the left, in parts of both, in the first and last fifth of (2, N)."""
    part = audio.shape[1] // 5
    (left, right), (later_left, later_right) = ((x**2).sum(axis=1) for x in (audio[:, :part], audio[:, -part:]))
    return (right - left) / (right + left), (later_right - later_left) / (later_right + later_left)


def test_the_prompt_decides_colour_motion_and_pitch(pipe: Callable[[BackendName], LTX2Pipeline]) -> None:
    red, blue = (pipe("torch")(prompt, seed=3) for prompt in (RED, BLUE))
    assert red.frames.shape == blue.frames.shape == (1, 33, 192, 256, 3)
    (first, path), (second, other_path) = ink(red.frames[0]), ink(blue.frames[0])
    assert first[0] > 1.5 * max(first[1:]), f"not red: {first}"
    assert second[2] > 1.5 * max(second[:2]), f"not blue: {second}"
    moved, other = path[-1] - path[0], other_path[-1] - other_path[0]
    assert moved[0] > 30
    assert abs(moved[1]) < 15
    assert other[1] > 15
    assert abs(other[0]) < 15
    assert red.sample_rate == blue.sample_rate == 24000
    assert pitch(red.audio, 24000) == pytest.approx(1200, abs=15)
    assert pitch(blue.audio, 24000) == pytest.approx(300, abs=15)
    first, last = balances(red.audio[0])
    assert first < -0.4, "the sound begins on the left, as the shape does"
    assert last > 0.4, "and ends on the right"
    assert np.ptp(balances(blue.audio[0])) < 0.3, "what moves down stays where it is heard"


def test_circle_square_and_triangle_are_told_apart(pipe: Callable[[BackendName], LTX2Pipeline]) -> None:
    """Each fills the part of the box around it that its shape does: in five prompts of six; MLX makes the same."""
    asked = [next(word for word in prompt.split() if word in FILLED) for prompt in SHAPES]
    clips = [pipe("torch")(prompt, seed=10) for prompt in SHAPES]
    shares = [filled(clip.frames[0]) for clip in clips]
    seen = [min(FILLED, key=lambda shape: abs(FILLED[shape] - share)) for share in shares]
    assert sum(one == other for one, other in zip(asked, seen, strict=True)) >= 5, (asked, seen, shares)
    assert set(seen) == set(FILLED)
    (first, last), (other_first, other_last) = (balances(clips[i].audio[0]) for i in (4, 5))
    assert first > 0.4 > -0.4 > last, "the sound goes left with the shape"
    assert other_first < -0.4 < 0.4 < other_last, "and right with it"


def test_a_seed_gives_the_same_latents_on_both_backends_and_again_and_another_does_not(
    pipe: Callable[[BackendName], LTX2Pipeline], close: Callable[..., None]
) -> None:
    runs: tuple[tuple[BackendName, int], ...] = (("torch", 3), ("torch", 3), ("mlx", 3), ("torch", 4))
    first, again, theirs, other = (pipe(b)(RED, seed=seed, output_type="latent").latents for b, seed in runs)
    close(again.video, first.video, 0, "video")
    close(again.audio, first.audio, 0, "audio")
    close(theirs.video, first.video, 5e-3, "video")
    close(theirs.audio, first.audio, 5e-3, "audio")
    with pytest.raises(AssertionError):
        close(other.video, first.video, 0.1)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_the_command_line_needs_a_prompt_alone(
    tmp_path: Path, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    need(backend)
    pytest.importorskip("av")
    video = tmp_path / "clip.mp4"
    assert main(["generate", "--prompt", RED, "--output-path", str(video), "--backend", backend]) in {0, None}
    assert "embedded toy" in capsys.readouterr().err
    info = probe_video(video)
    assert (info.frames, info.height, info.width, float(info.fps)) == (33, 192, 256, 24.0)
    samples, rate = read_audio(video)
    assert rate == 24000
    assert samples.shape == (1, 2, 240 * (4 * 34 - 3))
    colour, _ = ink((read_video(video).video[0].transpose(1, 2, 3, 0) + 1) / 2)
    assert colour[0] > 1.4 * max(colour[1:])
    assert pitch(samples, rate) == pytest.approx(1200, abs=15)
    first, last = balances(samples[0])
    assert first < -0.4
    assert last > 0.4


@pytest.mark.parametrize("others", [{"text_encoder": "gemma"}, {"upsampler": "up.safetensors"}, {"video_vae": "vae"}])
def test_it_is_never_mixed_with_other_files(others: dict[str, str]) -> None:
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=f"no checkpoint was given, but {next(iter(others))}; .*--checkpoint-path"):
        LTX2Pipeline.from_pretrained(**others)  # type: ignore[arg-type]  # one of several


def test_a_checkpoint_of_its_own_does_not_borrow_from_it() -> None:
    pytest.importorskip("torch")
    pipe = LTX2Pipeline.from_pretrained(CHECKPOINT, pipeline="distilled-one-stage")
    assert pipe.components.files.text_encoder is None
    with pytest.raises(ValueError, match="text_encoder: no language model was given"):
        pipe(RED)


def test_every_official_loader_takes_it_strictly(nn: Backend) -> None:
    loaders: tuple[Any, ...] = (
        load_transformer,
        load_connectors,
        load_video_encoder,
        load_video_decoder,
        load_audio_encoder,
        load_audio_decoder,
        load_vocoder,
    )
    for load in loaders:
        load(CHECKPOINT, backend=nn.name)
    load_upsampler(UPSAMPLER, backend=nn.name)
    need(nn.name)
    encoder = load_text_encoder(default_pipeline() / "gemma", backend=nn.name)
    assert encoder.max_tokens == 48
    known = encoder.tokenize(["A red CIRCLE moving right, a high tone"]).ids[0]
    assert encoder.tokenizer.unk_token_id not in known
    assert encoder.tokenizer.unk_token_id in encoder.tokenize(["a zebra"]).ids[0]


def test_the_files_are_small_and_say_what_they_are() -> None:
    assert sum(file.stat().st_size for file in default_pipeline().rglob("*")) < MOST_BYTES
    with open_checkpoint(CHECKPOINT, "numpy") as checkpoint:
        assert set(checkpoint.config) == {"transformer", "vae", "audio_vae", "vocoder"}
        assert checkpoint.metadata["model_version"] == "2.3.0"
        assert "toy" in checkpoint.metadata["description"]
        assert json.loads(checkpoint.metadata["default_settings"])["frames"] == 33
        assert {info.dtype for info in checkpoint.files.values()} == {"BF16"}


@pytest.mark.parametrize("backend", ["torch"])
def test_the_command_that_the_example_prints_makes_the_video_again(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It decoded the toy's latents with another autoencoder, in another dtype."""
    need(backend)
    script = Path(__file__).parents[2] / "examples" / "generate_video.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--backend", backend, "--out", str(tmp_path / "a.mp4")])
    runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().out
    command = shlex.split(re.findall(r"what makes the video again: ltx-models (.*)", said)[0])
    command[-1] = str(tmp_path / command[-1])
    assert main(command) == 0
    one, again = read_video(tmp_path / "a.mp4"), read_video(tmp_path / "again.mp4")
    np.testing.assert_array_equal(one.video, again.video)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.mp4")[0], read_audio(tmp_path / "again.mp4")[0])
