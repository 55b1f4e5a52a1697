"""
Run a workflow in a ComfyUI that is running, through its API, and say what it made.

    python examples/comfyui_workflow.py integrations/comfyui/workflows/picture.json
    python examples/comfyui_workflow.py clip.json --server 127.0.0.1:8188 --set 8.memory_gb=1.5

The workflow is in the API format, as "Export (API)" writes it; the nodes of tilekit are installed as
docs/how-to/comfyui.md says. What ComfyUI refuses, and errors of its nodes, are printed as it tells them.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen


def asked_of(server: str, path: str, body: Any = None) -> Any:
    """Send a request to ComfyUI and read its answer."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://{server}{path}", data=data, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def changed(workflow: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Put other values into a workflow: ``NODE.INPUT=VALUE``, the value as JSON where it is that."""
    for setting in settings:
        place, _, text = setting.partition("=")
        node, _, name = place.partition(".")
        if node not in workflow or name not in workflow[node]["inputs"]:
            msg = f"--set {setting}: node {node!r} has no input {name!r}; nodes are {', '.join(workflow)}"
            raise SystemExit(msg)
        try:
            workflow[node]["inputs"][name] = json.loads(text)
        except ValueError:
            workflow[node]["inputs"][name] = text
    return workflow


def finished(server: str, prompt_id: str) -> dict[str, Any]:
    """Wait until a workflow is done."""
    while True:
        history = asked_of(server, f"/history/{prompt_id}")
        if prompt_id in history and history[prompt_id].get("status", {}).get("completed") is not None:
            found: dict[str, Any] = history[prompt_id]
            return found
        time.sleep(0.5)


def told(entry: dict[str, Any]) -> int:
    """Print the files and texts of a finished workflow, or its error; give the exit code."""
    for event, data in entry["status"]["messages"]:
        if event == "execution_error":
            print(f"node {data['node_id']} ({data['node_type']}): {data['exception_message']}", file=sys.stderr)
    for node, made in entry["outputs"].items():
        for file in made.get("images", []):
            print(f"node {node}: {Path(file['subfolder'], file['filename'])}")
        for text in made.get("text", []):
            print(f"node {node}: {text}")
    return 0 if entry["status"]["status_str"] == "success" else 1


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workflow", type=Path, help="JSON in the API format")
    parser.add_argument("--server", default="127.0.0.1:8188", help="host and port of ComfyUI")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="another value")
    asked = parser.parse_args()
    workflow = changed(json.loads(asked.workflow.read_text()), asked.set)
    try:
        answer = asked_of(asked.server, "/prompt", {"prompt": workflow})
    except HTTPError as refused:
        print(f"ComfyUI refuses the workflow: {refused.read().decode()}", file=sys.stderr)
        return 1
    except URLError as missing:
        print(f"no ComfyUI at {asked.server} ({missing.reason}); start it, or give --server", file=sys.stderr)
        return 1
    return told(finished(asked.server, answer["prompt_id"]))


if __name__ == "__main__":
    sys.exit(main())
