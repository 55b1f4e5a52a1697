"""What exact calls of MLX take on a processor: no more than plain calls, and what is forecast."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilekit

mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")

if mx.default_device() != mx.Device(mx.cpu):
    pytest.skip("on a graphics processor nobody waits for what was asked before", allow_module_level=True)

SLACK = 1.04
"""Pieces of operations cell by cell, beside arrays of half a MiB."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave small networks uncut, as they are outside of the tests."""
    monkeypatch.setattr("tilekit._exact.planner.SMALL", 1 << 24)


def taken(call: Callable[[], Any]) -> tuple[Any, int]:
    """Call, and give the bytes that were active at the peak beside those before."""
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    made = call()
    mx.eval(made)
    return made, int(mx.get_peak_memory()) - before


def linear(size: int) -> Any:
    layer = nn.Linear(size, size)
    mx.eval(layer.parameters())
    return layer


def numbers(*shape: int) -> Any:
    x = mx.random.normal(shape, key=mx.random.key(1))
    mx.eval(x)
    return x


LINEAR, BOOK = linear(128), numbers(32, 128)


def written(x: Any) -> Any:
    x = x * 2
    x[:, 3:90] = x[:, 5:92] + 1
    return x


def quantised(x: Any) -> Any:
    far = (x * x).sum(-1, keepdims=True) - 2 * (x @ BOOK.T) + (BOOK * BOOK).sum(-1)
    return BOOK[mx.argmin(far, -1)]


def scaled(x: Any) -> Any:
    return x / (1 + mx.var(x, axis=2, keepdims=True))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "linear and silu": lambda x: nn.silu(LINEAR(x)),
    "linear and gelu": lambda x: nn.gelu(LINEAR(x)),
    "sorted": lambda x: mx.sort(x * 2, -1),
    "sorted columns": lambda x: mx.sort(x * 2, 0),
    "top": lambda x: mx.topk(x * 2, 8, -1),
    "written": written,
    "quantised": quantised,
    "nearest": lambda x: nn.relu(nn.Upsample(2)(x.reshape(1, 32, 32, 128))),
    "softmax": lambda x: mx.softmax(x * 2, 0),
    "spectrum": lambda x: mx.fft.irfft(mx.fft.rfft(x) * 2),
    "lower": lambda x: mx.tril(mx.exp(x)),
    "norm": lambda x: nn.GroupNorm(4, 128, affine=False)(x[None] * 2),
    "turned": lambda x: LINEAR(x[::-1]) * 2,
    "indices": lambda x: x + mx.argsort(x, -1).astype(mx.float32) * 0.1,
    "variance": lambda x: scaled(LINEAR(x).reshape(1, 32, 32, 128)),
    "chain": lambda x: mx.sin(x * 2) * x + mx.cos(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_call_takes_no_more_than_a_plain_one_and_what_is_forecast(name: str) -> None:
    function, x = FUNCTIONS[name], numbers(1024, 128)
    call = tilekit.exact(function)
    plan = call.plan(x)
    want, plain = taken(lambda: function(x))
    made, live = taken(lambda: call(x))
    assert mx.allclose(made, want, atol=1e-5)
    assert live <= SLACK * plain
    assert live == pytest.approx(plan.peak_bytes, rel=0.1)


def mixed(x: Any) -> Any:
    return mx.sin(x) * x + 1


STEPS: dict[str, Callable[[Any], Any]] = {
    "linear": LINEAR,
    "silu": nn.silu,
    "mixed": mixed,
    "sorted": lambda x: mx.sort(x, 0),
    "written": written,
    "cumulative": lambda x: mx.cumsum(x, 0) * 0.1,
    "softmax": lambda x: mx.softmax(x, -1),
    "centred": lambda x: x - x.mean(0),
    "clipped": lambda x: mx.clip(x, -1, 1),
    "turned": lambda x: x[:, ::-1],
    "doubled": lambda x: mx.concatenate([x, x * 2], 0),
    "scaled": lambda x: x / mx.sqrt((x * x).sum(-1, keepdims=True) + 1e-6),
}


@settings(max_examples=12)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4), st.sampled_from([256, 512]))
def test_what_operations_take_one_after_the_other_is_forecast(names: list[str], rows: int) -> None:
    def function(x: Any) -> Any:
        for name in names:
            x = STEPS[name](x)
        return x

    x = numbers(rows, 128)
    call = tilekit.exact(function)
    plan = call.plan(x)
    want = function(x)
    made, live = taken(lambda: call(x))
    assert mx.allclose(made, want, atol=1e-4)
    assert live == pytest.approx(plan.peak_bytes, rel=0.1, abs=1 << 14)


TURN = [0, 2, 1, 3] * 16
STREAMS: dict[str, Callable[[Any], Any]] = {
    "added up": lambda x: mx.cumsum(x, 0) * 0.1,
    "taken": lambda x: (y := mx.take(mx.clip(x, -1, 1), mx.array(TURN), 1)) - mx.logsumexp(y, -1, keepdims=True),
}


@pytest.mark.parametrize("name", STREAMS)
def test_blocks_that_do_not_lie_in_order_take_what_is_forecast(name: str) -> None:
    function, x = STREAMS[name], numbers(64, 64, 128)
    call = tilekit.exact(function)
    plan = call.plan(x, stream=True)

    def last() -> Any:
        block = None
        for _, block in call.stream(x):
            mx.eval(block)
        return block

    _, live = taken(last)
    assert len(plan.step_peaks) > 1
    assert live == pytest.approx(plan.peak_bytes, rel=0.1)


def test_what_waits_in_another_order_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilekit._exact.planner.SMALL", 0)
    book, wide = numbers(32, 8), nn.Conv2d(8, 32, 1)
    mx.eval(wide.parameters())

    def shuffled(x: Any) -> Any:
        x = wide(mx.repeat(x.reshape(1, 64, 64, 8), 2, 1))
        x = x.reshape(1, 128, 64, 2, 2, 8).transpose(0, 1, 3, 2, 4, 5).reshape(1, 256, 128, 8)
        return book[mx.argmin((x * x).sum(-1, keepdims=True) - 2 * (x @ book.T) + (book * book).sum(-1), -1)]

    x = numbers(256, 128)
    call = tilekit.exact(shuffled)
    plan = call.plan(x)
    assert len(plan.step_peaks) > 1
    made, live = taken(lambda: call(x))
    assert mx.array_equal(made, shuffled(x))
    assert live == pytest.approx(plan.peak_bytes, rel=0.1)


def test_a_block_that_is_still_read_may_be_written_to() -> None:
    taps, x = numbers(16, 3, 16), numbers(1, 256, 16)

    def doubled(x: Any) -> Any:
        y = mx.sin(x) * 2
        return mx.concatenate([y, mx.conv1d(y, taps, padding=1)], 1)

    blocks = []
    for _, block in tilekit.exact(doubled).stream(x):
        blocks.append(mx.array(block))
        block[:] = 0
    assert len(blocks) > 1
    assert mx.allclose(mx.concatenate(blocks, 1), doubled(x), atol=1e-5)


def test_an_array_that_is_read_again_is_not_written_to() -> None:
    def function(x: Any) -> Any:
        y = LINEAR(x)
        z = nn.silu(y)
        w = mx.sort(z, 0)
        return w + y * z

    x, before = numbers(1024, 128), mx.array(numbers(1024, 128))
    assert mx.allclose(tilekit.exact(function)(x), function(x), atol=1e-5)
    assert mx.array_equal(x, before)
