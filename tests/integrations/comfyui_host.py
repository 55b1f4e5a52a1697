"""Runs workflows in a real checkout of ComfyUI, on the processor, with tiny seeded models; prints JSON. Not a test."""

import json
import sys
import types
from pathlib import Path
from typing import Any

CHECKOUT, OUTPUT, PACK = sys.argv[1:4]
sys.argv = sys.argv[:1]
sys.path.insert(0, CHECKOUT)

from comfy.cli_args import args  # noqa: E402

args.cpu = True
import asyncio  # noqa: E402

import comfy.model_management as management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import execution  # noqa: E402
import folder_paths  # noqa: E402
import nodes  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencoderKL  # noqa: E402
from comfy.ldm.wan.vae import WanVAE  # noqa: E402

folder_paths.set_output_directory(OUTPUT)
NARROW = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
WAN = {"dim": 16, "z_dim": 4, "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1, "attn_scales": [], "dropout": 0.0}


def seeded(module: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.08
    return module.eval()


def picture_vae() -> Any:
    params = {"ddconfig": NARROW, "embed_dim": 4}
    return comfy.sd.VAE(sd=seeded(AutoencoderKL(**params)).state_dict(), config={"params": params}, dtype=torch.float32)


def video_vae() -> Any:
    vae = picture_vae()
    vae.first_stage_model = seeded(WanVAE(**WAN, temperal_downsample=[False, True, True]))
    vae.patcher = comfy.model_patcher.ModelPatcher(vae.first_stage_model, vae.device, management.vae_offload_device())
    vae.latent_dim, vae.latent_channels = 3, 4
    vae.upscale_ratio = (lambda n: max(0, n * 4 - 3), 8, 8)
    vae.upscale_index_formula = vae.downscale_index_formula = (4, 8, 8)
    vae.downscale_ratio = (lambda n: max(0, (n + 3) // 4), 8, 8)
    return vae


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
        if kind == "picture":
            latent = torch.randn(1, 4, 40, 36, generator=generator)
            return picture_vae(), {"samples": latent}, torch.rand(1, 328, 264, 3, generator=generator)
        latent = torch.randn(1, 4, 4, 10, 12, generator=generator)
        return video_vae(), {"samples": latent}, torch.rand(9, 64, 80, 3, generator=generator)


KEPT: dict[str, Any] = {}


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
    flow = source(kind)
    flow["own"] = node("VAEDecode", samples=["s", 1], vae=["s", 0])
    flow["tiled"] = node(
        "VAEDecodeTiled", samples=["s", 1], vae=["s", 0], tile_size=64, overlap=16, temporal_size=8, temporal_overlap=4
    )
    flow["exact"] = node("VAEDecodeExact", samples=["s", 1], vae=["s", 0], memory_gb=0.2)
    flow["encoded"] = node("VAEEncode", pixels=["s", 2], vae=["s", 0])
    flow["encoded_exact"] = node("VAEEncodeExact", pixels=["s", 2], vae=["s", 0], memory_gb=0.2)
    for name in ("own", "tiled", "exact", "encoded", "encoded_exact"):
        flow[f"keep_{name}"] = node("Keep", name=f"{kind}_{name}", value=[name, 0])
    executor = run(flow)
    kept: dict[str, Any] = {
        name: KEPT.get(f"{kind}_{name}") for name in ("own", "tiled", "exact", "encoded", "encoded_exact")
    }
    if any(value is None for value in kept.values()):
        return {"failures": failures(executor)}
    return {
        "failures": failures(executor),
        "shape": list(kept["exact"].shape),
        "exact": differs(kept["exact"], kept["own"]),
        "tiled": differs(kept["tiled"], kept["own"]),
        "encode": differs(kept["encoded_exact"]["samples"], kept["encoded"]["samples"]),
        "range": [float(kept["exact"].min()), float(kept["exact"].max())],
    }


def others() -> dict[str, Any]:
    flow = source("video")
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
    flow = source("video")
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
    flow = source("picture")
    flow["exact"] = node("VAEDecodeExact", samples=["s", 1], vae=["s", 0], memory_gb=0.0001)
    flow["keep"] = node("Keep", name="refused", value=["exact", 0])
    return failures(run(flow))


def main() -> None:
    assert asyncio.run(nodes.load_custom_node(PACK)), "the host did not take the nodes"
    nodes.NODE_CLASS_MAPPINGS |= {"Source": Source, "Keep": Keep}
    report = {
        "picture": decodes("picture"),
        "video": decodes("video"),
        "others": others(),
        "interrupted": interrupted(),
        "refused": refused(),
        "nodes": sorted(
            name for name in nodes.NODE_CLASS_MAPPINGS if "Exact" in name or name.startswith(("VAETiling", "VAESeam"))
        ),
    }
    print("REPORT " + json.dumps(report))


if __name__ == "__main__":
    main()
