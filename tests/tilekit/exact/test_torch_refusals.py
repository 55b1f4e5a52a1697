"""What cannot be made exact is refused with the reason and the way out; what only looks so is not."""

import collections
import functools
import os
import pickle
import random
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from tests.tilekit.exact.test_torch_weights import Net, agree, evaluate

torch = pytest.importorskip("torch")

import tilekit  # noqa: E402  # after torch is known to be there
from tilekit._errors import TraceError  # noqa: E402
from tilekit._exact.frontends._torch import trace  # noqa: E402

nn, F = torch.nn, torch.nn.functional
X = torch.arange(72.0).reshape(1, 2, 6, 6) / 36 - 1
KEPT = torch.zeros(1)


class Counts(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """Gives something else at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x * self.calls


class Remembers(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """Adds what came before."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Any = None

    def forward(self, x: Any) -> Any:
        y = x if self.last is None else x + self.last
        self.last = x[:, :, -1:]
        return y


def keeps(x: Any) -> Any:
    KEPT.add_(1)
    return x + KEPT


def branches(x: Any) -> Any:
    return x * 2 if x.sum() > 0 else x


def clock() -> Iterator[float]:
    while True:
        yield time.perf_counter()


class Everywhere:
    """Holds what no module does."""

    calls = 0
    ticks = clock()
    generator = np.random.default_rng(0)
    noise = random.Random(0)


def counts_in_a_class(x: Any) -> Any:
    Everywhere.calls += 1
    return x * Everywhere.calls


def caught(look: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give a function that goes another way where a look at its input fails, which a plain call does not."""

    def looks(x: Any) -> Any:
        try:
            look(x)
        except Exception:  # whatever a stand-in raises
            return -x
        return x

    return looks


CLAMPED = nn.Conv2d(2, 2, 1)


def replaces(x: Any) -> Any:
    CLAMPED.weight.data = CLAMPED.weight.data.clamp(-0.1, 0.1)
    return CLAMPED(x)


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a branch that is caught": (caught(lambda x: bool(x.max() > 0)), "asks for the value of a tensor that depends on"),
    "a shape that is caught": (caught(lambda x: x.nonzero()), "makes an array whose shape depends on values"),
    "memory that is caught": (caught(lambda x: x.numpy()), "asks for the memory of a tensor"),
    "NumPy that is caught": (caught(np.asarray), "asks for the memory of a tensor"),
    "an address": (lambda x: x * (x.data_ptr() % 3), "asks for the memory of a tensor"),
    "memory as numbers": (caught(lambda x: x.untyped_storage().data_ptr()), "asks for the memory of a tensor"),
    "text": (lambda x: x * len(f"{x}"), "makes text of a tensor.*write its shape"),
    "text that is caught": (caught(repr), "makes text of a tensor"),
    "its class": (lambda x: x if type(x) is torch.Tensor else -x, "of the very class torch.Tensor.*ask isinstance"),
    "the name of its class": (lambda x: x * len(type(x).__name__), "of the very class torch.Tensor.*ask isinstance"),
    "its attributes": (lambda x: x * (1 + len(vars(x))), "of the very class torch.Tensor"),
    "pickle": (caught(pickle.dumps), "asks for the memory of a tensor"),
    "weights that are replaced": (replaces, "the call writes to weight"),
    "another memory of another shape": (caught(lambda x: setattr(x + 1, "data", x[0])), "another shape or dtype"),
    "memory of another library": (lambda x: torch.utils.dlpack.from_dlpack(x) * 2, "asks for the memory of a tensor"),
    "dropout": (nn.Dropout(0.5).train(), r"Dropout.*draws random numbers.*\.eval\(\)"),
    "noise": (lambda x: x + torch.randn_like(x), r"<lambda>.*draws random numbers \(randn_like\)"),
    "noise in place": (lambda x: x + torch.empty_like(x).normal_(), "draws random numbers"),
    "python's random": (lambda x: x * random.random(), "random numbers .of Python or NumPy"),
    "NumPy's random": (lambda x: x * np.random.rand(), "random numbers .of Python or NumPy"),  # noqa: NPY002
    "NumPy's normal": (lambda x: x * np.random.randn(), "random numbers .of Python or NumPy"),  # noqa: NPY002
    "a generator": (lambda x: x * Everywhere.generator.normal(), "two calls give two results"),
    "an array of noise": (
        lambda x: x + torch.from_numpy(Everywhere.generator.normal(size=(80, 80)))[:6, :6],
        "two calls give two results",
    ),
    "Python's generator": (lambda x: x * Everywhere.noise.random(), "two calls give two results"),
    "urandom": (lambda x: x * int.from_bytes(os.urandom(4), "big"), "two calls give two results"),
    "clock": (lambda x: x * time.perf_counter(), "two calls give two results"),
    "iterator": (lambda x: x * next(Everywhere.ticks), "two calls give two results"),
    "class": (counts_in_a_class, "two calls give two results"),
    "branch": (branches, r"test_torch_refusals.py:\d+, in branches asks for the value.*take the branch out"),
    "item": (lambda x: x * x.max().item(), "asks for the value of a tensor"),
    "nonzero": (lambda x: x[x > 0], "shape depends on values"),
    "training": (nn.BatchNorm2d(2).train(), r"writes to (running|num_batches).*\.eval\(\)"),
    "global": (keeps, "writes to"),
    "counter": (Counts(), r"keeps state \(calls\)"),
    "memory": (Remembers(), r"keeps state \(last\)"),
    "two results": (lambda x: (x, x + 1), "a tuple of 2 tensors, not one tensor.*sample"),
    "two named": (lambda x: {"a": x, "b": x + 1}, r"dict\(a, b\), not one tensor"),
    "none": (lambda x: None, "NoneType, not one tensor"),
    "number": (lambda x: x.shape[0], "int, not one tensor"),
    "numpy": (
        lambda x: torch.from_numpy(np.sqrt(x.numpy())),
        "asks for the memory.*stay with operations of torch",
    ),
    "wrong shape": (nn.Conv2d(3, 4, 1), "cannot be followed without running it.*see that the plain call works"),
    "no cells": (lambda x: x[:, :0], r"makes an array of shape \(1, 0, 6, 6\), which has no cells"),
    "beside a view": (lambda x: (x + 1)[:, 1].as_strided((3, 3), (2, 1), 0), "reads memory beside the cells"),
    "several in place": (lambda x: torch._foreach_neg_([x + 1]), "writes in place"),
    "not dense": (lambda x: x[0, 0].to_sparse(), "not dense .torch.sparse_coo"),
    "branches of torch": (
        lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)),
        "torch.ops.higher_order.cond runs functions",
    ),
    "lazy": (nn.LazyConv2d(3, 1), "has not seen an input yet"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name: str) -> None:
    function, text = REFUSED[name]
    with pytest.raises(TraceError, match=text):
        trace(function, X)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        ([1.0], "of type list, not a torch.Tensor"),
        (X.to_sparse(), "not dense"),
        (X.to("meta"), "meta device"),
        (X.clone().requires_grad_(), r"requires a gradient.*no_grad\(\)"),
        (nn.Parameter(X), "requires a gradient"),
    ],
    ids=["list", "sparse", "meta", "gradient", "parameter"],
)
def test_inputs_that_are_refused(x: Any, text: str) -> None:
    with pytest.raises(TraceError, match=text):
        trace(Net(), x)


def test_inputs_are_looked_at_in_every_call() -> None:
    """Where it was followed before too: it would give no gradient, and a wrong one to torch.func."""
    call = tilekit.exact(nn.Conv2d(2, 2, 1).requires_grad_(False))
    call(X)
    wanting = X.clone().requires_grad_()
    with pytest.raises(TraceError, match="requires a gradient"):
        call(wanting)
    with pytest.raises(TraceError, match="requires a gradient"):
        list(call.stream(wanting))
    with pytest.raises(TraceError, match="requires a gradient"):
        list(call.stream([wanting, X], axis=2))
    with pytest.raises(TraceError, match=r"transform of torch\.func"):
        torch.func.grad(lambda x: call(x).sum())(X)
    with torch.no_grad():
        assert not call(wanting).requires_grad


def test_transforms_are_refused() -> None:
    with pytest.raises(TraceError, match=r"transform of torch\.func"):
        torch.vmap(lambda x: trace(torch.sin, x))(X)


def test_scripted_modules_are_refused() -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        scripted = torch.jit.script(nn.Sequential(nn.ReLU()))
    with pytest.raises(TraceError, match=r"scripted module.*Python module"):
        trace(scripted, X)


def test_modules_of_torch_jit_trace_are_refused() -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        traced = torch.jit.trace(nn.Sequential(nn.ReLU()), X)
    with pytest.raises(TraceError, match=r"scripted module.*Python module"):
        trace(traced, X)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_quantised_layers_are_refused() -> None:
    net = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 4)), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(TraceError, match=r"whose values only C\+\+ knows"):
        trace(net.eval(), X)


class Scales:
    """Is called like a function, holds a tensor, and counts."""

    def __init__(self) -> None:
        self.scale = torch.full((6,), 0.5)

    def __call__(self, x: Any) -> Any:
        return torch.sin(x) * self.scale


def test_objects_that_are_called_get_their_tensors_back() -> None:
    scales = Scales()
    scale = scales.scale
    traced = trace(scales, X)
    assert scales.scale is scale
    agree(scales, traced)
    scales.scale = torch.full((6,), 2.0)
    agree(scales, traced)


def test_weights_of_another_kind_are_refused() -> None:
    class Odd(torch.Tensor):  # type: ignore[misc, name-defined]  # torch comes by importorskip
        pass

    net = Net()
    net.first.weight = nn.Parameter(net.first.weight.detach().as_subclass(Odd))
    with pytest.raises(TraceError, match=r"weight first\.weight is a .* tensor of type Odd"):
        trace(net, X)


def test_weights_on_the_meta_device_are_refused() -> None:
    net = Net()
    traced = trace(net, X)
    net.first.weight = nn.Parameter(net.first.weight.to("meta"))
    with pytest.raises(TraceError, match="meta"):
        agree(net, traced)


def test_randomness_that_the_result_does_not_read_is_allowed() -> None:
    def function(x: Any) -> Any:
        torch.randn(3)
        return x * 2

    agree(function, trace(function, X))


def test_caches_are_allowed_where_they_change_nothing() -> None:
    class Cached(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
        def __init__(self) -> None:
            super().__init__()
            self.table: Any = None
            self.seen: list[int] = []

        def forward(self, x: Any) -> Any:
            if self.table is None:
                self.table = torch.arange(x.shape[-1]) * 2.0
            self.seen = [x.shape[0]]
            return x + self.table

    net = Cached()
    traced = trace(net, X)
    assert net.table is None
    assert net.seen == []
    agree(net, traced)
    agree(net, traced)


def test_writes_on_the_input_stay_inside() -> None:
    def function(x: Any) -> Any:
        x.mul_(3)
        x[:, :, 1:3] += 1
        return x

    x = X.clone()
    traced = trace(function, x)
    assert "writes to its input" in traced.notes[0]
    assert torch.equal(x, X)
    torch.testing.assert_close(evaluate(function, traced, x), function(X.clone()))
    assert torch.equal(x, X)


class Registry(dict[str, float]):
    """A table with a way of its own to be asked, as transformers has one."""

    def __setitem__(self, key: Any, value: float) -> None:
        super().__setitem__(type(key).__name__, value)

    def get(self, key: Any) -> float:  # type: ignore[override]  # that is the point
        return super().get(type(key).__name__, 0.0)


REGISTRY = Registry(Tensor=2.0)
KINDS = list[int]


def test_tables_with_ways_of_their_own_are_left_as_they_are() -> None:
    def function(x: Any) -> Any:
        REGISTRY[1] = 3.0
        return x * REGISTRY.get(1) + len(KINDS([1, 2]))

    agree(function, trace(function, X))
    del REGISTRY["int"]
    trace(function, X)
    assert dict(REGISTRY) == {"Tensor": 2.0}


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict, types.SimpleNamespace])
def test_one_tensor_under_a_name_is_the_result(kind: Any) -> None:
    net = Net()

    def named(x: Any) -> Any:
        return kind(out=net(x))

    with torch.no_grad():
        torch.testing.assert_close(evaluate(named, trace(named, X), X), net(X))


def test_gradients_of_weights_alone_are_no_reason() -> None:
    net = Net()
    agree(net, trace(net, X))
    with torch.no_grad():
        trace(net, X.clone().requires_grad_())


TABLES: dict[int, Any] = {}


@functools.lru_cache
def table(n: int) -> Any:
    return torch.arange(float(n))


class Tables(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    shared: ClassVar[dict[int, Any]] = {}

    def forward(self, x: Any) -> Any:
        n = x.shape[-1]
        for tables in (TABLES, self.shared):
            if n not in tables:
                tables[n] = torch.arange(float(n))
        return x + table(n) + TABLES[n] + self.shared[n]


def test_tables_made_on_the_way_are_left_to_the_plain_call() -> None:
    net = Tables()
    traced = trace(net, X)
    assert not TABLES
    assert not net.shared
    assert table.cache_info().currsize == 0
    agree(net, traced)
    agree(net, trace(net, X))
    assert type(table(6)) is torch.Tensor


def test_what_other_threads_make_is_refused() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1)

    def in_a_thread(x: Any) -> Any:
        made: list[Any] = []
        thread = threading.Thread(target=lambda: made.append(conv(x)))
        thread.start()
        thread.join()
        return made[0] * 2

    with pytest.raises(TraceError, match=r"in another thread.*call the function plainly"):
        trace(in_a_thread, X)
