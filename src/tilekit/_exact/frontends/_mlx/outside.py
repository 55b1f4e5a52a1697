"""Where a call stands: within a function that is followed, or within a transform of MLX."""

import inspect
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from tilekit._errors import TraceError

__all__ = ["check_input", "following", "is_followed"]

_THREAD = threading.local()


@contextmanager
def following() -> Iterator[None]:
    """Let exact calls of this thread be plain ones: the function that makes them is followed."""
    before, _THREAD.inside = is_followed(), True
    try:
        yield
    finally:
        _THREAD.inside = before


def is_followed() -> bool:
    """Whether this thread follows a function."""
    return getattr(_THREAD, "inside", False)


def check_input(function: Callable[..., Any], x: mx.array) -> None:
    """
    Refuse an input, or a network's weights, of which MLX remembers what is made: gradients would be wrong.

    One weight is looked at that can be trained; all are within ``nn.value_and_grad``.

    Raises
    ------
    TraceError
        If the call stands within `mx.grad`, `mx.vmap`, `mx.compile` and the like.
    """
    if any(array.size and _is_transformed(array) for array in (x, *_weight(function))):
        name = getattr(function, "__qualname__", type(function).__qualname__)
        msg = f"{name}: the call stands inside a transform of MLX (grad, jvp, vmap, compile)"
        msg += "; transform the plain function, or call this one outside"
        raise TraceError(msg)


def _weight(function: Any) -> list[mx.array]:
    """Give a weight of the first network that a function is, or closes over."""
    held = inspect.getclosurevars(function).nonlocals.values() if inspect.isfunction(function) else ()
    owner = getattr(function, "__self__", function)
    network = next((thing for thing in (owner, *held) if isinstance(thing, nn.Module)), None)
    leaves = [] if network is None else tree_flatten(network.trainable_parameters())
    return [leaf for _, leaf in leaves[:1]]


def _is_transformed(x: mx.array) -> bool:
    """Whether MLX keeps what an array was made of after it is there, or makes none now."""
    cell = x.reshape(-1)[:1]
    try:
        mx.eval(cell)
    except ValueError:
        return True
    graph = io.StringIO()
    mx.export_to_dot(graph, cell)
    return "label" in graph.getvalue()
