"""The function as it is, as the one operation of a graph: what is done where no plan takes less than a plain call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tilekit._exact.frontends._torch.follow import Run, single
from tilekit._exact.frontends._torch.gate import GATE
from tilekit._exact.frontends._torch.record import uncompiled
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Input, Whole

__all__ = ["itself"]


@dataclass(frozen=True)
class Itself:
    """The user's own function, called on the whole input."""

    function: Callable[..., Any]

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Call it."""
        with GATE.together(), uncompiled():
            return single(self.function, self.function(arrays[0]))


def itself(function: Callable[..., Any], run: Run, graph: Graph) -> Graph | None:
    """
    Give the graph of one operation that calls the function.

    None where the function writes to its input, its weights or its objects, which a call of ours leaves alone; where
    it was not counted what it takes; and under autocast, which may be off at the next call.
    """
    held = run.paths()
    writes = any(x is run.input or id(x) in held for x in run.recorder.aliases.written)
    if run.peak is None or run.changes or writes or torch.is_autocast_enabled(run.input.device.type):
        return None
    source, output = graph.nodes[graph.input], graph.nodes[graph.output]
    call = Node(1, Whole("the plain call", Itself(function)), (0,), output.shape, output.dtype)
    return Graph((Node(0, Input(), (), source.shape, source.dtype), call), 0, 1)
