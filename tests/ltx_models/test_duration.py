"""The duration head of LTX-2.5 and the frames of a duration, against the reference."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_models import duration_frames, load_duration_head
from ltx_models.nn import Backend


def test_the_head_gives_the_reference_seconds(nn: Backend, oracle25: Any, close: Any) -> None:
    for case in oracle25("duration_head_*"):
        head = load_duration_head(case.path, backend=nn.name, dtype="float32")
        video, audio = (nn.asarray(case.get(f"input.{name}_tokens")) for name in ("video", "audio"))
        for name, given_tokens in (
            ("", (video, audio)),
            ("_video_only", (video, None)),
            ("_audio_only", (None, audio)),
        ):
            want = case.get(f"output.seconds{name}")
            close(head(*given_tokens), want, 2e-5 * float(abs(want).max()), case.name + name)
        with pytest.raises(ValueError, match="neither video nor audio"):
            head()
        with pytest.raises(ValueError, match=r"audio embeddings of shape .*, expected \(batch, tokens, "):
            head(None, video)


def test_frames_are_those_of_the_reference(reference25: Path) -> None:
    for row in json.loads((reference25 / "duration_frames.json").read_text())["rows"]:
        bounds = {"minimum": row["min_seconds"], "maximum": row["max_seconds"]}
        assert duration_frames(row["seconds"], row["fps"], **bounds) == row["frames"], row


@given(seconds=st.floats(0, 100), fps=st.floats(4, 60), least=st.floats(0.5, 5), more=st.floats(2, 20))
def test_frames_make_whole_latents_within_the_bounds(seconds: float, fps: float, least: float, more: float) -> None:
    frames = duration_frames(seconds, fps, minimum=least, maximum=least + more)
    assert (frames - 1) % 8 == 0
    assert round(least * fps) <= frames <= round((least + more) * fps)


@pytest.mark.parametrize("wrong", [(-1.0, 24.0), (float("nan"), 24.0), (5.0, 0.0), (float("inf"), 24.0)])
def test_a_duration_that_is_none_is_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="duration: got"):
        duration_frames(*wrong)
    with pytest.raises(ValueError, match="duration: got bounds"):
        duration_frames(5.0, 24.0, minimum=0, maximum=3)
