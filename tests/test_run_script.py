"""The script that makes two commands enough: what it passes to nox, and what it says where it cannot work."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = str(ROOT / "run.py")


def refusal(script: str, preparation: str) -> str:
    """What the script says when it refuses to work, after some preparation in a process of its own."""
    code = f"import runpy, sys; {preparation}; runpy.run_path({script!r}, run_name='__main__')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    return run.stderr


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([], ["-l"]),
        (["demo"], ["-s", "demo"]),
        (["lint", "typing"], ["-s", "lint", "typing"]),
        (["tests", "--", "-k", "laws"], ["-s", "tests", "--", "-k", "laws"]),
        (["--version"], ["--version"]),
    ],
)
def test_leading_names_are_sessions_and_the_rest_is_passed_on(given: list[str], passed: list[str]) -> None:
    assert runpy.run_path(SCRIPT)["nox_arguments"](given) == passed


def test_an_old_python_is_told_which_one_is_needed() -> None:
    said = refusal(SCRIPT, "sys.version_info = (3, 9, 2)")
    assert said.startswith("run.py needs Python 3.11 or newer, this is 3.9")


def test_a_python_that_cannot_make_environments_says_what_to_install(tmp_path: Path) -> None:
    """As Debian's is without python3-venv."""
    script = tmp_path / "run.py"
    script.write_text((ROOT / "run.py").read_text())
    said = refusal(str(script), "sys.modules['ensurepip'] = None")
    assert "has no ensurepip; on Debian and Ubuntu: sudo apt install python3-venv" in said
    assert not (tmp_path / ".nox").exists()


def test_the_script_reads_as_python_3_8() -> None:
    """Or an old Python would see a syntax error instead of the sentence."""
    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 8))
