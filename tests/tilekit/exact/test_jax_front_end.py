"""A function of JAX becomes a graph: a box pulled through it is the cut of the plain call, with the weights of now."""

import functools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402
from tests.tilekit.exact._jax_functions import FUNCTIONS, numbers  # noqa: E402
from tests.tilekit.exact._kinds import boxes  # noqa: E402
from tests.tilekit.exact._pull import Pull  # noqa: E402

from tilekit._errors import TraceError  # noqa: E402
from tilekit._exact.boxes import full, within  # noqa: E402
from tilekit._exact.frontends import Traced  # noqa: E402
from tilekit._exact.frontends._jax import trace  # noqa: E402
from tilekit._exact.ops import Moments, Pad, Pool, Reduce, Resample, Take, Whole  # noqa: E402

WHOLE = {"noise of a key", "a branch", "a loop of unknown length", "two results of one"}
"""What has no rule for boxes."""


def kinds(traced: Traced) -> set[type]:
    return {type(node.op) for node in traced.graph.nodes}


@functools.cache
def _traced(name: str) -> tuple[Traced, Any, Any]:
    function, shape = FUNCTIONS[name]
    x = numbers(*shape, seed=7)
    return trace(function, x), x, np.asarray(function(x))


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=2)
@given(data=st.data())
def test_a_box_is_the_cut_of_the_plain_call(name: str, data: st.DataObject) -> None:
    traced, x, plain = _traced(name)
    box = boxes(data.draw, plain.shape)
    made = np.asarray(Pull(traced, x)(box))
    assert made.dtype == plain.dtype
    wanted = plain[within(full(plain.shape), box)]
    scale = max(1.0, float(np.abs(plain).max()))
    assert float(np.abs(made.astype(np.float64) - wanted).max()) <= 4e-6 * scale


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_understood_and_stays_so(name: str) -> None:
    traced, _, _ = _traced(name)
    assert (Whole in kinds(traced)) == (name in WHOLE)
    assert traced.current()


# what patterns become ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pad, edge", Pad),
        ("pad, reflect", Pad),
        ("resize, nearest", Take),
        ("resize, linear", Resample),
        ("resize, cubic, channels first", Resample),
        ("largest pool, padded", Pool),
        ("group norm", Moments),
        ("group norm of planes", Moments),
        ("norm of a whole clip", Moments),
    ],
)
def test_what_is_understood_is_of_its_kind(name: str, kind: type) -> None:
    assert kind in kinds(_traced(name)[0])


@pytest.mark.parametrize("name", ["group norm", "group norm of planes", "norm of frames", "norm of a whole clip"])
def test_a_norm_reads_its_array_once(name: str) -> None:
    graph = _traced(name)[0].graph
    assert sum(isinstance(node.op, (Moments, Reduce)) and graph.live[node.index] for node in graph.nodes) == 1


def test_a_norm_of_every_position_is_no_statistic() -> None:
    assert Moments not in kinds(_traced("layer norm")[0])


# weights -------------------------------------------------------------------------------------------------------------


class Scaled:
    """A function that holds a weight, a table and a switch."""

    def __init__(self) -> None:
        self.weight = numbers(3, 3, 4, 4)
        self.table = np.arange(4.0, dtype=np.float32)
        self.loud = False

    def __call__(self, x: Any) -> Any:
        y = lax.conv_general_dilated(x, self.weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return (jnp.tanh(y) if self.loud else y) * self.table


def pulled(traced: Traced, x: Any) -> Any:
    return Pull(traced, x)(full(traced.graph.nodes[traced.graph.output].shape))


def test_weights_are_those_of_now() -> None:
    function, x = Scaled(), numbers(1, 6, 5, 4)
    traced = trace(function, x)
    function.weight = function.weight * 2 + 1
    assert traced.current()
    np.testing.assert_allclose(pulled(traced, x), function(x), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("change", [{"loud": True}, {"table": np.ones(4, np.float32)}, {"weight": numbers(1, 1, 4, 4)}])
def test_another_function_is_traced_again(change: dict[str, Any]) -> None:
    function, x = Scaled(), numbers(1, 6, 5, 4)
    traced = trace(function, x)
    vars(function).update(change)
    assert not traced.current()


def test_a_table_that_is_written_to_is_seen() -> None:
    function, x = Scaled(), numbers(1, 6, 5, 4)
    traced = trace(function, x)
    function.table[1] = 7
    assert not traced.current()


def test_what_is_compiled_keeps_the_weights_that_jax_keeps() -> None:
    held = [numbers(4)]
    function = jax.jit(lambda x: x * held[0])
    x = numbers(1, 3, 4, 4)
    before, traced = function(x), trace(function, x)
    held[0] = held[0] + 1
    assert traced.current()
    np.testing.assert_array_equal(function(x), before)
    np.testing.assert_allclose(pulled(traced, x), before, rtol=1e-6)


# refusals ------------------------------------------------------------------------------------------------------------

_COUNTS: list[int] = []
_KEPT: list[Any] = []


def _counting(x: Any) -> Any:
    _COUNTS.append(1)
    return x * len(_COUNTS)


def _keeping(x: Any) -> Any:
    _KEPT.append(x)
    return x + _KEPT[0]


def _printing(x: Any) -> Any:
    jax.debug.print("{}", x.sum())
    return x


def _called_back(x: Any) -> Any:
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def _catching(x: Any) -> Any:
    try:
        return x if x.sum() > 0 else -x
    except jax.errors.ConcretizationTypeError:
        return 2 * x


def test_places_are_rounded_as_the_compiler_rounds_them() -> None:
    def enlarged(x: Any) -> Any:
        return jax.image.resize(x, (1, 25), "nearest")

    x = numbers(1, 10)
    want = np.asarray(enlarged(x))
    with jax.disable_jit():
        assert not np.array_equal(np.asarray(enlarged(x)), want)
    traced = trace(enlarged, x)
    np.testing.assert_array_equal(np.asarray(Pull(traced, x)(full((1, 25)))), want)
    assert traced.current()


def _taking(cells: list[float]) -> Any:
    places = jax.jit(functools.partial(jnp.multiply, np.asarray(cells, np.float32), 1.0))
    return jax.jit(lambda x: jnp.take(x, jnp.floor(places()).astype(jnp.int32), axis=1))


def test_programs_of_one_text_have_places_of_their_own() -> None:
    x = numbers(1, 4, 6, seed=7)
    for cells in ([0.1, 1.2, 2.9, 3.1], [3.1, 0.2, 1.9, 2.1]):
        taken = _taking(cells)
        want = np.asarray(taken(x))
        np.testing.assert_array_equal(np.asarray(Pull(trace(taken, x), x)(full(want.shape))), want)


REFUSED = {
    "a branch that is caught": (_catching, "looks at the numbers"),
    "a branch of Python": (lambda x: x if x.sum() > 0 else -x, r"looks at the numbers .* jax\.lax\.cond"),
    "a number": (lambda x: x * float(x.mean()), "looks at the numbers"),
    "NumPy": (lambda x: x + np.sin(x), "looks at the numbers"),
    "a mask of numbers": (lambda x: x[x > 0], "looks at the numbers"),
    "a counter": (_counting, "two calls of the function give two results"),
    "the generator of Python": (lambda x: x + random.random(), r"draws random numbers .* jax\.random with a key"),
    "an array of a call before": (_keeping, "keeps an array of one call for the next"),
    "a print": (_printing, "calls back to Python|does more than compute"),
    "a callback": (_called_back, "calls back to Python"),
    "two results": (lambda x: (x, x + 1), r"gave 2 arrays in a tuple, expected one array"),
    "no array": (lambda x: None, "gave a NoneType, expected one array"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_of_its_input_is_refused(name: str) -> None:
    function, text = REFUSED[name]
    with pytest.raises(TraceError, match=text):
        trace(function, numbers(1, 3, 4))
    _KEPT.clear()
