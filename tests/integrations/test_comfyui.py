"""The nodes for ComfyUI: in a double of the host, and in a real checkout where an environment variable names one."""

import importlib.util
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest

torch: Any = pytest.importorskip("torch")
pytest.importorskip("av")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
PACK = ROOT / "integrations" / "comfyui"
CHECKOUT = os.environ.get("TILEKIT_COMFYUI")
PYTHON = os.environ.get("TILEKIT_COMFYUI_PYTHON", sys.executable)
needs_checkout = pytest.mark.skipif(not CHECKOUT, reason="TILEKIT_COMFYUI does not name a checkout of ComfyUI")


class Interrupted(Exception):  # as in the host
    """What the host raises where the user interrupts."""


class Vae:
    """A VAE of the host, as far as the nodes use it."""

    def __init__(self, *, video: bool) -> None:
        nn = torch.nn
        torch.manual_seed(0)
        conv, up = (nn.Conv3d, (1, 2, 2)) if video else (nn.Conv2d, (2, 2))
        self.first_stage_model = nn.Module()
        layers = [conv(4, 16, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=up), conv(16, 3, 3, padding=1)]
        self.decoder = nn.Sequential(*layers).eval()
        self.encoder = nn.Sequential(conv(3, 16, 3, padding=1), nn.SiLU(), conv(16, 4, 1)).eval()
        self.first_stage_model.decode = self.decoder
        self.first_stage_model.encode = self.encoder
        self.patcher = SimpleNamespace(name="patcher")
        self.device = self.output_device = torch.device("cpu")
        self.vae_dtype = torch.float32
        self.latent_dim = 3 if video else 2
        self.not_video = False

    def throw_exception_if_invalid(self) -> None:
        pass

    def process_input(self, x: Any) -> Any:
        return 2 * x - 1

    def process_output(self, x: Any) -> Any:
        return ((x + 1) / 2).clamp(0, 1)

    def vae_encode_crop_pixels(self, pixels: Any) -> Any:
        return pixels

    def spacial_compression_decode(self) -> int:
        return 2

    def decode(self, samples: Any) -> Any:
        with torch.no_grad():
            return self.process_output(self.decoder(samples)).movedim(1, -1)

    def decode_tiled(self, samples: Any, tile_x: int, tile_y: int, overlap: int) -> Any:
        halves = torch.tensor_split(samples, 2, -1)
        return torch.cat([self.decode(half) for half in halves], -2)


class Host:
    """A double of the host: its modules, and what they were asked."""

    def __init__(self, output: Path) -> None:
        self.loaded: list[Any] = []
        self.free = 1 << 30
        self.told: list[tuple[int, int]] = []
        self.interrupt_at: int | None = None
        self.management = ModuleType("comfy.model_management")
        self.utils = ModuleType("comfy.utils")
        self.folders = ModuleType("folder_paths")
        self.comfy = ModuleType("comfy")
        double = self

        class ProgressBar:
            def __init__(self, total: int, node_id: Any = None) -> None:
                self.total = total

            def update_absolute(self, value: int, total: Any = None, preview: Any = None) -> None:
                double.told.append((value, total))

        def load_models_gpu(
            models: Any,
            memory_required: int = 0,
            force_patch_weights: bool = False,
            minimum_memory_required: Any = None,
            force_full_load: bool = False,
        ) -> None:
            double.loaded.append((models, memory_required, force_full_load))

        def throw_exception_if_processing_interrupted() -> None:
            if double.interrupt_at is not None and len(double.told) >= double.interrupt_at:
                raise Interrupted

        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> int:
            return double.free

        def get_save_image_path(
            filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
        ) -> tuple[str, str, int, str, str]:
            return str(output), filename_prefix, 1, "", filename_prefix

        def get_output_directory() -> str:
            return str(output)

        vars(self.management).update(
            load_models_gpu=load_models_gpu,
            throw_exception_if_processing_interrupted=throw_exception_if_processing_interrupted,
            get_free_memory=get_free_memory,
        )
        vars(self.utils).update(ProgressBar=ProgressBar)
        vars(self.folders).update(get_save_image_path=get_save_image_path, get_output_directory=get_output_directory)
        vars(self.comfy).update(model_management=self.management, utils=self.utils)

    def modules(self) -> dict[str, ModuleType]:
        return {
            "comfy": self.comfy,
            "comfy.model_management": self.management,
            "comfy.utils": self.utils,
            "folder_paths": self.folders,
        }


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    double = Host(tmp_path)
    for name, module in double.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return double


@pytest.fixture
def nodes(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name in [name for name in sys.modules if name.startswith("comfy_pack")]:
        monkeypatch.delitem(sys.modules, name)
    return load_pack()


def load_pack() -> Callable[..., Any]:
    """Load the pack as the host does: from its folder, under a name of the host's."""
    spec = importlib.util.spec_from_file_location(
        "comfy_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["comfy_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classes: dict[str, Any] = module.NODE_CLASS_MAPPINGS

    def run(name: str, **inputs: Any) -> Any:
        node = classes[name]()
        return getattr(node, node.FUNCTION)(**inputs)

    return run


def test_a_picture_is_decoded_and_encoded_as_by_the_host(nodes: Callable[..., Any], host: Host) -> None:
    vae, samples = Vae(video=False), torch.randn(2, 4, 24, 20)
    (image,) = nodes("VAEDecodeExact", vae=vae, samples={"samples": samples}, memory_gb=1.0)
    assert image.shape == (2, 48, 40, 3)
    assert torch.allclose(image, vae.decode(samples), atol=1e-5)
    assert host.loaded[0] == ([vae.patcher], 1 << 30, True)
    (latent,) = nodes("VAEEncodeExact", vae=vae, pixels=image, memory_gb=0.0)
    with torch.no_grad():
        assert torch.allclose(latent["samples"], vae.encoder(2 * image.movedim(-1, 1) - 1), atol=1e-5)


def test_frames_of_a_video_come_one_after_the_other(nodes: Callable[..., Any], host: Host) -> None:
    vae, samples = Vae(video=True), torch.randn(1, 4, 6, 8, 10)
    (image,) = nodes("VAEDecodeExact", vae=vae, samples={"samples": samples}, memory_gb=0.0)
    assert image.shape == (6, 16, 20, 3)
    assert torch.allclose(image, vae.decode(samples)[0], atol=1e-5)
    assert host.told[-1][0] == host.told[-1][1]


def test_a_budget_holds_and_one_that_cannot_names_the_least(nodes: Callable[..., Any]) -> None:
    vae, samples = Vae(video=True), {"samples": torch.randn(1, 4, 20, 16, 16)}
    shown = nodes("VAETilingPlan", vae=vae, samples=samples, memory_gb=1.5 / 1024)
    text, picture = shown["result"]
    assert "axis" in text
    assert shown["ui"] == {"text": (text,)}
    assert picture.ndim == 4
    assert picture.shape[-1] == 3
    with pytest.raises(ValueError, match="needs least takes"):
        nodes("VAEDecodeExact", vae=vae, samples=samples, memory_gb=1e-6)


@pytest.mark.parametrize("memory_gb", [0.0, 1.5 / 1024])
def test_a_file_has_all_frames_and_nothing_is_left_beside_it(
    nodes: Callable[..., Any], host: Host, tmp_path: Path, memory_gb: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ltx_models.media import VideoWriter, read_video

    written: list[int] = []
    write = VideoWriter.write

    def note(writer: VideoWriter, block: Any) -> None:
        written.append(block.shape[2])
        write(writer, block)

    monkeypatch.setattr(VideoWriter, "write", note)
    vae, samples = Vae(video=True), torch.linspace(-3, 3, 9).reshape(1, 1, 9, 1, 1).repeat(1, 4, 1, 16, 16)
    sound = {"waveform": torch.zeros(1, 2, 4800), "sample_rate": 48000}
    inputs = {"samples": {"samples": samples}, "fps": 24.0, "filename_prefix": "clip", "audio": sound}
    shown = nodes("VAEDecodeExactToVideo", vae=vae, memory_gb=memory_gb, **inputs)
    (path,) = shown["result"]
    frames = torch.from_numpy(read_video(path).video)
    wanted = 2 * vae.decode(samples).movedim(-1, 1) - 1
    assert frames.shape == wanted.shape
    assert (frames - wanted).abs().mean() < 0.03  # what H.264 loses
    assert (wanted[:, :, 1:] - wanted[:, :, :-1]).abs().mean() > 0.03  # frames differ by more
    assert sum(written) == 9
    assert max(written) <= 9 / 2  # however much memory is free, the frames are never there together
    assert shown["ui"]["images"] == [{"filename": "clip_00001_.mp4", "subfolder": "", "type": "output"}]
    assert [file.name for file in tmp_path.iterdir()] == ["clip_00001_.mp4"]


def test_an_interrupt_stops_in_one_step_and_leaves_nothing(
    nodes: Callable[..., Any], host: Host, tmp_path: Path
) -> None:
    vae, samples = Vae(video=True), {"samples": torch.randn(1, 4, 20, 16, 16)}
    host.interrupt_at = 1
    with pytest.raises(Interrupted):
        nodes("VAEDecodeExactToVideo", vae=vae, samples=samples, memory_gb=1.5 / 1024, fps=24.0, filename_prefix="clip")
    assert len(host.told) == 1
    assert not list(tmp_path.iterdir())


WAYS = {"frames in order": 0.0, "rows first, in a file": 1.5 / 1024}
"""Budgets with which the plan of `into_a_file` finishes frames, or rows of all frames."""


def into_a_file(nodes: Callable[..., Any], memory_gb: float) -> Any:
    samples = {"samples": torch.linspace(-3, 3, 9).reshape(1, 1, 9, 1, 1).repeat(1, 4, 1, 16, 16)}
    asked = {"memory_gb": memory_gb, "fps": 24.0, "filename_prefix": "clip"}
    return nodes("VAEDecodeExactToVideo", vae=Vae(video=True), samples=samples, **asked)


def killed(folder: str, memory_gb: float) -> None:
    """Decode in a process of its own, and kill it after its first step."""
    double = Host(Path(folder))
    sys.modules.update(double.modules())

    def kill() -> None:
        if double.told:
            os.kill(os.getpid(), signal.SIGKILL)

    vars(double.management)["throw_exception_if_processing_interrupted"] = kill
    into_a_file(load_pack(), memory_gb)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of this kind are of POSIX")
@pytest.mark.parametrize("way", WAYS)
def test_a_killed_host_leaves_no_file_that_looks_finished(nodes: Callable[..., Any], tmp_path: Path, way: str) -> None:
    """And the next run takes the same name, and clears up what the killed one left."""
    code = f"from tests.integrations.test_comfyui import killed; killed({str(tmp_path)!r}, {WAYS[way]})"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    left = [file.name for file in tmp_path.iterdir()]
    assert left
    assert all(name.startswith(".clip_00001_.mp4") and name.endswith(".part") for name in left)
    into_a_file(nodes, WAYS[way])
    assert [file.name for file in tmp_path.iterdir()] == ["clip_00001_.mp4"]


@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_is_said_and_leaves_nothing(nodes: Callable[..., Any], tmp_path: Path, way: str) -> None:
    """The limit on the size of files stands for the disk. Where frames wait in a file, all its room is taken first."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(ValueError, match=r"cannot write .*clip_00001_\.mp4"):
            into_a_file(nodes, WAYS[way])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["the encoder", "PyAV"])
def test_a_missing_codec_is_said_before_the_decode(
    nodes: Callable[..., Any], host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "PyAV":
        monkeypatch.setitem(sys.modules, "av", None)
    else:
        monkeypatch.setattr("ltx_models.media.writer.CODEC", "libnothing")
    text = {"PyAV": r"pip install 'tilekit-vae\[video\]'", "the encoder": "this PyAV has no libnothing; pip install"}
    with pytest.raises(ValueError, match=text[missing]):
        into_a_file(nodes, 0.0)
    assert not host.told
    assert not list(tmp_path.iterdir())


def test_no_node_asks_the_network(nodes: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        msg = "Network is unreachable"
        raise OSError(msg)

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(f"socket.socket.{name}", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    samples = {"samples": torch.randn(1, 4, 8, 8)}
    (image,) = nodes("VAEDecodeExact", vae=Vae(video=False), samples=samples, memory_gb=0.0)
    nodes("VAEEncodeExact", vae=Vae(video=False), pixels=image, memory_gb=0.0)
    nodes("VAETilingPlan", vae=Vae(video=False), samples=samples, memory_gb=0.0)
    into_a_file(nodes, 0.0)
    assert [file.name for file in tmp_path.iterdir()] == ["clip_00001_.mp4"]


def test_seams_are_shown_where_tiles_meet(nodes: Callable[..., Any]) -> None:
    vae, samples = Vae(video=False), {"samples": torch.randn(1, 4, 16, 24)}
    shown = nodes("VAESeamMap", vae=vae, samples=samples, tile_size=64, overlap=0, gain=10.0, memory_gb=0.0)
    image, text = shown["result"]
    assert re.search(r"largest difference 0\.\d+", text)
    seam = image[0, :, 23:25].max()
    assert seam > 0
    assert image[0, :, :20].max() < 1e-3


@pytest.mark.parametrize("shape", [(1, 4, 8), (4, 8)])
def test_latents_of_sound_are_refused(nodes: Callable[..., Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="latents of pictures or video"):
        nodes("VAEDecodeExact", vae=Vae(video=False), samples={"samples": torch.zeros(shape)}, memory_gb=0.0)


def test_workflows_name_nodes_and_inputs_that_exist(nodes: Callable[..., Any]) -> None:
    classes = sys.modules["comfy_pack"].NODE_CLASS_MAPPINGS
    workflows = sorted((PACK / "workflows").glob("*.json"))
    assert workflows
    for path in workflows:
        ours = [node for node in json.loads(path.read_text()).values() if node["class_type"] in classes]
        assert ours
        for node in ours:
            rows = classes[node["class_type"]].INPUT_TYPES()
            assert set(rows["required"]) <= set(node["inputs"]) <= set(rows["required"]) | set(rows["optional"])


def test_each_workflow_has_its_picture(tmp_path: Path) -> None:
    """Drawn with every link from left to right."""
    spec = importlib.util.spec_from_file_location("draw_workflows", ROOT / "benchmarks" / "draw_workflows.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for path in (PACK / "workflows").glob("*.json"):
        nodes = json.loads(path.read_text())
        columns = script.columns_of(nodes)
        for key, node in nodes.items():
            assert all(columns[value[0]] < columns[key] for value in node["inputs"].values() if script.is_link(value))
        script.draw(nodes, tmp_path / "drawn.png")
        assert (tmp_path / "drawn.png").stat().st_size > 10_000
        assert path.with_suffix(".png").stat().st_size > 10_000


def test_the_pack_says_what_the_registry_wants() -> None:
    import tomllib

    project = tomllib.loads((PACK / "pyproject.toml").read_text())
    assert not project["project"]["name"].lower().startswith("comfyui")
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["project"]["version"])
    assert (PACK / project["tool"]["comfy"]["Icon"]).exists()
    assert (PACK / "requirements.txt").read_text().startswith("tilekit-vae")


@needs_checkout
def test_the_double_has_the_signatures_of_the_host(host: Host) -> None:
    code = """
import inspect, json, sys
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
import comfy.model_management as m, comfy.utils as u, folder_paths as f
names = lambda g: list(inspect.signature(g).parameters)
print(json.dumps({
    "load_models_gpu": names(m.load_models_gpu), "get_free_memory": names(m.get_free_memory),
    "throw_exception_if_processing_interrupted": names(m.throw_exception_if_processing_interrupted),
    "ProgressBar": names(u.ProgressBar.__init__), "update_absolute": names(u.ProgressBar.update_absolute),
    "get_save_image_path": names(f.get_save_image_path), "get_output_directory": names(f.get_output_directory)}))
"""
    done = subprocess.run([PYTHON, "-c", code, str(CHECKOUT)], capture_output=True, text=True, check=True)
    real = json.loads(done.stdout.splitlines()[-1])
    bar: Any = vars(host.utils)["ProgressBar"]
    ours = {**vars(host.management), **vars(host.folders), "ProgressBar": bar.__init__}
    ours["update_absolute"] = bar.update_absolute
    for name, parameters in real.items():
        assert list(inspect.signature(ours[name]).parameters) == parameters, name


def report_of(folder: Path, *wanted: str) -> Any:
    """Run workflows in the real host, in a process of its own."""
    script = Path(__file__).with_name("comfyui_host.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [PYTHON, str(script), str(CHECKOUT), str(folder), str(PACK), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
    assert lines, done.stderr[-3000:]
    report = json.loads(lines[-1].removeprefix("REPORT "))
    assert len(report.pop("nodes")) == 5
    return report


@needs_checkout
@pytest.mark.parametrize(
    "model", ["Stable Diffusion", "SDXL", "Flux", "Qwen-Image", "Wan 2.1", "HunyuanVideo", "LTX-2"]
)
def test_exact_equals_the_real_host_s_untiled_call(model: str, tmp_path: Path) -> None:
    row = report_of(tmp_path, model)[model]
    assert row["failures"] == []
    assert row["exact"] < 1e-4 < row["tiled"]
    assert row["encode"] < 1e-4 < row["encoded"]
    low, high, spread = row["range"]
    assert 0 <= low < high <= 1
    assert spread > 0.1


@needs_checkout
def test_workflows_run_in_the_real_host(tmp_path: Path) -> None:
    report = report_of(tmp_path, "others", "interrupted", "refused")
    assert report["others"]["failures"] == []
    assert report["others"]["video"][0] == 13
    assert report["others"]["files"] == ["clip_00001_.mp4"]
    assert "axis" in report["others"]["plan"]
    (pictures, *_, channels), shape = report["others"]["plan_picture"], report["others"]["map"]
    assert (pictures, channels) == (1, 3)
    assert shape == report["others"]["video"]
    assert re.search(r"largest difference 0\.\d+", report["others"]["map_text"])
    assert "execution_interrupted" in report["interrupted"]["events"]
    assert report["interrupted"]["steps"] <= 1
    assert report["interrupted"]["files"] == ["clip_00001_.mp4"]
    assert "needs least takes" in report["refused"][0][1]


def _write_taesd(folder: Path) -> None:
    """Let the host write a small VAE with seeded weights where its loader looks for it."""
    code = """
import sys
checkout, folder = sys.argv[1:]
sys.argv = sys.argv[:1]
sys.path.insert(0, checkout)
from comfy.cli_args import args
args.cpu = True
import torch
from comfy.taesd.taesd import TAESD
from safetensors.torch import save_file
torch.manual_seed(0)
vae = TAESD()
for half in ("encoder", "decoder"):
    state = getattr(vae, f"taesd_{half}").state_dict()
    weights = {key: 0.1 * torch.randn(value.shape) for key, value in state.items()}
    save_file(weights, f"{folder}/taesd_{half}.safetensors")
"""
    folder.mkdir(parents=True)
    subprocess.run([PYTHON, "-c", code, str(CHECKOUT), str(folder)], check=True, capture_output=True)


def _answers(server: str) -> bool:
    try:
        with urlopen(f"http://{server}/system_stats", timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def running_host(base: Path) -> Iterator[str]:
    """Start the host's server on the processor, with the pack; give its address."""
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "tilekit").symlink_to(PACK)
    (base / "page").mkdir()
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = ["--base-directory", str(base), "--front-end-root", str(base / "page")]
    command = [PYTHON, f"{CHECKOUT}/main.py", "--cpu", "--port", str(port), "--disable-api-nodes", *folders]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    log = base / "log"
    with log.open("w") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as host:
        try:
            while not _answers(f"127.0.0.1:{port}"):
                assert host.poll() is None, log.read_text()[-3000:]
                time.sleep(1)
            yield f"127.0.0.1:{port}"
        finally:
            host.terminate()


@needs_checkout
def test_the_example_runs_a_workflow_in_the_host_s_server(tmp_path: Path) -> None:
    _write_taesd(tmp_path / "models" / "vae_approx")
    workflow = {
        "1": {"class_type": "VAELoader", "inputs": {"vae_name": "taesd"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 96, "batch_size": 1}},
        "3": {"class_type": "VAEDecodeExact", "inputs": {"samples": ["2", 0], "vae": ["1", 0], "memory_gb": 0.5}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "exact"}},
    }
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(workflow))
    script = [sys.executable, str(ROOT / "examples" / "comfyui_workflow.py"), str(file), "--server"]
    with running_host(tmp_path) as server:
        done = subprocess.run([*script, server], capture_output=True, text=True, check=False)
        less = ["--set", "3.memory_gb=0.00001"]
        small = subprocess.run([*script, server, *less], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "node 4: exact_00001_.png\n"), done.stderr
    assert (tmp_path / "output" / "exact_00001_.png").exists()
    assert small.returncode == 1
    assert "node 3 (VAEDecodeExact): memory_bytes: got" in small.stderr
    assert "needs least takes" in small.stderr
