"""A parser of arguments whose errors are one line, with the verb and what was probably meant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import Any, NoReturn

from ltx_models.cli.foreign import ours


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and who takes no part of a flag for all of it."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Guess a verb that is nearly right; all of them would be a long list."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            near = get_close_matches(value, action.choices, n=1, cutoff=0.6)
            guess = f"; did you mean {near[0]}?" if near else ""
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{guess}")
        super()._check_value(action, value)

    def parse_known_args(  # type: ignore[override]  # whose overloads tell apart namespaces that nobody here has
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, and refuse what is left over while it is known to which verb it was given."""
        parsed, left = super().parse_known_args(args, namespace)
        if left and self._subparsers is None:
            flags = [name for name in self._option_string_actions if name.startswith("--")]
            name = left[0].partition("=")[0]
            near = nearest(name, flags)
            known = ours(self.prog.rpartition(" ")[2], name, flags)
            guess = f"; here it is {known}" if known else f"; did you mean {near}?" if near else ""
            what = "there is no such flag" if name.startswith("-") else "nothing more is expected here"
            self.error(f"got {left[0]!r}, {what}{guess}")
        return parsed, left


def nearest(name: str, flags: Sequence[str], cutoff: float = 0.6) -> str:
    """Name the flags most like a name, as a whole or in one of their words; nothing where none is like it."""

    def likeness(flag: str) -> float:
        words = [word for word in flag.strip("-").split("-") if len(word) > 3]
        whole = SequenceMatcher(None, name, flag).ratio()
        return max([whole, *(0.95 * SequenceMatcher(None, name.strip("-"), word).ratio() for word in words)])

    scores = {flag: likeness(flag) for flag in flags}
    best = max(scores.values(), default=0.0)
    return " or ".join([flag for flag in flags if scores[flag] == best][:2]) if best >= cutoff else ""
