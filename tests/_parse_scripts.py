"""Let the parsers of scripts read commands, in a process of its own: prints what each says, as JSON."""

import argparse
import json
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
parse = argparse.ArgumentParser.parse_args


class Parsed(BaseException):
    """The arguments are understood, and the script must not begin."""


def parse_only(self: argparse.ArgumentParser, *given: Any, **named: Any) -> Any:
    """Parse, and end there."""
    parse(self, *given, **named)
    raise Parsed


def told(arguments: list[str]) -> str:
    """Say what a script makes of its arguments: nothing where they are understood."""
    said = StringIO()
    sys.argv = arguments
    module = arguments[0] == "-m"
    try:
        with redirect_stderr(said), redirect_stdout(StringIO()):
            if module:
                sys.argv = arguments[1:]
                runpy.run_module(arguments[1], run_name="__main__", alter_sys=False)
            else:
                runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
    except Parsed:
        return ""
    except ModuleNotFoundError as error:
        return f"missing: {error.name}"
    except SystemExit as stop:
        return f"exit {stop.code}: {said.getvalue()}"
    return "ran without parsing its arguments"


if __name__ == "__main__":
    argparse.ArgumentParser.parse_args = parse_only  # type: ignore[method-assign]
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "examples"), str(ROOT / "training")]
    answers = [told(arguments) for arguments in json.loads(sys.stdin.read())]
    print(json.dumps(answers))
