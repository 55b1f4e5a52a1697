"""Which front end follows functions of which array library."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from tilekit._errors import BackendError
from tilekit._exact.chain import chained
from tilekit._exact.frontends import Traced
from tilekit._exact.graph_function import GraphFunction
from tilekit._exact.simplify import turned
from tilekit.backends import Array, backend_of
from tilekit.backends.limits import Limits, pretended

__all__ = ["is_stand_in", "plainly", "refuse_input", "trace"]

_MODULES = {name: f"tilekit._exact.frontends._{name}" for name in ("jax", "mlx", "torch")}


def trace(function: Callable[..., Any], x: Array) -> Traced:
    """
    Follow a function of one array.

    Parameters
    ----------
    function : callable
        Of one array of JAX, MLX or torch, which gives one; or a `GraphFunction`.
    x : array
        Says the library, the shape, the dtype and the device; its numbers are not used.

    Returns
    -------
    Traced
        The function as a graph.

    Raises
    ------
    BackendError
        If functions of this library cannot be followed.
    TraceError
        If this function cannot be.
    """
    traced = _followed(function, x)
    lies = backend_of(x).name == "mlx"  # its weights lie as its channels do: last or not
    graph = chained(traced.graph if lies else turned(traced.graph))
    return replace(traced, graph=replace(graph, counted=traced.plain_bytes))


def is_stand_in(x: Array) -> bool:
    """Whether somebody follows what calls the function with an array, which may have no numbers."""
    if type(x).__module__ in {"torch._subclasses.fake_tensor", "torch.fx.proxy"}:
        return True
    library = type(x).__module__.partition(".")[0]
    return library in {"mlx", "torch"} and bool(import_module(_MODULES[library]).is_followed())


def plainly(function: Callable[..., Any], x: Array) -> Any:
    """Call a function as it is, while no other thread follows it."""
    return import_module(_MODULES["torch"]).plainly(function, x) if backend_of(x).name == "torch" else function(x)


def refuse_input(function: Callable[..., Any], x: Array) -> None:
    """
    Refuse an input for which the function is not followed, also where it was followed for others like it.

    Raises
    ------
    TraceError
        If it wants a gradient, say, which tiles do not keep.
    """
    library = backend_of(x).name
    if library == "mlx" or (library == "torch" and not isinstance(function, GraphFunction)):
        import_module(_MODULES[library]).check_input(function, x)


def _followed(function: Callable[..., Any], x: Array) -> Traced:
    """Let the front end of the array's library follow the function."""
    if isinstance(function, GraphFunction):
        return function.trace(x)
    name = backend_of(x).name
    if name not in _MODULES:
        msg = (
            f"functions of {name} arrays cannot be followed, only those of {', '.join(sorted(_MODULES))}; "
            "say the network by hand with tilekit.GraphFunction"
        )
        raise BackendError(msg)
    with pretended(Limits()):  # layers that go around what a device gets wrong are followed as they are elsewhere
        traced: Traced = import_module(_MODULES[name]).trace(function, x)
    return traced
