"""
Run a task of the project on a machine that has Python 3.11 or newer and nothing else: ``python3 run.py demo``.

Makes an environment of its own in ``.nox/boot``, so that nothing is installed into the system's Python, puts nox into
it, and runs the sessions named; without a name it lists them. What stands after the names goes to nox as it is:
``python3 run.py tests -- -k laws``. Needs the standard library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  an old Python must get this far, and no further
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit(f"run.py needs Python 3.11 or newer, this is {found}: run it with a newer one, such as python3.12 run.py")

import os
import shutil
import subprocess
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
BOOT = ROOT / ".nox" / "boot"


def environment() -> Path:
    """Give the Python of the environment that holds nox, made on the first call."""
    python = BOOT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():  # also after an upgrade took away the Python that it was made with
        make_environment()
    constraints = ("-c", str(ROOT / "constraints.txt"))
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *constraints, "nox")
    if subprocess.call(pip):
        sys.exit("run.py: pip could not install nox (its reason stands above); is there a network or a package index?")
    return python


def make_environment() -> None:
    """Make an empty environment, or say what this Python lacks; leave nothing half made."""
    lacking = [name for name in ("venv", "ensurepip") if find_spec(name) is None]
    if lacking:
        remedy = "on Debian and Ubuntu: sudo apt install python3-venv"
        sys.exit(f"run.py: {sys.executable} has no {' and no '.join(lacking)}; {remedy}; or use another Python")
    shutil.rmtree(BOOT, ignore_errors=True)
    print(f"making {BOOT}", flush=True)
    if subprocess.call((sys.executable, "-m", "venv", str(BOOT))):
        shutil.rmtree(BOOT, ignore_errors=True)
        sys.exit(f"run.py: {sys.executable} could not make the environment {BOOT} (its reason stands above)")


def nox_arguments(given: list[str]) -> list[str]:
    """Arguments of nox: the leading names are sessions."""
    sessions = list(takewhile(lambda word: not word.startswith("-"), given))
    rest = given[len(sessions) :]
    return ["-s", *sessions, *rest] if sessions else rest or ["-l"]


if __name__ == "__main__":
    arguments = nox_arguments(sys.argv[1:])
    sys.exit(subprocess.call((environment(), "-m", "nox", "-f", str(ROOT / "noxfile.py"), *arguments)))
