"""
Run the official pipelines on the files of a test, in a process of their own, and keep the latents of every stage.

Called as ``python official_runs.py requests.json folder``. The official packages are found through ``PYTHONPATH``, so
that their version may differ from the one that other tests have installed. What is put in their place: float32 for
bfloat16, contexts read from a file for the language model, and nothing for the decoders, whose arguments are kept.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = {
    "one_stage": ("ti2vid_one_stage", "TI2VidOneStagePipeline"),
    "distilled": ("distilled", "DistilledPipeline"),
    "two_stages": ("ti2vid_two_stages", "TI2VidTwoStagesPipeline"),
    "hq": ("ti2vid_two_stages_hq", "TI2VidTwoStagesHQPipeline"),
    "keyframes": ("keyframe_interpolation", "KeyframeInterpolationPipeline"),
    "audio": ("a2vid_two_stage", "A2VidPipelineTwoStage"),
    "reference": ("ic_lora", "ICLoraPipeline"),
    "retake": ("retake", "RetakePipeline"),
    "sound": ("t2a_one_stage", "T2AOneStagePipeline"),
}
APG = (0.6, 20.0)  # weight of the part along the prediction, and most of the norm
TWO_STAGES = {"distilled", "two_stages", "hq", "keyframes", "audio", "reference"}
NEED_LORA = {"two_stages", "hq", "keyframes", "audio"}


def prepare() -> Any:
    """Import torch and the official packages as they must be for a comparison on a processor, in float32."""
    torch = importlib.import_module("torch")
    importlib.import_module("transformers")
    sys.modules.setdefault("OpenImageIO", types.ModuleType("OpenImageIO"))  # for another kind of picture
    extension = types.ModuleType("torchaudio._extension")  # whose library wants CUDA; what is used here is of Python
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    extension.fail_if_no_align = lambda call: call  # type: ignore[attr-defined]
    sys.modules["torchaudio._extension"] = extension
    torch.bfloat16 = torch.float32  # type: ignore[attr-defined]
    return torch


def pick(name: str) -> Any:
    """Take something of the official pipelines, as ``module:name``."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"ltx_pipelines.{module}"), attribute)


class Contexts:
    """Stands for the language model: gives the contexts of a file, the prompt's and then the negative one's."""

    path = ""

    def __init__(self, *given: Any, **more: Any) -> None:
        self.given = np.load(self.path)

    def __call__(self, prompts: list[str], **more: Any) -> list[Any]:
        torch = sys.modules["torch"]
        return [
            types.SimpleNamespace(
                video_encoding=torch.tensor(self.given[f"{which}_video"]),
                audio_encoding=torch.tensor(self.given[f"{which}_audio"]),
            )
            for which in ("good", "bad")[: len(prompts)]
        ]


def without_eyes(encoder: Any) -> Any:
    """Leave out what only reads pictures, whose names later releases of transformers changed."""
    original = encoder._build_text_encoder

    def built() -> Any:
        model = original()
        model.model.model.vision_tower = None
        return model

    encoder._build_text_encoder = built
    return encoder


def build(kind: str, files: dict[str, str], ask: dict[str, Any]) -> Any:
    """Make an official pipeline of our files."""
    module, name = CLASSES[kind]
    loaded: Any = importlib.import_module(f"ltx_pipelines.{module}")
    Contexts.path = files["contexts"]
    loaded.PromptEncoder = Contexts if "gemma" not in ask else pick("utils.blocks:PromptEncoder")
    lora = importlib.import_module("ltx_core.loader").LoraPathStrengthAndSDOps
    renamed = importlib.import_module("ltx_core.loader").LTXV_LORA_COMFY_RENAMING_MAP
    paths = pick("utils.model_paths:ModelPaths").from_monolith(files["path"], ask.get("gemma"))
    given: dict[str, Any] = {"model_paths": paths}
    given["loras"] = [lora(path, strength, renamed) for path, strength in ask.get("loras", [])]
    if kind in TWO_STAGES:
        given["spatial_upsampler_path"] = files["upsampler"]
    if kind in NEED_LORA:
        given["distilled_lora"] = [lora(files["lora"], 1.0, renamed)]
    if kind == "hq":
        given |= {"distilled_lora_strength_stage_1": 0.25, "distilled_lora_strength_stage_2": 0.5}
    if kind == "retake":
        given["distilled"] = "guidance" not in ask
    return getattr(loaded, name)(**given)


def run(kind: str, files: dict[str, str], ask: dict[str, Any]) -> dict[str, Any]:
    """Run one, and give every stage's latents by name and the ones that go to the decoders."""
    torch = sys.modules["torch"]
    blocks = importlib.import_module("ltx_pipelines.utils.blocks")
    kept: dict[str, Any] = {}

    def keep(name: str, latent: Any) -> None:
        kept[name] = latent.detach().to(torch.float32).numpy().copy()

    pipe = build(kind, files, ask)
    if "gemma" in ask:
        pipe.prompt_encoder = heard(without_eyes(pipe.prompt_encoder), keep)
    stages = iter(range(9))
    original = blocks.DiffusionStage.__call__

    def stage(self: Any, *given: Any, **named: Any) -> Any:
        number = next(stages)
        named |= dict.fromkeys(ask.get("without", ()))
        for stream in ("video", "audio"):
            spec = named.get(stream)
            if ask.get("frozen_clean") and spec is not None and spec.frozen:
                named[stream] = replace(spec, noise_scale=0.0)
        found = original(self, *given, **named)
        for stream, state in zip(("video", "audio"), found, strict=True):
            if state is not None:
                keep(f"{number}_{stream}", state.latent)
        nothing = types.SimpleNamespace(latent=torch.zeros(1))
        return tuple(state or nothing for state in found) if "without" in ask else found

    blocks.DiffusionStage.__call__ = stage
    blocks.VideoDecoder.__call__ = lambda self, latent, *a, **k: keep("video", latent)
    blocks.AudioDecoder.__call__ = lambda self, latent: keep("audio", latent)
    with torch.inference_mode(), guided_by(ask.get("guided_by")):
        pipe(**arguments(kind, ask))
    blocks.DiffusionStage.__call__ = original
    return kept


@contextmanager
def guided_by(kind: str | None) -> Iterator[None]:
    """Let one of the official guiders that no official pipeline uses take the place of the plain difference."""
    guiders = importlib.import_module("ltx_core.components.guiders")
    original = guiders.MultiModalGuider.calculate

    def calculate(self: Any, cond: Any, uncond: Any, *worse: Any) -> Any:
        scale = self.params.cfg_scale
        if kind is not None and scale != 1:
            apg = kind == "apg"
            guider = guiders.LtxAPGGuider(scale, *APG) if apg else guiders.CFGStarRescalingGuider(scale)
            uncond = cond - guider.delta(cond, uncond) / (scale - 1)
        return original(self, cond, uncond, *worse)

    guiders.MultiModalGuider.calculate = calculate
    yield
    guiders.MultiModalGuider.calculate = original


def heard(encode: Any, keep: Any) -> Any:
    """Keep the contexts that an encoder makes of the prompt and the negative one."""

    def call(prompts: list[str], **more: Any) -> Any:
        found = encode(prompts, **more)
        for which, one in zip(("good", "bad"), found, strict=False):
            keep(f"{which}_context_video", one.video_encoding)
            keep(f"{which}_context_audio", one.audio_encoding)
        return found

    return call


NUMBERS = ("seed", "height", "width", "num_frames", "frame_rate", "num_inference_steps")
RETAKES = ("seed", "num_inference_steps", "start_time", "end_time", "regenerate_video", "regenerate_audio")


def arguments(kind: str, ask: dict[str, Any]) -> dict[str, Any]:
    """Name what a pipeline is called with."""
    wanted = {"retake": RETAKES, "sound": ("seed", *NUMBERS[3:])}.get(kind, NUMBERS)
    given: dict[str, Any] = {name: ask[name] for name in wanted if name in ask} | {"prompt": ask.get("prompt", "a")}
    if "guidance" in ask:
        params = importlib.import_module("ltx_core.components.guiders").MultiModalGuiderParams
        led = {"audio": ("video",), "sound": ("audio",)}.get(kind, ("video", "audio"))
        given |= {f"{stream}_guider_params": params(**ask["guidance"][stream]) for stream in led}
        given["negative_prompt"] = ask.get("negative_prompt", "b")
    if "keyframes" in ask:
        given["generated_keyframes"] = ask["keyframes"]
    if kind != "sound":
        given["tiling_config"] = None
    if kind not in {"retake", "sound"}:
        image = pick("utils.args:ImageConditioningInput")
        given["images"] = [image(*one) for one in ask.get("images", [])]
    if kind == "audio":
        given |= {"audio_path": ask["audio"], "audio_max_duration": ask["num_frames"] / ask["frame_rate"]}
    if kind == "reference":
        given["video_conditioning"] = ask["references"]
        given["conditioning_attention_strength"] = ask.get("attention", 1.0)
    if kind == "retake":
        given["video_path"] = ask["clip"]
    return given


def same_media() -> None:
    """
    Let clips be read as they were for us: how colour is brought to the pixels of a frame is not the pipeline's matter.

    Nor is how a sound track begins: read from a place that was sought, the first 28 ms of AAC are lost.
    """
    torch = sys.modules["torch"]

    def frames(path: str, *given: Any, frame_cap: int | None = None, **more: Any) -> Any:
        yield from torch.from_numpy(np.load(f"{path}.npy"))[:frame_cap].split(1)

    original = pick("utils.helpers:decode_audio_from_file")
    kind = importlib.import_module("ltx_core.types").Audio

    def sound(path: str, device: Any, start: float = 0.0, duration: float | None = None) -> Any:
        if not Path(f"{path}.sound.npz").exists():
            return original(path, device, start, duration)
        kept = np.load(f"{path}.sound.npz")
        rate = int(kept["rate"])
        samples = torch.from_numpy(kept["samples"])[..., : None if duration is None else round(duration * rate)]
        return kind(waveform=samples, sampling_rate=rate)

    importlib.import_module("ltx_pipelines.utils.helpers").decode_audio_from_file = sound  # type: ignore[attr-defined]
    for module in ("ic_lora", "iclora_utils", "utils.helpers"):
        loaded = importlib.import_module(f"ltx_pipelines.{module}")
        for name in ("decode_video_by_frame", "decode_video_from_file"):
            if hasattr(loaded, name):
                setattr(loaded, name, frames)


def facts() -> dict[str, Any]:
    """Give the numbers that the official tools use unless they are told otherwise."""
    constants = importlib.import_module("ltx_pipelines.utils.constants")
    names = {"2.0": "LTX_2_PARAMS", "2.3": "LTX_2_3_PARAMS", "2.4": "LTX_2_4_PARAMS", "hq": "LTX_2_3_HQ_PARAMS"}
    given: dict[str, Any] = {version: asdict(getattr(constants, name)) for version, name in names.items()}
    given["distilled"] = constants.DISTILLED_SIGMA_VALUES
    given["stage_2"] = constants.STAGE_2_DISTILLED_SIGMA_VALUES
    scheduler = importlib.import_module("ltx_core.components.schedulers").LTX2Scheduler()
    given["sigmas"] = {str(n): scheduler.execute(steps=n).tolist() for n in (8, 15, 30, 40)}
    latent = sys.modules["torch"].empty(1, 128, 16, 17, 30)
    given["sigmas_hq"] = scheduler.execute(latent=latent, steps=15).tolist()
    return given


def main(requests: str, folder: str) -> None:
    """Run what is asked for; one file of latents each, or the error."""
    prepare()
    same_media()
    asked = json.loads(Path(requests).read_text())
    Path(folder, "facts.json").write_text(json.dumps(facts()))
    for name, one in asked.items():
        try:
            np.savez(Path(folder, f"{name}.npz"), **run(one["kind"], one["files"], one["ask"]))
        except Exception as error:  # told to the test that asked
            import traceback

            Path(folder, f"{name}.txt").write_text("".join(traceback.format_exception(error)))


if __name__ == "__main__":
    main(*sys.argv[1:3])
