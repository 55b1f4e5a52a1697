"""What the server knows of its networks: which pipelines they make, and what a wish would take, before it runs."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from ltx_models.checkpoints import CheckpointError
from ltx_models.cli.generate_call import call_arguments, pipeline_of
from ltx_models.cli.generate_options import add_files, add_memory
from ltx_models.cli.machine import BACKENDS
from ltx_models.cli.progress import Progress
from ltx_models.cli.web.folder import VIDEO, Folder
from ltx_models.cli.web.wish import Wish, as_flags, generate_parser
from ltx_models.download import PIPELINES

CACHED = 8  # pipelines, of which each is headers alone


@dataclass(frozen=True, slots=True)
class Outlook:
    """
    What a wish would take.

    Attributes
    ----------
    width, height, frames : int
        Of the result.
    fps : float
        Frames a second.
    peaks : dict of str to int
        Expected most bytes of each step.
    decode : ExactPlan or DiffusionPlan
        How the decode is cut.
    notes : tuple of str
        What was moved, what is not used, and what the memory budget chose.
    """

    width: int
    height: int
    frames: int
    fps: float
    peaks: dict[str, int]
    decode: Any
    notes: tuple[str, ...]


class Desk:
    """
    The networks of a server.

    Parameters
    ----------
    args : Namespace
        Of ``ltx-models serve``, with the flags of networks and machine.
    folder : Folder
        Where results would be written.
    """

    def __init__(self, args: argparse.Namespace, folder: Folder) -> None:
        self._folder = folder
        self._parser = generate_parser()
        self._lock = Lock()
        self._pipes: OrderedDict[tuple[str, str, str], Any] = OrderedDict()
        self.network_flags = as_flags(self._parser, args, _network_names())
        self._first = pipeline_of(self._parser.parse_args(self._flags(args.pipeline)), print)
        self.default = str(self._first.recipe.name)
        self.lacking = self._lacking(args)
        self.choices = [name for name in PIPELINES if name not in self.lacking]
        self.backends = [name for name in BACKENDS if name != "auto" and find_spec(name) is not None]

    def _flags(self, pipeline: str | None) -> list[str]:
        return [*self.network_flags, *([f"--pipeline={pipeline}"] if pipeline else [])]

    @property
    def defaults(self) -> Any:
        """What the default pipeline uses unless told otherwise."""
        return self._first.defaults

    @property
    def backend(self) -> str:
        """The framework of the default pipeline."""
        return str(self._first.components.nn.name)

    def _lacking(self, args: argparse.Namespace) -> dict[str, str]:
        """Say of pipelines why the files on this machine do not make them; of a repository none is fetched to see."""
        source = args.transformer_path or args.checkpoint_path
        found: dict[str, str] = {}
        for name in PIPELINES if source is None or Path(source).exists() else ():
            try:
                pipeline_of(self._parser.parse_args(self._flags(name)), _silent)
            except (ValueError, CheckpointError, OSError) as error:
                found[name] = str(error)
        return found

    def flags(self, wish: Wish) -> list[str]:
        """
        Give all flags of a run that makes what is wished for.

        Parameters
        ----------
        wish : Wish
            What is asked for.

        Returns
        -------
        list of str
            Of ``ltx-models generate``, the files that it writes left out.
        """
        return [*self.network_flags, *wish.flags()]

    def outlook(self, wish: Wish) -> Outlook:
        """
        Check a wish, and forecast what it takes; no weights are read.

        Parameters
        ----------
        wish : Wish
            What is asked for.

        Returns
        -------
        Outlook
            Of the run.

        Raises
        ------
        ValueError
            If something does not fit; the text says what would.
        MediaError
            If a file cannot be read, or the folder cannot be written.
        """
        from ltx_models.pipelines import Call

        args = self._parser.parse_args(self.flags(wish))
        args.output_path = self._folder.root / VIDEO
        with self._lock:
            pipe = self._pipeline(args)
            call = Call.of(**call_arguments(args, pipe, Progress(as_json=False)) | {"preview": _no_picture})
            request, notes = pipe.prepare(call)
            peaks, plan = pipe.forecast(call), pipe.plan_decode(call)
        size = request.size
        chosen = () if pipe.memory is None else (str(pipe.memory),)
        return Outlook(size.width, size.height, size.frames, float(size.fps), peaks, plan, (*chosen, *notes))

    def _pipeline(self, args: argparse.Namespace) -> Any:
        key = (args.pipeline or "", args.backend, str(args.memory))
        if key not in self._pipes:
            self._pipes[key] = pipeline_of(args, _silent)
            while len(self._pipes) > CACHED:
                self._pipes.popitem(last=False)
        return self._pipes[key]


def draft(wish: Wish) -> Wish:
    """Give a wish of which the prompt may still be missing, with one in its place."""
    return wish if wish.prompt.strip() else replace(wish, prompt="a draft")


def _network_names() -> set[str]:
    """Name the values that say which networks run where; memory is a field of the form."""
    parser = argparse.ArgumentParser(add_help=False)
    add_files(parser)
    add_memory(parser)
    return {action.dest for action in parser._actions} - {"memory"}


def _no_picture(phase: str, step: int, picture: Any) -> None:
    """Stand for the previews that each run of the page writes."""


def _silent(text: str) -> None:
    """Say nothing."""
