"""The commands that documents and scripts tell readers to type, as data."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "integrations").rglob("*.md")),
    *sorted((ROOT / "src").rglob("*.md")),
]
SCRIPTS = [path for folder in ("examples", "training", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
_BLOCK = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>[^>]+?) -->\s*\n\s*)?"
    r"^[ ]*```(?P<kind>console|sh|bash|shell)\n(?P<text>.*?)^[ ]*```",
    re.MULTILINE | re.DOTALL,
)
_TYPED = re.compile(r"^ {4}((?:[A-Z_]+=\S+ )*(?:python|ltx-models) .*?)(?: {3,}.*| +# .*)?$", re.MULTILINE)
_OPTIONAL = re.compile(r"[\[\]]|\.\.\.")


@dataclass(frozen=True)
class Block:
    """Commands that stand together, to be typed one after the other."""

    page: Path
    line: int
    commands: tuple[str, ...]
    reason: str | None
    """Why no test runs them, as the page says above them; None where one does."""

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Give the blocks of commands of a page."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        commands = tuple(_commands(match["text"], prompts=match["kind"] == "console"))
        found.append(Block(page, text.count("\n", 0, match.start("kind")) + 1, commands, match["reason"]))
    return found


def _commands(text: str, *, prompts: bool) -> Iterator[str]:
    """Give the commands of a block, without prompts, output, comments, and breaks of lines."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if prompts and not line.startswith("$ "):
            continue  # what was printed
        words = line.removeprefix("$ ") if prompts else line
        command = re.sub(r"(^|\s)#.*$", "", words).strip()
        if command:
            yield command


def of_docstring(script: Path) -> tuple[str, ...]:
    """Give the commands that the docstring of a script names, with all that stands in brackets."""
    docstring = re.match(r'(?:#!.*\n)?r?"""(.*?)"""', script.read_text(), re.DOTALL)
    return () if docstring is None else tuple(_whole(match[1]) for match in _TYPED.finditer(docstring[1]))


def _whole(command: str) -> str:
    """Fill a pattern of a command in: options that may be left out stay, of words to choose from the first does."""
    words = _OPTIONAL.sub(" ", command).split()
    return " ".join(word.partition("|")[0] for word in words)


def inline(page: Path) -> list[str]:
    """Give the commands of ``ltx-models`` that stand inside sentences and tables."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`(ltx-models(?: [^`]*)?)`", text)


def words_of(command: str) -> list[str]:
    """Split a command as a shell does, without variables that are set for it and without a launcher of processes."""
    words = shlex.split(command)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    if words[:1] in (["torchrun"], ["mlx.launch"]):
        start = next(k for k in range(len(words)) if words[k : k + 2] == ["-m", "ltx_models"])
        return ["ltx-models", *words[start + 2 :]]
    if words[:3] == ["python", "-m", "ltx_models"]:
        return ["ltx-models", *words[3:]]
    return words
