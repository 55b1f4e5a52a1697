"""Every public name is in the reference: the pages are read as Sphinx reads them, by their directives."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
TEXT = "\n".join(path.read_text() for path in sorted(REFERENCE.rglob("*.md")))
PACKAGES = ("tilekit", "tilekit.adapters", "tilekit.backends", "tilekit.norms", "tilekit.testing", "ltx_models")
NETWORKS = ("video_vae", "audio_vae", "vocoder", "upsampler", "transformer", "autoencoder_kl", "sampling", "pipelines")


def found(path: str) -> Any:
    """Give what a dotted name stands for."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            value = getattr(value, name)
        return value
    raise AssertionError(path)


def documented() -> set[int]:
    """The objects that the pages document, by identity: a name that is handed on is the same object."""
    values = [found(path) for path in re.findall(r":: (\S+)$", TEXT, re.MULTILINE) if not path.startswith("automodule")]
    for module in re.findall(r"automodule:: (\S+)", TEXT):
        members = import_module(module)
        values += [getattr(members, name) for name in getattr(members, "__all__", vars(members)) if name[0] != "_"]
    return {id(value) for value in values}


@pytest.mark.parametrize("package", [*PACKAGES, *(f"ltx_models.{name}" for name in NETWORKS)])
def test_every_public_class_and_function_is_in_the_reference(package: str) -> None:
    for needed in ("torch", "mlx.core", "av"):
        pytest.importorskip(needed)
    module, told = import_module(package), documented()
    values = {name: getattr(module, name) for name in module.__all__}
    lost = [
        name
        for name, value in values.items()
        if (inspect.isclass(value) or inspect.isroutine(value)) and id(value) not in told
    ]
    assert not lost, f"{package}: {', '.join(lost)} are on no page of docs/reference"


def test_every_geometry_is_in_the_reference() -> None:
    import tilekit

    names = [name for name in tilekit.__all__ if isinstance(getattr(tilekit, name), tilekit.Geometry)]
    assert len(names) >= 13
    assert [name for name in names if f"tilekit.{name}" not in TEXT] == []


def test_a_lost_name_would_be_seen() -> None:
    from tilekit._plan import cut

    assert id(cut.AxisTiling) in documented()
    assert id(found) not in documented()
