"""What goes wrong is said on the page, and nothing is lost: kills, a full disk, missing packages, hostile requests."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.web.conftest import Server, Tab, get

from ltx_models.media import probe_video, read_audio, write_audio, write_picture

Open = Callable[..., Tab]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of this kind are of POSIX")


def child_of(server: Server) -> int:
    """Give the process that runs the run."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == server.process.pid and b"generate" in command:
            return int(status.parent.name)
    raise AssertionError


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_run_and_a_killed_server_lose_nothing(
    tab: Open, started: Callable[..., Server], tmp_path: Path
) -> None:
    server = started(tmp_path / "files")
    one = tab(address=server.address)
    one.begin("a red circle moving right, a high tone", frames=65)
    one.page.wait_for_selector("#ltx-generate-run img.ltx-preview")
    os.kill(child_of(server), signal.SIGKILL)
    name = one.wait_for("stopped")
    assert "SIGKILL" in one.text("#ltx-generate-run .ltx-error")
    one.page.click("#ltx-generate-go-on")
    one.wait_for("running")
    one.page.wait_for_selector("#ltx-generate-run img.ltx-preview")
    child = child_of(server)
    server.stop(signal.SIGKILL)
    one.page.wait_for_selector("#ltx-lost.ltx-shown")
    assert "The server does not answer" in one.text("#ltx-lost")
    os.kill(child, signal.SIGKILL)
    again = started(tmp_path / "files", port=server.port)
    one.page.wait_for_selector("#ltx-lost:not(.ltx-shown)", state="attached")
    one.page.wait_for_selector("#ltx-plan .ltx-plan")
    one.page.locator("#ltx-generate-shown input").click()
    one.page.get_by_role("option").filter(has_text=name).click()
    assert one.wait_for("stopped") == name
    assert "the server ended" in one.text("#ltx-generate-run .ltx-error")
    one.page.click("#ltx-generate-go-on")
    assert one.wait_for("done") == name
    assert probe_video(again.folder / "runs" / name / "video.mp4").frames == 65


@posix
def test_a_full_disk_is_said(tab: Open, started: Callable[..., Server], tmp_path: Path) -> None:
    import resource

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))

    server = started(tmp_path / "files", preexec_fn=small_files)
    one = tab(address=server.address)
    one.begin("a red circle moving right, a high tone")
    name = one.wait_for("failed")
    assert "File too large" in one.text("#ltx-generate-run .ltx-error")
    assert not (server.folder / "runs" / name / "video.mp4").exists()
    assert json.loads((server.folder / "runs" / name / "run.json").read_text())["state"] == "failed"


@pytest.mark.parametrize("missing", ["PyAV", "the encoder"])
def test_a_missing_codec_is_said_before_the_run(
    tab: Open, started: Callable[..., Server], tmp_path: Path, missing: str
) -> None:
    """Where PyAV is not installed, and where its FFmpeg was built without H.264."""
    place = tmp_path / "packages"
    place.mkdir()
    if missing == "PyAV":
        (place / "av.py").write_text("raise ModuleNotFoundError('no av', name='av')\n")
    else:
        (place / "sitecustomize.py").write_text("import ltx_models.media.writer as w\nw.CODEC = 'libnothing'\n")
    text = {"PyAV": "need PyAV", "the encoder": "this PyAV has no libnothing"}[missing]
    remedy = {"PyAV": "pip install 'tilekit-vae[video]'", "the encoder": "pip install --force-reinstall av"}[missing]
    path = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH"))))
    server = started(tmp_path / "files", env={"PYTHONPATH": path})
    one = tab(address=server.address)
    assert text in one.text("#ltx-plan")
    one.begin("a red circle")
    one.page.wait_for_selector(f"#ltx-told >> text={remedy}")
    assert server.runs() == []


def test_a_second_server_is_refused_a_folder(server: Server) -> None:
    command = [sys.executable, "-m", "ltx_models", "serve", "--folder", str(server.folder), "--port", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"another server (process {server.process.pid}) has {server.folder}" in done.stderr
    assert get(server.address)[0] == 200


def test_given_pictures_and_sound_are_taken_and_wrong_ones_refused(tab: Open, server: Server, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", np.ones((3, 128, 128), np.float32))
    write_audio(tmp_path / "a.wav", 0.5 * np.sin(np.arange(48000) / 20)[None, None].repeat(2, 1), 48000)
    (tmp_path / "wrong.png").write_text("#EXTM3U\n/etc/passwd\n")
    one = tab()
    one.page.get_by_text("given pictures and sound").click()
    upload = one.page.locator("#ltx-pictures input[type=file]")
    upload.set_input_files(str(tmp_path / "wrong.png"))
    one.page.wait_for_selector("#ltx-pictures >> text=wrong")
    before = server.runs()
    one.begin("a red circle")
    one.page.wait_for_selector("#ltx-told >> text=is no picture that can be read")
    assert server.runs() == before
    one.page.locator(
        "#ltx-pictures button[aria-label='Clear'], #ltx-pictures button[aria-label='Remove this file']"
    ).first.click()
    upload.set_input_files(str(tmp_path / "a.png"))
    one.page.wait_for_selector("#ltx-pictures >> text=a.png")
    one.page.locator("#ltx-sound input[type=file]").set_input_files(str(tmp_path / "a.wav"))
    one.page.wait_for_selector("#ltx-sound >> text=a.wav")
    one.begin("a red circle")
    name = one.wait_for("done")
    samples = read_audio(server.folder / "runs" / name / "video.mp4")[0]
    assert np.abs(np.asarray(samples)).max() > 0.3
    flags = json.loads((server.folder / "runs" / name / "run.json").read_text())["flags"]
    assert "given/picture0.png" in flags
    assert "--audio-path=given/sound" in flags


def test_no_path_outside_the_folder_can_be_read(server: Server) -> None:
    secret = server.folder.parent / "secret.png"
    write_picture(secret, np.zeros((3, 8, 8), np.float32))
    name = server.runs()[0].name if server.runs() else "20261121-000000-abcdef"
    address = server.address
    hostile = [
        f"gradio_api/file={secret}", "gradio_api/file=/etc/passwd",
        f"gradio_api/file={server.folder}/runs/{name}/run.json",
        f"runs/{name}/run.json", f"runs/{name}/..%2f..%2f..%2fsecret.png", "runs/..%2f..%2fsecret.png/video.mp4",
        "gradio_api/file=https://example.org/", "gradio_api/proxy=https://example.org/", "docs", "openapi.json",
        f"gradio_api/file={server.folder}/uploads/..%2f..%2fsecret.png", "monitoring", "gradio_api/runs",
    ]  # fmt: skip
    for path in hostile:
        status, _ = get(address + path)
        assert status in {403, 404}, (path, status)
    assert get(address, Host="evil.example")[0] == 421
    assert get(address + "config", Origin="http://evil.example")[0] == 403
    assert get(address)[0] == 200


def test_others_need_the_token(browser: Any, started: Callable[..., Server], tmp_path: Path) -> None:
    server = started(tmp_path / "files", host="0.0.0.0")
    (line,) = (line for line in server.said if "http://" in line)
    token = line.strip().partition("?token=")[2]
    assert len(token) >= 32
    for path in ("", "config", "alive", "gradio_api/info", "?token=wrong"):
        assert get(server.address + path)[0] == 401
    page = browser.new_context().new_page()
    page.goto(server.address + f"?token={token}")
    page.wait_for_selector("#ltx-plan .ltx-plan")
    assert token not in page.url
    page.context.close()
    mode = stat.S_IMODE((tmp_path / "files").stat().st_mode)
    assert mode & stat.S_IWOTH == 0
