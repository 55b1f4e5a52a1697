"""The flags of every verb as reStructuredText, from the parser itself: the page cannot fall behind."""

import argparse
import re
from collections.abc import Iterator

USUAL = {"options", "positional arguments"}  # the groups that argparse makes by itself


def text(parser: argparse.ArgumentParser) -> str:
    """Give a section for each verb, with each of its arguments and flags."""
    (verbs,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return "\n".join(line for name, verb in verbs.choices.items() for line in _verb(f"{parser.prog} {name}", verb))


def _verb(name: str, verb: argparse.ArgumentParser) -> Iterator[str]:
    title = name.rpartition(" ")[2]
    yield from (title, "-" * len(title), "", f".. program:: {name}", "", _escaped(verb.description or ""), "")
    for group in verb._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if actions and group.title not in USUAL:
            yield from (f".. rubric:: {_escaped((group.title or '').capitalize())}", "")
        for action in actions:
            yield from (f".. option:: {_signature(verb, action)}", "", f"   {_help(verb, action)}", "")


def _signature(verb: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Give an argument as it is typed."""
    formatter = verb._get_formatter()
    if not action.option_strings:
        return formatter._format_args(action, action.dest.upper()).strip("[]").replace(" ...", "...")
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    values = formatter._format_args(action, action.dest.upper())
    return ", ".join(f"{flag} {values}" for flag in action.option_strings)


def _help(verb: argparse.ArgumentParser, action: argparse.Action) -> str:
    said = verb._get_formatter()._expand_help(action) if action.help else "see above"
    return _escaped(f"{said[:1].upper()}{said[1:]}".rstrip(".") + ".")


def _escaped(said: str) -> str:
    """Keep what reStructuredText would take for marks."""
    return re.sub(r"([\\*`|_])", r"\\\1", " ".join(said.split()))
