"""A server with the toy, and a browser that notes where its requests go; skipped where one of the parts is missing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
LONG = int(os.environ.get("LTX_WEB_TIMEOUT", "240"))  # seconds until something is taken for broken
WIDTHS = (1280, 390)
OFFLINE = Path(__file__).with_name("without_network")


@dataclass
class Server:
    """A process of ``ltx-models serve``."""

    folder: Path
    port: int
    process: subprocess.Popen[str]
    reader: threading.Thread = field(default_factory=threading.Thread)
    said: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def runs(self) -> list[Path]:
        return sorted((self.folder / "runs").iterdir())

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(folder: Path, *flags: str, port: int | None = None, host: str = "127.0.0.1", **more: Any) -> Server:
    """Start a server, and wait until it says its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "ltx_models", "serve", "--folder", str(folder), "--port", str(port)]
    path = os.pathsep.join(filter(None, (str(OFFLINE), os.environ.get("PYTHONPATH"))))
    asked = {"PYTHONPATH": path, "LTX_WEB_ASKED": str(folder.parent / "asked")}
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | asked | more.pop("env", {})
    process = subprocess.Popen(
        [*command, "--host", host, *flags], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, **more,
    )  # fmt: skip
    server = Server(folder, port, process)
    server.reader = threading.Thread(target=lambda: server.said.extend(process.stdout or ()), daemon=True)
    server.reader.start()
    end = time.monotonic() + LONG
    while time.monotonic() < end and process.poll() is None and not any("http://" in line for line in server.said):
        time.sleep(0.2)
    assert process.poll() is None, "".join(server.said)
    return server


@pytest.fixture(scope="session")
def _parts() -> None:
    """Skip where a part is missing, and say which."""
    for needed in ("gradio", "playwright", "torch", "av"):
        pytest.importorskip(needed)
    if CHROMIUM is None:
        pytest.skip("no chromium is installed; name one with CHROMIUM")


@pytest.fixture(scope="session")
def started(_parts: None) -> Iterator[Callable[..., Server]]:
    """Start servers; all are ended."""
    servers: list[Server] = []

    def begin(*arguments: Any, **keywords: Any) -> Server:
        servers.append(start(*arguments, **keywords))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()
    asked = [server.folder.parent / "asked" for server in servers]
    assert [file.read_text() for file in asked if file.exists()] == []  # no process asked another machine


@pytest.fixture(scope="session")
def server(started: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server that most tests share."""
    return started(tmp_path_factory.mktemp("page") / "files")


@pytest.fixture(scope="session")
def browser(_parts: None) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # videos begin with their sound without a click, as in the tests nobody clicks
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        opened = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


class Tab:
    """A tab of the browser, and what tests do in it."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.elsewhere: list[str] = []
        page.set_default_timeout(LONG * 1000)
        page.on("request", self._note)
        page.goto(address)
        page.wait_for_selector("#ltx-plan .ltx-plan, #ltx-plan .ltx-error")

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.elsewhere.append(request.url)

    def fill(self, **fields: Any) -> None:
        """Write into fields of the form."""
        for name, value in fields.items():
            place = self.page.locator(f"#ltx-{name} textarea, #ltx-{name} input").first
            place.fill(str(value))
            place.press("Tab")

    def choose(self, name: str, value: str) -> None:
        """Choose from a list of the form."""
        self.page.locator(f"#ltx-{name} input").click()
        self.page.get_by_role("option", name=value, exact=True).click()

    def begin(self, prompt: str, width: int = 128, height: int = 128, frames: int = 9) -> None:
        self.fill(width=width, height=height, frames=frames, prompt=prompt)
        self.page.click("#ltx-begin")

    def wait_for(self, state: str, verb: str = "generate") -> str:
        """Wait until the run that is shown is in a state; give its name."""
        shown = self.page.wait_for_selector(f'#ltx-{verb}-run [data-state="{state}"]')
        return str(shown.get_attribute("data-run"))

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())


@pytest.fixture
def tab(browser: Any, server: Server) -> Iterator[Callable[..., Tab]]:
    """Open tabs, each as a browser of its own; no request of any of them may leave the address."""
    opened: list[tuple[Any, Tab]] = []

    def begin(width: int = 1280, address: str = "") -> Tab:
        context = browser.new_context(viewport={"width": width, "height": 900})
        opened.append((context, Tab(context.new_page(), address or server.address)))
        return opened[-1][1]

    yield begin
    found = [url for _, one in opened for url in one.elsewhere]
    for context, _ in opened:
        context.close()
    assert found == []


def get(address: str, **headers: str) -> tuple[int, bytes]:
    """Ask as a program would, without a proxy."""
    from urllib.error import HTTPError
    from urllib.request import Request

    try:
        with build_opener(ProxyHandler({})).open(Request(address, headers=headers), timeout=60) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()
