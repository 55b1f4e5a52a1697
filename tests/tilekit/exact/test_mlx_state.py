"""Functions of MLX that are no function of their input alone are refused; those that only remember are not."""

import functools
import itertools
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")
from mlx import nn  # noqa: E402
from tests.tilekit.exact._mlx_networks import seeded  # noqa: E402

import tilekit  # noqa: E402
from tilekit import TraceError  # noqa: E402
from tilekit.backends._mlx_compile import probing  # noqa: E402


class Keeper(nn.Module):  # type: ignore[misc]  # mlx comes by importorskip
    """A convolution that keeps things between calls."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.count = 0
        self.table: Any = None
        self.log: list[int] = []

    def counted(self, x: Any) -> Any:
        self.count += 1
        return self.conv(x) * self.count

    def every_fourth(self, x: Any) -> Any:
        self.count += 1
        return self.conv(x) * (2 if self.count % 4 == 0 else 1)

    def first_otherwise(self, x: Any) -> Any:
        self.count += 1
        return self.conv(x) * (2 if self.count == 1 else 1)

    def counted_by_class(self, x: Any) -> Any:
        type(self).calls += 1
        return self.conv(x) * type(self).calls

    def logged(self, x: Any) -> Any:
        self.log.append(x.shape[0])
        self.count += 1
        return self.conv(x)

    def with_table(self, x: Any) -> Any:
        if self.table is None:
            self.table = mx.arange(x.shape[2])[:, None] * 0.5 + mx.array(np.arange(4.0, dtype=np.float32))
        return self.conv(x) * self.table


CONV = seeded(nn.Conv2d(4, 4, 3, padding=1))
GENERATOR, NUMBERS = np.random.default_rng(0), itertools.count(1)


def impure() -> dict[str, Callable[[Any], Any]]:
    keeper = seeded(Keeper())
    return {
        "counter": keeper.counted,
        "every fourth call": keeper.every_fourth,
        "first call": keeper.first_otherwise,
        "class": keeper.counted_by_class,
        "numpy": lambda x: CONV(x) * float(np.random.randn()),  # noqa: NPY002
        "branch by numpy": lambda x: CONV(x) if np.random.rand() < 2 else x,  # noqa: NPY002
        "generator": lambda x: CONV(x) * float(GENERATOR.normal()),
        "python": lambda x: CONV(x) * random.random(),
        "clock": lambda x: CONV(x) * (time.perf_counter_ns() % 1000),
        "iterator": lambda x: CONV(x) * next(NUMBERS),
    }


class Slotted:
    """Has places instead of a dict."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: Any = mx.zeros((1,))


KEPT: Any = None


def keeping() -> dict[str, Callable[[Any], Any]]:
    """Functions that keep an array: each where no dict of an object is."""
    slotted, line = Slotted(), deque([mx.zeros((1,))], maxlen=1)
    cell, inside, numbers = mx.zeros((1,)), mx.zeros((1,)), mx.ones((4,))

    def by_global(x: Any) -> Any:
        global KEPT  # noqa: PLW0603  # what is tested
        KEPT = CONV(x) if KEPT is None else CONV(x) + KEPT
        return KEPT

    def by_cell(x: Any) -> Any:
        nonlocal cell
        cell = cell * 0.5 + CONV(x)
        return cell

    def by_weight(x: Any) -> Any:
        nonlocal numbers
        made, numbers = CONV(x) * numbers, numbers * 2.0
        return made

    def in_place(x: Any) -> Any:
        inside[0] = inside[0] + 1.0
        return CONV(x) * inside

    def by_attribute(x: Any) -> Any:
        by_attribute.kept = CONV(x) + getattr(by_attribute, "kept", 0.0)  # type: ignore[attr-defined]
        return by_attribute.kept  # type: ignore[attr-defined]

    def by_slot(x: Any) -> Any:
        slotted.kept = CONV(x) + slotted.kept
        return slotted.kept

    def by_line(x: Any) -> Any:
        line.append(CONV(x) + line[0])
        return line[0] * 1.0

    return {f.__name__: f for f in (by_global, by_cell, by_weight, in_place, by_attribute, by_slot, by_line)}


@pytest.fixture
def x() -> Any:
    return mx.random.normal((1, 9, 7, 4), key=mx.random.key(1))


@pytest.mark.parametrize("name", impure())
def test_a_function_of_more_than_its_input_is_refused(name: str, x: Any) -> None:
    with pytest.raises(tilekit.TraceError, match=r"two results|random numbers") as refused:
        tilekit.exact(impure()[name])(x)
    assert "call the function plainly" in str(refused.value)


@pytest.mark.parametrize("name", keeping())
def test_a_function_that_keeps_an_array_is_refused_and_still_works(name: str, x: Any) -> None:
    function, plain = keeping()[name], keeping()[name]
    with pytest.raises(tilekit.TraceError, match=r"keeps an array|it writes"):
        tilekit.exact(function)(x)
    assert KEPT is None
    for _ in range(2 if name != "by_global" else 0):  # what it keeps is what it was
        assert mx.allclose(function(x), plain(x))


@pytest.mark.parametrize("look", [lambda x: x.max().item(), memoryview], ids=["item", "memoryview"])
def test_a_look_at_numbers_whose_refusal_is_caught_is_refused(x: Any, look: Callable[[Any], Any]) -> None:
    def function(x: Any) -> Any:
        try:
            look(x)
        except (ValueError, RuntimeError):
            return -x
        return x

    with pytest.raises(tilekit.TraceError, match="looks at the numbers"):
        tilekit.exact(function)(x)
    assert sys.gettrace() is None


def test_a_look_that_a_check_allows_is_no_obstacle_however_deep_it_is(x: Any) -> None:
    def largest(x: Any) -> float:
        return float(x.max().item())

    @probing
    def small(x: Any) -> bool:
        try:
            return largest(x) < 100
        except ValueError:
            return True

    def function(x: Any) -> Any:
        assert small(x)
        return CONV(x)

    assert mx.allclose(tilekit.exact(function)(x), CONV(x), atol=1e-6)


def test_a_cache_of_what_is_made_of_weights_holds_nothing_of_a_trace(x: Any) -> None:
    @functools.cache
    def table(n: int) -> Any:
        return CONV.weight[0, 0, 0] * n

    def function(x: Any) -> Any:
        return CONV(x) + table(3)

    assert mx.allclose(tilekit.exact(function)(x), function(x), atol=1e-6)


def test_the_refusal_names_what_is_written(x: Any) -> None:
    with pytest.raises(tilekit.TraceError, match=r"writes count"):
        tilekit.exact(seeded(Keeper()).counted)(x)


@pytest.mark.parametrize("name", ["logged", "with_table"])
def test_what_only_remembers_is_followed_and_left_as_it_was(name: str, x: Any) -> None:
    keeper = seeded(Keeper())
    exact = tilekit.exact(getattr(keeper, name))
    for _ in range(2):
        result = exact(x)
        assert (keeper.count, keeper.log, keeper.table) == (0, [], None)
    assert mx.allclose(result, getattr(keeper, name)(x), atol=1e-6)
    if name == "with_table":  # the plain call has filled it, and now it is a constant
        assert mx.allclose(exact(x), result, atol=1e-6)


INTEGERS = list[int]


def test_a_function_may_use_the_name_of_a_type_with_arguments(x: Any) -> None:
    """What such a name shows of its type cannot be written, so it is not put back."""

    def function(x: Any) -> Any:
        return x * sum(INTEGERS([1, 2]))

    assert mx.allclose(tilekit.exact(function)(x), 3 * x)


def test_a_number_that_the_user_changes_is_seen(x: Any) -> None:
    scale = [2.0]
    exact = tilekit.exact(lambda x: CONV(x) * scale[0])
    exact(x)
    scale[0] = 3.0
    assert mx.allclose(exact(x), CONV(x) * 3.0, atol=1e-6)


def summed(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda z: call(z).sum()


TRANSFORMS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "grad": lambda call, net, z: mx.grad(summed(call))(z),
    "jvp": lambda call, net, z: mx.jvp(call, (z,), (z,)),
    "vmap": lambda call, net, z: mx.vmap(call)(z[None]),
    "compile": lambda call, net, z: mx.compile(call)(z),
    "weights": lambda call, net, z: nn.value_and_grad(net, lambda net: call(z).sum())(net),
    "a stream": lambda call, net, z: mx.grad(lambda z: sum(block.sum() for _, block in call.stream(z)))(z),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_refused(name: str) -> None:
    """Gradients through pieces were wrong, and those of weights nothing."""
    mx.random.seed(0)
    net, z = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3)), mx.ones((1, 20, 12, 4))
    mx.eval(net.parameters())
    call = tilekit.exact(net, 20_000)
    want = net(z)
    for _ in range(2):
        with pytest.raises(TraceError, match=r"inside a transform of MLX.*transform the plain function"):
            TRANSFORMS[name](call, net, z)
        assert mx.allclose(call(z), want, atol=1e-5)


def test_an_exact_call_within_another_is_followed_through() -> None:
    net, z = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3)), mx.ones((1, 20, 12, 4))
    mx.eval(net.parameters())
    inner = tilekit.exact(net, 20_000)
    outer = tilekit.exact(lambda z: inner(z) * 2, 20_000)
    assert mx.allclose(outer(z), net(z) * 2, atol=1e-5)
    net.layers[0].weight = net.layers[0].weight * 2
    assert mx.allclose(outer(z), net(z) * 2, atol=1e-5)
