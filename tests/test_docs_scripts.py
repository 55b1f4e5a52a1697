"""What the documentation makes of the sources: the page of all flags, and the check of its search."""

import argparse
import importlib.util
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="the command line needs the extra 'video'")

from ltx_models.cli import _parser

DOCS = Path(__file__).parents[1] / "docs"


def script(name: str) -> Any:
    """Load a script of the documentation."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_every_verb_and_every_flag() -> None:
    text = script("flags").text(_parser())
    (verbs,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    parts = text.split(".. program:: ltx-models ")[1:]
    assert [part.partition("\n")[0] for part in parts] == list(verbs.choices)
    for part, verb in zip(parts, verbs.choices.values(), strict=True):
        told = [line for line in part.splitlines() if line.startswith(".. option:: ")]
        for action in verb._actions:
            assert any(all(flag in line for flag in action.option_strings) for line in told), action
        assert part.count(".. option::") == len(verb._actions)
    assert "reference/flags" in (DOCS / "conf.py").read_text()


def test_marks_of_the_language_are_kept_as_they_are() -> None:
    parser = argparse.ArgumentParser(prog="p")
    verb = parser.add_subparsers().add_parser("v")
    verb.add_argument("--names", metavar="N", help="*.json | `a_` at %(default)s", default=3)
    text = script("flags").text(parser)
    assert ".. option:: --names N" in text
    assert r"\*.json \| \`a\_\` at 3." in text


def test_a_name_that_the_search_does_not_find_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    check = script("check_search")
    names = check.wanted()
    assert {"exact", "LTX2Pipeline", "decode_exact", "Tiling", "WAN_VIDEO", "enable_exact_tiling"} <= names
    assert len(names) > 200

    def built(kept: set[str]) -> None:
        index = {"objects": {"p": [[0, 0, 1, "", name] for name in sorted(kept)]}}
        (tmp_path / "searchindex.js").write_text(f"Search.setIndex({json.dumps(index)})")
        rows = [f"p.{name} py:class 1 a.html#$ -" for name in sorted(kept)]
        rows += [f"{verb} std:cmdoption 1 b.html#x -" for verb in check.verbs()]
        head = "# Sphinx inventory version 2\n# Project: p\n# Version: 1\n# The rest is compressed with zlib.\n"
        (tmp_path / "objects.inv").write_bytes(head.encode() + zlib.compress("\n".join(rows).encode() + b"\n"))

    built(names)
    assert check.main(tmp_path) == 0
    built(names - {"Tiling"})
    assert check.main(tmp_path) == 1
    assert "the search does not find Tiling:" in capsys.readouterr().out
