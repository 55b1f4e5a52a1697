"""What a function reads from around it is compared at each call, and numbers that it looks at are those there are."""

import collections
import contextvars
import ctypes
import enum
import fractions
import functools
import os
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilekit import exact

torch = pytest.importorskip("torch")

from tilekit._errors import TraceError  # noqa: E402  # after torch is known to be there
from tilekit._exact.frontends._torch import trace  # noqa: E402

nn, F = torch.nn, torch.nn.functional
X = torch.arange(24.0).reshape(1, 2, 3, 4) / 12 - 1
Made = tuple[Callable[[Any], Any], Callable[[], Any]]
"""A function, and what changes something that it reads."""


class Slots:
    """An object without a dict."""

    __slots__ = ("k",)

    def __init__(self) -> None:
        self.k = 2.0


class Kind(enum.Enum):
    A = 1
    B = 2


class Base:
    k = 2.0

    @staticmethod
    def times(x: Any) -> Any:
        return x * 2

    def __call__(self, x: Any) -> Any:
        return self.times(x) * self.k


class Object(Base):
    """Methods and a setting of the class below it."""


OBJECT = Object()


class Net(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    def __init__(self, function: Callable[[Any, Any], Any], **held: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


VARIABLE = contextvars.ContextVar("VARIABLE", default=2.0)
LIBRARY = types.ModuleType("library_of_the_test")
exec("SCALE = 2.0\ndef times(x): return x * SCALE", LIBRARY.__dict__)
TABLE = {"act": F.silu}


def helper(x: Any) -> Any:
    return TABLE["act"](x)


def deep() -> Made:
    options = types.SimpleNamespace(k=2.0)
    return Net(lambda m, x: x * m.c["a"][1]["b"].k, c={"a": [0, {"b": options}]}), lambda: setattr(options, "k", 3.0)


def held(value: Any, read: Callable[[Any], float], change: Callable[[Any], Any]) -> Made:
    return (lambda x: x * read(value)), lambda: change(value)


def setting(name: str, before: Any, after: Any, read: Callable[[Any], float]) -> Made:
    net = Net(lambda m, x: x * read(getattr(m, name)), **{name: before})
    return net, lambda: setattr(net, name, after)


def in_partial() -> Made:
    options = {"k": 2.0}
    return functools.partial(lambda x, options: x * options["k"], options=options), lambda: options.update(k=3.0)


def hooked() -> Made:
    net, state = nn.Sequential(nn.Conv2d(2, 2, 1)), {"k": 2.0}
    net[0].register_forward_hook(lambda m, given, made: made * state["k"])
    return net, lambda: state.update(k=3.0)


def nested() -> Made:
    k = 2.0

    def inner(x: Any) -> Any:
        def innermost(x: Any) -> Any:
            return x * k

        return innermost(x)

    def change() -> None:
        nonlocal k
        k = 3.0

    return inner, change


def wrapped() -> Made:
    state = [2.0]

    def wrap(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(function)
        def outer(x: Any) -> Any:
            return function(x) * state[0]

        return outer

    return wrap(lambda x: x + 1), lambda: state.append(state.pop() + 1)


def remade() -> Made:
    def function(x: Any) -> Any:
        return x * 2

    return function, lambda: setattr(function, "__code__", (lambda x: x * 3).__code__)


def patched(holder: Any, name: str, function: Callable[[Any], Any], value: Any) -> Callable[[pytest.MonkeyPatch], Made]:
    return lambda patch: (function, lambda: patch.setattr(holder, name, value))


def kept() -> Made:
    target = Object()
    return functools.partial(lambda seen, x: x * seen().k, weakref.ref(target)), lambda: setattr(target, "k", 3.0)


def looked(read: Callable[[Any], Any]) -> Made:
    weight = torch.arange(4.0)
    return (lambda x: x * read(weight)), lambda: weight.add_(1)


PLAIN: dict[str, Callable[[], Made]] = {
    "tables in a module": deep,
    "slots": lambda: held(Slots(), lambda v: v.k, lambda v: setattr(v, "k", 3.0)),
    "array of NumPy": lambda: held(np.ones(3), lambda v: float(v[1]), lambda v: v.fill(3)),
    "deque": lambda: held(collections.deque([1.0, 2.0]), lambda v: v[0], lambda v: v.rotate(1)),
    "set": lambda: held({"a"}, len, lambda v: v.add("b")),
    "user's dict": lambda: held(collections.UserDict(k=2.0), lambda v: v["k"], lambda v: v.update(k=3.0)),
    "bytes": lambda: held(bytearray(b"\2"), lambda v: v[0], lambda v: v.__setitem__(0, 3)),
    "number of C": lambda: held(ctypes.c_float(2), lambda v: v.value, lambda v: setattr(v, "value", 3)),
    "fraction": lambda: setting("k", fractions.Fraction(1, 2), fractions.Fraction(1, 3), float),
    "enum": lambda: setting("k", Kind.A, Kind.B, lambda kind: 2.0 if kind is Kind.A else 3.0),
    "keyword of partial": in_partial,
    "method of an object": lambda: (OBJECT.__call__, lambda: setattr(OBJECT, "k", OBJECT.k + 1)),
    "hook": hooked,
    "nested function": nested,
    "decorator": wrapped,
    "code": remade,
    "weak reference": kept,
    "item": lambda: looked(lambda w: w[3].item()),
    "numpy": lambda: looked(lambda w: torch.as_tensor(w.numpy() * 2)),
    "NumPy's functions": lambda: looked(lambda w: torch.as_tensor(np.sin(np.asarray(w)))),
    "dlpack": lambda: looked(lambda w: torch.from_dlpack(np.from_dlpack(w) * 2)),
    "list": lambda: looked(lambda w: torch.tensor(w.tolist())),
}
PATCHED: dict[str, Callable[[pytest.MonkeyPatch], Made]] = {
    "function": patched(F, "silu", lambda x: F.silu(x * 1), F.relu),
    "table of a helper": lambda patch: (helper, lambda: patch.setitem(TABLE, "act", F.relu)),
    "module": patched(LIBRARY, "SCALE", lambda x: LIBRARY.times(x * 1), 3.0),
    "base class": patched(Base, "k", Object(), 3.0),
    "static method": patched(Base, "times", Object(), staticmethod(lambda x: x * 3)),
    "environment": lambda patch: (
        (lambda x: x * float(os.environ.get("TILEKIT_TEST_SCALE", "2"))),
        lambda: patch.setenv("TILEKIT_TEST_SCALE", "3"),
    ),
    "attribute of a function": lambda patch: (helper_with_k, lambda: patch.setattr(helper_with_k, "k", 3.0)),
}


def helper_with_k(x: Any) -> Any:
    return x * getattr(helper_with_k, "k")  # noqa: B009  # read by its word, as settings are


helper_with_k.k = 2.0  # type: ignore[attr-defined]


def seen(function: Callable[[Any], Any], change: Callable[[], Any]) -> None:
    with torch.no_grad():
        before = function(X)
        traced = trace(function, X)
        assert traced.current()
        change()
        assert not torch.equal(function(X), before)
    assert not traced.current()


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_read_from_around_is_compared(name: str) -> None:
    seen(*PLAIN[name]())


@pytest.mark.parametrize("name", PATCHED)
def test_what_is_shared_with_others_is_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(*PATCHED[name](monkeypatch))


def test_context_variables_are_compared() -> None:
    function = lambda x: x * VARIABLE.get()  # noqa: E731
    traced = trace(function, X)
    assert traced.current()
    token = VARIABLE.set(3.0)
    try:
        assert not traced.current()
    finally:
        VARIABLE.reset(token)


def test_hooks_of_all_modules_are_compared() -> None:
    traced = trace(nn.Sequential(nn.Conv2d(2, 2, 1)), X)
    hook = nn.modules.module.register_module_forward_hook(lambda m, given, made: made * 3)
    try:
        assert not traced.current()
    finally:
        hook.remove()
    assert traced.current()


def test_tables_that_hold_themselves_are_compared() -> None:
    table: dict[str, Any] = {"k": 2.0}
    table["itself"] = [table]
    seen(lambda x: x * table["itself"][0]["k"], lambda: table.update(k=3.0))


@pytest.mark.parametrize("read", [lambda x: x.numpy(), np.asarray, lambda x: x.tolist(), np.from_dlpack])
def test_numbers_of_the_input_are_no_constants(read: Callable[[Any], Any]) -> None:
    with pytest.raises(TraceError, match=r"asks for the (value|memory) of a tensor"):
        trace(lambda x: x + torch.as_tensor(read(x.contiguous() * 1)), X)


@pytest.mark.parametrize("place", ["closure", "buffer", "made"])
def test_arrays_of_numpy_hold_the_numbers_that_there_are(place: str) -> None:
    from tests.tilekit.exact._pull import Pull

    weight = torch.arange(4.0)
    buffer = Net(lambda m, x: x * torch.as_tensor(m.w.numpy() * 2))
    buffer.register_buffer("w", weight)
    functions: dict[str, Callable[[Any], Any]] = {
        "closure": lambda x: x * torch.as_tensor(weight.numpy() * 2),
        "buffer": buffer,
        "made": lambda x: x * torch.as_tensor(torch.linspace(0, 6, 4).numpy()),
    }
    function = functions[place]
    traced = trace(function, X)
    box = tuple((0, n) for n in X.shape)
    torch.testing.assert_close(Pull(traced, X)(box), function(X))


def test_what_changed_without_effect_keeps_the_plan() -> None:
    settings = {"k": 2.0, "other": 1}
    call = exact(lambda x: x * settings["k"])
    plan = call.plan(X)
    settings["other"] = 2
    assert call.plan(X) is plan
    settings["k"] = 3.0
    torch.testing.assert_close(call(X), X * 3)
