"""Weights are read when they are used, wherever they are by then; and the network is left as it was found."""

import copy
import functools
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.tilekit.exact._pull import Pull

from tilekit import exact
from tilekit._exact.boxes import full

torch = pytest.importorskip("torch")

from tilekit._errors import TraceError  # noqa: E402  # after torch is known to be there
from tilekit._exact.frontends._torch import trace  # noqa: E402

nn, F = torch.nn, torch.nn.functional


class Net(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """Weights of every sort: parameters, buffers, an attribute, tied ones, an option."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.second.bias = self.first.bias
        self.norm = nn.GroupNorm(2, 4)
        self.register_buffer("scale", torch.tensor(0.5))
        self.shift = torch.ones(4, 1, 1)
        self.slope = 0.1

    def forward(self, x: Any) -> Any:
        x = F.leaky_relu(self.first(x), self.slope)
        return self.norm(self.second(x)) * self.scale + self.shift


X = torch.arange(72.0).reshape(1, 2, 6, 6) / 36 - 1


def evaluate(function: Callable[[Any], Any], traced: Any, x: Any = X) -> Any:
    """Evaluate as `exact` does: with the trace as long as it holds."""
    if not traced.current():
        traced = trace(function, x)
    graph = traced.graph
    return Pull(traced, x)(full(graph.nodes[graph.output].shape))


def agree(function: Callable[[Any], Any], traced: Any, x: Any = X) -> None:
    with torch.no_grad():
        want = function(x)
    torch.testing.assert_close(evaluate(function, traced, x), want, rtol=1e-5, atol=1e-5)


def loaded(net: Any, assign: bool) -> None:
    other = {key: value + 1 for key, value in net.state_dict().items()}
    net.load_state_dict(other, assign=assign)


def replaced_parameter(net: Any) -> None:
    net.first.weight = nn.Parameter(torch.ones(4, 2, 3, 3))


def untied(net: Any) -> None:
    net.second.bias = nn.Parameter(torch.full((4,), 3.0))


def replaced_module(net: Any) -> None:
    net.first = nn.Sequential(nn.Conv2d(2, 4, 1), nn.SiLU())


def larger_kernel(net: Any) -> None:
    net.first = nn.Conv2d(2, 4, 5, padding=2)


def optimizer_step(net: Any) -> None:
    net(X).square().sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()


def changed_option(net: Any) -> None:
    net.slope, net.norm.eps = 0.3, 0.1


def changed_attribute(net: Any) -> None:
    net.shift = torch.full((4, 1, 1), -2.0)


def changed_buffer(net: Any) -> None:
    net.scale.fill_(4)


def hooked(net: Any) -> None:
    net.first.register_forward_hook(lambda module, args, out: out * 2)


def patched(net: Any) -> None:
    net.first.forward = lambda x: x.repeat(1, 2, 1, 1)


CHANGES = [
    functools.partial(loaded, assign=False),
    functools.partial(loaded, assign=True),
    *(replaced_parameter, untied, replaced_module, larger_kernel, optimizer_step, changed_option),
    *(changed_attribute, changed_buffer, hooked, patched),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: getattr(c, "__name__", str(getattr(c, "keywords", c))))
@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: lambda x: net(x) * 2, lambda net: net.forward])
def test_a_change_is_seen(change: Callable[[Any], None], wrap: Callable[[Any], Any]) -> None:
    net = Net()
    function = wrap(net)
    traced = trace(function, X)
    agree(function, traced)
    change(net)
    agree(function, traced)


def test_values_alone_need_no_new_trace() -> None:
    net = Net()
    traced = trace(net, X)
    for change in (functools.partial(loaded, assign=True), replaced_parameter, untied, changed_attribute):
        change(net)
        assert traced.current()
    changed_option(net)
    assert not traced.current()


def test_functional_call_is_seen() -> None:
    net = Net()
    weights = {name: value + 1 for name, value in net.named_parameters()}

    def function(x: Any) -> Any:
        return torch.func.functional_call(net, weights, (x,))

    traced = trace(function, X)
    agree(function, traced)
    weights["norm.weight"] = torch.full((4,), 7.0)
    agree(function, traced)


def test_a_copy_has_its_own_weights() -> None:
    net = Net()
    trace(net, X)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        replaced_parameter(other)
        agree(other, trace(other, X))
        agree(net, trace(net, X))
    torch.save(net, io.BytesIO())


def test_a_copy_of_exact_has_its_own_weights() -> None:
    evaluated = exact(Net())
    evaluated(X)
    for other in (copy.deepcopy(evaluated), pickle.loads(pickle.dumps(evaluated))):
        replaced_parameter(other.function)
        with torch.no_grad():
            torch.testing.assert_close(other(X), other.function(X), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(evaluated(X), evaluated.function(X), rtol=1e-5, atol=1e-5)


def test_the_network_is_left_as_it_was() -> None:
    net = Net()
    before = {key: (id(value), value.clone()) for key, value in net.state_dict(keep_vars=True).items()}
    x = X.clone()
    trace(lambda z: net(z.mul_(2)), x)
    assert torch.equal(x, X)
    for key, value in net.state_dict(keep_vars=True).items():
        assert id(value) == before[key][0]
        assert torch.equal(value, before[key][1])
    assert type(net.shift) is torch.Tensor


def test_a_failed_trace_leaves_the_network_as_it_was() -> None:
    net = Net()
    with pytest.raises(TraceError, match="cannot be followed"):
        trace(net, torch.zeros(1, 3, 6, 6))
    assert all(type(value) is nn.Parameter for value in net.parameters())
    agree(net, trace(net, X))


def test_a_number_read_from_a_weight_is_followed() -> None:
    net = Net()

    def function(x: Any) -> Any:
        return net(x) * float(net.scale)

    traced = trace(function, X)
    agree(function, traced)
    changed_buffer(net)
    assert not traced.current()
    agree(function, traced)


def test_indices_that_are_weights_are_followed() -> None:
    net = Net()
    net.register_buffer("order", torch.tensor([1, 0, 3, 2]))

    def function(x: Any) -> Any:
        return net(x)[:, net.order]

    traced = trace(function, X)
    agree(function, traced)
    net.order.copy_(torch.tensor([3, 3, 0, 1]))
    agree(function, traced)


def test_caught_tensors_are_read_when_used() -> None:
    weight = torch.ones(3, 2, 1, 1)
    table = {"w": torch.ones(3)}

    def function(x: Any) -> Any:
        return F.conv2d(x, weight, table["w"])

    traced = trace(function, X)
    weight.mul_(3)
    table["w"] = torch.full((3,), 5.0)
    assert traced.current()
    agree(function, traced)


def test_tensors_of_a_class_are_read_when_used() -> None:
    class Table(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
        values = torch.ones(6)

        def forward(self, x: Any) -> Any:
            return x * self.values

    net = Table()
    traced = trace(net, X)
    Table.values = torch.full((6,), 2.0)
    agree(net, traced)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_dtype(dtype: Any) -> None:
    net, x = Net().to(dtype), X.to(dtype)
    net.shift = net.shift.to(dtype)
    with torch.no_grad():
        want = net(x)
    made = evaluate(net, trace(net, x), x)
    assert made.dtype == dtype
    tolerance = {torch.bfloat16: 3e-2, torch.float16: 4e-3}.get(dtype, 1e-5)
    torch.testing.assert_close(made, want, rtol=tolerance, atol=tolerance)


def test_autocast_is_honoured() -> None:
    net = Net()
    traced = trace(net, X)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert not traced.current()
        traced = trace(net, X)
        want = net(X)
        made = evaluate(net, traced)
    assert made.dtype == want.dtype
    torch.testing.assert_close(made, want, rtol=3e-2, atol=3e-2)
    assert not traced.current()


@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")
def test_compiled_functions_are_followed_as_written() -> None:
    net = Net()
    compiled = torch.compile(net)
    want = net(X).detach()
    torch.testing.assert_close(evaluate(compiled, trace(compiled, X)), want, rtol=1e-5, atol=1e-5)
    function = torch.compile(lambda x: net(x) * 2)
    torch.testing.assert_close(evaluate(function, trace(function, X)), want * 2, rtol=1e-5, atol=1e-5)


class Settings:
    """What a network reads from around it."""

    def __init__(self) -> None:
        self.shift = 1.0


SETTINGS = Settings()


class Scaled(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    def forward(self, x: Any) -> Any:
        return x + SETTINGS.shift


def scaled(x: Any) -> Any:
    return x + SETTINGS.shift


@pytest.mark.parametrize("function", [Scaled(), nn.Sequential(Scaled()), scaled], ids=["module", "inner", "function"])
def test_settings_around_a_function_are_compared(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = trace(function, torch.zeros(1, 2, 4, 4))
    assert traced.current()
    monkeypatch.setattr(SETTINGS, "shift", 2.0)
    assert not traced.current()


def test_training_mode_is_compared() -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Dropout(0.5)).eval()
    traced = trace(net, torch.zeros(1, 2, 4, 4))
    assert traced.current()
    assert not (net.train() and traced.current())


def test_threads_may_follow_one_network() -> None:
    net, x = Net(), torch.randn(1, 2, 6, 6)
    made: list[Any] = []
    with torch.no_grad():
        want = net(x)

    def call() -> None:
        made.extend(exact(net)(x) for _ in range(4))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 16
    for got in made:
        torch.testing.assert_close(got, want)
