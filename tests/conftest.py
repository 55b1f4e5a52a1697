"""What all tests share: the array libraries of the registry, and the reference cases of the official code."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from tests.reference.networks import make, read_table

from tilekit.testing import Library, libraries

COMPACT = Path(__file__).parent / "reference" / "ltx2"

settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "project"))
# else numbers that are written in modules become examples, and which are imported depends on the tests that ran before
providers._get_local_constants = lambda: providers._local_constants


@pytest.fixture(autouse=True, scope="session")
def _interrupts() -> None:
    """Hear interrupts: a shell that starts the tests in the background has them ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def usually_small() -> Iterator[int]:
    """Cut small networks as well where no budget is given: those of the tests are small. Give what is small else."""
    from tilekit._exact import planner

    with pytest.MonkeyPatch.context() as patch:
        before = planner.SMALL
        patch.setattr(planner, "SMALL", 0)
        yield before


def _name(library: Library) -> str:
    return f"{library.name}-read-only" if library.read_only else library.name


@pytest.fixture(params=list(libraries()), ids=_name)
def xp(request: pytest.FixtureRequest) -> Library:
    """Every library that has a backend, and NumPy arrays that cannot be written; skipped where it is not installed."""
    library: Library = request.param
    if library.missing:
        pytest.skip(library.missing)
    return library


def _set(variable: str, full: str, compact: str) -> Path:
    """Folder of reference cases: the one that a variable names, the full set beside the project, else the choice."""
    beside = Path(__file__).parents[2] / "shared" / full
    own = Path(__file__).parent / "reference" / compact
    return Path(os.environ.get(variable) or (beside if beside.is_dir() else own))


@pytest.fixture(scope="session")
def reference() -> Path:
    """Give the folder with the reference cases of LTX-2."""
    return _set("LTX_ORACLE", "oracle", "ltx2")


@pytest.fixture(scope="session")
def reference25() -> Path:
    """Give the folder with the reference cases of LTX-2.5."""
    return _set("LTX_ORACLE25", "oracle25", "ltx25")


class Case:
    """One reference case: arrays of the host, call arguments and the file, which is a checkpoint too."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self.path = path
        self.name = path.stem
        with safe_open(path, "numpy") as file:
            self.args: dict[str, Any] = json.loads(file.metadata()["oracle"])["args"]
            keys = [key for key in file.keys() if key.split(".")[0] in {"input", "output", "debug"}]  # noqa: SIM118
            self.arrays = {key: file.get_tensor(key) for key in keys}

    def get(self, key: str) -> Any:
        return self.arrays.get(key)


@pytest.fixture(scope="session")
def oracle(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Case]]:
    """
    Give the reference cases whose names fit a pattern.

    Where only the compact choice is there, an exact name may stand for a network alone: its weights are drawn again,
    and it has no outputs to compare with. Every name and pattern must be in that choice, or nobody could run the test
    in a clone alone.
    """
    networks = read_table(COMPACT / "networks.json.gz")

    def find(pattern: str) -> list[Case]:
        if pattern not in networks:
            assert list(COMPACT.glob(f"{pattern}.safetensors")), f"{pattern} is not in {COMPACT}: see choose.py there"
        found = [Case(path) for path in sorted(reference.glob(f"{pattern}.safetensors"))]
        if not found and pattern in networks:
            found = [Case(make(COMPACT / "networks.json.gz", pattern, tmp_path_factory.mktemp("networks")))]
        assert found, f"no case in {reference} fits {pattern}"
        return found

    return find


@pytest.fixture(scope="session")
def oracle25(reference25: Path) -> Callable[[str], list[Case]]:
    """Give the reference cases of LTX-2.5 whose names fit a pattern."""

    def find(pattern: str) -> list[Case]:
        cases = [Case(path) for path in sorted(reference25.glob(f"{pattern}.safetensors"))]
        assert cases, f"no case in {reference25} fits {pattern}"
        return cases

    return find


@pytest.fixture(scope="session")
def complete(reference: Path) -> bool:
    """Whether the full sets of reference cases are there, not the compact choice alone."""
    return reference != COMPACT


@pytest.fixture(scope="session")
def oracle_table(reference: Path) -> Callable[[str], Any]:
    """Give a table of the reference cases."""
    return lambda name: json.loads((reference / f"{name}.json").read_text())
