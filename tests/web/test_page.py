"""The page of ``ltx-models serve`` in a real browser, with the toy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.web.conftest import WIDTHS, Server, Tab

from ltx_models.media import probe_video, read_audio, read_video, write_video

Open = Callable[..., Tab]
PLAYED = """async () => {
  const video = document.querySelector("video.ltx-video");
  video.currentTime = 0;
  await video.play();
  await new Promise(done => setTimeout(done, 1500));
  return [video.videoWidth, video.videoHeight, video.webkitDecodedFrameCount, video.webkitAudioDecodedByteCount];
}"""


@pytest.mark.parametrize("width", WIDTHS)
def test_a_prompt_becomes_a_video_that_plays_with_sound(tab: Open, server: Server, width: int) -> None:
    one = tab(width)
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    one.begin("a red circle moving right, a high tone", width=192)
    one.page.wait_for_selector("#ltx-generate-run img.ltx-preview")
    name = one.wait_for("done")
    wide, high, frames, sound = one.page.evaluate(PLAYED)
    assert (wide, high) == (192, 128)
    assert frames >= 9
    assert sound > 0
    assert "measured peak" in one.text("#ltx-generate-run .ltx-measured")
    assert "forecast" in one.text("#ltx-generate-run .ltx-measured")
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    folder = server.folder / "runs" / name
    assert probe_video(folder / "video.mp4").frames == 9
    assert read_audio(folder / "video.mp4")[0].any()
    assert json.loads((folder / "run.json").read_text())["state"] == "done"
    assert not (folder / "keep").exists()


def test_a_cancelled_run_stops_keeps_its_steps_and_goes_on(tab: Open, server: Server) -> None:
    one = tab()
    one.begin("a blue square moving left, beeps", frames=65)
    one.page.wait_for_selector("#ltx-generate-run img.ltx-preview")
    one.page.click("#ltx-generate-cancel")
    name = one.wait_for("cancelled")
    assert not (server.folder / "runs" / name / "video.mp4").exists()
    assert not list((server.folder / "runs" / name).glob("*.part"))
    one.page.click("#ltx-generate-go-on")
    assert one.wait_for("done") == name
    assert probe_video(server.folder / "runs" / name / "video.mp4").frames == 65


@pytest.mark.parametrize("width", WIDTHS)
def test_wrong_input_is_refused_on_the_page_before_any_work(tab: Open, server: Server, width: int) -> None:
    one, before = tab(width), server.runs()
    one.begin("a red circle", width=100)
    one.page.wait_for_selector("#ltx-told .ltx-error")
    assert "width: got 100, must be a multiple of 64; nearest 64 and 128" in one.text("#ltx-told")
    one.page.wait_for_selector("#ltx-plan .ltx-error")
    one.begin("  ")
    one.page.wait_for_selector("#ltx-told >> text=prompt: is empty")
    one.begin("a red circle", frames=10)
    one.page.wait_for_selector("#ltx-told >> text=frames: got 10, must be 1 + 8k; nearest 9 and 17")
    one.begin("a red circle", height=64)
    one.page.wait_for_selector("#ltx-told >> text=makes 64x32, too small for previews")
    one.page.get_by_text("guidance", exact=True).click()
    one.fill(steps="many")
    one.begin("a red circle")
    one.page.wait_for_selector("#ltx-told >> text=steps: got 'many', expected a number; leave it empty for the default")
    one.fill(steps="")
    one.fill(memory="plenty")
    one.begin("a red circle")
    one.page.wait_for_selector("#ltx-told >> text=plenty")
    assert server.runs() == before


@pytest.mark.parametrize(("width", "backend"), [(1280, "torch"), (390, "mlx")])
def test_a_part_of_a_clip_is_made_anew(tab: Open, server: Server, tmp_path: Path, width: int, backend: str) -> None:
    """With the pipeline and the backend that are chosen."""
    pytest.importorskip("mlx.core" if backend == "mlx" else "torch")
    clip = tmp_path / "given.mp4"
    sound = np.zeros((1, 2, 24000), np.float32)
    write_video(clip, np.full((1, 3, 17, 64, 96), 0.5, np.float32), fps=24, audio=(sound, 48000))
    one = tab(width)
    one.page.locator("#ltx-lacking summary").click()
    assert "dev-two-stage: " in one.text("#ltx-lacking")
    assert "no dev checkpoint in it" in one.text("#ltx-lacking")
    one.page.get_by_text("a part of a clip made anew").click()
    one.page.locator("#ltx-clip input[type=file]").set_input_files(str(clip))
    one.page.wait_for_selector("#ltx-clip >> text=given.mp4")
    one.page.wait_for_selector("#ltx-plan >> text=a clip needs both, in seconds")
    one.fill(start=0.3, end=0.7)
    one.page.wait_for_selector("#ltx-plan >> text=take 'distilled-one-stage' or 'dev'")
    one.choose("pipeline", "distilled-one-stage")
    one.choose("backend", backend)
    one.page.wait_for_selector("#ltx-plan >> text=96x64, 17 frames")
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    one.begin("a blue circle standing still, beeps")
    name = one.wait_for("done")
    folder = server.folder / "runs" / name
    made = read_video(folder / "video.mp4").video
    assert made.shape == (1, 3, 17, 64, 96)
    kept, anew = (np.abs(made[:, :, part] - 0.5).mean() for part in (slice(1), slice(9, None)))
    assert kept < anew / 2
    flags = json.loads((folder / "run.json").read_text())["flags"]
    assert {f"--backend={backend}", "--video-path=given/clip", "--pipeline=distilled-one-stage"} <= set(flags)


def test_two_tabs_take_turns_and_each_sees_its_own(tab: Open, server: Server) -> None:
    one, two = tab(), tab(390)
    one.begin("a red circle moving right, a high tone", frames=17)
    first = one.wait_for("running")
    two.begin("a green square moving up, a low tone")
    second = two.wait_for("waiting")
    assert "1 run before it" in two.text("#ltx-generate-run")
    assert first != second
    assert one.wait_for("done") == first
    assert two.wait_for("done") == second
    assert "red circle" in one.text("#ltx-generate-run")
    assert "green square" in two.text("#ltx-generate-run")
    assert probe_video(server.folder / "runs" / first / "video.mp4").frames == 17
    assert probe_video(server.folder / "runs" / second / "video.mp4").frames == 9


@pytest.mark.parametrize("width", WIDTHS)
def test_the_ways_to_decode_are_compared(tab: Open, server: Server, width: int) -> None:
    one = tab(width)
    if not any((place / "latents.safetensors").exists() for place in server.runs()):
        one.begin("a white triangle standing still, beeps", width=192)
        one.wait_for("done")
    one.page.get_by_role("tab", name="Compare").click()
    one.page.wait_for_selector("#ltx-expected >> text=blended")
    one.fill(tiling="64/32")
    one.page.click("#ltx-compare")
    name = one.wait_for("done", "seams")
    assert len(one.page.query_selector_all("#ltx-seams-run .pulled img")) == 2
    one.page.wait_for_function(
        "[...document.querySelectorAll('#ltx-seams-run img')].every(one => one.naturalWidth > 0)"
    )
    one.page.locator(".ltx-pull").focus()
    for _ in range(20):
        one.page.keyboard.press("ArrowRight")
    assert one.page.evaluate("document.querySelector('.pulled').style.getPropertyValue('--at')") == "70%"
    one.page.get_by_label("exact and whole").check()
    one.page.wait_for_selector("#ltx-seams-run .pulled img.over[src$='pictures/exact.png']")
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    ways = json.loads((server.folder / "runs" / name / "run.json").read_text())["facts"]["ways"]
    assert ways["exact"]["largest_difference"] < 1e-4 < ways["blended"]["largest_difference"]
    assert {place.name for place in server.folder.iterdir()} <= {"runs", "uploads", "scratch", "lock"}
    one.fill(tiling="one tile")
    one.page.wait_for_selector("#ltx-expected .ltx-error")
    one.page.click("#ltx-seams-remove")
    one.page.wait_for_selector(f'#ltx-seams-run [data-run="{name}"]', state="detached")
    assert not (server.folder / "runs" / name).exists()
