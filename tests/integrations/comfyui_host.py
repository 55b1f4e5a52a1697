"""Runs workflows in a real checkout of ComfyUI, on the processor, with tiny seeded models; prints JSON. Not a test."""

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

CHECKOUT, OUTPUT, PACK, *WANTED = sys.argv[1:]
sys.argv = sys.argv[:1]
sys.path.insert(0, CHECKOUT)

from comfy.cli_args import args  # noqa: E402

args.cpu = True
import asyncio  # noqa: E402

import comfy.utils  # noqa: E402
import execution  # noqa: E402
import folder_paths  # noqa: E402
import nodes  # noqa: E402
import torch  # noqa: E402

import tilekit  # noqa: E402

folder_paths.set_output_directory(OUTPUT)
CASES = importlib.import_module("comfyui_models").CASES


class Source:
    """A node that gives a VAE and latents."""

    RETURN_TYPES = ("VAE", "LATENT", "IMAGE")
    FUNCTION = "give"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # the host's name
        return {"required": {"kind": ("STRING", {})}}

    def give(self, kind: str) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(1)
        case = CASES[kind]
        latent = torch.randn(case.latents, generator=generator)
        return case.make(), {"samples": latent}, torch.rand(case.pixels, generator=generator)


KEPT: dict[str, Any] = {}


class Budget:
    """A node that gives a share of what a plain decode takes, in GiB."""

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "give"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # the host's name
        return {"required": {"vae": ("VAE", {}), "samples": ("LATENT", {}), "share": ("FLOAT", {})}}

    def give(self, vae: Any, samples: Any, share: float) -> tuple[float]:
        plan = tilekit.exact(vae.first_stage_model.decode).plan(samples["samples"])
        return (share * plan.plain_bytes / 2**30,)


class Keep:
    """A node that keeps what it gets."""

    RETURN_TYPES = ()
    FUNCTION = "keep"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"name": ("STRING", {}), "value": ("*", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: Any) -> bool:
        return True

    def keep(self, name: str, value: Any) -> tuple[()]:
        KEPT[name] = value
        return ()


def run(workflow: dict[str, Any]) -> Any:
    server = types.SimpleNamespace(client_id=None, last_node_id=None, send_sync=lambda *_: None)
    executor = execution.PromptExecutor(server)
    ends = [
        key
        for key, node in workflow.items()
        if getattr(nodes.NODE_CLASS_MAPPINGS[node["class_type"]], "OUTPUT_NODE", False)
    ]
    executor.execute(workflow, "test", execute_outputs=ends)
    return executor


def node(name: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": name, "inputs": inputs}


def source(kind: str) -> dict[str, Any]:
    return {"s": node("Source", kind=kind)}


def differs(a: Any, b: Any) -> float:
    return float((a - b).abs().max())


def failures(executor: Any) -> list[Any]:
    return [(event, data.get("exception_message")) for event, data in executor.status_messages if "error" in event]


def decodes(kind: str) -> dict[str, Any]:
    """Decode and encode whole, in tiles of the host and exactly, within a share of what a plain call takes."""
    flow = source(kind)
    flow["own"] = node("VAEDecode", samples=["s", 1], vae=["s", 0])
    flow["tiled"] = node(
        "VAEDecodeTiled", samples=["s", 1], vae=["s", 0], tile_size=64, overlap=16, temporal_size=8, temporal_overlap=4
    )
    flow["budget"] = node("Budget", samples=["s", 1], vae=["s", 0], share=CASES[kind].share)
    flow["exact"] = node("VAEDecodeExact", samples=["s", 1], vae=["s", 0], memory_gb=["budget", 0])
    flow["encoded"] = node("VAEEncode", pixels=["s", 2], vae=["s", 0])
    flow["encoded_exact"] = node("VAEEncodeExact", pixels=["s", 2], vae=["s", 0], memory_gb=0.2)
    names = ("own", "tiled", "exact", "encoded", "encoded_exact")
    for name in names:
        flow[f"keep_{name}"] = node("Keep", name=name, value=[name, 0])
    executor = run(flow)
    if failures(executor):
        return {"failures": failures(executor)}
    kept = {name: KEPT.pop(name) for name in names}
    return {
        "failures": [],
        "shape": list(kept["exact"].shape),
        "exact": differs(kept["exact"], kept["own"]),
        "tiled": differs(kept["tiled"], kept["own"]),
        "encode": differs(kept["encoded_exact"]["samples"], kept["encoded"]["samples"]),
        "encoded": float(kept["encoded"]["samples"].std()),
        "range": [float(kept["exact"].min()), float(kept["exact"].max()), float(kept["exact"].std())],
    }


def others() -> dict[str, Any]:
    flow = source("Wan 2.1")
    flow["file"] = node(
        "VAEDecodeExactToVideo", samples=["s", 1], vae=["s", 0], fps=24.0, filename_prefix="clip", memory_gb=0.2
    )
    flow["plan"] = node("VAETilingPlan", samples=["s", 1], vae=["s", 0], memory_gb=0.2)
    flow["map"] = node("VAESeamMap", samples=["s", 1], vae=["s", 0], tile_size=64, overlap=32, gain=10.0, memory_gb=0.2)
    for name, output in (("file", 0), ("plan", 0), ("plan", 1), ("map", 0), ("map", 1)):
        flow[f"keep_{name}{output}"] = node("Keep", name=f"{name}{output}", value=[name, output])
    executor = run(flow)
    if failures(executor):
        return {"failures": failures(executor)}
    return {
        "failures": [],
        "video": list(KEPT["file0"].get_components().images.shape),
        "plan": KEPT["plan0"],
        "plan_picture": list(KEPT["plan1"].shape),
        "map": list(KEPT["map0"].shape),
        "map_text": KEPT["map1"],
        "files": sorted(path.name for path in Path(OUTPUT).iterdir()),
    }


def interrupted() -> dict[str, Any]:
    """Interrupt in the first step, as a user does."""
    steps: list[int] = []

    def hook(done: int, total: int, preview: Any, node_id: Any = None) -> None:
        steps.append(done)
        nodes.interrupt_processing(True)

    comfy.utils.set_progress_bar_global_hook(hook)
    flow = source("Wan 2.1")
    flow["file"] = node(
        "VAEDecodeExactToVideo", samples=["s", 1], vae=["s", 0], fps=24.0, filename_prefix="broken", memory_gb=0.015
    )
    executor = run(flow)
    comfy.utils.set_progress_bar_global_hook(None)
    return {
        "events": [event for event, _ in executor.status_messages],
        "steps": len(steps),
        "files": sorted(path.name for path in Path(OUTPUT).iterdir()),
    }


def refused() -> list[Any]:
    flow = source("Stable Diffusion")
    flow["exact"] = node("VAEDecodeExact", samples=["s", 1], vae=["s", 0], memory_gb=0.0001)
    flow["keep"] = node("Keep", name="refused", value=["exact", 0])
    return failures(run(flow))


def main() -> None:
    assert asyncio.run(nodes.load_custom_node(PACK)), "the host did not take the nodes"
    nodes.NODE_CLASS_MAPPINGS |= {"Source": Source, "Keep": Keep, "Budget": Budget}
    parts = {"others": others, "interrupted": interrupted, "refused": refused}
    report = {name: parts[name]() if name in parts else decodes(name) for name in WANTED}
    report["nodes"] = sorted(
        name for name in nodes.NODE_CLASS_MAPPINGS if "Exact" in name or name.startswith(("VAETiling", "VAESeam"))
    )
    print("REPORT " + json.dumps(report))


if __name__ == "__main__":
    main()
