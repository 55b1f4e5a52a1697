"""One run of a pipeline: what its steps share."""

from __future__ import annotations

from dataclasses import dataclass, field

from ltx_models.pipelines.callbacks import Callbacks
from ltx_models.pipelines.components import Components
from ltx_models.pipelines.kept import KeptRun
from ltx_models.pipelines.request import Request


@dataclass(frozen=True, slots=True)
class Run:
    """
    What every step of a run needs.

    Attributes
    ----------
    components : Components
        The networks.
    request : Request
        What is generated.
    callbacks : Callbacks
        What is called on the way.
    kept : KeptRun or None
        Where finished work is kept, so that a run that is killed goes on.
    """

    components: Components
    request: Request
    callbacks: Callbacks = field(default_factory=Callbacks)
    kept: KeptRun | None = None
