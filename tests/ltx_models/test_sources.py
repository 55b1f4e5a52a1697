"""A pipeline from a file, a folder or a repository: the same latents from every layout, and what is chosen of many."""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from tests.ltx_models._forked import spoken
from tests.ltx_models.pipeline_files import contexts, write_whole
from tests.ltx_models.test_killed import server as server_of_test_killed

from ltx_models.checkpoints.contents import by_header, by_name
from ltx_models.convert import Layout, convert
from ltx_models.media import as_float32, iter_frames, read_latents, write_latents
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import LTX2Pipeline
from ltx_models.pipelines.finding import find_files, repository
from ltx_models.pipelines.listing import Criteria, Listing, SourceError, local_listing
from ltx_models.pipelines.sources import choose

SMALL: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9, "output_type": "latent"}
processes = server_of_test_killed

WIDE = {
    "num_layers": 1,
    "num_attention_heads": 4,
    "cross_attention_dim": 64,
    "audio_num_attention_heads": 4,
    "audio_attention_head_dim": 16,
    "audio_cross_attention_dim": 64,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    return write_whole(tmp_path_factory.mktemp("sources"), get_backend("torch"))


@pytest.fixture(scope="module")
def layouts(files: dict[str, Path]) -> dict[str, Path]:
    """The same checkpoint in each layout, with its upsampler beside it where that layout has a place for one."""
    made, root = {"file": files["path"]}, files["path"].parent
    layout: Layout
    for layout in ("split", "diffusers", "mlx"):
        made[layout] = root / f"tiny-distilled-{layout}"
        source = without_video_vae(files["path"]) if layout == "diffusers" else files["path"]
        convert(source, made[layout], layout=layout)
        target = made[layout] / "latent_upsampler" if layout == "diffusers" else made[layout]
        target.mkdir(exist_ok=True)
        shutil.copy(files["upsampler"], target / "ltx-2.3-spatial-upscaler-x2-1.1.safetensors")
    made["shards"] = root / "shards"
    convert(files["path"], made["shards"], shard_bytes=3_000_000)
    assert len(list(made["shards"].glob("*.safetensors"))) > 2
    made["folder"] = root / "folder"
    made["folder"].mkdir()
    for name in ("path", "upsampler", "lora"):
        shutil.copy(files[name], made["folder"] / files[name].name)
    return made


def without_video_vae(whole: Path) -> Path:
    """Leave out what diffusers' class of the video autoencoder cannot express: one as narrow as this."""
    with safe_open(whole, "numpy") as file:
        kept = {key: file.get_tensor(key) for key in file.keys() if not key.startswith("vae.")}  # noqa: SIM118
        save_file(kept, whole.parent / "rest.safetensors", file.metadata())
    return whole.parent / "rest.safetensors"


def latents(pipe: LTX2Pipeline) -> list[Any]:
    found = pipe(prompt_embeds=contexts(1), **SMALL).latents
    return [as_float32(found.video), as_float32(found.audio)]


def test_every_layout_gives_the_same_latents_to_the_bit(files: dict[str, Path], layouts: dict[str, Path]) -> None:
    wanted = latents(LTX2Pipeline.from_pretrained(files["path"], upsampler=files["upsampler"], dtype="float32"))
    assert np.abs(wanted[0]).max() > 0.1
    for name in ("split", "diffusers", "mlx", "shards", "folder"):
        given = files["upsampler"] if name == "shards" else None
        more: dict[str, Any] = {"pipeline": "distilled"} if name == "shards" else {}
        more |= {"video_vae": files["path"]} if name == "diffusers" else {}
        pipe = LTX2Pipeline.from_pretrained(layouts[name], upsampler=given, dtype="float32", **more)
        assert (pipe.recipe.name, pipe.version[:2]) == ("distilled", (2, 3)), name
        for one, other in zip(wanted, latents(pipe), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("layout", ["split", "diffusers", "mlx"])
def test_layouts_agree_to_the_bit_on_mlx_and_in_half_the_bits(layouts: dict[str, Path], layout: str) -> None:
    pytest.importorskip("mlx.core")
    one, other = (
        latents(LTX2Pipeline.from_pretrained(layouts[name], pipeline="distilled-one-stage", backend="mlx"))
        for name in ("file", layout)
    )
    for x, y in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("scheme", ["int4", "int8"])
def test_a_quantised_conversion_is_the_same_as_quantising_when_read(scheme: Any, tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    plain = write_whole(tmp_path, get_backend("mlx"), WIDE)["path"]  # integers come in groups of 64
    convert(plain, tmp_path / "mlx-distilled-bits", layout="mlx", quantize=scheme)
    options: dict[str, Any] = {"pipeline": "distilled-one-stage", "backend": "mlx", "dtype": "float32"}
    video, audio = contexts(1)
    text = np.tile(video, (1, 1, 2)), np.tile(audio, (1, 1, 4))
    made, wanted, exact = (
        LTX2Pipeline.from_pretrained(path, quantize=quantize, **options)(prompt_embeds=text, **SMALL).latents
        for path, quantize in ((tmp_path / "mlx-distilled-bits", None), (plain, scheme), (plain, None))
    )
    for name in ("video", "audio"):
        one, other, unlike = (as_float32(getattr(x, name)) for x in (made, wanted, exact))
        np.testing.assert_array_equal(one, other)
        assert np.abs(one - unlike).max() > 1e-3
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="holds integers packed by MLX; load it with backend='mlx'"):
        latents(LTX2Pipeline.from_pretrained(tmp_path / "mlx-distilled-bits", pipeline="distilled-one-stage"))


# ---- what is chosen ----------------------------------------------------------------------------------------

OFFICIAL = (
    "ltx-2.3-22b-dev.safetensors",
    "ltx-2.3-22b-dev-fp8.safetensors",
    "ltx-2.3-22b-distilled.safetensors",
    "ltx-2.3-22b-distilled-1.1.safetensors",
    "ltx-2.3-22b-distilled-fp8.safetensors",
    "ltx-2.3-22b-distilled-lora-384.safetensors",
    "ltx-2.3-22b-distilled-lora-384-1.1.safetensors",
    "ltx-2.3-spatial-upscaler-x1.5-1.0.safetensors",
    "ltx-2.3-spatial-upscaler-x2-1.0.safetensors",
    "ltx-2.3-spatial-upscaler-x2-1.1.safetensors",
    "ltx-2.3-temporal-upscaler-x2-1.0.safetensors",
    "README.md",
)
FOLDERS = (
    "model_index.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
    "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
    "transformer/big.bin",
    "connectors/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model-00001-of-00002.safetensors",
    "text_encoder/model-00002-of-00002.safetensors",
    "tokenizer/tokenizer.json",
    "latent_upsampler/diffusion_pytorch_model.safetensors",
    "ltx-2-spatial-upscaler-x2-1.0.safetensors",
    "assets/cat.safetensors",
)


def listing(*names: str, where: str = "owner/name") -> Listing:
    return Listing(where, names, by_name)


@pytest.mark.parametrize(
    ("criteria", "recipe", "names"),
    [
        (Criteria(), "distilled", ["distilled-1.1", "spatial-upscaler-x2-1.1"]),
        (Criteria("distilled-one-stage"), "distilled-one-stage", ["distilled-1.1"]),
        (Criteria("distilled", fp8=True), "distilled", ["distilled-fp8", "spatial-upscaler-x2-1.1"]),
        (Criteria("distilled", upsampler=False), "distilled", ["distilled-1.1"]),
        (Criteria("dev"), "dev", ["dev"]),
        (Criteria("dev-two-stage"), "dev-two-stage", ["dev", "spatial-upscaler-x2-1.1", "distilled-lora-384-1.1"]),
    ],
)
def test_of_the_official_repository_no_more_than_needed_is_taken(
    criteria: Criteria, recipe: str, names: list[str]
) -> None:
    choice = choose(listing(*OFFICIAL, *FOLDERS[1:7]), criteria)
    assert choice.recipe.name == recipe
    short = [name.removeprefix("ltx-2.3-").removeprefix("22b-").removesuffix(".safetensors") for name in choice.names]
    assert short == names


def test_of_folders_only_components_are_taken_and_the_language_model_with_its_tokenizer() -> None:
    choice = choose(listing(*FOLDERS, where="owner/LTX-2-distilled-bf16"), Criteria())
    assert (choice.checkpoint, choice.text_encoder, choice.recipe.name) == ("", "text_encoder", "distilled")
    assert choice.upsampler == "ltx-2-spatial-upscaler-x2-1.0.safetensors"
    left = {"transformer/big.bin", "assets/cat.safetensors", "latent_upsampler/diffusion_pytorch_model.safetensors"}
    assert set(choice.names) == set(FOLDERS) - left
    assert choose(listing(*FOLDERS, where="a/LTX-2-dev"), Criteria(text_encoder=False)).text_encoder is None


@pytest.mark.parametrize(
    ("names", "criteria", "text"),
    [
        (OFFICIAL[7:], Criteria(), "no transformer of LTX-2 in it; there are ltx-2.3-spatial-upscaler-x1.5"),
        ((), Criteria(), "no safetensors files at all"),
        (OFFICIAL[:2], Criteria("distilled"), "no distilled checkpoint in it; there are ltx-2.3-22b-dev.safetensors, "),
        (OFFICIAL[2:3], Criteria("dev"), r"no dev checkpoint in it[^()]*$"),
        (OFFICIAL[:1], Criteria("dev-two-stage"), r"no spatial x2 upsampler in it.*\(--spatial-upsampler-path"),
        ((OFFICIAL[0], OFFICIAL[9]), Criteria("keyframes"), r"no distilled LoRA in it; .*\(--distilled-lora"),
        (("a-distilled.safetensors", "b-distilled.safetensors"), Criteria(), "say which distilled checkpoint is meant"),
        (FOLDERS, Criteria(), "neither its name nor those of its files say whether it is dev or distilled"),
        ((FOLDERS[2],), Criteria("dev"), "1 of 2 shards are there"),
        (
            ("transformer-a.safetensors", "transformer-b.safetensors"),
            Criteria("dev"),
            "has the transformers transformer-a",
        ),
    ],
)
def test_what_is_missing_or_ambiguous_is_said(names: tuple[str, ...], criteria: Criteria, text: str) -> None:
    with pytest.raises(SourceError, match=text):
        choose(listing(*names), criteria)


def test_names_and_headers_tell_the_same(files: dict[str, Path], layouts: dict[str, Path]) -> None:
    for file in layouts["split"].glob("*.safetensors"):
        assert by_header(file), file
        assert by_header(file) <= by_name(file.name), file
    assert by_header(files["lora"]) == by_name("x-lora.safetensors") == {"lora"}
    assert by_header(files["upsampler"]) == {"upsampler"}
    assert {"transformer", "video_vae"} <= by_header(files["path"])


def test_a_folder_as_downloads_leave_it(files: dict[str, Path], layouts: dict[str, Path], tmp_path: Path) -> None:
    """Everything of `download --to` lies side by side, the language model too."""
    shutil.copytree(layouts["folder"], tmp_path / "ltx")
    save_file({"language_model.model.x": np.ones(2, np.float32)}, tmp_path / "ltx/model-00001-of-00001.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "ltx" / name).write_text("{}")
    recipe, found = find_files(tmp_path / "ltx", Criteria())
    assert (recipe.name, found.text_encoder) == ("distilled", tmp_path / "ltx")
    assert found.transformer == tmp_path / "ltx" / files["path"].name
    assert local_listing(tmp_path / "ltx").names[0] == "config.json"


def test_paths_are_not_taken_for_repositories(tmp_path: Path) -> None:
    assert repository("owner/name/folder/a.safetensors") == ("owner/name", "folder/a.safetensors")
    for path in ("a.safetensors", "models/a.safetensors", "/owner/name", "./owner/name", "~/name", "a/b/c"):
        assert repository(path) is None


# ---- the hub, played by a server on this machine -------------------------------------------------------------


class Server:
    """The part of the hub's interface that its client calls, for folders of files."""

    def __init__(self, repos: dict[str, dict[str, Path]]) -> None:
        self.repos, self.asked, self.status = repos, list[str](), 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.say(*outer.answer(self.command, self.path), body=False)

            def do_GET(self) -> None:
                self.say(*outer.answer(self.command, self.path))

            def say(self, status: int, data: bytes, body: bool = True) -> None:
                self.send_response(status)
                headers = {"Content-Length": str(len(data)), "X-Repo-Commit": "0" * 40}
                headers |= {"ETag": f'"{sha256(data).hexdigest()}"'}
                headers |= {"X-Error-Code": "GatedRepo"} if status in {401, 403} else {}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, command: str, path: str) -> tuple[int, bytes]:
        """Give a status and a body: what a repository holds, or one of its files."""
        path = path.partition("?")[0]
        self.asked.append(f"{command} {path}")
        parts = path.strip("/").split("/")
        there = self.repos.get("/".join(parts[2:4] if parts[0] == "api" else parts[:2]))
        if self.status != 200 or there is None:
            return (404 if self.status == 200 else self.status), b""
        if parts[0] == "api":
            rows = [{"rfilename": name, "size": file.stat().st_size} for name, file in there.items()]
            return 200, json.dumps({"id": "some/x", "sha": "0" * 40, "siblings": rows, "tags": []}).encode()
        file = there.get("/".join(parts[4:]))
        return (404, b"") if file is None else (200, file.read_bytes())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def server(layouts: dict[str, Path], files: dict[str, Path]) -> Iterator[Server]:
    pytest.importorskip("huggingface_hub")
    of = {p.relative_to(layouts["mlx"]).as_posix(): p for p in layouts["mlx"].rglob("*") if p.is_file()}
    (layouts["mlx"].parent / "big.onnx").write_bytes(b"x" * 1000)
    names = {"ltx-2.3-22b-distilled-1.1.safetensors": "path", OFFICIAL[9]: "upsampler", OFFICIAL[6]: "lora"}
    official = {name: files[key] for name, key in names.items()}
    found = Server({"some/LTX-mlx-distilled": of | {"big.onnx": files["path"].parent / "big.onnx"}, "some/x": official})
    yield found
    found.close()


Run = Callable[..., Any]


@pytest.fixture
def run(server: Server, processes: Any, tmp_path: Path) -> Run:
    """Give processes that read the variables of the hub anew, and find everything else imported."""
    own = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"}
    own |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}

    def command(*arguments: str | Path, **environment: str) -> Any:
        line, said = [str(argument) for argument in arguments], tmp_path / "said"
        process = processes.Process(target=spoken, args=(line, own | environment, tmp_path, said))
        process.start()
        process.join(300)
        return CompletedProcess(line, process.exitcode, stderr=said.read_text())

    return command


@pytest.fixture
def generate(run: Run, tmp_path: Path) -> Run:
    save_file(dict(zip(("video", "audio"), contexts(1), strict=True)), tmp_path / "embeds.safetensors")
    size = ["-H", "64", "-W", "64", "-n", "9", "--dtype", "float32"]
    return partial(run, "generate", "--embeds", "embeds.safetensors", *size, "--checkpoint-path")


def test_a_repository_is_fetched_once_and_used_offline(generate: Run, server: Server, tmp_path: Path) -> None:
    server.status = 200
    server.asked.clear()
    first = generate("some/LTX-mlx-distilled", "--save-latents", "a.safetensors", "--no-audio")
    assert first.returncode == 0, first.stderr
    assert re.search(r"to fetch: some/LTX-mlx-distilled/transformer/model\.safetensors, \d+\.\d [KM]iB", first.stderr)
    assert first.stderr.index("to fetch in all: ") < first.stderr.index("pipeline distilled")
    assert not any("big.onnx" in line for line in server.asked)
    server.asked.clear()
    again = generate("some/LTX-mlx-distilled", "--save-latents", "b.safetensors", "--no-audio")
    assert again.returncode == 0, again.stderr
    assert server.asked == [], "what the cache has is not asked for"
    one, other = (read_latents(tmp_path / f"{name}.safetensors").latents for name in "ab")
    np.testing.assert_array_equal(one, other)
    offline = generate("some/LTX-mlx-distilled", "--pipeline", "dev-two-stage", HF_HUB_OFFLINE="1")
    assert offline.returncode == 2
    assert "HF_HUB_OFFLINE is set and the cache does not have what is needed" in offline.stderr


@pytest.mark.parametrize(
    ("status", "text"),
    [(401, "not signed in (401)"), (403, "no access (403); accept the terms"), (404, "not found (404)")],
)
def test_gated_and_missing_repositories_are_explained(generate: Run, server: Server, status: int, text: str) -> None:
    server.status = status
    try:
        done = generate("some/LTX-mlx-distilled")
    finally:
        server.status = 200
    assert done.returncode == 2
    assert f"some/LTX-mlx-distilled: {text}" in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("runs with ")]
    assert len(said) == 1


def test_decoding_takes_a_repository_too(run: Run, files: dict[str, Path], tmp_path: Path) -> None:
    write_latents(tmp_path / "a.safetensors", np.ones((1, 128, 1, 2, 2), np.float32) / 4, fps=24)
    for name, place in (("hub", "some/LTX-mlx-distilled"), ("file", files["path"])):
        done = run("decode", "a.safetensors", "--checkpoint", place, "-o", f"{name}.mp4")
        assert done.returncode == 0, done.stderr
    one, other = (list(iter_frames(tmp_path / f"{name}.mp4")) for name in ("hub", "file"))
    np.testing.assert_array_equal(one, other)
