"""No public name is lost: ``public_names.txt`` lists them, and each must be found where it was."""

from importlib import import_module
from pathlib import Path

import pytest

NAMES = [line.partition(":")[::2] for line in (Path(__file__).parent / "public_names.txt").read_text().split()]


@pytest.mark.parametrize("module", sorted({module for module, _ in NAMES}))
def test_every_public_name_is_where_it_was(module: str) -> None:
    if module.startswith("ltx_models"):
        pytest.importorskip("torch")
    lost = [name for owner, name in NAMES if owner == module and not _found(module, name)]
    assert not lost, f"{module} no longer gives {', '.join(lost)}"


def _found(module: str, name: str) -> bool:
    value: object = import_module(module)
    for part in name.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


def test_a_lost_name_is_seen() -> None:
    assert _found("tilekit", "Plan.tiles")
    assert not _found("tilekit", "Plan.tilings")
