"""The engine on every backend: equal to the weighted mean, batched like sequential, streamed like whole."""

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis.strategies import booleans, composite, integers

import tilekit as tk
from tilekit.testing import Library, enlarge, local_decoder, local_encoder, reduce

SMALL = tk.Geometry(
    "small", (tk.Axis("frames", 2, tk.Causal(4)), tk.Axis("height", 3, tk.Linear(2)), tk.Axis("width", 4, tk.Linear(2)))
)
PLANE = tk.Geometry(
    "plane", (tk.Axis("height", 0, tk.Linear(2)), tk.Axis("width", 1, tk.Linear(3))), batch=None, channel=2
)
LINE = tk.Geometry("line", (tk.Axis("time", 1, tk.Linear(5)),), batch=0, channel=2)
Numbers = np.ndarray[Any, Any]
TOLERANCE = 2e-5  # float32 sums of a few products of numbers of size 1


def numbers(*shape: int) -> Numbers:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def personal(z: Numbers) -> Numbers:
    """A decoder whose tiles disagree: each one adds its own mean."""
    whole = enlarge(z[:, :2], SMALL)
    return np.asarray(whole + z.mean(axis=(1, 2, 3, 4), keepdims=True), dtype=np.float32)


def weighted_mean(function: Callable[[Numbers], Numbers], x: Numbers, plan: tk.Plan) -> Numbers:
    """The published way: every tile times its mask, over the sum of the masks."""
    total: Any = 0.0
    weight: Any = 0.0
    for tile in plan.tiles:
        part = function(x[(slice(None), slice(None), *(slice(*s) for s in tile.src))])
        mask = np.ones((1,) * x.ndim)
        for axis, spans, index in zip(plan.geometry.axes, plan.spans, tile.index, strict=True):
            span = axis.law.map(spans[index]) if plan.direction == "decode" else spans[index]
            row = tk.trapezoid_mask(len(span), span.left_ramp, span.right_ramp, left_starts_from_0=axis.law.causal)
            shape = [1] * x.ndim
            shape[axis.position] = -1
            mask = mask * np.reshape(row, shape)
        where = (slice(None), slice(None), *(slice(*d) for d in tile.dst))
        if np.isscalar(total):
            total = np.zeros((*part.shape[:2], *plan.out_sizes))
            weight = np.zeros((1, 1, *plan.out_sizes))
        total[where] += part * mask
        weight[where] += mask
    return np.asarray(total / weight)


@composite
def tilings(draw: Any) -> tk.Tiling:
    """Any legal tiling of SMALL, also with overlaps far above half the tile."""
    axes = {}
    for name, factor in (("frames", 4), ("height", 2), ("width", 2)):
        size = draw(integers(1, 6))
        overlap = draw(integers(0, 5))
        assume(overlap < size)
        axes[name] = (size * factor, overlap * factor) if draw(booleans()) else None
    return tk.Tiling(**axes, uniform=draw(booleans()))


@given(tiling=tilings(), batch=integers(1, 2), tile_batch_size=integers(1, 7))
def test_decoding_in_tiles_is_the_weighted_mean(
    xp: Library, tiling: tk.Tiling, batch: int, tile_batch_size: int
) -> None:
    z = numbers(batch, 3, 6, 5, 4)
    plan = tk.plan(z.shape, tiling, geometry=SMALL)
    assume(len(plan.tiles) <= 60)
    want = weighted_mean(personal, z, plan)
    shapes: list[tuple[int, ...]] = []

    def decode(tile: Any) -> Any:
        shapes.append(tuple(tile.shape))
        return xp.wrap(personal)(tile)

    options: dict[str, Any] = {"geometry": SMALL, "tile_batch_size": tile_batch_size}
    whole = tk.decode_tiled(decode, xp.array(z), tiling, **options)
    np.testing.assert_allclose(xp.numpy(whole), want, atol=TOLERANCE)
    assert len(shapes) == plan.calls(tile_batch_size)
    assert_batched(shapes, plan, batch, tile_batch_size)
    blocks = list(tk.stream_tiled(decode, xp.array(z), tiling, **options))
    assert_contiguous([(start, block.shape[2]) for start, block in blocks], plan.out_sizes[0])
    np.testing.assert_allclose(np.concatenate([xp.numpy(b) for _, b in blocks], axis=2), want, atol=TOLERANCE)


@given(tiling=tilings(), tile_batch_size=integers(1, 7))
def test_encoding_in_tiles_is_the_weighted_mean(xp: Library, tiling: tk.Tiling, tile_batch_size: int) -> None:
    x = numbers(2, 3, 21, 10, 8)
    plan = tk.plan(x.shape, tiling, geometry=SMALL, direction="encode")
    assume(len(plan.tiles) <= 60)

    def encode(v: Numbers) -> Numbers:
        return np.asarray(reduce(v, SMALL) + v.mean(axis=(1, 2, 3, 4), keepdims=True), dtype=np.float32)

    got = tk.encode_tiled(xp.wrap(encode), xp.array(x), tiling, geometry=SMALL, tile_batch_size=tile_batch_size)
    np.testing.assert_allclose(xp.numpy(got), weighted_mean(encode, x, plan), atol=TOLERANCE)


def assert_batched(shapes: list[tuple[int, ...]], plan: tk.Plan, batch: int, most: int) -> None:
    """Every call of a shape but the last is full, and every tile is decoded once."""
    for shape, count in plan.shape_groups.items():
        sizes = [s[0] for s in shapes if s[2:] == shape]
        assert sum(sizes) == count * batch
        assert sizes[:-1] == [most * batch] * (len(sizes) - 1)


def collector(into: list[tuple[int, Numbers]]) -> Callable[[Numbers, int], None]:
    """A callback that keeps copies of what it gets."""

    def ready(block: Numbers, start: int) -> None:
        into.append((start, block.copy()))

    return ready


def assert_contiguous(parts: list[tuple[int, int]], total: int) -> None:
    ends = [0]
    for start, size in parts:
        assert start == ends[-1]
        assert size > 0
        ends.append(start + size)
    assert ends[-1] == total


@given(tiling=tilings())
def test_tiled_equals_whole_for_a_decoder_that_sees_no_further_than_its_context(tiling: tk.Tiling) -> None:
    decode = local_decoder(SMALL, [(1, 0), (0, 0), (0, 0)])  # a causal axis reads one latent of context
    z = numbers(1, 3, 6, 5, 4)
    assume(len(tk.plan(z.shape, tiling, geometry=SMALL).tiles) <= 60)
    np.testing.assert_allclose(tk.decode_tiled(decode, z, tiling, geometry=SMALL), decode(z), atol=1e-5)


@given(tiling=tilings())
def test_encoding_without_reach_equals_the_whole(tiling: tk.Tiling) -> None:
    encode = local_encoder(SMALL, [(0, 0)] * 3)
    x = numbers(1, 3, 21, 10, 8)
    assume(len(tk.plan(x.shape, tiling, geometry=SMALL, direction="encode").tiles) <= 60)
    np.testing.assert_allclose(tk.encode_tiled(encode, x, tiling, geometry=SMALL), encode(x), atol=1e-5)


@pytest.mark.parametrize(
    ("geometry", "shape", "tiling"),
    [
        (PLANE, (7, 5, 3), tk.Tiling(height=(6, 2), width=(9, 3))),
        (LINE, (2, 9, 4), tk.Tiling(time=(15, 5))),
        (tk.OOBLECK_AUDIO, (1, 3, 5), tk.Tiling(time=(4096, 2048))),
        (tk.LTX2_AUDIO_MEL, (1, 3, 7, 4), tk.Tiling(time=(12, 4), mel=(8, 4))),
        (tk.SD_IMAGE, (1, 3, 13, 17), tk.TilingConfig.spatial_only(64, 32)),
        (tk.WAN_VIDEO, (1, 3, 4, 2, 3), tk.Tiling(frames=(8, 4), width=(16, 8))),
    ],
    ids=lambda value: value.name if isinstance(value, tk.Geometry) else None,
)
def test_any_number_and_order_of_axes(
    xp: Library, geometry: tk.Geometry, shape: tuple[int, ...], tiling: tk.Tiling
) -> None:
    z = numbers(*shape)
    decode = xp.wrap(lambda t: enlarge(t, geometry))
    whole = enlarge(z, geometry)
    got = tk.decode_tiled(decode, xp.array(z), tiling, geometry=geometry)
    np.testing.assert_allclose(xp.numpy(got), whole, atol=TOLERANCE)
    blocks = [xp.numpy(b) for _, b in tk.stream_tiled(decode, xp.array(z), tiling, geometry=geometry)]
    assert len(blocks) > 1
    np.testing.assert_allclose(np.concatenate(blocks, axis=geometry.axes[0].position), whole, atol=TOLERANCE)
    encode = xp.wrap(lambda x: reduce(x, geometry))
    latents = tk.encode_tiled(encode, xp.array(whole), tiling, geometry=geometry)
    np.testing.assert_allclose(xp.numpy(latents), z, atol=TOLERANCE)


# One rounding of the result at the end, half a unit in the last place, however many tiles share a cell.
@pytest.mark.parametrize(("dtype", "half_unit"), [("float16", 2**-11), ("bfloat16", 2**-8), ("float64", 1e-15)])
def test_the_result_has_the_dtype_of_the_decoder_and_is_blended_wider(
    xp: Library, dtype: str, half_unit: float
) -> None:
    lacks_bfloat16 = dtype == "bfloat16" and xp.name not in ("torch", "mlx", "jax")
    if lacks_bfloat16 or (dtype == "float64" and xp.name in ("mlx", "jax")):
        pytest.skip(f"{xp.name} has no {dtype}")
    if dtype == "float16" and xp.name == "array_api_strict":
        pytest.skip("the standard has no float16")
    z = numbers(1, 3, 6, 5, 4)
    tiling = tk.Tiling(frames=(12, 8), height=(6, 4), width=(6, 4))  # up to 27 tiles over a cell
    decode = xp.wrap(personal, dtype)
    plan = tk.plan(z.shape, tiling, geometry=SMALL)
    want = weighted_mean(lambda t: xp.numpy(decode(xp.array(t))).astype(np.float64), z, plan)
    limits: dict[str, Any] = {"rtol": 1.01 * half_unit, "atol": 1e-12 if dtype == "float64" else 1e-6}
    for size in (1, 5):
        got = tk.decode_tiled(decode, xp.array(z), tiling, geometry=SMALL, tile_batch_size=size)
        assert dtype in str(got.dtype)
        np.testing.assert_allclose(xp.numpy(got).astype(np.float64), want, **limits)
    blocks = [xp.numpy(b) for _, b in tk.stream_tiled(decode, xp.array(z), tiling, geometry=SMALL)]
    np.testing.assert_allclose(np.concatenate(blocks, axis=2).astype(np.float64), want, **limits)


def test_frames_are_ready_once_in_order_and_early() -> None:
    z = numbers(1, 3, 9, 4, 4)
    tiling = tk.Tiling(frames=(16, 4), height=(4, 2), width=(4, 2))
    plan = tk.plan(z.shape, tiling, geometry=SMALL)
    calls = 0
    seen: list[tuple[int, int, int]] = []
    frames: list[Numbers] = []

    def decode(tile: Numbers) -> Numbers:
        nonlocal calls
        calls += 1
        return personal(tile)

    def ready(block: Numbers, start: int) -> None:
        seen.append((start, block.shape[2], calls))
        frames.append(block.copy())

    whole = tk.decode_tiled(decode, z, tiling, geometry=SMALL, tile_batch_size=2, on_frames_ready=ready)
    np.testing.assert_array_equal(np.concatenate(frames, axis=2), whole)
    assert_contiguous([(start, size) for start, size, _ in seen], plan.out_sizes[0])
    # three slabs of 3x3 tiles in 4 shapes, in twos: 4 + 1 + 1 + 1 tiles are 2 + 1 + 1 + 1 calls, or so; none waits
    per_slab = plan.calls(2, streaming=True) // plan.slabs
    assert [at for *_, at in seen] == [per_slab * (i + 1) for i in range(plan.slabs)]


def test_frames_are_ready_when_only_space_is_tiled_and_when_nothing_is() -> None:
    z = numbers(1, 3, 3, 4, 4)
    for tiling in (tk.Tiling(width=(4, 2)), None):
        seen: list[tuple[int, Numbers]] = []
        whole = tk.decode_tiled(
            personal,
            z,
            tiling,
            geometry=SMALL,
            on_frames_ready=collector(seen),
        )
        ((start, block),) = seen
        assert start == 0
        np.testing.assert_array_equal(block, whole)
        ((start, block),) = tk.stream_tiled(personal, z, tiling, geometry=SMALL)
        assert start == 0
        np.testing.assert_array_equal(block, whole)


def test_a_stream_holds_one_slab_and_decodes_as_it_advances() -> None:
    z = numbers(1, 3, 33, 2, 2)
    tiling = tk.Tiling(frames=(16, 8), height=(2, 0))
    alive: list[weakref.ref[Numbers]] = []

    def decode(tile: Numbers) -> Numbers:
        alive.append(weakref.ref(part := personal(tile)))
        return part

    most = 0
    calls = []
    stream = tk.stream_tiled(decode, z, tiling, geometry=SMALL)
    assert not alive  # nothing is decoded before the first block is asked for
    for _, block in stream:
        most = max(most, sum(ref() is not None for ref in alive))
        calls.append(len(alive))
        assert block.shape[2] <= 17
    assert most == 0  # no tile outlives its slab: only strips wait
    assert calls == [2 * (i + 1) for i in range(len(calls))]


def test_a_dropped_stream_stops_and_frees_everything() -> None:
    z = numbers(1, 3, 33, 2, 2)
    calls = 0

    def decode(tile: Numbers) -> Numbers:
        nonlocal calls
        calls += 1
        return personal(tile)

    stream: Iterator[tuple[int, Numbers]] = tk.stream_tiled(decode, z, tk.Tiling(frames=(16, 8)), geometry=SMALL)
    _, block = next(stream)
    held = weakref.ref(block.base if block.base is not None else block)
    del stream, block
    assert calls == 1
    assert held() is None


def test_a_callback_that_raises_leaves_nothing_behind() -> None:
    z = numbers(1, 3, 9, 4, 4)
    tiling = tk.Tiling(frames=(16, 4), width=(4, 2))
    want = tk.decode_tiled(personal, z, tiling, geometry=SMALL)

    def full(_: Any, start: int) -> None:
        if start:
            msg = "disk full"
            raise OSError(msg)

    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            tk.decode_tiled(personal, z, tiling, geometry=SMALL, on_frames_ready=full)
        seen: list[tuple[int, Numbers]] = []
        again = tk.decode_tiled(
            personal,
            z,
            tiling,
            geometry=SMALL,
            on_frames_ready=collector(seen),
        )
        np.testing.assert_array_equal(again, want)
        np.testing.assert_array_equal(np.concatenate([block for _, block in seen], axis=2), want)


def test_two_threads_do_not_disturb_each_other(xp: Library) -> None:
    tiling = tk.Tiling(frames=(16, 4), height=(4, 2), width=(4, 2))
    inputs = [numbers(1, 3, 9, 4, 4) * (i + 1) for i in range(2)]
    want = [tk.decode_tiled(personal, z, tiling, geometry=SMALL) for z in inputs]
    got: dict[int, Any] = {}
    turns = threading.Barrier(2, timeout=30)

    def run(i: int) -> None:
        def decode(tile: Any) -> Any:
            turns.wait()  # the two decodes advance tile by tile together
            return xp.wrap(personal)(tile)

        got[i] = tk.decode_tiled(decode, xp.array(inputs[i]), tiling, geometry=SMALL)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        np.testing.assert_allclose(xp.numpy(got[i]), want[i], atol=TOLERANCE)


def test_progress_counts_tiles_and_the_bar_ends(capsys: pytest.CaptureFixture[str]) -> None:
    z = numbers(1, 3, 9, 4, 4)
    tiling = tk.Tiling(frames=(16, 4), width=(4, 2))
    tiles = len(tk.plan(z.shape, tiling, geometry=SMALL).tiles)
    seen: list[tuple[int, int]] = []
    tk.decode_tiled(personal, z, tiling, geometry=SMALL, tile_batch_size=2, progress=lambda *a: seen.append(a))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (tiles, tiles)
    tk.decode_tiled(personal, z, tiling, geometry=SMALL, progress=True)
    assert f"{tiles}/{tiles}" in capsys.readouterr().err


def test_cancelling_from_progress_closes_the_bar_and_the_run() -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    calls = 0

    def decode(tile: Numbers) -> Numbers:
        nonlocal calls
        calls += 1
        return personal(tile)

    with pytest.raises(KeyboardInterrupt):
        tk.decode_tiled(decode, numbers(1, 3, 9, 4, 4), tk.Tiling(width=(2, 0)), geometry=SMALL, progress=stop)
    assert calls == 2


def test_a_decoder_may_reuse_its_memory() -> None:
    z = numbers(1, 3, 9, 4, 4)
    tiling = tk.Tiling(frames=(16, 12), width=(4, 2), uniform=True)
    memory: list[Numbers] = []

    def decode(tile: Numbers) -> Numbers:
        part = personal(tile)
        if not memory:
            memory.append(part)
        memory[0][...] = part
        return memory[0]

    assert len(tk.plan(z.shape, tiling, geometry=SMALL).shape_groups) == 1
    np.testing.assert_array_equal(
        tk.decode_tiled(decode, z, tiling, geometry=SMALL), tk.decode_tiled(personal, z, tiling, geometry=SMALL)
    )


def test_gradients_flow_through_torch_tiles() -> None:
    torch = pytest.importorskip("torch")
    z = torch.tensor(numbers(1, 2, 3, 2, 6), requires_grad=True)
    decode = torch.nn.Upsample(scale_factor=(1, 2, 2))
    plain = tk.Geometry(
        "plain", tuple(tk.Axis(a.name, a.position, tk.Linear(1 if a.name == "frames" else 2)) for a in SMALL.axes)
    )
    got = tk.decode_tiled(decode, z, tk.Tiling(width=(6, 2), frames=(2, 1)), geometry=plain)
    (tiled,) = torch.autograd.grad((got**2).sum(), z)
    (whole,) = torch.autograd.grad((decode(z) ** 2).sum(), z)
    torch.testing.assert_close(tiled, whole)
