"""Which module may import what, read from the syntax trees; and that importing a package stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"
ARRAY_LIBRARIES = {"numpy", "torch", "mlx", "jax", "cupy", "array_api_compat", "array_api_strict"}
PLANNING = [
    "_boxes",
    "_config",
    "_errors",
    "_fit",
    "_forecast",
    "_geometry",
    "_laws",
    "_plan",
    "_presets",
    "_progress",
    "_schedule",
    "_spans",
    "_table",
    "_tiling",
    "_weights",
]


def imported(path: Path, *, everywhere: bool) -> set[str]:
    """Top-level packages that a file imports, at module level or everywhere."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else _at_import(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _at_import(tree: ast.AST) -> list[ast.AST]:
    """Nodes that run when the module is imported: not inside functions, not under TYPE_CHECKING."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not guarded and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [node, *_at_import(node)]
    return found


@pytest.mark.parametrize("name", PLANNING)
def test_planning_uses_no_array_library(name: str) -> None:
    assert not imported(SOURCES / "tilekit" / f"{name}.py", everywhere=True) & ARRAY_LIBRARIES


def test_every_module_of_tilekit_is_planning_or_known_to_use_arrays() -> None:
    private = {path.stem for path in (SOURCES / "tilekit").glob("_*.py")} - {"__init__"}
    assert private - set(PLANNING) == {"_blend", "_checks", "_halo", "_plot", "_run"}


@pytest.mark.parametrize("path", sorted((SOURCES / "tilekit").rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCES)))
def test_tilekit_knows_nothing_of_the_models(path: Path) -> None:
    assert "ltx_models" not in imported(path, everywhere=True)


@pytest.mark.parametrize("package", ["tilekit", "ltx_models"])
def test_importing_a_package_imports_no_framework(package: str) -> None:
    code = f"import sys, {package}; print(*sorted({{'torch', 'mlx', 'jax', 'matplotlib', 'av'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
