"""A function of MLX becomes a graph: a box pulled through it is the cut of the plain call, with the weights of now."""

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

mx = pytest.importorskip("mlx.core")
from mlx import nn  # noqa: E402
from tests.tilekit.exact._kinds import boxes  # noqa: E402
from tests.tilekit.exact._mlx_functions import FUNCTIONS  # noqa: E402

import tilekit  # noqa: E402
from tilekit._errors import TraceError  # noqa: E402
from tilekit._exact.boxes import Box, extent, full, within  # noqa: E402
from tilekit._exact.chain import chained  # noqa: E402
from tilekit._exact.frontends import Traced  # noqa: E402
from tilekit._exact.frontends._mlx import calls, trace  # noqa: E402
from tilekit._exact.kernels import Job, _mlx_conv, kernels_of  # noqa: E402
from tilekit._exact.ops import (  # noqa: E402
    Attention,
    Constant,
    Input,
    Moments,
    Normalize,
    Pad,
    Pointwise,
    Pool,
    Take,
    Whole,
)

WHOLE = {  # what has no rule for boxes
    "index by pairs",
    "take along an axis",
    "add at indices",
    "write numbers where a mask is true",
    "put along an axis",
    "slice at a place that depends on the input",
}


def numbers(*shape: int, dtype: Any = mx.float32) -> Any:
    return mx.random.normal(shape, key=mx.random.key(7)).astype(dtype)


def pulled(traced: Traced, x: Any, box: Box) -> Any:
    """Make a box of the output from boxes of everything before it, without a plan."""
    graph, kernels, made = traced.graph, kernels_of(x), dict[Any, Any]()

    def get(index: int, box: Box) -> Any:
        node = graph.nodes[index]
        if isinstance(node.op, (Input, Constant)):
            whole = x if isinstance(node.op, Input) else traced.constants(node.op.key)
            return whole[within(full(node.shape), box)] if node.shape else whole
        shapes = graph.shapes(node)
        grown = node.op.grow(box, node.shape, shapes)
        if (index, grown) not in made:
            needs = node.op.need(grown, node.shape, shapes)
            read = [None if b is None else get(i, b) for i, b in zip(node.inputs, needs, strict=True)]
            part = kernels.run(node, shapes, grown, needs, read)
            assert (tuple(part.shape), kernels.dtype_name(part)) == (extent(grown), node.dtype), node
            made[index, grown] = part
        return made[index, grown][within(grown, box)]

    return get(graph.output, box)


def kinds(traced: Traced) -> set[type]:
    return {type(node.op) for node in traced.graph.nodes}


def error(a: Any, b: Any) -> float:
    return float(mx.max(mx.abs(a - b)) / mx.maximum(mx.max(mx.abs(b)), 1e-30))


@functools.cache
def _traced(name: str) -> tuple[Traced, Any, Any]:
    function, shape = FUNCTIONS[name]
    x = numbers(*shape)
    return trace(function, x), x, function(x)


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=10)
@given(data=st.data())
def test_a_box_is_the_cut_of_the_plain_call(name: str, data: st.DataObject) -> None:
    traced, x, plain = _traced(name)
    box = boxes(data.draw, tuple(plain.shape))
    made = pulled(traced, x, box)
    assert made.dtype == plain.dtype
    scale = float(mx.max(mx.abs(plain)))
    assert float(mx.max(mx.abs(made - plain[within(full(plain.shape), box)]))) <= 2e-6 * scale


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_understood_and_stays_so(name: str) -> None:
    traced, _, _ = _traced(name)
    assert traced.notes == ()
    assert (Whole in kinds(traced)) == (name in WHOLE)
    assert traced.current()


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "convolution, stride and dilation",
        "transposed convolution",
        "pad, edge",
        "upsample linear",
        "root mean square norm",
        "group norm",
        "attention",
        "attention, causal",
        "largest pool, padded",
        "GELU",
        "linear",
        "write every second",
    ],
)
@settings(max_examples=5)
@given(data=st.data())
def test_half_precision_is_as_near_to_float32_as_the_plain_call(name: str, dtype: Any, data: st.DataObject) -> None:
    function, shape = FUNCTIONS[name]
    x = numbers(*shape, dtype=dtype)
    plain, true = function(x), function(x.astype(mx.float32))
    box = boxes(data.draw, tuple(plain.shape))
    made = pulled(trace(function, x), x, box)
    assert made.dtype == plain.dtype
    cut = within(full(plain.shape), box)
    worst = float(mx.max(mx.abs(plain.astype(mx.float32) - true)))
    assert float(mx.max(mx.abs(made.astype(mx.float32) - true[cut]))) <= 1.5 * worst + 1e-6


# what is put together again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["group norm", "group norm of video", "group norm without weights", "instance norm"])
def test_a_group_norm_is_moments_and_one_operation(name: str) -> None:
    traced = _traced(name)[0]
    operations = [node for node in traced.graph.nodes if not isinstance(node.op, (Input, Constant))]
    assert [type(node.op) for node in operations] == [Moments, Normalize]
    assert operations[0].inputs == (traced.graph.input,)


def test_a_group_norm_of_each_frame_is_cut_along_the_frames() -> None:
    graph = _traced("group norm of each frame")[0].graph
    (moments,) = (node for node in graph.nodes if isinstance(node.op, Moments))
    assert moments.shape == (5, 2, 2)
    assert graph.shapes(moments) == ((5, 42, 4),)
    frame = ((3, 4), (0, 2), (0, 2))
    assert moments.op.need(frame, moments.shape, graph.shapes(moments)) == (((3, 4), (0, 42), (0, 4)),)
    assert Normalize in kinds(_traced("group norm of each frame")[0])


@pytest.mark.parametrize("name", ["group norm, interleaved", "variance", "deviation over time"])
def test_a_sum_of_squares_around_a_mean_is_read_once(name: str) -> None:
    assert sum(isinstance(node.op, Moments) for node in _traced(name)[0].graph.nodes) >= 1


@pytest.mark.parametrize("name", ["layer norm", "root mean square norm"])
def test_a_norm_of_each_position_is_no_statistic(name: str) -> None:
    assert Moments not in kinds(_traced(name)[0])


@pytest.mark.parametrize(
    "name", [name for name in FUNCTIONS if name.startswith("attention") and "out, mask" not in name]
)
def test_attention_is_one_operation(name: str) -> None:
    found = [node.op for node in _traced(name)[0].graph.nodes if isinstance(node.op, Attention)]
    assert [op.causal for op in found] == ["causal" in name]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("pad, edge", "replicate"),
        ("pad by slices, reflect", "reflect"),
        ("pad by slices, first frame", "replicate"),
        ("pad by a repeated frame", "replicate"),
        ("pad, constant", "constant"),
    ],
)
def test_borders_that_are_put_on_bit_by_bit_are_one_padding(name: str, mode: str) -> None:
    operations = [node.op for node in _traced(name)[0].graph.nodes if not isinstance(node.op, Input)]
    assert [type(op) for op in operations] == [Pad]
    assert operations[0].mode == mode  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["average pool, overlapping", "largest pool, padded"])
def test_windows_by_strides_are_a_pooling(name: str) -> None:
    found = kinds(_traced(name)[0])
    assert Pool in found
    assert Take not in found


def test_the_bias_of_a_convolution_is_added_where_its_sums_lie() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 4, 4, stride=2))
    graph = trace(module, numbers(1, 8, 8, 4)).graph
    assert [len(node.inputs) for node in graph.nodes if graph.live[node.index] and node.index] == [3, 3]


def test_a_bias_that_is_not_alone_stays_what_it_is() -> None:
    conv, shift = nn.Conv2d(4, 8, 3, bias=False), numbers(8)

    def function(x: Any) -> Any:
        y = conv(x)
        return mx.concatenate([y + shift, y], -1)

    x = numbers(1, 8, 8, 4)
    assert error(whole(trace(function, x), x), function(x)) == 0


# kernels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "convolution" in name or name.startswith("attention")])
@settings(max_examples=10)
@given(data=st.data())
def test_what_is_made_bit_by_bit_is_the_same(name: str, data: st.DataObject) -> None:
    traced, x, plain = _traced(name)
    box = boxes(data.draw, tuple(plain.shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mlx_conv, "LEAST", 1)
        patch.setattr(_mlx_conv, "UNFOLDED", data.draw(st.sampled_from([1, 300, 3000])))
        patch.setattr(calls, "SCORES", data.draw(st.sampled_from([1, 500])))
        made = pulled(traced, x, box)
    scale = float(mx.max(mx.abs(plain)))
    assert float(mx.max(mx.abs(made - plain[within(full(plain.shape), box)]))) <= 2e-6 * scale


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (1, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize("size", [16, 64])
def test_a_convolution_takes_what_is_forecast(kernel: int, stride: int, size: int, dtype: Any) -> None:
    weight = numbers(16, kernel, kernel, 32, dtype=dtype)
    x = numbers(1, size, size, 32, dtype=dtype)
    traced = trace(lambda x: mx.conv_general(x, weight, stride=stride, padding=kernel // 2), x)
    node, kernels = traced.graph.nodes[-1], kernels_of(x)
    box, shapes = full(node.shape), traced.graph.shapes(node)
    job = Job(node.op, node.shape, shapes, box, node.op.need(box, node.shape, shapes), node.dtype)
    mx.eval(weight, x)
    mx.clear_cache()
    active = mx.get_active_memory()
    mx.reset_peak_memory()
    made = kernels.run(node, shapes, box, job.boxes, [x, weight])
    taken = mx.get_peak_memory() - active
    assert taken == pytest.approx(made.nbytes + kernels.scratch(job), rel=0.1, abs=1 << 16)


def taken(traced: Traced, node: Any, given: list[Any]) -> tuple[int, int]:
    """Give the bytes that a node takes at the peak while it is made whole, and the forecast of them."""
    kernels, shapes, box = kernels_of(given[0]), traced.graph.shapes(node), full(node.shape)
    lies = tuple((kernels.dtype_name(x), _strides(x.shape)) for x in given)
    job = Job(node.op, node.shape, shapes, box, node.op.need(box, node.shape, shapes), node.dtype, lies)
    mx.eval(given)
    mx.clear_cache()
    active = mx.get_active_memory()
    mx.reset_peak_memory()
    made = kernels.run(node, shapes, box, job.boxes, given)
    return mx.get_peak_memory() - active, made.nbytes + kernels.scratch(job)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


@pytest.mark.parametrize(
    ("shape", "weight", "options"),
    [
        ((1, 2000, 64), (64, 7, 64), {"kernel_dilation": 3}),
        ((1, 4000, 64), (64, 7, 16), {"groups": 4}),
        ((1, 64, 64, 32), (32, 3, 3, 32), {"kernel_dilation": 2}),
        ((1, 64, 64, 32), (32, 3, 3, 8), {"groups": 4}),
        ((1, 64, 64, 32), (32, 3, 3, 32), {"input_dilation": 2, "flip": True}),
    ],
    ids=str,
)
def test_a_convolution_that_unfolds_nothing_is_forecast(shape: Any, weight: Any, options: Any) -> None:
    x, w = numbers(*shape), numbers(*weight)
    traced = trace(lambda x: mx.conv_general(x, w, **options), x)
    counted, forecast = taken(traced, traced.graph.nodes[-1], [x, w])
    assert counted == pytest.approx(forecast, rel=0.1, abs=1 << 16)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
@pytest.mark.parametrize("mask", [None, "causal"])
def test_attention_takes_what_is_forecast(mask: Any, dtype: Any) -> None:
    x = numbers(1, 2, 700, 16, dtype=dtype)
    traced = trace(lambda x: mx.fast.scaled_dot_product_attention(x, x, x, scale=0.3, mask=mask), x)
    counted, forecast = taken(traced, traced.graph.nodes[-1], [x, x, x])
    assert counted == pytest.approx(forecast, rel=0.1, abs=1 << 16)


def test_a_chain_is_computed_where_its_arrays_lie() -> None:
    x = numbers(1, 64, 64, 32)
    traced = trace(lambda x: mx.tanh(mx.exp(x * 2.0) + x) * 3.0, x)
    counted, forecast = peak_of(traced, x)
    assert counted == pytest.approx(forecast, rel=0.1)


def peak_of(traced: Traced, x: Any) -> tuple[int, int]:
    """Give the same for a whole graph of operations cell by cell."""
    graph = chained(traced.graph)
    (node,) = (node for node in graph.nodes if isinstance(node.op, Pointwise) and graph.live[node.index])
    given = [x if i == graph.input else traced.constants(graph.nodes[i].op.key) for i in node.inputs]  # type: ignore[attr-defined]
    return taken(Traced(graph, traced.constants), node, given)


# weights ------------------------------------------------------------------------------------------------------------


class Decoder(nn.Module):  # type: ignore[misc]
    """Two layers, one of them in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.blocks = [nn.GroupNorm(2, 8, pytorch_compatible=True), nn.Linear(8, 3)]

    def __call__(self, x: Any) -> Any:
        """Decode."""
        return self.decode(x)

    def decode(self, x: Any) -> Any:
        """Decode as well."""
        for block in (self.first, *self.blocks):
            x = block(x)
        return x


def whole(traced: Traced, x: Any) -> Any:
    return pulled(traced, x, full(traced.graph.nodes[traced.graph.output].shape))


def test_weights_keep_their_names() -> None:
    module: Any = Decoder()
    traced = trace(module, numbers(1, 4, 4, 4))
    names = {node.op.key for node in traced.graph.constants if isinstance(node.op, Constant)}
    assert {"first.weight", "first.bias", "blocks.0.weight", "blocks.1.weight", "blocks.1.bias"} <= names
    assert {"first", "blocks.0", "blocks.1"} <= {node.name for node in traced.graph.nodes}


def _closure(module: Any) -> Any:
    return lambda x: module(x) + 0.0


def _list_in_a_closure(module: Any) -> Any:
    held = [module]
    return lambda x: held[0](x) + 0.0


CAPTURES: dict[str, Callable[[Any], Any]] = {
    "a module": lambda module: module,
    "a bound method": lambda module: module.decode,
    "a closure": _closure,
    "a partial": lambda module: functools.partial(lambda m, x: m(x), module),
    "a list in a closure": _list_in_a_closure,
    "a default": lambda module: lambda x, m=module: m(x),
}


@pytest.mark.parametrize("capture", CAPTURES)
def test_weights_are_read_when_they_are_used(capture: str) -> None:
    module, x = Decoder(), numbers(1, 4, 4, 4)
    function = CAPTURES[capture](module)
    traced = trace(function, x)
    module.first.weight = module.first.weight * 3.0
    module.blocks[1].bias = numbers(3)
    assert traced.current()
    assert error(whole(traced, x), function(x)) < 2e-6


def test_arrays_in_a_closure_are_read_when_they_are_used() -> None:
    scale = numbers(8)

    def function(x: Any) -> Any:
        return x * scale

    x = numbers(1, 4, 8)
    traced = trace(function, x)
    scale = scale + 5.0
    assert error(whole(traced, x), function(x)) == 0
    scale[:] = 7.0
    assert error(whole(traced, x), function(x)) == 0


def test_arrays_that_no_search_finds_are_taken_anew() -> None:
    class Hidden:
        __slots__ = ("scale",)
        scale: Any

        def __call__(self, x: Any) -> Any:
            return x * self.scale

    hidden, x = Hidden(), numbers(1, 4, 8)
    hidden.scale = numbers(8)
    traced = trace(hidden, x)
    hidden.scale = numbers(8) + 2.0
    assert traced.current()
    assert error(whole(traced, x), hidden(x)) == 0


def test_a_function_that_does_something_else_now_is_noticed() -> None:
    module, x = Decoder(), numbers(1, 4, 4, 4)
    traced = trace(module, x)
    module.blocks.append(nn.Linear(3, 3))
    assert not traced.current()


def test_a_trace_computes_nothing_and_leaves_everything_as_it_was() -> None:
    module, x = Decoder(), numbers(1, 4, 4, 4)
    mx.eval(module.parameters(), x)
    before = {name: id(value) for name, value in nn.utils.tree_flatten(module.parameters())}
    state = next(iter(mx.random.state)).tolist()
    mx.reset_peak_memory()
    active = mx.get_active_memory()
    trace(module, numbers(1, 256, 256, 4))
    assert mx.get_peak_memory() - active < 1 << 16
    assert {name: id(value) for name, value in nn.utils.tree_flatten(module.parameters())} == before
    assert next(iter(mx.random.state)).tolist() == state


def test_random_weights_that_are_not_computed_yet_are_no_part_of_the_graph() -> None:
    traced = trace(nn.Linear(8, 5), numbers(1, 8))
    assert len(traced.graph.nodes) <= 6


# refusals -----------------------------------------------------------------------------------------------------------


class Stateful(nn.Module):  # type: ignore[misc]
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Any = None
        self.kept: list[Any] = []

    def __call__(self, x: Any) -> Any:
        """Add the last input."""
        y = x if self.last is None else x + self.last
        self.last = x
        self.kept.append(x)
        return y


def test_state_is_refused_and_put_back() -> None:
    module = Stateful()
    with pytest.raises(TraceError, match="keeps an array"):
        trace(module, numbers(1, 4))
    assert module.last is None
    assert module.kept == []


def test_a_batch_norm_that_learns_is_refused() -> None:
    module = nn.BatchNorm(4)
    with pytest.raises(TraceError, match="running_mean"):
        trace(module, numbers(2, 4))
    assert float(mx.sum(module.running_mean)) == 0


def test_random_numbers_are_refused() -> None:
    with pytest.raises(TraceError, match=r"random numbers.*eval\(\)"):
        trace(nn.Dropout(0.5), numbers(1, 4))
    with pytest.raises(TraceError, match="random numbers"):
        trace(lambda x: x + mx.random.normal(x.shape), numbers(1, 4))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x.sum().item(),
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * float(x[0, 0]),
    ],
)
def test_a_look_at_the_numbers_is_refused(function: Any) -> None:
    with pytest.raises(TraceError, match="looks at the numbers"):
        trace(function, numbers(1, 4))


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: (x, x), "2 results"),
        (lambda x: {"a": x}, "1 results"),
        (lambda x: None, "NoneType"),
        (lambda x: 2.0, "float"),
    ],
)
def test_what_is_no_single_array_is_refused(function: Any, what: str) -> None:
    with pytest.raises(TraceError, match=what):
        trace(function, numbers(1, 4))


@pytest.mark.parametrize(
    ("function", "primitive"),
    [
        (lambda x: mx.logcumsumexp(x, 1), "CumLogAddExp"),
        (mx.checkpoint(lambda x: x * 2), "CustomTransforms"),
        (lambda x: x + mx.random.uniform(shape=x.shape, key=mx.random.key(3)), "RandomBits"),
        (lambda x: mx.linalg.inv(x @ x.T + mx.eye(4), stream=mx.cpu), "Inverse"),
        (lambda x: x.view(mx.float16), "View"),
    ],
)
def test_a_primitive_without_a_rule_makes_the_plain_call_and_is_named(function: Any, primitive: str) -> None:
    x = numbers(4, 4)
    traced = trace(function, x)
    assert primitive in traced.notes[0]
    assert mx.array_equal(whole(traced, x), function(x), equal_nan=True)


def test_no_budget_is_promised_for_a_plain_call() -> None:
    function = mx.checkpoint(lambda x: mx.exp(x) + mx.sin(x))
    with pytest.raises(tilekit.PlanError, match=r"CustomTransforms.*leave memory_bytes out"):
        tilekit.exact(function, memory_bytes=1 << 30)(numbers(4, 4))


def test_a_function_compiled_with_a_state_is_followed() -> None:
    module, x = nn.Linear(4, 4), numbers(2, 4)
    compiled = mx.compile(module, inputs=module.state)
    traced = trace(compiled, x)
    module.weight = module.weight * 2.0
    assert error(whole(traced, x), module(x)) < 2e-6


def test_hints_about_memory_are_left_out() -> None:
    def function(x: Any) -> Any:
        y = mx.contiguous(mx.sin(x).T)
        mx.eval(y)
        mx.async_eval(y)
        return mx.checkpoint(lambda y: y * 2)(y)

    x = numbers(3, 4)
    hints = mx.eval, mx.async_eval, mx.contiguous, mx.checkpoint
    traced = trace(function, x)
    assert (mx.eval, mx.async_eval, mx.contiguous, mx.checkpoint) == hints
    assert traced.notes == ()
    assert mx.array_equal(whole(traced, x), function(x))


def test_an_error_of_the_function_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match=r"matmul"):
        trace(lambda x: x @ mx.zeros((3, 3)), numbers(1, 4))
