"""
Networks as lists of tasks, in pieces with the statistics of the whole, on every array library.

The network of these tests has everything that an autoencoder has. It is written in NumPy, as tasks, and once more
without tiles, tasks or merged statistics, which is what tiled results are compared with.
"""

import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilekit import BackendError, GraphFunction, InputError, PlanError, TileShapeError
from tilekit._exact.kernels._base import Kernels
from tilekit._exact.ops import Local
from tilekit._exact.run import Call, run
from tilekit._exact.sized import sized
from tilekit._exact.trace import trace
from tilekit.backends import backend_of
from tilekit.norms import (
    POINTWISE,
    Add,
    Apply,
    Attention,
    Convolution,
    Norm,
    Offload,
    Shortcut,
    Store,
    Task,
    TaskQueue,
)
from tilekit.norms._estimate import subsample
from tilekit.testing import Library

EXACT = 1e-4  # float32 rounding through the network, at outputs of scale 1
Fn = Callable[[np.ndarray], np.ndarray]


def convolution(weight: np.ndarray, bias: np.ndarray, *, stride: int, pad: tuple[int, int], repeat: int = 1) -> Fn:
    """Convolve (B, C, H, W) with zeros around it."""
    kernel = weight.shape[-1]

    def run(x: np.ndarray) -> np.ndarray:
        x = np.repeat(np.repeat(x, repeat, 2), repeat, 3)
        x = np.pad(x, ((0, 0), (0, 0), pad, pad))
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]
        y = np.einsum("bchwij,ocij->bohw", windows, weight, optimize=True) + bias[:, None, None]
        return np.asarray(y, x.dtype)

    return run


def relu(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(x, 0))


def attend(x: np.ndarray) -> np.ndarray:
    """Every cell sees all others."""
    tokens = x.reshape(*x.shape[:2], -1).astype(np.float64)
    scores = np.exp(np.einsum("bct,bcs->bts", tokens, tokens) / x.shape[1])
    mixed = np.einsum("bts,bcs->bct", scores / scores.sum(-1, keepdims=True), tokens)
    return np.asarray(x + mixed.reshape(x.shape), x.dtype)


@dataclass
class Network:
    """
    Tasks for a library, and the same network at once; `seed` chooses the weights.

    Norms have two groups. `events` names the tasks in the order in which they were called.
    """

    xp: Library
    seed: int
    tasks: list[Task] = field(default_factory=list)
    steps: list[tuple[str, object]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def _weights(self, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])), np.float32)

    def _layer(self, name: str, fn: Fn) -> Callable[[object], object]:
        wrapped = self.xp.wrap(fn)

        def call(x: object) -> object:
            self.events.append(name)
            return wrapped(x)

        return call

    def conv(self, name: str, channels: int, out: int, *, stride: int = 1, repeat: int = 1, kernel: int = 3) -> None:
        pad = (0, 1) if stride == 2 else (kernel // 2, kernel // 2)
        fn = convolution(
            self._weights(out, channels, kernel, kernel), self._weights(out), stride=stride, pad=pad, repeat=repeat
        )
        self.tasks.append(Apply(name, self._layer(name, fn), Convolution(kernel, stride, *pad, repeat), out))
        self.steps.append(("apply", fn))

    def layer(self, name: str, fn: Fn) -> None:
        self.tasks.append(Apply(name, self._layer(name, fn)))
        self.steps.append(("apply", fn))

    def attention(self, name: str) -> None:
        self.tasks.append(Attention(name, self._layer(name, attend)))
        self.steps.append(("apply", attend))

    def norm(self, name: str, channels: int) -> None:
        weight, bias = 1 + self._weights(channels), self._weights(channels)
        self.tasks.append(Norm(name, 2, self.xp.array(weight), self.xp.array(bias), 1e-6))
        self.steps.append(("norm", (weight, bias)))

    def block(self, name: str, channels: int, out: int) -> None:
        self.tasks.append(Store(name))
        self.steps.append(("store", None))
        self.norm(f"{name}.norm1", channels)
        self.layer(f"{name}.relu1", relu)
        self.conv(f"{name}.conv1", channels, out)
        if channels != out:
            fn = convolution(self._weights(out, channels, 1, 1), self._weights(out), stride=1, pad=(0, 0))
            self.tasks.append(Shortcut(f"{name}.shortcut", self._layer(f"{name}.shortcut", fn), out))
            self.steps.append(("shortcut", fn))
        self.norm(f"{name}.norm2", out)
        self.layer(f"{name}.relu2", relu)
        self.conv(f"{name}.conv2", out, out)
        self.tasks.append(Add(name))
        self.steps.append(("add", None))

    def untiled(self, x: np.ndarray) -> np.ndarray:
        """Run without tiles, tasks or merged statistics."""
        stored: list[np.ndarray] = []
        for kind, what in self.steps:
            if kind == "store":
                stored.append(x)
            elif kind == "shortcut":
                assert callable(what)
                stored[-1] = what(stored[-1])
            elif kind == "add":
                x = stored.pop() + x
            elif kind == "norm":
                assert isinstance(what, tuple)
                x = whole_norm(x, *what)
            else:
                assert callable(what)
                x = what(x)
        return x


def whole_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    values = x.astype(np.float64).reshape(x.shape[0], 2, -1)
    values = (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-6)
    return np.asarray(values.reshape(x.shape) * weight[:, None, None] + bias[:, None, None], np.float32)


def decoder(xp: Library, seed: int, *, attention: bool = True) -> Network:
    """Latents of 3 channels to pictures of 2, four times as high and wide."""
    net = Network(xp, seed)
    net.conv("conv_in", 3, 8)
    net.block("mid", 8, 8)
    if attention:
        net.attention("attention")
    net.conv("up0", 8, 8, repeat=2)
    net.block("block1", 8, 4)
    net.conv("up1", 4, 4, repeat=2)
    net.block("block2", 4, 4)
    net.norm("norm_out", 4)
    net.layer("relu", relu)
    net.conv("conv_out", 4, 2)
    return net


def encoder(xp: Library, seed: int, *, attention: bool = True) -> Network:
    """Pictures of 2 channels to latents of 3, four times smaller; padded below and to the right where it is strided."""
    net = Network(xp, seed)
    net.conv("conv_in", 2, 4)
    net.block("block0", 4, 4)
    net.conv("down0", 4, 4, stride=2)
    net.block("block1", 4, 8)
    net.conv("down1", 8, 8, stride=2)
    net.block("mid", 8, 8)
    if attention:
        net.attention("attention")
    net.norm("norm_out", 8)
    net.conv("conv_out", 8, 3)
    return net


CASES = {"decoder": decoder, "encoder": encoder}
LATENTS = st.tuples(st.integers(5, 12), st.integers(5, 12))


def picture(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Noise on slopes, so that the tiles differ in mean and in variance."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    down, across = np.linspace(-2, 2, shape[2])[:, None], np.linspace(0.2, 2, shape[3])
    return np.asarray((noise + down) * across, np.float32)


def make(
    xp: Library, kind: str, seed: int, size: tuple[int, int], *, attention: bool = True
) -> tuple[Network, np.ndarray]:
    net = CASES[kind](xp, seed, attention=attention)
    shape = (2, 3, *size) if kind == "decoder" else (2, 2, 4 * size[0] + seed % 4, 4 * size[1] + seed % 3)
    return net, picture(shape, seed)


def scaled_error(got: np.ndarray, want: np.ndarray) -> float:
    """The largest error where the result has scale 1."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / want.std())


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=4)
@given(seed=st.integers(0, 1000), size=LATENTS, tile=st.tuples(*[st.sampled_from([None, 20, 24, 33])] * 2))
def test_exact_equals_the_untiled_network(
    xp: Library, kind: str, attention: bool, seed: int, size: tuple[int, int], tile: tuple[int | None, int | None]
) -> None:
    net, x = make(xp, kind, seed, size, attention=attention)
    got = TaskQueue(net.tasks).run(xp.array(x), tile=tile)
    assert scaled_error(xp.numpy(got), net.untiled(x)) < EXACT


def test_wrong_statistics_would_be_seen() -> None:
    """What "Tiled VAE" as published does, the mean of the variances of the tiles, is far from the untiled network."""
    net, x = make(Library("numpy"), "decoder", 1, (12, 12))
    traced = trace(GraphFunction.from_tasks(net.tasks), x)

    class Published(Kernels):
        def merge(self, op: Any, a: Any, b: Any) -> Any:
            count = a.count + b.count
            mean = (a.mean * a.count + b.mean * b.count) / count
            return type(a)(count, mean, a.squares + b.squares)

    choice = sized(traced.graph, 5, Kernels(backend_of(x), x))
    right, wrong = (
        run(Call(choice.program, kind(backend_of(x), x), x, traced.constants), lambda done: None)
        for kind in (Kernels, Published)
    )
    assert scaled_error(right, net.untiled(x)) < EXACT
    assert scaled_error(wrong, net.untiled(x)) > 50 * EXACT


@pytest.mark.parametrize("kind", CASES)
def test_no_cell_of_a_convolution_is_made_twice(kind: str) -> None:
    net, x = make(Library("numpy"), kind, 2, (11, 9))
    graph = trace(GraphFunction.from_tasks(net.tasks), x).graph
    for pieces in (5, 12):
        choice = sized(graph, pieces, Kernels(backend_of(x), x))
        assert choice.work == pytest.approx(1)
        made = choice.program.made
        assert max(len(stage.steps) for stage in choice.stages) > pieces // 2
        assert all(made[n.index] == prod(n.shape) for n in graph.nodes if isinstance(n.op, Local) and n.op.cost)


@pytest.mark.parametrize("offload", ["host", "disk"])
@pytest.mark.parametrize("kind", CASES)
def test_where_tiles_wait_changes_nothing(xp: Library, kind: str, offload: Offload) -> None:
    net, x = make(xp, kind, 3, (10, 8))
    queue = TaskQueue(net.tasks)
    stayed = xp.numpy(queue.run(xp.array(x), tile=20))
    # Less stays in memory, so the plan may run more of the network in tiles, which rounds otherwise.
    moved = xp.numpy(queue.run(xp.array(x), tile=20, offload=offload))
    assert scaled_error(moved, stayed) < 0.1 * EXACT


def test_tiles_on_disk_leave_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    net, x = make(Library("numpy"), "decoder", 3, (10, 8))
    seen = []

    def look(done: int, total: int) -> None:
        seen.append(len(list(tmp_path.rglob("*.npy"))))
        if done == total - 5:
            msg = "enough"
            raise KeyboardInterrupt(msg)

    with pytest.raises(KeyboardInterrupt):
        TaskQueue(net.tasks).run(x, tile=20, offload="disk", progress=look)
    assert max(seen) > 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays_near_the_exact_result(xp: Library, dtype: str) -> None:
    if xp.name not in {"torch", "mlx"}:
        pytest.skip(f"{xp.name} does not take both half precisions")
    net, x = make(xp, "decoder", 4, (9, 9))
    halves = [
        replace(task, fn=through(task.fn, xp, dtype)) if isinstance(task, Apply | Attention | Shortcut) else task
        for task in net.tasks
    ]
    queue = TaskQueue(halves)
    got = queue.run(xp.array(x, dtype), tile=20)
    assert str(got.dtype).endswith(dtype)
    # Tiles change nothing: what is left is the rounding of the network itself in that dtype.
    assert scaled_error(xp.numpy(got), xp.numpy(queue.run(xp.array(x, dtype), tile=None))) < 0.1
    assert scaled_error(xp.numpy(got).astype(np.float32), net.untiled(x)) < 0.3


def through(fn: object, xp: Library, dtype: str) -> Callable[[object], object]:
    """Compute in float32 and round."""
    assert callable(fn)
    return lambda x: xp.array(xp.numpy(fn(xp.array(xp.numpy(x).astype(np.float32)))), dtype)


def test_fast_is_near_and_tile_is_not() -> None:
    errors = {}
    for norm in ("exact", "fast", "tile"):
        net, x = make(Library("numpy"), "decoder", 5, (24, 24))
        got = TaskQueue(net.tasks).run(x, tile=24, norm=norm)
        errors[norm] = float(np.abs(got - net.untiled(x)).mean())
    assert errors["exact"] < EXACT < errors["fast"] < 0.5 * errors["tile"]
    net, x = make(Library("numpy"), "decoder", 5, (8, 8))
    for tile in (None, 64):  # nothing to estimate
        np.testing.assert_allclose(TaskQueue(net.tasks).run(x, tile=tile, norm="fast"), net.untiled(x), atol=EXACT)


def test_the_colour_fix_lets_only_norms_before_the_first_downsampling_be_estimated() -> None:
    errors = {}
    for fix in (True, False):
        net, x = make(Library("numpy"), "encoder", 6, (24, 24))
        got = TaskQueue(net.tasks).run(x, tile=32, norm="fast", colour_fix=fix)
        errors[fix] = float(np.abs(got - net.untiled(x)).mean())
    assert EXACT < errors[True] < errors[False]


@given(size=st.tuples(st.integers(4, 40), st.integers(4, 40)), keep=st.integers(2, 12))
def test_a_subsampled_copy_keeps_range_mean_and_variance(size: tuple[int, int], keep: int) -> None:
    x = picture((2, 3, *size), keep)
    small = subsample(x, (2, 3), 1, (keep, keep))
    assert small.shape == (2, 3, min(size[0], keep), min(size[1], keep))
    assert small.min() >= x.min()
    assert small.max() <= x.max()
    if size[0] > keep:
        # Cutting values beyond the range of the whole moves both a little.
        np.testing.assert_allclose(small.mean((2, 3)), x.mean((2, 3)), atol=0.25 * x.std())
        np.testing.assert_allclose(small.std((2, 3)), x.std((2, 3)), rtol=0.35)


@pytest.mark.parametrize("kind", CASES)
def test_nan_in_one_piece_names_the_task_and_the_cells(xp: Library, kind: str) -> None:
    net, x = make(xp, kind, 7, (12, 12))
    name = "block2.relu2" if kind == "decoder" else "block0.relu2"
    last = next(i for i, task in enumerate(net.tasks) if task.name == name)
    calls = iter(range(10**6))

    def spoil(values: np.ndarray) -> np.ndarray:
        values = relu(values)
        if next(calls) >= 2:  # the third piece, and when it is made once more to find the culprit
            values[0, 0, 0, 1] = np.nan
        return values

    net.tasks[last] = Apply("spoiled", xp.wrap(spoil))
    with pytest.raises(InputError, match=r"spoiled.* gave NaN or infinity.* among cells \d+ to \d+ of axis [23]"):
        TaskQueue(net.tasks).run(xp.array(x), tile=16)
    assert "conv_out" not in net.events  # it stopped at the next norm


def test_nan_in_the_input_is_found_before_any_work(xp: Library) -> None:
    net, x = make(xp, "decoder", 8, (10, 10))
    x[1, 2, 3, 7] = np.inf
    with pytest.raises(InputError, match=r"NaN or infinity at height 3, width 7 \(index \(1, 2, 3, 7\)\)"):
        TaskQueue(net.tasks).run(xp.array(x), tile=20)
    assert net.events == []


def test_values_beyond_the_statistics_of_float32_are_named() -> None:
    net, x = make(Library("numpy"), "decoder", 8, (10, 10))
    net.tasks.insert(0, Apply("huge", lambda x: x * np.float32(1e30)))
    with np.errstate(all="ignore"), pytest.raises(InputError, match=r"mid.norm1: .* too large"):
        TaskQueue(net.tasks).run(x, tile=20)


def test_progress_counts_to_its_total_and_cancels_by_raising() -> None:
    net, x = make(Library("numpy"), "decoder", 9, (10, 10))
    queue, told = TaskQueue(net.tasks), []
    want = queue.run(x, tile=20, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, told[0][1] + 1))
    assert {total for _, total in told} == {told[-1][0]}

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise StopError

    with pytest.raises(StopError):
        queue.run(x, tile=20, progress=stop)
    np.testing.assert_array_equal(queue.run(x, tile=20), want)  # nothing of the cancelled run is left


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("offload", [None, "disk"])
def test_memory_is_known_in_advance(kind: str, offload: Offload | None) -> None:
    net, x = make(Library("numpy"), kind, 11, (96, 96), attention=False)
    queue = TaskQueue([thin(task) for task in net.tasks])
    plan = queue.plan(x.shape, tile=64, offload=offload)
    tracemalloc.start()
    queue.run(x, tile=64, offload=offload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The input was there before.
    assert 0.8 * peak < plan.peak_bytes < 1.25 * peak + x.nbytes
    assert plan.peak_bytes < (0.5 if offload else 0.85) * queue.plan(x.shape, tile=None).peak_bytes


def thin(task: Task) -> Task:
    """The same shapes without the scratch arrays of a NumPy convolution, which no forecast can know."""
    if not isinstance(task, Apply | Shortcut):
        return task
    reach, channels = task.along(0) if isinstance(task, Apply) else POINTWISE, task.channels

    def run(x: np.ndarray) -> np.ndarray:
        shape = (x.shape[0], channels or x.shape[1], reach.length(x.shape[2]), reach.length(x.shape[3]))
        y = np.empty(shape, np.float32)
        y[:] = x[:, :1, :1, :1]
        y[..., ::2] += 1
        return y

    return replace(task, fn=run)


@cache
def fitted() -> tuple[TaskQueue, tuple[int, ...], dict[int | None, int]]:
    """Give tasks, a shape, and what every tile that may be found takes."""
    net, x = make(Library("numpy"), "decoder", 12, (40, 40))
    queue = TaskQueue(net.tasks)
    return queue, x.shape, {n: queue.plan(x.shape, tile=n).peak_bytes for n in (None, *range(16, 160, 16))}


@settings(max_examples=10)
@given(share=st.floats(0.3, 1.2))
def test_fit_finds_the_largest_tile_within_the_budget(share: float) -> None:
    queue, shape, takes = fitted()
    budget = int(share * takes[None])
    peaks = {n: peak for n, peak in takes.items() if n is not None}
    if min(peaks.values()) > budget:
        with pytest.raises(PlanError, match=f"no tile fits {budget} bytes; the least is {min(peaks.values())} bytes"):
            queue.fit(shape, memory_bytes=budget, step=16)
        return
    size = queue.fit(shape, memory_bytes=budget, step=16)
    assert takes[size] <= budget
    if size is not None:
        assert all(peak > budget for n, peak in peaks.items() if n > size)
        assert takes[None] > budget


def test_a_plan_says_what_will_be_done() -> None:
    net, x = make(Library("numpy"), "decoder", 0, (24, 16))
    plan = TaskQueue(net.tasks).plan(x.shape, tile=(32, None))
    assert plan.out_shape == (2, 2, 96, 64)
    assert plan.tiles == 3
    assert "statistics of" in str(plan)
    assert max(phase.steps for phase in plan.phases) == 3
    assert max(phase.peak_bytes for phase in plan.phases) == plan.peak_bytes
    assert "MiB" in str(plan)


def test_what_cannot_be_done_is_refused_with_its_numbers() -> None:
    net, x = make(Library("numpy"), "decoder", 0, (24, 24))
    queue = TaskQueue(net.tasks)
    with pytest.raises(PlanError, match=r"height: .* positive number of cells or None, got 0"):
        queue.plan(x.shape, tile=0)
    with pytest.raises(PlanError, match=r"got 3 sizes \(8, 8, 8\), expected one for each of height, width"):
        queue.plan(x.shape, tile=(8, 8, 8))
    with pytest.raises(PlanError, match=r"norm: got 'slow', allowed are 'exact', 'fast', 'tile'"):
        queue.plan(x.shape, tile=32, norm="slow")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(PlanError, match=r"offload: got 'cloud', allowed are None, 'host', 'disk'"):
        queue.plan(x.shape, tile=32, offload="cloud")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(PlanError, match=r"task 'bad': groups: got 3 for 3 channels|got 2 for 3 channels"):
        TaskQueue([Norm("bad", 2, None, None, 1e-6)]).run(x, tile=32)
    with pytest.raises(PlanError, match=r"task 'end': nothing is stored"):
        TaskQueue([Add("end")])
    with pytest.raises(PlanError, match=r"1 Store without an Add"):
        TaskQueue([Store("begin")])
    with pytest.raises(PlanError, match=r"names: got \('height', 'width'\) for 1 axes at \(2,\)"):
        TaskQueue([], axes=(2,))
    with pytest.raises(PlanError, match=r"task 'a': the residual has shape \(2, 3, 24, 24\), .* has \(2, 3, 12, 12\)"):
        TaskQueue([Store("a"), Apply("down", relu, Convolution(2, 2)), Add("a")]).plan(x.shape, tile=16)
    with pytest.raises(TileShapeError, match=r"down\d: gives shape .* the input is too small"):
        TaskQueue(encoder(Library("numpy"), 0).tasks).plan((1, 2, 64, 1), tile=32)
    with pytest.raises(PlanError, match="itemsize: got 3, expected 2, 4 or 8"):
        queue.plan(x.shape, tile=32, itemsize=3)
    with pytest.raises(BackendError, match="expected an array"):
        queue.run([[1.0]], tile=32)


def test_layers_that_break_their_word_are_named(xp: Library) -> None:
    x = xp.array(picture((1, 2, 32, 32), 0))
    with pytest.raises(TileShapeError, match=r"task 'short' gave shape \(1, 2, 31, 32\), expected \(1, 2, 32, 32\)"):
        TaskQueue([Apply("short", lambda x: x[:, :, 1:, :])]).run(x, tile=16)
    with pytest.raises(TileShapeError, match=r"gave shape \(1, 2, 32, 32\), expected \(1, 4, 32, 32\)"):
        TaskQueue([Apply("narrow", lambda x: x, channels=4)]).run(x, tile=16)
    if xp.name != "numpy":
        with pytest.raises(BackendError, match=r"task 'host': an array of numpy, but the tile is of"):
            TaskQueue([Apply("host", xp.numpy)]).run(x, tile=16)
    other = "float64" if xp.name in {"numpy", "array_api_strict", "torch"} else "float16"
    with pytest.raises(BackendError, match=rf"task 'other': .*{other}, but the tile is .*float32"):
        TaskQueue([Apply("other", lambda x: xp.array(xp.numpy(x), other))]).run(x, tile=16)


def test_groups_that_do_not_divide_are_refused_before_any_work(xp: Library) -> None:
    net, x = make(xp, "decoder", 0, (10, 10))
    net.tasks.append(Norm("late", 3, None, None, 1e-6))
    with pytest.raises(PlanError, match=r"task 'late': groups: got 3 for 2 channels; the number of groups must divide"):
        TaskQueue(net.tasks).run(xp.array(x), tile=20)
    assert net.events == []


def test_an_error_of_a_layer_itself_says_where_it_arose() -> None:
    def fail(x: np.ndarray) -> np.ndarray:
        msg = "out of luck"
        raise ArithmeticError(msg)

    with pytest.raises(ArithmeticError, match=r"(?s)out of luck.*task 'failing'"):
        TaskQueue([Apply("failing", fail)]).run(picture((1, 2, 32, 32), 0), tile=16)
