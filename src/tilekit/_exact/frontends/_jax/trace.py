"""From a function of JAX to a graph, with its weights as they are when it is called."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tilekit._errors import TraceError
from tilekit._exact.frontends import Traced
from tilekit._exact.frontends._jax.norms import norms
from tilekit._exact.frontends._jax.program import KEPT, Program
from tilekit._exact.frontends.looks import watched
from tilekit._exact.frontends.randomness import generators
from tilekit._exact.frontends.rewrite import copied
from tilekit._exact.graph import Graph
from tilekit._exact.ops import Constant

__all__ = ["trace"]

_REMEDY = "keep such state outside of the call and hand its numbers in, or call the function plainly"


def trace(function: Callable[[Any], Any], x: jax.Array) -> Traced:
    """
    Trace a function of one array.

    Parameters
    ----------
    function : callable
        A function, a method or a module of one array that gives one array. What it closes over are weights.
    x : jax.Array
        Of the shape and dtype that it is called with; its numbers do not matter.

    Returns
    -------
    Traced
        The graph. What is not understood, loops and branches that look at numbers among it, is one operation.

    Raises
    ------
    TraceError
        If the function draws random numbers of Python or NumPy, keeps state, calls back to Python, looks at numbers,
        or gives no single array.
    """
    state = _State(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
    return Traced(state.found.graph, state.constant, state.current)


@dataclass
class _Found:
    """What one trace gave."""

    graph: Graph
    known: dict[Hashable, Any]
    """Numbers of the function itself, by the keys of its constants."""
    weights: list[Any]
    arrays: dict[Hashable, jax.Array] = field(default_factory=dict)
    """What was made of numbers of NumPy."""

    def constant(self, key: Hashable) -> jax.Array:
        """Give the array of a `Constant`."""
        value = self.known[key] if key in self.known else self.weights[key[1]]  # type: ignore[index]
        if isinstance(value, jax.Array):
            return value
        if key not in self.arrays:
            self.arrays[key] = jnp.asarray(value)
        return self.arrays[key]

    def place(self, before: "_Found | None" = None) -> None:
        """Make arrays of JAX of what is known, as weights are before a call, or take those of a trace alike."""
        if before is not None:
            self.arrays.update((key, made) for key, made in before.arrays.items() if key in self.known)
        for node in self.graph.nodes:
            if isinstance(node.op, Constant) and node.op.key in self.known:
                self.constant(node.op.key)

    def same(self, other: "_Found") -> bool:
        """Whether another trace does the same; its weights may be others."""
        return (
            self.graph == other.graph
            and self.known.keys() == other.known.keys()
            and all(_equal(value, other.known[key]) for key, value in self.known.items())
        )

    def alike(self, other: "_Found") -> bool:
        """Whether another trace does the same with the same weights."""
        pairs = zip(self.weights, other.weights, strict=True)
        return self.same(other) and all(a is b or _equal(a, b) for a, b in pairs)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.extended):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


class _State:
    """What was found in a function; it is traced again at every call, so that its weights are those of now."""

    def __init__(self, function: Callable[[Any], Any], x: jax.ShapeDtypeStruct) -> None:
        self.function, self.x = function, x
        self.found = self._follow(self._watched)
        if not self.found.alike(self._follow()):
            msg = f"two calls of the function give two results (it counts, reads a clock, makes weights?); {_REMEDY}"
            raise TraceError(msg)
        self.found.place()

    def constant(self, key: Hashable) -> jax.Array:
        """Give the array of a `Constant`."""
        return self.found.constant(key)

    def current(self) -> bool:
        """Whether the function still is what was traced; its weights are taken anew."""
        found = self._follow()
        if not found.same(self.found):
            return False
        found.place(self.found)
        self.found = found
        return True

    def _follow(self, function: Callable[[Any], Any] | None = None) -> _Found:
        drawn = generators()
        with _explained():
            closed, result = jax.make_jaxpr(function or self._anew(), return_shape=True)(self.x)
        if generators() != drawn:
            msg = f"the function draws random numbers (of Python or NumPy); {_REMEDY}, or use jax.random with a key"
            raise TraceError(msg)
        _check(closed, result)
        program = Program(closed)
        builder, place = copied(program.builder, norms(program.builder), merging=True)
        return _Found(*builder.graph(place[program.output]), program.weights)

    def _anew(self) -> Callable[[Any], Any]:
        """Give another object each time: JAX remembers what it traced by the function."""

        def called(x: Any) -> Any:
            return self.function(x)

        return called

    def _watched(self, x: Any) -> Any:
        with watched(_looks, library="jax") as looks:
            made = self.function(x)
        if looks:
            raise looks[0]
        return made


_LOOKS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def _looks(error: BaseException) -> bool:
    return isinstance(error, _LOOKS)


def _check(closed: Any, result: Any) -> None:
    if not hasattr(result, "shape"):
        n = len(jax.tree.leaves(result))
        what = f"{n} arrays in a {type(result).__name__}" if n else f"a {type(result).__name__}"
        msg = f"the function gave {what}, expected one array; wrap it: lambda x: function(x)[0]"
        raise TraceError(msg)
    if closed.effects:
        names = ", ".join(sorted(str(effect) for effect in closed.effects))
        msg = (
            f"the function does more than compute ({names}: jax.debug.print, a callback?); take that out, or call the "
            "function plainly"
        )
        raise TraceError(msg)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except _LOOKS as error:
        msg = (
            "the function looks at the numbers of an array while it runs (an if, float(), np.asarray), so it does not "
            "do the same for every input; write it with jnp.where or jax.lax.cond, or give the number as one of Python"
        )
        raise TraceError(msg) from error
    except jax.errors.UnexpectedTracerError as error:
        raise TraceError(KEPT) from error
    except Exception as error:
        if type(error).__module__.startswith("flax") and "TraceContext" in type(error).__name__:
            msg = "the module writes to its own state (BatchNorm or Dropout in training); call model.eval() first"
            raise TraceError(msg) from error
        raise
