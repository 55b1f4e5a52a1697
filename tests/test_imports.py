"""Which module may import what, read from the syntax trees; and that importing a package stays cheap."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"
ARRAY_LIBRARIES = {"numpy", "torch", "mlx", "jax", "cupy", "array_api_compat", "array_api_strict"}
FILES = {  # by module; a package goes by its own name
    ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCES.rglob("*.py"))
}
PACKAGES = [name for name, path in FILES.items() if path.stem == "__init__"]


def imported(path: Path, *, on_windows: bool = False) -> Iterator[str]:
    """Every module that a file names in an import: at the top, inside functions and for type checkers alike."""
    tree = ast.parse(path.read_text())
    if on_windows:  # which never comes to the other branch of this question
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "os.name == 'nt'":
                node.orelse = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            for (
                alias
            ) in node.names:  # `from package import module` names the module, `from module import name` does not
                module = f"{node.module}.{alias.name}"
                yield module if module in FILES else str(node.module)


def part_of(package: str, module: str) -> str | None:
    """The part of a package that a module belongs to: a child of the package, or the package's own ``__init__``."""
    if module == package:
        return package
    if module.startswith(f"{package}."):
        return f"{package}.{module.removeprefix(package + '.').partition('.')[0]}"
    return None


def arrows(package: str) -> dict[str, set[str]]:
    """For every part of a package the other parts that it imports."""
    graph: dict[str, set[str]] = {}
    for module, path in FILES.items():
        part = part_of(package, module)
        if part is not None:
            targets = {part_of(package, target) for target in imported(path)} - {part, None}
            graph.setdefault(part, set()).update(target for target in targets if target)
    return graph


@pytest.mark.parametrize("package", PACKAGES)
def test_the_parts_of_a_package_import_one_another_in_one_direction(package: str) -> None:
    """No circle among modules or folders, and none hidden in a function: a part never imports what imports it."""
    try:
        TopologicalSorter(arrows(package)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_a_circle_would_be_seen() -> None:
    graph = arrows("tilekit._plan")
    assert "tilekit._plan.spans" in graph["tilekit._plan.plan"]
    graph["tilekit._plan.spans"].add("tilekit._plan.plan")
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("tilekit._plan")])
def test_planning_uses_no_array_library_and_nothing_that_does(module: str) -> None:
    modules = set(imported(FILES[module]))
    assert not {name.partition(".")[0] for name in modules} & ARRAY_LIBRARIES
    ours = {name for name in modules if name.partition(".")[0] == "tilekit"}
    assert {name for name in ours if not name.startswith("tilekit._plan")} <= {"tilekit._errors"}


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("tilekit._plan")])
def test_planning_imports_its_own_modules_at_the_top(module: str) -> None:
    tree = ast.parse(FILES[module].read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = [node.module for f in functions for node in ast.walk(f) if isinstance(node, ast.ImportFrom) and node.module]
    assert not [name for name in inner if name.startswith("tilekit")]


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("tilekit")])
def test_tilekit_knows_nothing_of_the_models(module: str) -> None:
    assert "ltx_models" not in {name.partition(".")[0] for name in imported(FILES[module])}


@pytest.mark.parametrize("package", ["tilekit", "ltx_models"])
def test_importing_a_package_imports_no_framework(package: str) -> None:
    code = f"import sys, {package}; print(*sorted({{'torch', 'mlx', 'jax', 'matplotlib', 'av'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


POSIX = ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog")


def test_no_module_needs_posix() -> None:
    """Windows has none of these; every module is imported without them, and the command line works."""
    code = f"""
import sys
for name in {POSIX}:
    sys.modules[name] = None
import importlib, pkgutil, tilekit, ltx_models
for package in (tilekit, ltx_models):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            assert error.name not in {POSIX}, (found.name, error)
from ltx_models.cli import main
assert main(["plan", "--size", "64x64", "--frames", "9"]) == 0
from ltx_models import peak_memory
from ltx_models.cli import meter, progress, report
peak_memory.Path = lambda name: __import__("pathlib").Path("/nowhere")
with meter.Meter() as taken:
    pass
assert peak_memory.resident_peak() is None
assert report.size_of(None) == "memory unknown"
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    named = {path: set(imported(path, on_windows=True)) & set(POSIX) for path in SOURCES.rglob("*.py")}
    assert not {str(path): names for path, names in named.items() if names}
