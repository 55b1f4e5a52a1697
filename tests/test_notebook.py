"""The quickstart notebook: its cells run one after another, and what they give shows itself in a notebook."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as Jupyter does; give the value of a last line that is an expression."""
    tree = ast.parse(source)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(tree, NOTEBOOK.name, "exec"), names)
        return None
    tree.body.pop()
    exec(compile(tree, NOTEBOOK.name, "exec"), names)
    return eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names)


def test_the_notebook_runs_from_top_to_bottom() -> None:
    for needed in ("torch", "av", "skvideo", "transformers"):
        pytest.importorskip(needed)
    names: dict[str, Any] = {}
    values = [
        run_cell("".join(cell["source"]), names)
        for cell in json.loads(NOTEBOOK.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    shown = [value for value in values if hasattr(value, "_repr_html_")]
    assert len(shown) == 3  # two plans and a video
    assert "<video controls" in shown[-1]._repr_html_()


def test_the_notebook_holds_no_outputs_and_links_to_what_is_there() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert [cell for cell in cells if cell.get("outputs")] == []
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^):]+)\)", text)
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []
