"""
Exact tiling in pipelines of diffusers, with all that one turns on in them to save memory or time.

Each combination gives what the plain pipeline gives in the same state. Where diffusers asks for an accelerator it is
told to take the processor, so that its hooks and those of accelerate are put and run as on a GPU.
"""

import copy
import inspect
import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")

from tests.tilekit.exact._autoencoders import ZOO, Entry, tensor  # noqa: E402  # after what may be missing
from tests.tilekit.exact.test_diffusers_classes import numbers, plain  # noqa: E402

from tilekit import TraceError  # noqa: E402
from tilekit.adapters import disable_exact_tiling, enable_exact_tiling  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of these libraries
AUDIO = Entry(
    "AutoencoderKLLTX2Audio",
    {"base_channels": 16, "ch_mult": (1, 2, 2), "num_res_blocks": 1, "latent_channels": 4},
    (1, 4, 13, 16),
    (1, 2, 48, 64),
)
PIPELINES = {
    "LTX2Pipeline": "LTX-2",
    "WanPipeline": "Wan 2.1",
    "QwenImagePipeline": "Qwen-Image",
    "HunyuanVideoPipeline": "HunyuanVideo",
    "HunyuanVideo15Pipeline": "HunyuanVideo 1.5",
    "Flux2Pipeline": "Flux 2",
    "FluxPipeline": "AutoencoderKL",
    "StableDiffusionXLPipeline": "AutoencoderKL",
    "LTXPipeline": "LTX-Video 0.9",
    "CogVideoXPipeline": "CogVideoX",
    "MochiPipeline": "Mochi",
    "CosmosTextToWorldPipeline": "Cosmos",
    "SanaPipeline": "DC-AE",
    "HunyuanImagePipeline": "HunyuanImage",
    "AllegroPipeline": "Allegro",
}
FEW = ("StableDiffusionXLPipeline",)
"""Those of the whole suite."""
CPU = torch.device("cpu")


def made(name: str) -> Any:
    """Give a pipeline that has autoencoders alone; the same weights each time."""
    kind = getattr(diffusers, name)
    parts: dict[str, Any] = dict.fromkeys(list(inspect.signature(kind.__init__).parameters)[1:])
    entry = ZOO[PIPELINES[name]]
    parts["vae"] = entry.make().requires_grad_(False)
    if "audio_vae" in parts:
        parts["audio_vae"] = AUDIO.make().requires_grad_(False)
    given = {key: value for key, value in parts.items() if key != "safety_checker"}
    if "safety_checker" in parts:
        given["safety_checker"] = Checker()
    return kind(**given)


class Checker(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """Stands for a network that a pipeline will not do without."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    @property
    def dtype(self) -> Any:
        """The pipeline asks for it when it moves its parts."""
        return self.weight.dtype


def decoded(pipe: Any, name: str, *, untiled: bool = False) -> list[Any]:
    """Decode with each autoencoder as the pipeline does."""
    found = []
    for place, entry in (("vae", ZOO[PIPELINES[name]]), ("audio_vae", AUDIO)):
        vae = getattr(pipe, place, None)
        if vae is None:
            continue
        x = numbers(*entry.latents)
        made = plain(vae, "decode", x) if untiled else vae.decode(x)
        found.append(tensor(made).clone())
    return found


@cache
def wanted(name: str, way: str) -> list[Any]:
    """Decode with the plain pipeline, in the state of a way that needs no folder."""
    with WAYS[way].around():
        return decoded(WAYS[way].change(made(name), Path()), name, untiled=True)


# ---- what one turns on; each gives the pipeline to use --------------------------------------------------------------
Change = Callable[[Any, Path], Any]


def model_offload(pipe: Any, folder: Path) -> Any:
    pipe.enable_model_cpu_offload(device="cpu")
    return pipe


def sequential_offload(pipe: Any, folder: Path) -> Any:
    """As the method of diffusers does, which would put a number after the device; the processor has none."""
    for model in (part for part in pipe.components.values() if isinstance(part, torch.nn.Module)):
        accelerate.cpu_offload(model, CPU, offload_buffers=len(model._parameters) > 0)
    assert {weight.device.type for weight in pipe.vae.parameters()} == {"meta"}
    return pipe


def group_offload(pipe: Any, folder: Path) -> Any:
    pipe.enable_group_offload(CPU, offload_device=CPU, offload_type="leaf_level")
    return pipe


def block_offload(pipe: Any, folder: Path) -> Any:
    pipe.enable_group_offload(CPU, offload_device=CPU, offload_type="block_level", num_blocks_per_group=1)
    return pipe


def disk_offload(pipe: Any, folder: Path) -> Any:
    """In a folder for each: files have the names of layers alone, so that two autoencoders in one overwrite theirs."""
    for name, model in pipe.components.items():
        if isinstance(model, torch.nn.Module):  # of which not all have the method; pipelines call the function then
            offload = getattr(model, "enable_group_offload", partial(diffusers.hooks.apply_group_offloading, model))
            offload(CPU, CPU, offload_type="leaf_level", offload_to_disk_path=str(folder / name))
    return pipe


def fp8_casting(pipe: Any, folder: Path) -> Any:
    pipe.vae.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    return pipe


def compiled(pipe: Any, folder: Path) -> Any:
    pipe.vae = torch.compile(pipe.vae, backend="eager")
    return pipe


def compiled_in_place(pipe: Any, folder: Path) -> Any:
    pipe.vae.compile(backend="eager")
    pipe.vae.decoder.compile(backend="eager")
    return pipe


def deep_copy(pipe: Any, folder: Path) -> Any:
    return copy.deepcopy(pipe)


def pickled(pipe: Any, folder: Path) -> Any:
    return pickle.loads(pickle.dumps(pipe))


def saved(pipe: Any, folder: Path) -> Any:
    """Save the autoencoder, and load it in the place of what was saved."""
    exact = "_decode" in vars(pipe.vae) or "forward" in vars(pipe.vae.decoder)
    pipe.vae.save_pretrained(folder)
    pipe.vae = type(pipe.vae).from_pretrained(folder)
    assert "_decode" not in vars(pipe.vae)  # what is saved is the plain model
    if exact:
        enable_exact_tiling(pipe)
    return pipe


def sliced(pipe: Any, folder: Path) -> Any:
    if hasattr(pipe.vae, "enable_slicing"):
        pipe.vae.enable_slicing()
    return pipe


def tiled(pipe: Any, folder: Path) -> Any:
    if hasattr(pipe.vae, "enable_tiling"):
        pipe.vae.enable_tiling()
    return pipe


def nothing(pipe: Any, folder: Path) -> Any:
    return pipe


@dataclass(frozen=True)
class Way:
    """One column: a change, what is set around the decode, and by how much right results differ in it."""

    change: Change
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    tolerance: float = 1e-5
    alters: bool = False
    """Whether the plain pipeline gives something else in it too."""


WAYS = {
    "plain": Way(nothing),
    "model offload": Way(model_offload),
    "sequential offload": Way(sequential_offload),
    "group offload": Way(group_offload),
    "group offload by block": Way(block_offload),
    "group offload to disk": Way(disk_offload),
    "float8 layers": Way(fp8_casting, alters=True),
    "torch.compile": Way(compiled),
    "compile in place": Way(compiled_in_place),
    "autocast": Way(nothing, lambda: torch.autocast("cpu", dtype=torch.bfloat16), 0.1, alters=True),
    "deepcopy": Way(deep_copy),
    "pickle": Way(pickled),
    "save_pretrained": Way(saved),
    "slicing": Way(sliced),
    "tiling of diffusers": Way(tiled),
}


MISCOMPILED = {("CosmosTextToWorldPipeline", "compile in place")}
"""Where the plain pipeline gives another picture once it is compiled (torch 2.13, diffusers 0.42)."""


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PIPELINES)
def test_each_combination_gives_what_the_plain_pipeline_gives(name: str, way: str, when: str, tmp_path: Path) -> None:
    if name not in FEW and "TILEKIT_NETWORKS" not in os.environ:
        pytest.skip("every pipeline is tried in the nox session 'tests-networks'")
    column, pipe = WAYS[way], made(name)
    want = wanted(name, way if column.alters else "plain")
    if when == "before":
        enable_exact_tiling(pipe)
        pipe = column.change(pipe, tmp_path / "exact")
    else:
        pipe = column.change(pipe, tmp_path / "exact")
        enable_exact_tiling(pipe)
    if (name, way) in MISCOMPILED:
        (compiled,) = decoded(column.change(made(name), tmp_path / "plain"), name, untiled=True)
        assert float((compiled - want[0]).abs().max() / want[0].abs().max()) > 1
        with pytest.raises(TraceError, match="the result differs from the plain call"):
            decoded(pipe, name)
        return
    with column.around():
        got = decoded(pipe, name)
    for one, two in zip(got, want, strict=True):
        assert one.shape == two.shape
        assert one.dtype == two.dtype
        assert float((one.float() - two.float()).abs().max() / two.float().abs().max()) < column.tolerance
    disable_exact_tiling(pipe)
    for place in ("vae", "audio_vae"):
        model = getattr(pipe, place, None)
        assert model is None or not any("ExactMethod" in type(value).__name__ for value in vars(model).values())
