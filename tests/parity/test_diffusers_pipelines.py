"""
Whole runs of the pipelines of diffusers beside ours, from the prompt to the latents, with a tiny random Gemma 3.

Run by ``nox -s parity``, which installs diffusers and transformers; skipped where they are missing. Their networks are
loaded from the folder that `ltx_models.convert` writes of our checkpoint. Each draws noise as diffusers does.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402  # after the skips
from safetensors.numpy import save_file  # noqa: E402
from tests.parity.gemma_folder import HIDDEN, LAYERS, SENTENCES, write_gemma  # noqa: E402
from tests.parity.official_files import write_text_files  # noqa: E402

from ltx_models.convert import convert  # noqa: E402
from ltx_models.media import as_float32  # noqa: E402
from ltx_models.nn import backend, backend_of  # noqa: E402
from ltx_models.pipelines import Image, LTX2Pipeline  # noqa: E402
from ltx_models.pipelines.pictures import read_image  # noqa: E402
from ltx_models.sampling import DISTILLED_SIGMAS, STAGE_2_SIGMAS, Guidance, ltx2_sigmas  # noqa: E402
from ltx_models.transformer import load_transformer  # noqa: E402

TOLERANCE = 5e-3  # float32 after all steps
MODULES = {
    "LTX2VideoTransformer3DModel": "models.transformers.transformer_ltx2",
    "LTX2TextConnectors": "pipelines.ltx2.connectors",
    "LTX2LatentUpsamplerModel": "pipelines.ltx2.latent_upsampler",
}
SIZE: dict[str, Any] = {"height": 128, "width": 64, "num_frames": 9, "frame_rate": 24.0}
GUIDED = {"video": Guidance(3, 1, (1,), 3, 0.7), "audio": Guidance(7, 0.5, (1,), 2, 0.4)}


def component(folder: Path, name: str) -> Any:
    """Load a network of diffusers from a folder that conversion wrote."""
    load_file = importlib.import_module("safetensors.torch").load_file
    given = json.loads((folder / name / "config.json").read_text())
    kind = given.pop("_class_name")
    if "perturbed_attn" in given:
        given["perturbed_attn"] = True  # with the configurations of 2.0 diffusers leaves out STG, silently
    model = getattr(importlib.import_module(f"diffusers.{MODULES[kind]}"), kind).from_config(given)
    tensors: dict[str, Any] = {}
    for file in (folder / name).glob("*.safetensors"):
        tensors |= load_file(file)
    model.load_state_dict(tensors, strict=True)
    return model.eval()


Network: Any = torch.nn.Module


class Statistics(Network):  # type: ignore[misc]
    """Stands for an autoencoder of which a pipeline up to its latents needs numbers alone."""

    def __init__(self, mean: Any, std: Any, **numbers: Any) -> None:
        super().__init__()
        self.latents_mean, self.latents_std = torch.tensor(mean), torch.tensor(std)
        self.config = SimpleNamespace(scaling_factor=1.0, timestep_conditioning=False, **numbers)
        self.spatial_compression_ratio, self.temporal_compression_ratio = 32, 8
        self.mel_compression_ratio, self.dtype, self.device = 4, torch.float32, torch.device("cpu")
        if "mel_bins" in numbers:
            self.temporal_compression_ratio = 4


class Reference:
    """The pipelines of diffusers, with our weights."""

    def __init__(self, files: dict[str, str], folder: Path) -> None:
        transformers = importlib.import_module("transformers")
        with safe_open(files["path"], "numpy") as whole:
            kept = [key for key in whole.keys() if "vae." not in key and "vocoder." not in key]  # noqa: SIM118
            save_file({key: whole.get_tensor(key) for key in kept}, folder / "part.safetensors", whole.metadata())
            numbers = [
                whole.get_tensor(f"{vae}.per_channel_statistics.{kind}-of-means")
                for vae in ("vae", "audio_vae")
                for kind in ("mean", "std")
            ]
        convert(folder / "part.safetensors", folder / "whole", layout="diffusers")
        convert(files["upsampler"], folder / "larger", layout="diffusers")
        vae = Statistics(*numbers[:2])
        sound = Statistics(*numbers[2:], sample_rate=16000, mel_hop_length=160, mel_bins=64, latent_channels=8)
        gemma = transformers.Gemma3ForConditionalGeneration.from_pretrained(files["gemma"], dtype=torch.float32)
        parts = {
            "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False, shift=1.0),
            "vae": vae,
            "audio_vae": sound,
            "text_encoder": gemma.eval(),
            "tokenizer": transformers.AutoTokenizer.from_pretrained(files["gemma"]),
            "connectors": component(folder / "whole", "connectors"),
            "transformer": component(folder / "whole", "transformer"),
            "vocoder": None,
        }
        self.pipe = diffusers.LTX2Pipeline(**parts)
        self.pictured = diffusers.LTX2ImageToVideoPipeline(**parts)
        self.larger = diffusers.LTX2LatentUpsamplePipeline(vae, component(folder / "larger", "."))
        for pipe in (self.pipe, self.pictured, self.larger):
            pipe.set_progress_bar_config(disable=True)
        self.statistics = {"video": numbers[:2], "audio": numbers[2:]}

    def normalised(self, video: Any, audio: Any) -> dict[str, Any]:
        """Bring what the pipeline gives back to what the networks see."""
        mean, std = (np.reshape(x, (1, -1, 1, 1, 1)) for x in self.statistics["video"])
        found = {"video": (video.numpy() - mean) / std}
        mean, std = self.statistics["audio"]
        tokens = audio.numpy().transpose(0, 2, 1, 3)
        flat = (tokens.reshape(*tokens.shape[:2], -1) - mean) / std
        return found | {"audio": flat.reshape(tokens.shape).transpose(0, 2, 1, 3)}


class Drawn:
    """Draw as diffusers does: in the shape of latents for the first stage, of tokens for the second."""

    def __init__(self, seed: int, video: tuple[int, ...], audio: tuple[int, ...]) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.shapes = {"video": video, "audio": audio}

    def __call__(self, name: str, like: Any) -> Any:
        shape = self.shapes.pop(name, None)
        drawn = torch.randn(tuple(like.shape) if shape is None else shape, generator=self.generator)
        if shape is not None:
            drawn = drawn.flatten(2).transpose(1, 2) if name == "video" else drawn.transpose(1, 2).flatten(2)
        return backend_of(like).asarray(drawn.numpy(), like)


@pytest.fixture(scope="module", params=["2.3.0", "2.0.0"])
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Reference]:
    folder = tmp_path_factory.mktemp("diffusers")
    files = write_text_files(folder, backend("torch"), request.param, LAYERS + 1, HIDDEN)
    files["gemma"] = str(write_gemma(folder / "gemma"))
    return files, Reference(files, folder)


NEUTRAL: dict[str, Any] = {
    f"{stream}{key}_scale": value
    for stream in ("", "audio_")
    for key, value in (("guidance", 1.0), ("stg", 0.0), ("modality", 1.0))
}
NEUTRAL |= {"guidance_rescale": 0.0, "audio_guidance_rescale": 0.0}


def theirs(reference: Reference, name: str) -> dict[str, Any]:
    """Run diffusers' pipelines."""
    generator = torch.Generator().manual_seed(7)
    common = SIZE | {"prompt": SENTENCES[0], "output_type": "latent", "generator": generator, "return_dict": False}
    if name == "dev":
        led = {
            f"{s}{key}": getattr(GUIDED[stream], ours)
            for s, stream in (("", "video"), ("audio_", "audio"))
            for key, ours in (
                ("guidance_scale", "cfg_scale"),
                ("stg_scale", "stg_scale"),
                ("modality_scale", "modality_scale"),
                ("guidance_rescale", "rescale_scale"),
            )
        }
        more = {"negative_prompt": SENTENCES[1], "spatio_temporal_guidance_blocks": [1]}
        return reference.normalised(*reference.pipe(**common, **more, **led, sigmas=list(ltx2_sigmas(5)[:-1])))
    if name == "distilled-one-stage":
        return reference.normalised(*reference.pipe(**common, **NEUTRAL, sigmas=list(DISTILLED_SIGMAS[:-1])))
    half = common | {"height": 64, "width": 32}
    video, audio = reference.pipe(**half, **NEUTRAL, sigmas=list(DISTILLED_SIGMAS[:-1]))
    large = reference.larger(latents=video, output_type="latent", return_dict=False)[0]
    later: dict[str, Any] = {"latents": large, "audio_latents": audio, "noise_scale": STAGE_2_SIGMAS[0]}
    return reference.normalised(*reference.pipe(**common, **NEUTRAL, **later, sigmas=list(STAGE_2_SIGMAS[:-1])))


@pytest.mark.parametrize("framework", ["torch", "mlx"])
@pytest.mark.parametrize("name", ["distilled-one-stage", "distilled", "dev"])
def test_latents_are_those_of_diffusers(
    given: tuple[dict[str, str], Reference],
    name: str,
    framework: Any,
    record_property: Callable[[str, object], None],
) -> None:
    if framework == "mlx":
        pytest.importorskip("mlx_lm")
    files, reference = given
    wanted = theirs(reference, name)
    pipe = LTX2Pipeline.from_pretrained(
        files["path"],
        pipeline=name,
        backend=framework,
        dtype="float32",
        upsampler=files["upsampler"],
        text_encoder=files["gemma"],
    )
    more: dict[str, Any] = {}
    if name == "dev":
        more = {"negative_prompt": SENTENCES[1], "guidance": GUIDED, "num_inference_steps": 5}
    rows, columns = (2, 1) if name == "distilled" else (4, 2)
    draw = Drawn(7, (1, 128, 2, rows, columns), (1, 8, 9, 16))
    found = pipe(**SIZE, **more, prompt=SENTENCES[0], output_type="latent", draw=draw).latents
    for stream, latent in (("video", found.video), ("audio", found.audio)):
        error = float(np.abs(as_float32(latent) - wanted[stream]).max())
        record_property(f"{name}, {framework}, {stream}", error)
        assert error <= TOLERANCE, f"{stream}: {error:.2e}"


@pytest.mark.parametrize("framework", ["torch", "mlx"])
def test_a_first_frame_is_as_in_diffusers(
    given: tuple[dict[str, str], Reference], framework: Any, record_property: Callable[[str, object], None]
) -> None:
    """Where the attention between the streams is told the noise levels of the first release, as diffusers does."""
    if framework == "mlx":
        pytest.importorskip("mlx_lm")
    files, reference = given

    def pipeline(name: Any) -> LTX2Pipeline:
        asked = {"backend": name, "dtype": "float32", "text_encoder": files["gemma"], "keep": True}
        return LTX2Pipeline.from_pretrained(files["path"], pipeline="distilled-one-stage", **asked)

    blocks = np.random.default_rng(4).integers(0, 256, (16, 8, 3), np.uint8)
    picture = Image(np.repeat(np.repeat(blocks, 8, 0), 8, 1), 0, 1.0, 0)
    with torch.no_grad():
        latent = pipeline("torch").components.get("video_encoder")(torch.tensor(read_image(picture, 128, 64, crf=0)))
    mean, std = (torch.tensor(x).reshape(1, -1, 1, 1, 1) for x in reference.statistics["video"])
    first = torch.cat([latent, torch.zeros_like(latent)], dim=2) * std + mean
    asked = SIZE | {"prompt": SENTENCES[0], "output_type": "latent", "return_dict": False, **NEUTRAL}
    asked |= {"latents": first, "noise_scale": 1.0, "generator": torch.Generator().manual_seed(7)}
    sigmas = list(DISTILLED_SIGMAS[:-1])
    wanted = reference.normalised(*reference.pictured(image=None, **asked, sigmas=sigmas))
    pipe = pipeline(framework)
    other = load_transformer(files["path"], backend=framework, dtype="float32", cross_timesteps="other")
    found = {}
    for kind in ("own", "other"):
        if kind == "other":
            pipe.components._held["transformer"] = other
        draw = Drawn(7, (1, 128, 2, 4, 2), (1, 8, 9, 16))
        found[kind] = pipe(**SIZE, prompt=SENTENCES[0], images=[picture], output_type="latent", draw=draw).latents
        for stream in ("video", "audio"):
            error = float(np.abs(as_float32(getattr(found[kind], stream)) - wanted[stream]).max())
            record_property(f"image {kind}, {framework}, {stream}", error)
            assert (error <= TOLERANCE) == (kind == "other"), f"{kind}, {stream}: {error:.2e}"
