"""Every command on every page: run here or by ``.ci/run``, or marked with why not; and understood in any case."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.commands import PAGES, ROOT, SCRIPTS, Block, blocks, inline, of_docstring, words_of

pytest.importorskip("av", reason="the command line needs the extra 'video'")

from ltx_models.cli import _parser, main

BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = [block for block in BLOCKS if block.reason is None]
TYPED = [(script, command) for script in SCRIPTS for command in of_docstring(script)]
# What runs here in less: the toy makes fewer and smaller frames, and nothing is measured at its full size.
LESS = {
    "generate": ("-n", "9", "-H", "64", "-W", "64"),
    "bench": ("--size", "64x64", "--frames", "9"),
    "reconstruct": ("--frames", "1"),
}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def names(block: Block) -> str:
    return block.name


def sessions_of(words: list[str]) -> list[str]:
    """Give the nox sessions that a command names: after ``nox -s`` or ``python3 run.py``."""
    named = words[2:]
    return named[: named.index("--")] if "--" in named else named


def understood(command: str) -> None:
    """Refuse a command that could not be typed so, whether or not a test runs it."""
    words = [word for word in words_of(command) if word != "..."]
    if words[0] == "ltx-models":
        if words[-1] != "--help" and words[1:] != ["--version"]:
            _parser().parse_args(words[1:])
    elif words[:2] in (["nox", "-s"], ["python3", "run.py"]):
        known = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
        assert {name.replace("-", "_") for name in sessions_of(words)} <= set(known)
    elif "pip" in words[0] or words[:3] == ["python", "-m", "pip"]:
        assert "tilekit-vae[" not in command, f"{command}: it is on no index yet; write '.[...]', in a clone"
        named = re.findall(r"\[([\w,]+)\]", command)
        assert {extra for group in named for extra in group.split(",")} <= set(EXTRAS)
    elif words[0] == "cp":
        assert (ROOT / words[-2]).exists()
    elif words[0] == ".ci/run":
        assert os.access(ROOT / words[0], os.X_OK)


def of_script(command: str) -> list[str] | None:
    """Give the arguments of a script of this project, from its own name on; None where it is another command."""
    words = [word for word in words_of(command) if word not in {"...", "&&"}]
    if words[0] != "python" or words[:3] == ["python", "-m", "pytest"]:
        return None
    module = ROOT.joinpath(*words[2].split(".")).with_suffix(".py") if words[1] == "-m" else ROOT / words[1]
    return words[1:] if module.exists() else None


@pytest.fixture(scope="session")
def answers() -> dict[str, str]:
    """What the parsers of all scripts say to the commands of all pages and docstrings, by command."""
    commands = [command for block in BLOCKS for command in block.commands] + [command for _, command in TYPED]
    asked = {command: words for command in commands if (words := of_script(command)) is not None}
    with_parser = {
        command: words
        for command, words in asked.items()
        if "argparse" in (ROOT / (words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0])).read_text()
    }
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "_parse_scripts.py")],
        input=json.dumps(list(with_parser.values())),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=ROOT,
    ).stdout
    return dict.fromkeys(asked, "") | dict(zip(with_parser, json.loads(told), strict=True))


@pytest.mark.parametrize("block", BLOCKS, ids=names)
def test_every_command_is_understood(block: Block) -> None:
    for command in block.commands:
        understood(command)


@pytest.mark.parametrize(("script", "command"), TYPED, ids=lambda one: str(getattr(one, "name", one)))
def test_scripts_understand_what_their_docstrings_say(script: Path, command: str, answers: dict[str, str]) -> None:
    arguments = of_script(command)
    if arguments is None:
        understood(command)
        return
    named = arguments[1].replace(".", "/") + ".py" if arguments[0] == "-m" else arguments[0]
    assert ROOT / named == script
    if answers[command].startswith("missing: "):
        pytest.skip(answers[command])
    assert answers[command] == ""


def test_scripts_understand_what_pages_say(answers: dict[str, str]) -> None:
    said = {f"{block.name}: {one}": answers.get(one, "") for block in BLOCKS for one in block.commands}
    assert {where: answer for where, answer in said.items() if answer and not answer.startswith("missing: ")} == {}


def by_ci(command: str) -> bool:
    """Say whether ``.ci/run`` runs a command: what README names, and three sessions."""
    ci, readme = ((ROOT / name).read_text() for name in (".ci/run", "README.md"))
    words = words_of(command)
    if words[:2] != ["python3", "run.py"]:
        return False
    in_loop = re.search(r"for session in ([\w -]+); do\n +part .* python3 run\.py", ci)
    assert in_loop is not None
    assert "sed -n 's/^\\$ \\(python3 run\\.py .*\\)$/\\1/p' README.md" in ci
    return f"$ {command}\n" in readme or set(words[2:]) <= set(in_loop[1].split())


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What readers have where they type: a clip, its latents, and a checkpoint."""
    import numpy as np

    from ltx_models import default_checkpoint, default_pipeline
    from ltx_models.media import write_video

    folder = tmp_path_factory.mktemp("typed")
    rows, columns = np.mgrid[:64, :96]
    frames = np.stack([np.sin((rows + columns + 3 * k) / 9) for k in range(17)])[None, None]
    write_video(folder / "clip.mp4", np.repeat(frames, 3, 1).astype(np.float32), fps=24)
    (folder / "ltx-2.safetensors").symlink_to(default_checkpoint())
    toy = default_pipeline() / "toy-distilled.safetensors"
    for name in ("ltx-2.3-22b-distilled-1.1", "ltx-2.3-22b-dev", "big"):
        (folder / f"{name}.safetensors").symlink_to(toy)
    assert main(["convert", str(toy), str(folder / "ltx-2.3-22b-dev-fp8.safetensors"), "--quantize", "fp8"]) == 0
    assert main(["encode", str(folder / "clip.mp4"), "-o", str(folder / "latents.safetensors")]) == 0
    return folder


@pytest.mark.parametrize("block", RUN, ids=names)
def test_what_is_not_marked_runs(
    block: Block, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one folder, one after the other; a command that no test can run is to be marked where it stands."""
    for needed in ("torch", "transformers", "skvideo", "matplotlib"):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    for file in files.iterdir():
        (tmp_path / file.name).symlink_to(file)
    for command in block.commands:
        words = words_of(command)
        if by_ci(command):
            continue
        assert words[0] == "ltx-models", f"{command}: nothing runs it; write <!-- not run: REASON --> above the block"
        for place in [tmp_path / words[k + 1] for k in range(len(words) - 1) if words[k] == "-o"]:
            place.unlink(missing_ok=True)  # a link to what is read elsewhere
        if words[2:] == ["--help"]:
            with pytest.raises(SystemExit, match="0"):
                main(["plan" if word == "VERB" else word for word in words[1:]])
        else:
            assert main([*words[1:], *LESS.get(words[1], ())]) == 0, (command, capsys.readouterr().err)


def test_marks_give_reasons_and_are_needed() -> None:
    for block in BLOCKS:
        if block.reason is not None:
            assert len(block.reason.split()) >= 3, block.name
            assert not all(map(by_ci, block.commands)), f"{block.name}: is run, and needs no mark"


def flags_of(verb: str) -> Iterator[str]:
    """Give the flags of a verb."""
    (verbs,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    for action in verbs.choices[verb]._actions:
        yield from action.option_strings


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_inside_sentences_name_verbs_and_flags_that_exist(page: Path) -> None:
    for command in inline(page):
        words = shlex.split(command)[1:]
        if not words or words[0] in {"VERB", "--version"}:
            continue
        known = set(flags_of(words[0]))
        assert {word for word in words if word.startswith("-")} <= known, command


def test_a_wrong_command_would_be_seen() -> None:
    for wrong in ("ltx-models decode", "ltx-models plan --sise 1x1", "nox -s nothing", "pip install '.[nothing]'"):
        with pytest.raises((SystemExit, AssertionError)):
            understood(wrong)
