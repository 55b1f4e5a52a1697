"""One run of a pipeline: what its steps share."""

from __future__ import annotations

from dataclasses import dataclass, field

from ltx_models.pipelines.callbacks import Callbacks
from ltx_models.pipelines.components import Components
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
    """

    components: Components
    request: Request
    callbacks: Callbacks = field(default_factory=Callbacks)
