"""What the project tells the tools of others: a package that installs, workflows that call sessions, a citation."""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, HOOK = SETTINGS["project"], SETTINGS["tool"]["hatch"]["metadata"]["hooks"]["custom"]


def yaml(path: str) -> Any:
    return pytest.importorskip("yaml").safe_load((ROOT / path).read_text())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is made of it, without a network."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run([*build, "-t", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    subprocess.run([*build, "-t", "wheel"], cwd=source, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_both_packages_with_types_and_checkpoints(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for package in ("tilekit", "ltx_models")
        for path in (ROOT / "src" / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert {"tilekit/py.typed", "ltx_models/py.typed", "ltx_models/data/tiny-video-vae.safetensors"} <= names


def test_the_wheel_installs_and_runs_from_elsewhere(built: Path, tmp_path: Path) -> None:
    """With pip alone: no index is asked, and nothing of this folder is used."""
    pytest.importorskip("av", reason="the command line needs the extra 'video'")
    (wheel,) = built.glob("*.whl")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q"]
    place = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, "--target", str(place), str(wheel)], check=True)
    code = "import tilekit, ltx_models; print(tilekit.__file__); print(ltx_models.default_checkpoint())"
    environment = os.environ | {"PYTHONPATH": str(place)}
    runs = [[sys.executable, "-c", code], [sys.executable, "-m", "ltx_models", "--version"]]
    told = [
        subprocess.run(run, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        for run in runs
    ]
    assert all(line.startswith(str(place)) for line in told[0].splitlines())
    assert told[1] == f"ltx-models {PROJECT['version']}\n"


def page_of(built: Path) -> str:
    """Give the page that an index would show of the wheel."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()


def test_the_page_of_the_package_has_no_link_that_breaks(built: Path) -> None:
    """An index has no files beside README: what is linked is elsewhere, or is no link."""
    page = page_of(built)
    assert "# tilekit" in page
    assert "Description-Content-Type: text/markdown" in page
    targets = re.findall(r"\]\(([^)]+)\)", page)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "<!--" not in page
    assert ("Project-URL" in page) == bool(HOOK["repository"])


@pytest.mark.parametrize("repository", ["", "https://example.org/owner/name"])
def test_links_of_readme_follow_the_one_setting(repository: str) -> None:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("package_page", ROOT / HOOK["path"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme = (ROOT / "README.md").read_text()
    page = module.package_page(readme, repository, "main")
    relative = [t for t in re.findall(r"\]\(([^)]+)\)", readme) if "://" not in t]
    assert len(relative) > 5
    for target in relative:
        assert (ROOT / target.partition("#")[0]).exists()
        assert f"]({target})" not in page
        folder = "raw" if target.endswith((".png", ".webp")) else "blob"
        assert (f"]({repository}/{folder}/main/{target})" in page) == bool(repository)
    assert bool(module.addresses(repository, "main")) == bool(repository)
    assert ("docs/images" in page) == bool(repository)
    assert "Above, a real clip" not in page or repository  # a caption without its picture
    assert "From a prompt to a video" in page


def test_the_sdist_holds_what_the_tests_need(built: Path) -> None:
    (source,) = (built / "source").iterdir()
    for name in ("README.md", "LICENSE", "noxfile.py", "run.py", "constraints.txt", "tests", "docs", "examples"):
        assert (source / name).exists(), name


def test_workflows_call_sessions_that_are_there() -> None:
    sessions = set(re.findall(r'session\(name="([\w-]+)"', (ROOT / "noxfile.py").read_text()))
    sessions |= set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    jobs = yaml(".github/workflows/tests.yml")["jobs"]
    assert jobs["suite"]["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    versions = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert jobs["suite"]["strategy"]["matrix"]["python"] == versions
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = [re.fullmatch(r"python run\.py (\S+|\$\{\{ matrix\.session \}\})", command) for command in commands]
    assert all(called)
    names = {match[1] for match in called if match} | set(jobs["parts"]["strategy"]["matrix"]["session"])
    assert names - {"${{ matrix.session }}"} <= sessions


@pytest.mark.parametrize("form", ["bug", "wish"])
def test_issue_forms_ask_something(form: str) -> None:
    told = yaml(f".github/ISSUE_TEMPLATE/{form}.yml")
    assert {"name", "description", "body"} <= set(told)
    assert any(part.get("validations", {}).get("required") for part in told["body"])


def test_the_citation_and_the_docs_follow_the_project() -> None:
    cited = yaml("CITATION.cff")
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert cited["authors"] == PROJECT["authors"]
    assert yaml(".readthedocs.yaml")["version"] == 2


@pytest.mark.parametrize("name", ["tiny-video-vae", "toy"])
def test_each_checkpoint_has_a_card_that_says_what_it_was_trained_on(name: str) -> None:
    card = (ROOT / "src/ltx_models/data" / f"{name}.md").read_text()
    assert "**Trained on**" in card
    assert "license: apache-2.0" in card
    for script in re.findall(r"`(training/[\w/]+\.py)`", card):
        assert (ROOT / script).exists()


def test_examples_are_the_same_whatever_ran_before() -> None:
    """Those of Hypothesis take no numbers from modules that happen to be imported."""
    from hypothesis.internal.conjecture.providers import HypothesisProvider

    assert len(HypothesisProvider(None)._local_constants) == 0
