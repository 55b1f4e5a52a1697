"""Run the Python blocks of README.md and of the documentation as tests, and skip examples whose library is left out."""

import gc
import os
import tempfile
from importlib.util import find_spec
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

# The documents use everything: torch, video files, pictures. Sessions that leave some of it out do not read them.
NEEDED = ("torch", "av", "PIL", "matplotlib", "skvideo")
# The scripts that build and check the documentation have no examples, and need what the tests do not.
collect_ignore_glob = ["docs/*.py"] if all(find_spec(name) for name in NEEDED) else ["README.md", "docs/*"]
# JAX has a session of its own; its tests are skipped elsewhere, and say so.
if find_spec("jax") is None:
    collect_ignore_glob += ["*/_jax*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the examples of docstrings that name a framework which is not installed."""
    missing = [name for name in ("torch", "mlx", "av", "PIL", "matplotlib") if find_spec(name) is None]
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.dtest is not None:
            source = " ".join(example.source for example in item.dtest.examples)
            for name in missing:
                if name in source:
                    item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol() -> None:
    """
    Keep what is there when a test begins out of the garbage collector's sight.

    The collected tests and the imported libraries are half a million objects: a pass over them takes half a second, and
    each run of a pipeline asks for several. What came since the test before is little, so that a pass here is quick.
    """
    gc.collect()
    gc.freeze()


def enter(namespace: dict[str, Any]) -> None:
    """Run a document's examples in a folder of their own, so that they may write files."""
    namespace["_home"], namespace["_folder"] = os.getcwd(), tempfile.TemporaryDirectory()
    os.chdir(namespace["_folder"].name)


def leave(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_home"])
    namespace["_folder"].cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    setup=enter,
    teardown=leave,
).pytest()
