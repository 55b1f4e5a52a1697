"""What a run must not have done: write to what it keeps, draw random numbers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tilekit._exact.frontends._torch.captured import dotted
from tilekit._exact.frontends._torch.follow import Run, check_kinds
from tilekit._exact.frontends._torch.record import Entry
from tilekit._exact.frontends._torch.refusals import STATE, refuse

__all__ = ["check_run"]


def check_run(function: Callable[..., Any], run: Run) -> None:
    """Refuse a function that gives something else at each call."""
    _check_writes(function, run)
    _check_alive(function, run)


def _check_writes(function: Callable[..., Any], run: Run) -> None:
    """Refuse what was written in place to weights, or to arrays that the function keeps; to the input it may."""
    paths = run.paths()
    for x in run.recorder.aliases.written:
        if id(x) in paths or type(x) is Tensor:
            name = dotted(paths[id(x)]) if id(x) in paths else "an array that it keeps"
            raise refuse(
                function,
                f"the call writes to {name}, so that the next call would give something else",
                f"call .eval() if a module is in training mode; else {STATE}",
            )


def _check_alive(function: Callable[..., Any], run: Run) -> None:
    """Refuse random numbers in the result, and weights that are no plain tensors."""
    for entry in run.alive():
        if _draws_numbers(entry):
            raise refuse(
                function,
                f"{entry.where or 'it'} draws random numbers ({entry.op._opname})",
                "call .eval() if a module is in training mode, hand the numbers in, or take the mode of a distribution",
            )
    check_kinds(function, run.stand_ins, run.recorder.called)


def _draws_numbers(entry: Entry) -> bool:
    """Whether an operation is random here; attention is so only with dropout."""
    if torch.Tag.nondeterministic_seeded not in entry.op.tags:
        return False
    given = dict(zip((a.name for a in entry.op._schema.arguments), entry.args, strict=False)) | entry.kwargs
    return "attention" not in entry.op._opname or bool(given.get("dropout_p"))
