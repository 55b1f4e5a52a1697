"""What users hand in and do around a call: the result is right, or the refusal says why."""

import copy
import functools
import importlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import tilekit
from tilekit import InputError, TraceError
from tilekit._errors import TilekitError

torch = pytest.importorskip("torch")

nn, F = torch.nn, torch.nn.functional
X = torch.randn(1, 4, 24, 16, generator=torch.Generator().manual_seed(0))


def convolutions() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1)).requires_grad_(False)


def agree(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("largest", [lambda x: x.abs().max(), lambda x: x.mean(), lambda x: x.norm()])
def test_a_single_number_of_all_cells_is_kept(largest: Any) -> None:
    net = convolutions()

    def scaled(x: Any) -> Any:
        return net(x / largest(x))

    cut = tilekit.exact(scaled, 20_000)
    agree(cut(X), scaled(X))
    agree(torch.cat([block for _, block in cut.stream(X)], cut.plan(X, stream=True).axis), scaled(X))


def replaced_memory(x: Any) -> Any:
    """Let a tensor show the memory of another, and write to both."""
    made = x.clone()
    before = made[:, :2]
    made.data = other = x * 2
    before.add_(5)
    other.mul_(3)
    return made + 1


def replaced_by_its_own(x: Any) -> Any:
    made = x + 1
    made.data = made.data.clamp(-1, 1)
    return made * 2


@pytest.mark.parametrize("function", [replaced_memory, replaced_by_its_own])
def test_a_tensor_may_be_given_the_memory_of_another(function: Any) -> None:
    agree(tilekit.exact(function, 20_000)(X), function(X))


def test_copies_are_followed() -> None:
    net = convolutions()

    def copies(x: Any) -> Any:
        return copy.deepcopy(net)(copy.deepcopy(x)) * 2

    agree(tilekit.exact(copies, 20_000)(X), net(X) * 2)


@functools.cache
def ramp(n: int) -> Any:
    return torch.arange(float(n))


def test_tables_that_are_made_once_are_left_to_plain_calls() -> None:
    net = convolutions()

    class Ramped(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
        def forward(self, x: Any) -> Any:
            return net(x) + ramp(x.shape[-1])

    got = tilekit.exact(Ramped(), 20_000)(X)
    agree(got, Ramped()(X))


def test_numbers_that_are_no_inputs_may_be_written_as_text() -> None:
    scale = torch.full((4, 1, 1), 0.5)

    def scaled(x: Any) -> Any:
        return x * float(f"{scale[0, 0, 0]:.1f}") * len(str(scale))

    agree(tilekit.exact(scaled)(X), scaled(X))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_writes_the_plain_call_into_graphs_of_its_own() -> None:
    net, other = convolutions(), X * 2
    call = tilekit.exact(net, 20_000)
    make_fx = importlib.import_module("torch.fx.experimental.proxy_tensor").make_fx
    graph = make_fx(lambda x: call(x) * 2)(X)
    agree(graph(other), net(other) * 2)
    agree(torch.jit.trace(lambda x: call(x) * 2, X, check_trace=False)(other), net(other) * 2)
    agree(torch.fx.symbolic_trace(lambda x: tilekit.exact(torch.tanh)(x) * 2)(other), other.tanh() * 2)


def in_threads(call: Callable[[int], object], number: int = 4) -> None:
    """Call in several threads at once, and raise what one of them raised."""
    errors: list[BaseException] = []

    def caught(i: int) -> None:
        try:
            call(i)
        except BaseException as error:  # of any kind; it is raised below
            errors.append(error)

    threads = [threading.Thread(target=caught, args=(i,), daemon=True) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for error in errors:
        raise error


def test_plain_calls_wait_while_another_thread_follows() -> None:
    gate = importlib.import_module("tilekit._exact.frontends._torch.gate").GATE
    call = importlib.import_module("tilekit._exact.frontends._torch.itself").Itself
    inside, order = threading.Event(), list[str]()

    def plain(x: Any) -> Any:
        order.append("called")
        return x

    def calls(i: int) -> None:
        if i:
            assert inside.wait(20)
            call(plain)([X])
            return
        with gate.alone():
            inside.set()
            time.sleep(0.05)
            order.append("followed")

    in_threads(calls, 2)
    assert order == ["followed", "called"]


def test_exact_calls_within_plain_calls_wait_for_no_one_that_waits_for_them() -> None:
    both = threading.Barrier(2, timeout=20)
    inner = convolutions()

    def outer(x: Any) -> Any:
        both.wait()
        return tilekit.exact(inner)(x)

    plainly = importlib.import_module("tilekit._exact.trace").plainly
    in_threads(lambda i: plainly(outer, X), 2)


def test_a_process_is_forked_after_a_function_was_followed() -> None:
    gate = importlib.import_module("tilekit._exact.frontends._torch.gate").Gate()
    order: list[str] = []

    def follows(i: int) -> None:
        with gate.alone():
            inside.set()
            time.sleep(0.05)
            order.append("followed")

    inside = threading.Event()
    thread = threading.Thread(target=follows, args=(0,))
    thread.start()
    inside.wait()
    gate.hold_still()
    order.append("forked")
    gate.go_on()
    thread.join()
    assert order == ["followed", "forked"]
    gate.begin_anew()
    with gate.together(), gate.alone(), gate.together():
        pass


class Doubled(torch.overrides.TorchFunctionMode):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """Changes what a function of torch gives."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        return made * 2 if function is F.silu else made


def tripled(self: Any, x: Any = None, inplace: bool = False) -> Any:
    return (self if x is None else x) * 3


@pytest.mark.parametrize("memory_bytes", [None, 20_000])
def test_what_is_put_in_the_place_of_functions_of_torch_is_seen(
    memory_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = convolutions()
    call = tilekit.exact(net, memory_bytes)
    plain = net(X)
    agree(call(X), plain)
    with Doubled():
        agree(call(X), net(X))
        assert not torch.equal(net(X), plain)
    agree(call(X), plain)
    for place, name in ((F, "silu"), (nn.SiLU, "forward")):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, tripled)
            agree(call(X), net(X))
            assert not torch.equal(net(X), plain)
        agree(call(X), plain)


def test_a_compiled_function_leaves_exact_calls_as_they_are() -> None:
    net = convolutions()
    call = tilekit.exact(net, 20_000)

    def streamed(x: Any) -> Any:
        return torch.cat([block for _, block in call.stream(x)], 2) * 2

    for function in (lambda x: call(x) * 2, streamed):
        agree(torch.compile(function, backend="eager")(X), net(X) * 2)
    whole = torch.compile(lambda x: call(x) * 2, backend="eager", fullgraph=True)
    with pytest.raises(RuntimeError, match="compile without fullgraph=True"):
        whole(X)


def biased(net: Any) -> None:
    net[2].bias.add_(1)


def another_layer(net: Any) -> None:
    net[2] = nn.Conv2d(8, 3, 3, padding=1)


def another_weight(net: Any) -> None:
    net[0].weight = nn.Parameter(net[0].weight * 2)


@pytest.mark.parametrize("change", [biased, another_layer, another_weight, None])
@pytest.mark.parametrize("source", [False, True])
def test_a_stream_is_refused_once_its_weights_or_its_input_change(change: Any, source: bool) -> None:
    net, x = convolutions(), X.clone()
    options: dict[str, Any] = {"axis": 2, "rows": 4} if source else {}
    call = tilekit.exact(net, None if source else 20_000)
    for moved in (False, True):
        blocks = call.stream(iter([x[:, :, :9], x[:, :, 9:]]) if source else x, **options)
        next(blocks)
        net.to(torch.device("cpu"))
        if not moved:
            assert list(blocks)
        elif change is not None:
            with torch.no_grad():
                change(net)
            with pytest.raises(TraceError, match=r"was changed while it went on.*begin it anew"):
                list(blocks)
        elif not source:
            x.zero_()
            with pytest.raises(TraceError, match="the input was changed while it went on"):
                list(blocks)
    net.eval()
    agree(call(X), net(X))


NONE: Any = []


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda net: tilekit.exact(net, offload=NONE), "offload: got"),
        (lambda net: tilekit.exact(net)(X, strips=NONE), "strips: got list, expected tilekit.Strips"),
        (lambda net: tilekit.exact(net).plan((1 << 20, 4, 1 << 20, 1 << 20)), "no array of shape"),
        (lambda net: list(tilekit.exact(net).stream(iter([X]), axis=2, rows=1 << 50)), "no array of shape"),
        (lambda net: tilekit.exact(net)(torch.nested.nested_tensor([X[0]])), "nested: several tensors"),
    ],
    ids=["offload", "strips", "plan", "rows", "nested"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_is_none_is_refused_with_what_is_expected(call: Any, text: str) -> None:
    with pytest.raises(TilekitError, match=text):
        call(convolutions())


def test_floats_of_8_bits_are_taken() -> None:
    net, small = convolutions(), X.to(torch.float8_e4m3fn)
    agree(tilekit.exact(lambda x: net(x.float()), 20_000)(small), net(small.float()))
    small[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        tilekit.exact(lambda x: net(x.float()))(small)


@pytest.mark.parametrize("name", ["changes", "_put_back"])
def test_a_network_that_is_followed_is_put_back_where_the_user_interrupts_that(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = importlib.import_module("tilekit._exact.frontends._torch.state").Snapshot
    plain, times = getattr(snapshot, name), list[int]()

    def interrupted(self: Any) -> Any:
        times.append(1)
        if len(times) == 1:
            raise KeyboardInterrupt
        return plain(self)

    net = convolutions()
    monkeypatch.setattr(snapshot, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        tilekit.exact(net, 20_000)(X)
    assert all(type(weight) is nn.Parameter for weight in net.parameters())
    agree(tilekit.exact(net, 20_000)(X), net(X))


def test_gradients_are_kept_again_where_the_user_interrupts_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    net, call = convolutions(), tilekit.exact(convolutions(), 20_000)
    call(X)

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch.no_grad, "__exit__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(X)
    assert torch.is_grad_enabled()
    agree(call(X), net(X))
