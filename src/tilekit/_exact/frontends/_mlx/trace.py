"""From a function of MLX to a graph, with its weights where they are."""

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from tilekit._errors import TraceError
from tilekit._exact.frontends import Traced
from tilekit._exact.frontends._mlx.builder import Builder
from tilekit._exact.frontends._mlx.calls import PlainCall
from tilekit._exact.frontends._mlx.captured import Captured, Place
from tilekit._exact.frontends._mlx.patterns import simplify
from tilekit._exact.frontends._mlx.record import Primitive, Tape, Unsupported, random_constants, record
from tilekit._exact.frontends._mlx.repeat import Found, alike
from tilekit._exact.frontends._mlx.rules import lower
from tilekit._exact.frontends._mlx.state import Contents
from tilekit._exact.frontends.randomness import generators
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Constant, Input, Whole

__all__ = ["trace"]

REPEATS = 8
"""How often a function is followed again that writes to its objects: a counter may act every other time."""
_REMEDY = "keep such state outside of the call and hand its numbers in, or call the function plainly"
_LOCK = threading.RLock()
"""Arrays of a trace stand in modules while it is made."""


def trace(function: Callable[[Any], Any], x: mx.array) -> Traced:
    """
    Trace a function of one array.

    Parameters
    ----------
    function : callable
        A module (``mlx.nn.Module``), a method or a function of one array that gives one array.
    x : mlx.core.array
        Of the shape and dtype that it is called with; its numbers do not matter.

    Returns
    -------
    Traced
        The graph. Where a primitive cannot be made box by box, it is one operation: the plain call, with a note that
        names the primitive.

    Raises
    ------
    TraceError
        If the function draws random numbers, keeps state, looks at numbers, or gives no single array.
    """
    state = _State(function, x.shape, x.dtype)
    unknown = "; ".join(state.notes)
    return Traced(state.graph, state.constant, state.current, state.notes, unknown=unknown, own=state.own)


class _State:
    """What was found in a function; looked for again whenever it is used, which takes milliseconds."""

    def __init__(self, function: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> None:
        self.function, self.shape, self.dtype = function, shape, dtype
        self.notes: tuple[str, ...] = ()
        with _LOCK:
            try:
                self.found = self._look(None)
            except Unsupported as error:
                self.notes = (f"called as it is, because of the primitive {error}; what it takes is not known",)
                with _left_as_it_was(function):
                    self.found = Found(_plain(function, mx.zeros(shape, dtype=dtype)), {}, _no_weight)

    @property
    def graph(self) -> Graph:
        return self.found.graph

    def constant(self, key: Hashable) -> mx.array:
        """Give the array of a `Constant` as it is now."""
        with _LOCK:
            return self.found.constant(key)

    def own(self, key: Hashable) -> bool:
        """Whether the numbers of a `Constant` belong to the function itself."""
        return key in self.found.known

    def current(self) -> bool:
        """Whether the function still is what was traced; constants that it makes itself are taken anew."""
        if self.notes:
            return True  # the plain call is what the function is
        with _LOCK:
            try:
                found = self._look(self.found)
            except Unsupported:
                return False
        if found.graph != self.found.graph:
            return False
        self.found = found
        return True

    def _look(self, before: Found | None) -> Found:
        """Follow the function until two traces in a row give the same, the one before counted."""
        with _left_as_it_was(self.function) as contents:
            drawn = generators()
            found = self._follow()
            if before is None or not alike(before, found):
                self._repeat(found, contents)
            if generators() != drawn:
                msg = f"the function draws random numbers (of Python or NumPy); {_REMEDY}"
                raise TraceError(msg)
            return found

    def _repeat(self, found: Found, contents: Contents) -> None:
        """Follow the function again, and refuse it where it gives something else."""
        for _ in range(REPEATS):
            same = self._followed_again(found)
            written = contents.changed()
            if not same:
                what = f"it writes {', '.join(written[:5])}" if written else "a clock, a generator, an iterator?"
                msg = f"two calls of the function give two results ({what}); {_REMEDY}"
                raise TraceError(msg)
            if not written:
                return

    def _followed_again(self, found: Found) -> bool:
        """Whether the function does the same once more; what is left of the trace before has no numbers."""
        try:
            return alike(found, self._follow())
        except RuntimeError as error:
            if "without a primitive" not in str(error):
                raise
            return False

    def _follow(self) -> Found:
        captured = Captured(self.function)
        places = _by_name(captured)
        tape = record(self.function, mx.zeros(self.shape, dtype=self.dtype), captured)
        return Found(*_graph(tape, places), lambda key: places[key].read())


def _no_weight(key: Hashable) -> mx.array:
    raise KeyError(key)  # the plain call holds its own


@contextmanager
def _left_as_it_was(function: Callable[[Any], Any]) -> Iterator[Contents]:
    """Put back what the function writes while it is followed."""
    contents = Contents(Captured(function))
    try:
        yield contents
    finally:
        contents.restore()


def _by_name(captured: Captured) -> dict[Hashable, Place]:
    """Give the places of weights, each under a name of its own."""
    found: dict[Hashable, Place] = {}
    for place in captured.places:
        if place.write is not None:
            name, number = place.name, 1
            while name in found:
                number += 1
                name = f"{place.name} ({number})"
            found[name] = place
    return found


def _graph(tape: Tape, places: dict[Hashable, Place]) -> tuple[Graph, dict[Hashable, mx.array]]:
    builder = Builder()
    x, *weights = tape.inputs
    of = {x.name: builder.add(Input(), (), x.shape, x.dtype)}
    for weight, key in zip(weights, places, strict=True):
        of[weight.name] = builder.add(Constant(key), (), weight.shape, weight.dtype, str(key))
    used = dict.fromkeys(name for primitive in tape.primitives for name in primitive.inputs)
    for name in [*used, tape.output]:
        if name in tape.constants and name not in of:
            value = tape.constants[name]
            of[name] = builder.add(Constant(name), (), value.shape, str(value.dtype).rpartition(".")[2])
            builder.known[of[name]] = value
    _refuse_random_numbers(tape)
    for primitive in tape.primitives:
        made = _lowered(builder, primitive, [of[name] for name in primitive.inputs])
        of.update(zip((out.name for out in primitive.outputs), made, strict=True))
    simple, output = simplify(builder, of[tape.output])
    return simple.graph(output)


def _lowered(builder: Builder, primitive: Primitive, inputs: list[int]) -> list[int]:
    """Add a primitive, and check that its nodes are what MLX says."""
    before = len(builder.nodes)
    made = lower(builder, primitive, inputs)
    for index, out in zip(made, primitive.outputs, strict=True):
        node = builder.nodes[index]
        if node.shape != out.shape or node.dtype != out.dtype:
            given = f"with the arguments {primitive.arguments}: {node.shape}, {node.dtype}"
            why = f"{given} where MLX makes {out.shape}, {out.dtype}"
            raise Unsupported(primitive.name, why)
    name = _name(builder, inputs)
    for index in range(before, len(builder.nodes)):
        node = builder.nodes[index]
        builder.nodes[index] = Node(index, node.op, node.inputs, node.shape, node.dtype, name)
    return made


def _name(builder: Builder, inputs: list[int]) -> str:
    """Name a node by the module whose weight it reads, else by what it reads."""
    for index in inputs:
        node = builder.nodes[index]
        if isinstance(node.op, Constant) and index not in builder.known:
            return node.name.rpartition(".")[0]
    return next((builder.nodes[index].name for index in inputs if builder.nodes[index].name), "")


def _refuse_random_numbers(tape: Tape) -> None:
    reached = random_constants(tape)
    for primitive in tape.primitives:
        if reached.isdisjoint(primitive.inputs):
            continue
        if primitive.name == "RandomBits":
            msg = (
                "the function draws random numbers (dropout in training mode, noise), so it gives another result at "
                "every call; call module.eval(), or hand the noise in"
            )
            raise TraceError(msg)
        reached |= {out.name for out in primitive.outputs}


def _plain(function: Callable[[Any], Any], x: mx.array) -> Graph:
    """Give the graph of one operation that calls the function."""
    made = function(x)  # lazy: nothing is computed, only the shape is read
    dtypes = [str(array.dtype).rpartition(".")[2] for array in (x, made)]
    op = Whole("the plain call", PlainCall(function))
    return Graph((Node(0, Input(), (), x.shape, dtypes[0]), Node(1, op, (0,), made.shape, dtypes[1])), 0, 1)
