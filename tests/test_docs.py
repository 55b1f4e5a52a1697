"""What the documents promise: commands, files, names and versions that are really there."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from ltx_models.cli import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirement_name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match
    return match[0].lower().replace("_", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_the_documents_exist(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every nox session and every verb that a document names."""
    text = path.read_text()
    sessions = set(re.findall(r"def (\w+)\(session", (ROOT / "noxfile.py").read_text()))
    for line in re.findall(r"(?:nox -s|run\.py) ([a-z -]+?)(?: --|`|$)", text, re.MULTILINE):
        assert {name.replace("-", "_") for name in line.split()} <= sessions, line
    with pytest.raises(SystemExit):
        main(["--help"])
    verbs = set(re.findall(r"^ +([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert set(re.findall(r"^\$ ltx-models ([a-z-]+)", text, re.MULTILINE)) <= verbs


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_the_documents_link_to_exist(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_tree_of_the_architecture_page_is_that_of_the_sources() -> None:
    """Every folder and module of tilekit, every module of its large folders, and every package of ltx_models."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    tree = re.search(r"^src/tilekit/\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert tree is not None
    listed = re.findall(r"^( +)([\w./]+?)/? ", tree[1], re.MULTILINE)
    top = {name for indent, name in listed if len(indent) == 2}
    inner = {name for indent, name in listed if len(indent) == 4}
    source = ROOT / "src" / "tilekit"
    assert top == {p.name for p in source.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    parts = [p for d in ("_plan", "_run", "_exact") for p in (source / d).iterdir() if not p.name.startswith("__")]
    assert inner == {p.name for p in parts}
    models = ROOT / "src" / "ltx_models"
    packages = {p.name for p in models.iterdir() if (p / "__init__.py").exists()}
    tree = re.search(r"^src/ltx_models/\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert tree is not None
    assert packages <= set(re.findall(r"^  (\w+)/ ", tree[1], re.MULTILINE))


def test_the_table_on_the_page_of_exact_is_what_its_example_prints(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    text = (ROOT / "docs" / "exact.md").read_text()
    code, table = re.search(r"```python\n(.*?)```", text, re.DOTALL), re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert code is not None
    assert table is not None
    exec(code[1].partition("for start")[0], {})
    assert capsys.readouterr().out == table[1]


def test_every_dependency_is_pinned_at_or_above_its_lower_bound() -> None:
    rows = [row.split("==") for row in (ROOT / "constraints.txt").read_text().splitlines() if "==" in row]
    pinned = {requirement_name(name): version for name, version in rows}
    project = PROJECT["project"]
    required = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    required += [r for group in ("test", "lint", "typing", "docs") for r in PROJECT["dependency-groups"][group]]
    for requirement in required:
        name, lowest = requirement_name(requirement), re.search(r">=([\d.]+)", requirement)
        if name == project["name"]:
            continue  # an extra that takes in others
        assert lowest is not None, requirement
        assert name in pinned, requirement
        assert [int(n) for n in lowest[1].split(".")] <= [int(n) for n in pinned[name].split(".")[:3]], requirement


def test_options_of_the_reference_are_those_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for needed in ("av", "PIL"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip("needs the extra 'video'")
    helped = set[str]()
    for verb in ("reconstruct", "encode", "decode"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        helped |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    text = (ROOT / "docs/reference/command_line.md").read_text()
    told = set(re.findall(r"`(--[a-z-]+)", text)) - {"--png"}
    # Where results go, and which sound goes with them, is said by each verb.
    assert helped - {"--output", "--latents", "--audio"} == told


@pytest.mark.parametrize("package", ["tilekit", "ltx_models", "ltx_models.media"])
def test_all_names_that_packages_export_have_docstrings(package: str) -> None:
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        try:
            value = getattr(module, name)
        except ImportError:
            continue  # of a backend that this session leaves out
        assert not callable(value) or value.__doc__, name


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0].startswith(f"{PROJECT['project']['version']} - ")


def test_the_pages_of_devices_have_every_row_of_the_limits() -> None:
    from tilekit.backends.limits import KNOWN

    pages = "\n".join((ROOT / "docs" / "how-to" / name).read_text() for name in ("mac.md", "cuda.md"))
    lines = [line for line in pages.splitlines() if line.startswith("| ") and "#" in line]
    assert len(lines) == len(KNOWN)
    for row in KNOWN:
        line = next(line for line in lines if row.what in line)
        assert line.startswith(f"| {row.framework} on {row.device}, ")
        assert f"| {row.source} | {row.date} |" in line
        assert all(version in line for version in (row.since, row.before))


def test_the_page_of_how_to_leads_to_every_page_of_its_folder() -> None:
    folder = ROOT / "docs" / "how-to"
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", (folder / "index.md").read_text()))
    assert {path.name for path in folder.glob("*.md")} - {"index.md"} <= linked
    recipes = (folder / "recipes" / "index.md").read_text()
    stems = {path.stem for path in (folder / "recipes").glob("*.md")} - {"index"}
    assert stems <= set(recipes.split())


def test_every_page_stands_in_the_side_bar() -> None:
    """A page that no toctree names is a warning, and so an error, of the build."""
    first = (ROOT / "docs" / "index.md").read_text()
    listed = {line for block in re.findall(r"```\{toctree\}\n(.*?)```", first, re.DOTALL) for line in block.split("\n")}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages <= listed
