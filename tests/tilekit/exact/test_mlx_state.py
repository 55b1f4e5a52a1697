"""Functions of MLX that are no function of their input alone are refused; those that only remember are not."""

import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")
from mlx import nn  # noqa: E402
from tests.tilekit.exact._mlx_networks import seeded  # noqa: E402

import tilekit  # noqa: E402


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


@pytest.fixture
def x() -> Any:
    return mx.random.normal((1, 9, 7, 4), key=mx.random.key(1))


@pytest.mark.parametrize("name", impure())
def test_a_function_of_more_than_its_input_is_refused(name: str, x: Any) -> None:
    with pytest.raises(tilekit.TraceError, match=r"two results|random numbers") as refused:
        tilekit.exact(impure()[name])(x)
    assert "call the function plainly" in str(refused.value)


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


def test_a_number_that_the_user_changes_is_seen(x: Any) -> None:
    scale = [2.0]
    exact = tilekit.exact(lambda x: CONV(x) * scale[0])
    exact(x)
    scale[0] = 3.0
    assert mx.allclose(exact(x), CONV(x) * 3.0, atol=1e-6)
