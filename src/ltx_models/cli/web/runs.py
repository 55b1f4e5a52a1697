"""What is known of one run: asked for by the page, told by lines of JSON, remembered in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ltx_models.media import MediaError, replacing

State = Literal["waiting", "running", "done", "failed", "cancelled", "stopped"]
RECORD = "run.json"
OVER: frozenset[State] = frozenset({"done", "failed", "cancelled", "stopped"})


@dataclass(frozen=True, slots=True)
class Run:
    """
    One run of a verb.

    Attributes
    ----------
    name : str
        Of its folder.
    verb : str
        ``"generate"`` or ``"seams"``.
    title : str
        What it is about, in the user's words.
    flags : tuple of str
        After the verb; files are named relative to the folder of the run.
    state : str
        ``"waiting"``, ``"running"``, ``"done"``, ``"failed"``, ``"cancelled"``, or ``"stopped"`` where the process or
        the server was killed.
    phase : str
        Of the work.
    done, total : int
        Steps or frames of the phase.
    seconds_left : float or None
        Until the phase is over.
    peak_bytes : int or None
        Most memory of the process so far.
    seconds : float or None
        Wall time of the whole, when it is done.
    preview : str
        Name of the last preview.
    notes : tuple of str
        What the run said.
    error : str
        Why it ended before it was done.
    facts : mapping of str
        What else it told at its end.
    asked : mapping of str
        What was forecast.
    process : int
        That works on it, or did; 0 before.
    """

    name: str
    verb: str
    title: str
    flags: tuple[str, ...]
    state: State = "waiting"
    phase: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    peak_bytes: int | None = None
    seconds: float | None = None
    preview: str = ""
    notes: tuple[str, ...] = ()
    error: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    process: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in OVER


def told(run: Run, event: Mapping[str, Any]) -> Run:
    """
    Take a line of JSON of the run into account.

    Parameters
    ----------
    run : Run
        Before it.
    event : mapping
        As ``ltx-models VERB --json`` prints it.

    Returns
    -------
    Run
        After it.

    Examples
    --------
    >>> run = Run("a", "generate", "a circle", ())
    >>> told(run, {"event": "progress", "phase": "decode", "done": 8, "total": 33}).done
    8
    """
    kind = event.get("event")
    if kind == "progress":
        known = {
            name: event[name] for name in ("phase", "done", "total", "seconds_left", "peak_bytes") if name in event
        }
        return replace(run, **known)
    if kind == "note":
        return replace(run, notes=(*run.notes, str(event.get("text", ""))))
    if kind == "preview":
        return replace(run, preview=Path(str(event.get("path", ""))).name)
    measured = {name: event[name] for name in ("seconds", "peak_bytes") if name in event}
    return replace(run, facts={**run.facts, **{k: v for k, v in event.items() if k != "event"}}, **measured)


def write_run(folder: Path, run: Run) -> None:
    """
    Remember a run in its folder.

    Parameters
    ----------
    folder : Path
        Of the run.
    run : Run
        What is known of it.

    Raises
    ------
    MediaError
        If the place cannot be written.
    DiskError
        If the disk is full.
    """
    with replacing(folder / RECORD) as part:
        part.write_text(json.dumps(asdict(run), indent=1))


def read_run(folder: Path) -> Run | None:
    """
    Read what `write_run` wrote.

    Parameters
    ----------
    folder : Path
        Of the run.

    Returns
    -------
    Run or None
        None where there is no readable record.
    """
    try:
        values = json.loads((folder / RECORD).read_text())
        known = {one.name: values[one.name] for one in fields(Run) if one.name in values}
        return Run(**known | {"name": folder.name, "flags": tuple(known["flags"]), "notes": tuple(known["notes"])})
    except (OSError, ValueError, LookupError, TypeError):
        return None


__all__ = ["MediaError", "Run", "State", "read_run", "told", "write_run"]
