"""The examples for each host run, with small models and without a network, where the host is installed."""

import json
import os
import re
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NEEDS = {
    "embed_any_decoder": ("torch",),
    "exact_torch": ("torch",),
    "jax_autoencoder": ("jax",),
    "mlx_autoencoder": ("mlx",),
    "diffusers_image": ("torch", "diffusers"),
    "diffusers_video": ("torch", "diffusers", "av"),
}


def ran(name: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)


@pytest.mark.filterwarnings("default")  # of the hosts, as where a user runs it
@pytest.mark.parametrize("name", NEEDS)
def test_an_example_runs_and_is_exact(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], usually_small: int
) -> None:
    """In this process, which has imported the hosts already, and without a network."""
    missing = [needed for needed in NEEDS[name] if find_spec(needed) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tilekit._exact.planner.SMALL", usually_small)
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: pytest.fail(f"it asked for {address}"))
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    exact = re.findall(r"^(?:exact|cropped): largest difference from the \w+(?: call)? (\S+)$", said, re.MULTILINE)
    assert exact
    assert max(map(float, exact)) < 1e-4
    for tiled in re.findall(r"^(?:tiled|blended): .* (\S+)$", said, re.MULTILINE):
        assert float(tiled) > 1e-3
    if name == "diffusers_video":
        assert "wan.mp4: 9 frames" in said
        assert [file.name for file in tmp_path.iterdir()] == ["wan.mp4"]


class _Comfy(BaseHTTPRequestHandler):
    """A double of ComfyUI's API: takes a workflow that has a node 6, and finishes it at the second question."""

    prompts: list[Any] = []  # noqa: RUF012  # one for each server of a test
    questions = 0

    def _answer(self, code: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
        self.prompts.append(prompt)
        refused = "6" not in prompt
        self._answer(400 if refused else 200, {"error": "no outputs"} if refused else {"prompt_id": "p"})

    def do_GET(self) -> None:
        type(self).questions += 1
        failed = self.prompts[-1]["6"]["inputs"]["memory_gb"] < 1
        error = {"node_id": "6", "node_type": "VAEDecodeExact", "exception_message": "memory_bytes: got 1"}
        status = {"completed": not failed, "status_str": "error" if failed else "success"}
        messages = [["execution_start", {}], *([["execution_error", error]] if failed else [])]
        outputs = {"7": {"images": [{"filename": "a.png", "subfolder": "b", "type": "output"}]}, "9": {"text": ["T"]}}
        entry = {"status": {**status, "messages": messages}, "outputs": {} if failed else outputs}
        self._answer(200, {"p": entry} if self.questions > 1 else {})

    def log_message(self, format: str, *args: Any) -> None:  # the name of the library
        pass


@pytest.fixture
def comfy() -> Iterator[tuple[str, type[_Comfy]]]:
    double = type("Double", (_Comfy,), {"prompts": [], "questions": 0})
    server = HTTPServer(("127.0.0.1", 0), double)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", double
    server.shutdown()
    server.server_close()


PICTURE = str(ROOT / "integrations" / "comfyui" / "workflows" / "picture.json")


def test_a_workflow_is_sent_and_its_files_are_told(comfy: tuple[str, type[_Comfy]], tmp_path: Path) -> None:
    server, double = comfy
    done = ran(
        "comfyui_workflow", tmp_path, PICTURE, "--server", server, "--set", "6.memory_gb=1.5", "--set", "2.text=x"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["node 7: b/a.png", "node 9: T"]
    (sent,) = double.prompts
    wanted = json.loads(Path(PICTURE).read_text())
    wanted["6"]["inputs"]["memory_gb"], wanted["2"]["inputs"]["text"] = 1.5, "x"
    assert sent == wanted


def test_what_goes_wrong_in_comfyui_is_told(comfy: tuple[str, type[_Comfy]], tmp_path: Path) -> None:
    server, _ = comfy
    done = ran("comfyui_workflow", tmp_path, PICTURE, "--server", server, "--set", "6.memory_gb=0.5")
    assert (done.returncode, done.stderr) == (1, "node 6 (VAEDecodeExact): memory_bytes: got 1\n")
    (tmp_path / "less.json").write_text('{"1": {"class_type": "X", "inputs": {}}}')
    done = ran("comfyui_workflow", tmp_path, "less.json", "--server", server)
    assert (done.returncode, "no outputs" in done.stderr) == (1, True)
    done = ran("comfyui_workflow", tmp_path, "less.json", "--server", server, "--set", "6.fps=1")
    assert (done.returncode, "node '6' has no input 'fps'" in done.stderr) == (1, True)
    done = ran("comfyui_workflow", tmp_path, PICTURE, "--server", "127.0.0.1:9")
    assert (done.returncode, "no ComfyUI at 127.0.0.1:9" in done.stderr) == (1, True)
