"""The one folder of the page, what may be uploaded, and who may ask: no page and no browser needed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models.cli.web.folder import Folder
from ltx_models.cli.web.guard import Guard, is_local
from ltx_models.cli.web.hold import hold
from ltx_models.cli.web.uploads import take_clip, take_picture, take_sound
from ltx_models.media import MediaError, write_audio, write_picture, write_video

MIB = 2**20


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "files")


def test_only_results_of_runs_are_read(folder: Folder, tmp_path: Path) -> None:
    place = folder.new_run()
    (place / "video.mp4").write_bytes(b"video")
    (place / "previews").mkdir()
    (place / "previews" / "denoise_001.png").write_bytes(b"picture")
    (place / "run.json").write_text("{}")
    assert folder.served(place.name, "video.mp4").read_bytes() == b"video"
    assert folder.served(place.name, "previews/denoise_001.png").read_bytes() == b"picture"
    hostile = ["run.json", "../video.mp4", "/etc/passwd", "previews/../run.json", "previews/", "", "previews/a/b.png"]
    for name in [*hostile, "latents.safetensors", "keep/x.png", "video.mp4\n", "previews/%2e%2e.png"]:
        with pytest.raises(MediaError, match="none that may be read"):
            folder.served(place.name, name)
    for name in ("..", ".", "", "../runs", "20261121-000000-abcdef", place.name + "/", "a" * 9000, place.name + "\n"):
        with pytest.raises(MediaError, match="there is none"):
            folder.served(name, "video.mp4")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_lead_nowhere(folder: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "video.mp4").write_text("secret")
    place = folder.new_run()
    (place / "video.mp4").symlink_to(secret / "video.mp4")
    with pytest.raises(MediaError, match="none that may be read"):
        folder.served(place.name, "video.mp4")
    (folder.runs / "20261121-000000-abcdef").symlink_to(secret)
    with pytest.raises(MediaError, match="there is none"):
        folder.served("20261121-000000-abcdef", "video.mp4")
    with pytest.raises(MediaError, match="there is none"):
        folder.remove("20261121-000000-abcdef")
    (folder.uploads / "link").symlink_to(secret / "video.mp4")
    assert not folder.is_upload(str(folder.uploads / "link"))
    assert not folder.is_upload(str(folder.uploads / ".." / "runs"))
    assert not folder.is_upload("https://example.org/a.png")


def test_pictures_are_told_by_their_bytes_and_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL")
    picture, text = tmp_path / "a.png", tmp_path / "b.png"
    write_picture(picture, np.zeros((3, 16, 24), np.float32))
    assert take_picture(picture, tmp_path / "taken.png", MIB) == (24, 16)
    text.write_text("#EXTM3U\n/etc/passwd\n")
    with pytest.raises(MediaError, match="is no picture that can be read; allowed are PNG, JPEG or WebP"):
        take_picture(text, tmp_path / "taken.png", MIB)
    with pytest.raises(MediaError, match="allowed are 10 B"):
        take_picture(picture, tmp_path / "taken.png", 10)
    text.write_bytes(picture.read_bytes()[:40])
    with pytest.raises(MediaError, match="cannot be read as a picture"):
        take_picture(text, tmp_path / "taken.png", MIB)
    monkeypatch.setattr("ltx_models.cli.web.uploads.MOST_PIXELS", 100)
    with pytest.raises(MediaError, match="has 24x16 pixels, allowed are 100 in all"):
        take_picture(picture, tmp_path / "taken.png", MIB)
    with pytest.raises(MediaError, match="is no uploaded file"):
        take_picture(tmp_path, tmp_path / "taken.png", MIB)


def test_sounds_are_told_by_their_bytes(tmp_path: Path) -> None:
    pytest.importorskip("av")
    sound, playlist = tmp_path / "a.wav", tmp_path / "list.wav"
    write_audio(sound, np.zeros((1, 2, 4800), np.float32), 48000)
    take_sound(sound, tmp_path / "taken", MIB)
    assert (tmp_path / "taken").read_bytes() == sound.read_bytes()
    for text in ("#EXTM3U\nfile:///etc/passwd\n", "ffconcat version 1.0\nfile a.wav\n", ""):
        playlist.write_text(text)
        with pytest.raises(MediaError, match="is no sound that can be read"):
            take_sound(playlist, tmp_path / "other", MIB)
    assert not (tmp_path / "other").exists()


def test_clips_are_told_by_their_bytes(tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    write_video(clip, np.zeros((1, 3, 9, 32, 32), np.float32), fps=24)
    take_clip(clip, tmp_path / "taken", MIB)
    assert (tmp_path / "taken").read_bytes() == clip.read_bytes()
    other.write_text("#EXTM3U\n/etc/passwd\n")
    with pytest.raises(MediaError, match="is no clip that can be read; allowed are MP4, MOV, MKV or WebM"):
        take_clip(other, tmp_path / "other", MIB)
    other.write_bytes(clip.read_bytes()[:64])
    with pytest.raises(MediaError, match=r"b\.mp4"):
        take_clip(other, tmp_path / "other", MIB)
    assert not (tmp_path / "other").exists()


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    """Until that one closes it, or ends in any other way."""
    first = hold(tmp_path)
    with pytest.raises(MediaError, match=rf"another server \(process {os.getpid()}\) has .*choose another folder"):
        hold(tmp_path)
    first.close()
    code = "import sys, time; from pathlib import Path; from ltx_models.cli.web.hold import hold\n"
    code += "held = hold(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(MediaError, match=rf"another server \(process {other.pid}\)"):
            hold(tmp_path)
        other.kill()
        other.wait()
        hold(tmp_path).close()


@pytest.fixture
def desk(folder: Folder) -> Any:
    """The networks of a server with the toy."""
    from ltx_models.cli.parsing import Parser
    from ltx_models.cli.serve import add
    from ltx_models.cli.web.desk import Desk

    pytest.importorskip("torch")
    parser = Parser()
    add(parser.add_subparsers())
    return Desk(parser.parse_args(["serve", "--backend", "torch", "--device", "cpu"]), folder)


def test_each_pipeline_is_offered_or_it_is_said_why_not(desk: Any) -> None:
    from ltx_models.cli.web.views import lacking_view
    from ltx_models.download import PIPELINES

    assert set(desk.choices) | set(desk.lacking) == set(PIPELINES)
    assert desk.choices == ["distilled", "distilled-one-stage"]  # the toy has no dev checkpoint
    assert all("no dev checkpoint in it" in why for why in desk.lacking.values())
    assert all(name in lacking_view(desk.lacking) for name in desk.lacking)


def test_a_draft_opens_no_upload_that_is_none(desk: Any, folder: Folder, tmp_path: Path) -> None:
    """Nor one that lies elsewhere: libraries would follow what a playlist names."""
    from ltx_models.cli.web.studio import Studio
    from ltx_models.cli.web.wish import Wish

    pytest.importorskip("av")
    studio = Studio(folder, None, desk, None, MIB)  # type: ignore[arg-type]  # no queue is asked
    playlist, secret = folder.uploads / "a.mp4", tmp_path / "secret.mp4"
    playlist.write_text("#EXTM3U\n/etc/passwd\n")
    write_video(secret, np.zeros((1, 3, 9, 32, 32), np.float32), fps=24)
    for given in ({"sound": playlist}, {"clip": playlist}, {"pictures": (playlist,)}):
        with pytest.raises(MediaError, match="that can be read; allowed are"):
            studio.look(Wish("", **given))
    for given in ({"sound": secret}, {"clip": secret}, {"pictures": (secret,)}):
        with pytest.raises(MediaError, match="was not uploaded here"):
            studio.look(Wish("", **given))


def test_a_frame_too_small_for_previews_is_refused_with_the_plan(desk: Any) -> None:
    from ltx_models.cli.web.wish import Wish

    pytest.importorskip("av")
    with pytest.raises(ValueError, match=r"got 128x64, .*too small for previews"):
        desk.outlook(Wish("a circle", numbers={"width": 128.0, "height": 64.0, "frames": 9.0}))


@pytest.mark.parametrize("missing", ["the encoder", "PyAV"])
def test_a_missing_codec_is_said_with_the_plan(desk: Any, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    from ltx_models.cli.web.wish import Wish

    pytest.importorskip("av")
    if missing == "PyAV":
        monkeypatch.setitem(sys.modules, "av", None)
    else:
        monkeypatch.setattr("ltx_models.media.writer.CODEC", "libnothing")
    text = {"PyAV": r"pip install 'tilekit-vae\[video\]'", "the encoder": "this PyAV has no libnothing; pip install"}
    with pytest.raises(MediaError, match=text[missing]):
        desk.outlook(Wish("a circle"))


class Asked:
    """What a guard answered, or that it handed on."""

    def __init__(self, guard_of: Any, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        self.sent: list[Any] = []
        self.handed_on = False
        self.body = b""

        async def behind(scope: Any, receive: Any, send: Any) -> None:
            self.handed_on = True
            self.body = (await receive())["body"] if method == "POST" else b""
            await send({"type": "http.response.start", "status": 200, "headers": []})

        path, _, query = path.partition("?")
        given = {"host": "127.0.0.1:7860"} | headers
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }  # fmt: skip
        half = len(body) // 2
        parts = [body[half:], body[:half]]

        async def receive() -> Any:
            return {"type": "http.request", "body": parts.pop(), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            self.sent.append(message)

        asyncio.run(guard_of(behind)(scope, receive, send))
        self.status = self.sent[0]["status"]
        self.headers = dict(self.sent[0]["headers"])


def test_the_guard_hands_on_what_the_page_needs_and_nothing_else(folder: Folder) -> None:
    def guard_of(app: Any) -> Guard:
        return Guard(app, folder, "", local=True)

    (folder.uploads / "abc").mkdir()
    (folder.uploads / "abc" / "a.png").write_bytes(b"x")
    here = f"/gradio_api/file={folder.uploads}/abc/a.png"
    for path in ("/", "/config", "/assets/index-3.js", "/theme.css", "/alive", "/gradio_api/queue/data", here):
        asked = Asked(guard_of, "GET", path)
        assert asked.handed_on, path
        assert b"default-src 'self'" in asked.headers[b"content-security-policy"]
    forbidden = {
        "/gradio_api/file=/etc/passwd": 403, f"/gradio_api/file={folder.uploads}/../runs": 404,
        "/gradio_api/file=https://example.org/": 403, "/gradio_api/proxy=https://example.org": 404, "/docs": 404,
        "/assets/../../etc/passwd": 404, "/gradio_api/stream/x": 404, "/monitoring": 404, "/login": 404,
    }  # fmt: skip
    for path, status in forbidden.items():
        asked = Asked(guard_of, "GET", path)
        assert not asked.handed_on, path
        assert asked.status == status


def test_requests_name_uploads_alone(folder: Folder) -> None:
    def guard_of(app: Any) -> Guard:
        return Guard(app, folder, "", local=True)

    file = folder.uploads / "a.png"
    file.write_bytes(b"x")
    kind = {"_type": "gradio.FileData"}
    good = json.dumps({"data": ["a prompt", [{"path": str(file), "meta": kind}], None]}).encode()
    asked = Asked(guard_of, "POST", "/gradio_api/queue/join", good)
    assert asked.handed_on
    assert asked.body == good
    for path in ("/etc/passwd", "https://example.org/a.png", str(folder.uploads), 3):
        bad = json.dumps({"data": [[{"deep": {"path": path, "meta": kind}}]]}).encode()
        assert Asked(guard_of, "POST", "/gradio_api/queue/join", bad).status == 403
    assert Asked(guard_of, "POST", "/gradio_api/queue/join", b"no json").status == 403
    assert Asked(guard_of, "POST", "/gradio_api/queue/join", b"[" * 100_000).status == 403
    assert Asked(guard_of, "POST", "/gradio_api/queue/join", b" " * 1_100_000).status == 403


def test_pages_of_others_are_not_answered(folder: Folder) -> None:
    def guard_of(app: Any) -> Guard:
        return Guard(app, folder, "", local=True)

    assert Asked(guard_of, "GET", "/", host="evil.example:7860").status == 421
    assert Asked(guard_of, "GET", "/", host="[::1]:7860").handed_on
    assert Asked(guard_of, "POST", "/gradio_api/upload", origin="http://evil.example").status == 403
    assert Asked(guard_of, "POST", "/gradio_api/upload", origin="null").status == 403
    assert Asked(guard_of, "POST", "/gradio_api/upload", origin="http://127.0.0.1:7860").handed_on


def test_who_does_not_know_the_token_sees_nothing(folder: Folder) -> None:
    def guard_of(app: Any) -> Guard:
        return Guard(app, folder, "a-token-of-16-letters", local=False)

    for path in ("/", "/config", "/?token=", "/?token=another", "/runs/x/video.mp4", "/alive"):
        asked = Asked(guard_of, "GET", path, host="10.0.0.2:7860")
        assert asked.status == 401, path
        assert not asked.handed_on
    asked = Asked(guard_of, "GET", "/?token=a-token-of-16-letters", host="10.0.0.2:7860")
    assert (asked.status, asked.headers[b"location"]) == (303, b"/")
    cookie = asked.headers[b"set-cookie"].decode()
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert Asked(guard_of, "GET", "/", cookie=cookie.partition(";")[0], host="10.0.0.2:7860").handed_on
    assert Asked(guard_of, "GET", "/", cookie="ltx_models_token=another").status == 401
    assert Asked(guard_of, "GET", "/", cookie="=;=\x01").status == 401


def test_local_addresses() -> None:
    assert all(map(is_local, ("127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3")))
    assert not any(map(is_local, ("0.0.0.0", "::", "192.168.0.2", "example.org", "localhost.example.org", "")))


def test_the_plan_is_drawn_and_whatever_was_typed_is_escaped() -> None:
    from ltx_models import plan_exact
    from ltx_models.cli.web.desk import Outlook
    from ltx_models.cli.web.runs import Run
    from ltx_models.cli.web.views import outlook_view, refused, run_view
    from ltx_models.video_vae import LTX2

    plan = plan_exact(LTX2, (1, 128, 16, 34, 60), itemsize=2, memory_bytes=2 * 2**30)
    drawn = outlook_view(Outlook(1920, 1088, 121, 24.0, {"denoise": 3, "decode": 9}, plan, ("a < b",)), 5)
    assert "in 31 pieces of time" in drawn
    assert drawn.count("ltx-over") == 1  # the decode is above the budget
    assert "a &lt; b" in drawn
    hostile = "<script>alert(1)</script>"
    run = Run("20261121-000000-abcdef", "generate", hostile, (), "failed", hostile, notes=(hostile,), error=hostile)
    assert "<script" not in run_view(run, 0) + refused(hostile)
    assert "2 runs before it" in run_view(Run("a", "generate", "t", ()), 2)


def test_a_tiling_that_is_none_is_refused(tmp_path: Path) -> None:
    import argparse

    from ltx_models import default_checkpoint
    from ltx_models.checkpoints.latent_space import latent_space
    from ltx_models.cli.web.comparing import Comparing, usual_tiling
    from ltx_models.media import write_latents

    latents = tmp_path / "a.safetensors"
    space = latent_space(default_checkpoint())
    write_latents(latents, np.zeros((1, 128, 2, 4, 6), np.float32), fps=24, space=space)
    flags = dict.fromkeys(("checkpoint_path", "video_vae_path", "backend", "device"))
    comparing = Comparing(argparse.Namespace(**flags))
    assert [one.way for one in comparing.forecast(latents, usual_tiling(latents), "")] == ["whole", "blended", "exact"]
    for wrong in ("one tile", "", "64", "64/64"):
        with pytest.raises(ValueError, match=r"tile|overlap"):
            comparing.forecast(latents, wrong, "")
