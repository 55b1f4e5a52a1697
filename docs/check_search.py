"""Check that the search of the built documentation finds every public name and verb; exits 1 and lists the lost."""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.util.inventory import InventoryFile

from ltx_models.cli import _parser

PACKAGES = (
    "tilekit tilekit.norms tilekit.adapters tilekit.backends tilekit.testing ltx_models ltx_models.audio_vae "
    "ltx_models.autoencoder_kl ltx_models.clips ltx_models.conditioning ltx_models.convert ltx_models.media "
    "ltx_models.pipelines ltx_models.sampling ltx_models.text ltx_models.transformer ltx_models.upsampler "
    "ltx_models.video_vae ltx_models.vocoder"
)


def wanted() -> set[str]:
    """Give the public names as readers type them into the search: without their packages."""
    modules = [import_module(package) for package in PACKAGES.split()]
    named = {name for module in modules for name in module.__all__ if not isinstance(getattr(module, name), ModuleType)}
    return {name for name in named if not _alias(modules, name)}


def _alias(modules: list[ModuleType], name: str) -> bool:
    """Say whether a name is one of types alone, such as a choice of words, that annotations show in full."""
    values = [getattr(module, name) for module in modules if name in module.__all__]
    return all(type(value).__module__ == "typing" for value in values)


def found(html: Path) -> set[str]:
    """Give the last words of all names of objects that the search knows and other projects can link to."""
    text = (html / "searchindex.js").read_text()
    index: dict[str, Any] = json.loads(text.removeprefix("Search.setIndex(").rstrip().rstrip(")"))
    searched = {entry[-1] for entries in index["objects"].values() for entry in entries}
    inventory = InventoryFile.loads((html / "objects.inv").read_bytes(), uri="").data
    linked = {name.rpartition(".")[2] for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    flags = set(inventory.get("std:cmdoption", {}))
    return (searched & linked) | flags


def verbs() -> set[str]:
    """Give each verb with its first flag, as the inventory names it."""
    (action,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {f"ltx-models-{verb}.--help" for verb in action.choices}


def main(html: Path) -> int:
    """Print what is lost."""
    lost = sorted((wanted() | verbs()) - found(html))
    for name in lost:
        print(f"the search does not find {name}: put it onto a page of docs/reference")
    print(f"{len(wanted())} public names and {len(verbs())} verbs searched for, {len(lost)} not found")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
