"""Downloads: where each file comes from, what is said, and what failures mean; the hub itself is played."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.ltx_models.split_files import NAMES

from ltx_models import cli
from ltx_models import download as module
from ltx_models.checkpoints import read_header
from ltx_models.checkpoints.contents import by_name
from ltx_models.download import APART, MODELS, PIPELINES, DownloadError, Wanted, fetch, plan, wanted_by
from ltx_models.pipelines import RECIPES
from ltx_models.pipelines.finding import find_files
from ltx_models.pipelines.listing import Criteria, Listing
from ltx_models.pipelines.sources import choose

FILES = {"model-a.safetensors": 3000, "model-b.safetensors": 500, "config.json": 20, "big.onnx": 10**9}


class Refusal(Exception):
    """What the hub's client raises: an error with the server's response."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {status}")
        if status is not None:
            self.response = SimpleNamespace(status_code=status)


class Hub:
    """The part of huggingface_hub that is called, with a server of one repository and a cache on disk."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.cache.mkdir()
        self.constants = SimpleNamespace(HF_HUB_CACHE=str(self.cache), HF_HUB_OFFLINE=False)
        self.calls: list[str] = []
        self.revisions: list[str | None] = []
        self.status: int | None = 200

    def HfApi(self, token: str | None = None) -> "Hub":  # the name of the client's class
        return self

    def _answer(self, what: str) -> None:
        self.calls.append(what)
        if self.status != 200:
            raise Refusal(self.status)

    def model_info(self, repo: str, files_metadata: bool = False, revision: str | None = None) -> Any:
        assert files_metadata
        self.revisions.append(revision)
        self._answer(f"list {repo}")
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=n, size=s) for n, s in FILES.items()])

    def try_to_load_from_cache(self, repo: str, name: str, revision: str | None = None) -> str | None:
        self.revisions.append(revision)
        path = self.cache / name
        return str(path) if path.exists() else None

    def hf_hub_download(
        self, repo: str, name: str, local_dir: Any = None, token: str | None = None, revision: str | None = None
    ) -> str:
        self.revisions.append(revision)
        self._answer(f"get {name}")
        path = Path(local_dir or self.cache) / name
        path.write_bytes(b"x" * min(FILES[name], 5000))
        return str(path)

    def snapshot_download(
        self, repo: str, local_files_only: bool, allow_patterns: Any = None, revision: str | None = None
    ) -> str:
        assert local_files_only
        self.revisions.append(revision)
        if not list(self.cache.iterdir()):
            raise Refusal(None)
        return str(self.cache)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    hub = Hub(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("ltx_models.hub.library", lambda: hub)
    return hub


WANTED = (Wanted("owner/name", ("*.safetensors", "*.json")),)


def test_only_what_is_wanted_is_fetched_and_its_size_is_known_before(hub: Hub) -> None:
    items = plan(WANTED)
    assert hub.calls == ["list owner/name"]
    assert [(i.name, i.n_bytes, i.source) for i in items] == [
        ("config.json", 20, "network"),
        ("model-a.safetensors", 3000, "network"),
        ("model-b.safetensors", 500, "network"),
    ]
    assert all(path.exists() for path in fetch(items))
    assert not (hub.cache / "big.onnx").exists()


def test_folder_comes_before_cache_and_cache_before_network(hub: Hub, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "config.json").write_bytes(b"x" * 20)
    (local / "model-a.safetensors").write_bytes(b"cut")  # of another size than published: not whole
    (hub.cache / "model-b.safetensors").write_bytes(b"x" * 500)
    wanted = (Wanted("owner/name", ("config.json", "model-a.safetensors", "model-b.safetensors")),)
    sources = {item.name: item.source for item in plan(wanted, local=local)}
    assert sources == {"config.json": "local", "model-a.safetensors": "network", "model-b.safetensors": "cache"}
    before = list(hub.calls)
    paths = fetch(plan(wanted, local=local), local=local)
    assert [call for call in hub.calls[len(before) :] if call.startswith("get")] == ["get model-a.safetensors"]
    assert paths[1] == local / "model-a.safetensors"


def test_a_folder_that_has_everything_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ltx_models.hub.library", lambda: pytest.fail("asked the hub"))
    (tmp_path / "model-a.safetensors").write_bytes(b"abc")
    items = plan((Wanted("owner/name", ("model-a.safetensors",)),), local=tmp_path)
    assert [(i.source, i.n_bytes) for i in items] == [("local", 3)]
    assert fetch(items) == [tmp_path / "model-a.safetensors"]


def test_a_folder_with_some_files_of_a_pattern_is_not_taken_for_whole(hub: Hub, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "model-b.safetensors").write_bytes(b"x" * 500)
    sources = {item.name: item.source for item in plan(WANTED, local=local)}
    assert sources == {"config.json": "network", "model-a.safetensors": "network", "model-b.safetensors": "local"}
    json_only = plan((Wanted("owner/name", ("*.json",)),), local=local)
    assert [item.source for item in json_only] == ["network"]


def test_shards_that_are_not_all_there_are_completed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": 10 for i in (1, 2)}
    monkeypatch.setitem(globals(), "FILES", shards)
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"x" * 10)
    wanted = (Wanted("owner/name", ("model*.safetensors",)),)
    assert [item.source for item in plan(wanted, local=tmp_path)] == ["local", "network"]
    fetch(plan(wanted, local=tmp_path), local=tmp_path)
    assert [item.source for item in plan(wanted, local=tmp_path)] == ["local", "local"]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, r"owner/name: not signed in \(401\).*accept its terms at https://huggingface.co/owner/name.*auth login"),
        (403, r"no access \(403\); accept the terms at https://huggingface.co/owner/name"),
        (404, r"not found \(404\); check the name"),
        (503, r"the server answered 503"),
        (None, r"cannot be reached.*HF_HUB_OFFLINE=1"),
    ],
)
def test_refusals_are_explained(hub: Hub, status: int | None, text: str) -> None:
    items = plan(WANTED)
    hub.status = status
    with pytest.raises(DownloadError, match=text):
        plan(WANTED)
    with pytest.raises(DownloadError, match=text.replace("owner/name:", "owner/name/config.json:")):
        fetch(items)


def test_offline_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set and the cache does not have it"):
        plan(WANTED)
    for name in ("model-a.safetensors", "config.json"):
        (hub.cache / name).write_bytes(b"x")
    items = plan(WANTED)
    assert [item.source for item in items] == ["cache", "cache"]
    assert fetch(items)
    assert hub.calls == []


def test_a_name_that_is_not_there_is_answered_with_those_that_are(hub: Hub) -> None:
    with pytest.raises(DownloadError, match=r"nothing there is called x.safetensors; there are model-a.safetensors, "):
        plan((Wanted("owner/name", ("x.safetensors",)),))


def test_a_disk_that_is_too_small_is_refused_before(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    items = plan(WANTED)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DownloadError, match="set HF_HOME to a larger disk"):
        fetch(items)
    assert hub.calls == ["list owner/name"]


def test_every_pipeline_knows_its_files() -> None:
    assert list(PIPELINES) == list(RECIPES)
    for name, recipe in RECIPES.items():
        kinds = {"spatial-upsampler": recipe.two_stages, "lora": recipe.needs_lora, "dev": recipe.guided}
        assert all((kind in PIPELINES[name]) == there for kind, there in kinds.items())
    for version in MODELS:
        for pipeline, parts in PIPELINES.items():
            wanted = wanted_by(pipeline, version=version)
            apart = [part for part in APART if part in MODELS[version]]
            assert len(wanted) == len(parts) + len(apart)
            if version == "2.5":
                continue
            fp8 = wanted_by(pipeline, version=version, fp8=True)
            assert "fp8" in fp8[0].patterns[0]
            assert all("fp8" not in entry.patterns[0] for entry in fp8[1:])
    with pytest.raises(ValueError, match="pipeline: got 'x', allowed are 'distilled', 'distilled-one-stage', 'dev'"):
        wanted_by("x")
    with pytest.raises(ValueError, match=r"version: got '3', allowed are '2\.0', '2\.3'"):
        wanted_by("dev", version="3")


def test_of_2_5_each_part_is_a_file_of_one_repository() -> None:
    published = {name for wanted in MODELS["2.5"].values() for name in wanted.patterns}
    assert published == set(NAMES.values())
    for pipeline in PIPELINES:
        wanted = wanted_by(pipeline, version="2.5")
        assert {entry.repo for entry in wanted} == {"Lightricks/LTX-2.5"}
        chosen = choose(Listing("Lightricks/LTX-2.5", tuple(sorted(published)), by_name), Criteria(pipeline))
        assert sorted(chosen.names) == sorted(entry.patterns[0] for entry in wanted), pipeline
    swapped = wanted_by("dev", version="2.5", convolutional=True, text_encoder=False)
    assert [entry.patterns[0] for entry in swapped][1] == NAMES["video_vae_conv"]
    with pytest.raises(ValueError, match=r"dev-fp8: is not published for 2\.5; .* quantise when the file is read"):
        wanted_by("dev", version="2.5", fp8=True)
    with pytest.raises(ValueError, match=r"video-vae-conv: is not published for 2\.3; there are distilled, "):
        wanted_by("dev", convolutional=True)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'tilekit-vae\[hub\]'"):
        plan(WANTED)


def test_command_line_says_sizes_before_it_fetches(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["download", "--repo", "owner/name", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "model-a.safetensors" in shown
    assert "to fetch: 3.4 KiB" in shown
    assert hub.calls == ["list owner/name"]
    assert cli.main(["download", "--repo", "owner/name", "--include", "*.json", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["files"] == [{"repo": "owner/name", "name": "config.json", "bytes": 20, "source": "network"}]
    assert Path(facts["paths"][0]).stat().st_size == 20
    assert cli.main(["download", "--include", "*.json"]) == 2
    assert "--include goes with --repo" in capsys.readouterr().err


def test_command_line_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ltx_models import default_checkpoint

    command = ["convert", str(default_checkpoint()), str(tmp_path / "mlx"), "--layout", "mlx", "--json"]
    assert cli.main(command) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["tensors"] == sum(len(read_header(Path(file))[1]) for file in facts["files"])
    assert all(Path(file).exists() for file in facts["files"])
    assert cli.main(command) == 2
    assert "exists; choose another name" in capsys.readouterr().err
    assert cli.main([*command[:2], str(tmp_path / "s"), "--shard-size", "1MB"]) == 0
    assert "tensors" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main([*command[:2], str(tmp_path / "t"), "--shard-size", "lots"])
    assert "expected a size such as 16GB or 500MiB" in capsys.readouterr().err


def test_every_request_is_of_the_revision_that_was_asked_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository may change under its name; a commit does not."""
    wanted = (Wanted("owner/name", ("model-*.safetensors",), "v1.0"), Wanted("owner/name", ("config.json",), "v1.0"))
    items = plan(wanted)
    assert {item.revision for item in items} == {"v1.0"}
    fetch(items)
    module.listed_names("owner/name", revision="v1.0")
    module.cached_names("owner/name", "v1.0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plan([Wanted("owner/name", ("*.json",), "v1.0")])
    assert set(hub.revisions) == {"v1.0"}
    assert len(hub.revisions) >= 8
    hub.revisions.clear()
    module.listed_names("owner/name")
    assert hub.revisions == [None]


def test_a_revision_belongs_to_a_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["download", "distilled", "--revision", "v1.0"]) == 2
    assert "--revision goes with --repo" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"revision: got 'v1.0', but .* is on this machine"):
        find_files(tmp_path, Criteria(), revision="v1.0")
