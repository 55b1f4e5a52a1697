"""
Record what a function does: every primitive of MLX with its arguments, computing nothing.

MLX hands them out through ``mx.export_function`` with a callback. The arrays that the function captures become inputs
of the trace, so that they keep their names, and lazy or random weights do not become part of it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from tilekit._errors import TraceError
from tilekit._exact.boxes import Shape
from tilekit._exact.frontends._mlx.captured import Captured, Place
from tilekit._exact.frontends._mlx.outside import following
from tilekit._exact.frontends._mlx.state import Contents
from tilekit._exact.frontends.looks import watched
from tilekit.backends._mlx_compile import PROBES, uncompiled

__all__ = ["Primitive", "Result", "Tape", "Unsupported", "random_constants", "record"]


class Unsupported(Exception):  # caught by the front end alone
    """A primitive that cannot be made again box by box."""

    def __init__(self, primitive: str, why: str) -> None:
        super().__init__(f"{primitive} ({why})")


@dataclass(frozen=True, slots=True)
class Result:
    """One array of the tape."""

    name: str
    shape: Shape
    dtype: str


@dataclass(frozen=True, slots=True)
class Primitive:
    """One operation of MLX: what `mx.export_function` says about it."""

    name: str
    arguments: tuple[Any, ...]
    inputs: tuple[str, ...]
    outputs: tuple[Result, ...]


@dataclass
class Tape:
    """A function's primitives in order."""

    inputs: list[Result] = field(default_factory=list)
    """What the function is called with, then what it captured."""
    constants: dict[str, mx.array] = field(default_factory=dict)
    primitives: list[Primitive] = field(default_factory=list)
    output: str = ""
    left: tuple[str, ...] = ()
    """What lies at the end where each captured array was put."""
    random_key: tuple[int, ...] = ()
    """What the global generator held: numbers drawn from it are no function of the input."""

    def note(self, event: dict[str, Any]) -> None:
        """Take one event of the export."""
        kind = event["type"]
        if kind == "inputs":
            self.inputs = [_result(row) for row in event["inputs"]]
        elif kind == "outputs":
            self.output, *left = (row[0] for row in event["outputs"])
            self.left = tuple(left)
        elif kind == "constants":
            self.constants.update(event["constants"])
        elif kind == "primitive":
            names = tuple(row[0] for row in event["inputs"])
            results = tuple(_result(row) for row in event["outputs"])
            self.primitives.append(Primitive(event["name"], tuple(event["arguments"]), names, results))


def _result(row: tuple[str, Sequence[int], Any]) -> Result:
    return Result(row[0], tuple(row[1]), str(row[2]).rpartition(".")[2])


def record(function: Callable[[Any], Any], x: mx.array, captured: Captured) -> Tape:
    """
    Record a function.

    Raises
    ------
    TraceError
        If the function is no function of one array that gives one array: it looks at numbers, keeps state, draws
        random numbers, or gives something else.
    Unsupported
        If MLX does not hand out one of its primitives.
    """
    places = [place for place in captured.places if place.write is not None]
    tape = Tape()

    def traced(x: mx.array, *weights: mx.array) -> list[mx.array]:
        with _placed(places, weights), _without_state(captured), following(), watched(_looks, PROBES) as looks:
            made, left = function(x), [*map(_left, places)]
        if looks:
            raise looks[0]
        return [_one_array(made), *left]

    with _guarded(tape):
        mx.export_function(tape.note, traced, x, *(place.read() for place in places))
    _refuse_writes(tape, places)
    return tape


def _left(place: Place) -> mx.array:
    try:
        value = place.read()
    except (LookupError, ValueError):  # it is no longer there
        value = None
    return value if isinstance(value, mx.array) else mx.array(0)


def _refuse_writes(tape: Tape, places: Sequence[Place]) -> None:
    """Refuse a function that puts another array where it found one, or writes into it."""
    _, *given = tape.inputs
    for place, was, now in zip(places, given, tape.left, strict=True):
        if was.name != now:
            msg = (
                f"the function keeps an array in {place.name}: its result depends on the calls before it; let it "
                "return the array, or switch to inference (module.eval())"
            )
            raise TraceError(msg)


def _one_array(result: Any) -> mx.array:
    if isinstance(result, mx.array):
        return result
    what = f"{len(result)} results" if isinstance(result, (tuple, list, dict)) else f"a {type(result).__name__}"
    msg = f"the function gave {what}, expected one array; wrap it: lambda x: function(x)[0]"
    raise TraceError(msg)


@contextmanager
def _placed(places: Sequence[Place], weights: Sequence[mx.array]) -> Iterator[None]:
    """Put the arrays of the trace where the function finds its own."""
    kept = [place.read() for place in places]
    try:
        for place, weight in zip(places, weights, strict=True):
            if place.write is not None:
                place.write(weight)
        yield
    finally:
        for place, weight in zip(places, kept, strict=True):
            if place.write is not None:
                place.write(weight)


@contextmanager
def _without_state(captured: Captured) -> Iterator[None]:
    """Refuse a function that leaves arrays of the trace behind, and put back what was there before it failed."""
    contents = Contents(captured)
    try:
        yield
        contents.refuse_arrays_of_a_trace()
    except BaseException:
        contents.restore()
        raise
    finally:
        contents.forget()


@contextmanager
def _guarded(tape: Tape) -> Iterator[None]:
    """Trace without compiled parts, on the stream whose primitives are the plainest, and say what fails."""
    with ExitStack() as stack:
        tape.random_key = stack.enter_context(_same_random_numbers())
        stack.enter_context(uncompiled())
        stack.enter_context(_without_hints())
        stack.enter_context(mx.stream(mx.cpu))
        try:
            yield
        except (ValueError, RuntimeError) as error:
            if isinstance(error, TraceError):
                raise
            _explain(error)
            raise


_LOOKS = (
    "the function looks at the numbers of an array while it runs (.item(), an if, np.array), so it "
    "does not do the same for every input; write it with mx.where, or give the number as a Python number"
)


def _looks(error: BaseException) -> bool:
    return isinstance(error, (ValueError, RuntimeError)) and "during function transformations" in str(error)


def _explain(error: Exception) -> None:
    text = str(error)
    if _looks(error):
        raise TraceError(_LOOKS) from error
    if "Unable to get state for primitive" in text:
        raise Unsupported(text.rpartition("primitive ")[2], "MLX does not hand it out") from error


@contextmanager
def _same_random_numbers() -> Iterator[tuple[int, ...]]:
    """Leave the global generator as it was."""
    state: Any = mx.random.state
    high, low = state[0].tolist()
    try:
        yield (high, low)
    finally:
        mx.random.seed((high << 32) | low)  # MLX makes a key of the two halves of a seed


@contextmanager
def _without_hints() -> Iterator[None]:
    """Leave out what changes no number and cannot be traced: when to compute, what to recompute, how to lie."""
    hints: dict[str, Callable[..., Any]] = {
        "eval": lambda *_: None,
        "async_eval": lambda *_: None,
        "contiguous": lambda x, *_, **__: x,
        "checkpoint": lambda function, *_: function,
    }
    kept = {name: getattr(mx, name) for name in hints}
    for name, hint in hints.items():
        setattr(mx, name, hint)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(mx, name, function)


def random_constants(tape: Tape) -> set[str]:
    """Give the constants that are the key of the global generator."""
    key = mx.array(tape.random_key, dtype=mx.uint32)
    return {name for name, value in tape.constants.items() if value.dtype == key.dtype and mx.array_equal(value, key)}
