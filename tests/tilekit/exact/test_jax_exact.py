"""`exact` of functions of JAX: the plain call's numbers, in the memory that was said."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402
from tests.tilekit.exact._jax_functions import FUNCTIONS, numbers  # noqa: E402
from tests.tilekit.exact._jax_networks import LAST, NETWORKS  # noqa: E402

import tilekit  # noqa: E402
from tilekit._exact.kernels._jax import JaxKernels  # noqa: E402


def error(a: Any, b: Any) -> float:
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return float(np.abs(a - b).max() / np.abs(b).max())


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Count the bytes of the arrays that JAX holds, whenever an operation is done, over those of before."""
    before, run = _held(), JaxKernels.run
    peak = 0

    def watched(*given: Any) -> Any:
        nonlocal peak
        made = run(*given)
        peak = max(peak, _held() - before)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(JaxKernels, "run", watched)
        yield lambda: peak


def _held() -> int:
    return sum(x.nbytes for x in jax.live_arrays())


@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_a_plain_call_is_enough_and_is_what_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, shape = NETWORKS[name]
    z = numbers(*shape)
    plain, exact = function(z), tilekit.exact(function)
    plan = exact.plan(z)
    with counted(monkeypatch) as peak:
        made = exact(z)
    assert isinstance(made, jax.Array)
    assert made.dtype == plain.dtype
    assert error(made, plain) <= 1e-5
    assert peak() == pytest.approx(plan.peak_bytes, rel=0.1)
    assert plan.work <= 1.3


def test_a_stream_gives_the_blocks_in_order() -> None:
    function, shape = NETWORKS["causal"]
    z = numbers(*shape)
    exact, at, blocks = tilekit.exact(function), 0, []
    for start, block in exact.stream(z):
        assert start == at
        assert isinstance(block, jax.Array)
        at += block.shape[1]
        blocks.append(np.asarray(block))
    assert len(blocks) > 1
    assert error(np.concatenate(blocks, axis=1), function(z)) <= 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_as_near_to_float32_as_the_plain_call(dtype: str) -> None:
    function, shape = NETWORKS["decoder"]
    z = numbers(*shape).astype(dtype)
    plain, true, made = function(z), function(z.astype(jnp.float32)), tilekit.exact(function)(z)
    assert made.dtype == plain.dtype
    assert error(made, true) <= 1.5 * error(plain, true) + 1e-3


@pytest.mark.parametrize("place", ["host", "disk"])
def test_arrays_wait_elsewhere(place: Any) -> None:
    function, shape = NETWORKS["decoder"]
    z = numbers(*shape)
    least = tilekit.exact(function).plan(z).peak_bytes
    assert error(tilekit.exact(function, 2 * least // 3, offload=place)(z), function(z)) <= 1e-5


def test_a_budget_that_no_plan_meets_is_refused() -> None:
    function, shape = NETWORKS["causal"]
    with pytest.raises(tilekit.PlanError, match="memory_bytes"):
        tilekit.exact(function, 1000)(numbers(*shape))


def test_weights_that_change_are_seen() -> None:
    weights = {"w": numbers(3, 3, 4, 4)}

    def function(x: Any) -> Any:
        return jnp.tanh(lax.conv_general_dilated(x, weights["w"], (1, 1), "SAME", dimension_numbers=LAST))

    z, exact = numbers(1, 8, 6, 4), tilekit.exact(function)
    exact(z)
    weights["w"] = weights["w"] * -2
    assert error(exact(z), function(z)) <= 1e-5


def test_what_is_not_understood_runs_whole_and_the_plan_says_so() -> None:
    function, shape = FUNCTIONS["a branch"]
    x = numbers(*shape)
    exact = tilekit.exact(function)
    assert "cond" in str(exact.plan(x))
    assert error(exact(x), function(x)) <= 1e-6


def test_nan_is_refused_and_named() -> None:
    x = numbers(1, 6, 8, 8)
    with pytest.raises(tilekit.InputError, match=r"first/log .*gave NaN"):
        tilekit.exact(jax.named_call(lambda x: jnp.log(x) * 2, name="first"))(x)


def test_a_traced_array_is_refused() -> None:
    with pytest.raises(tilekit.BackendError, match=r"a traced array of jax\.jit"):
        jax.jit(tilekit.exact(jnp.sin))(numbers(4, 4))


def test_the_page_runs() -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "exact-jax.md"
    (block,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("function", [lambda x: x, lambda x: x.swapaxes(1, 2), lambda x: x.sum(), lambda x: x[:, 1:]])
def test_a_function_of_views_alone_gives_an_array(function: Any) -> None:
    x = numbers(1, 6, 8, 8)
    made = tilekit.exact(function)(x)
    assert isinstance(made, jax.Array)
    np.testing.assert_allclose(made, function(x), rtol=1e-5)


def test_a_network_said_by_hand_gives_an_array() -> None:
    weight, x = np.asarray(numbers(3, 4, 3, 3)), numbers(1, 4, 16, 8)

    def build(b: Any, z: Any) -> Any:
        return b.pointwise(jnp.tanh, b.conv(b.upsample(z, 2, axes=(2, 3)), jnp.asarray(weight), padding=1, name="conv"))

    network = tilekit.GraphFunction(build)
    assert isinstance(network(x), jax.Array)
    assert error(tilekit.exact(network)(x), network(x)) <= 1e-6
