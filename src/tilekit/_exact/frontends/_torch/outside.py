"""Whether somebody follows what calls a function: this engine, or torch, which writes a graph of it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from tilekit._exact.frontends._torch.gate import GATE
from tilekit._exact.frontends._torch.record import Recorder

__all__ = ["is_followed", "plainly"]

_PROXIES = "torch.fx.experimental.proxy_tensor"


def is_followed() -> bool:
    """Whether operations are written down now, so that the plain call is meant."""
    modes = _get_current_dispatch_mode_stack()
    return torch._C._is_tracing() or any(isinstance(m, Recorder) or type(m).__module__ == _PROXIES for m in modes)


def plainly(function: Callable[..., Any], x: Tensor) -> Any:
    """Call a function as it is, while no other thread follows one through its modules."""
    with GATE.together():
        return function(x)
