"""Plans: counts, JSON both ways, the table, the picture, the forecast, and tilings for a budget."""

import json
import sys
from contextlib import suppress
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, composite, floats, integers, just, sampled_from, tuples

import tilekit as tk
from tilekit._plan import fit
from tilekit._plan.forecast import Costs
from tilekit._plan.schedule import schedule

VIDEO = tk.LTX2_VIDEO
ENCODE = tk.Tiling(height=(512, 128), width=(512, 128))
UNIFORM = tk.Tiling(height=(512, 128), width=(512, 128), uniform=True)
GEOMETRIES = [getattr(tk, name) for name in dir(tk) if isinstance(getattr(tk, name), tk.Geometry)]


@pytest.mark.parametrize(
    ("height", "width", "size", "tiles", "calls", "uniform_calls"),
    # 1080 and 720 rows are no multiples of 32: 1056 and 704 are
    [
        (2144, 3840, 45, 60, 4, 2),
        (1056, 1920, 8, 15, 4, 2),
        (1440, 2560, 18, 28, 4, 2),
        (704, 1280, 3, 6, 2, 2),
        (896, 896, 4, 4, 1, 1),
    ],
)
def test_batches_of_equal_tiles_are_as_few_as_they_can_be(
    height: int, width: int, size: int, tiles: int, calls: int, uniform_calls: int
) -> None:
    shape = (1, 3, 1, height, width)
    plan = tk.plan(shape, ENCODE, geometry=VIDEO, direction="encode")
    assert (len(plan.tiles), plan.calls(), plan.calls(size)) == (tiles, tiles, calls)
    assert len(plan.shape_groups) == calls
    uniform = tk.plan(shape, UNIFORM, geometry=VIDEO, direction="encode")
    assert len(uniform.shape_groups) == 1
    assert (uniform.calls(size), uniform.calls(len(uniform.tiles))) == (uniform_calls, 1)


def test_the_same_counts_hold_for_a_clip_in_time() -> None:
    tiling = tk.Tiling(frames=(64, 24), height=(512, 128), width=(512, 128))
    plan = tk.plan((2, 3, 121, 704, 1280), tiling, geometry=VIDEO, direction="encode")
    assert [[len(s) for s in spans] for spans in plan.spans] == [[8, 9, 7], [16, 10], [16, 16, 16]]
    assert plan.calls(100) == len(plan.shape_groups) == 6  # three lengths, two heights
    assert plan.calls(100, streaming=True) == 6  # every slab has a length of its own here
    uniform = tk.plan(
        (2, 3, 121, 704, 1280),
        tk.Tiling(frames=(64, 24), height=(512, 128), width=(512, 128), uniform=True),
        geometry=VIDEO,
        direction="encode",
    )
    assert (len(uniform.shape_groups), uniform.calls(18), uniform.calls(18, streaming=True)) == (1, 1, 3)


def test_the_redundant_work_of_the_published_tilings() -> None:
    shape = (1, 128, 16, 34, 60)  # 1088x1920, 121 frames
    assert tk.plan(shape, tk.TilingConfig.default(), geometry=VIDEO).redundant_work == pytest.approx(1.79, abs=0.005)
    wide = tk.Tiling(frames=(80, 24), height=(768, 64), width=(768, 64))
    assert tk.plan(shape, wide, geometry=VIDEO).redundant_work == pytest.approx(1.37, abs=0.015)
    assert tk.plan(shape, None, geometry=VIDEO).redundant_work == 1.0


@composite
def plans(draw: Any) -> tk.Plan:
    """Any legal plan of any preset."""
    geometry = draw(sampled_from(GEOMETRIES))
    shape = [1] * geometry.ndim
    axes: dict[str, Any] = {}
    halo: dict[str, tuple[int, int]] = {}
    for axis in geometry.axes:
        shape[axis.position] = draw(integers(1, 20))
        size = draw(integers(1, 10))
        overlap = draw(integers(0, size - 1))
        axes[axis.name] = draw(sampled_from([None, (size * axis.law.factor, overlap * axis.law.factor)]))
        halo[axis.name] = draw(tuples(integers(0, 3), integers(0, 3)))
    tiling = tk.Tiling(**axes, uniform=draw(booleans()))
    direction = draw(sampled_from(["decode", "encode"]))
    if direction == "encode":
        for axis in geometry.axes:
            shape[axis.position] = axis.law.length(shape[axis.position])
    return tk.plan(shape, tiling, geometry=geometry, direction=direction, halo=draw(sampled_from([None, halo])))


@given(plan=plans())
def test_a_plan_survives_json_and_is_hashable(plan: tk.Plan) -> None:
    again = tk.Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.tiles == plan.tiles
    assert str(again) == str(plan)


@given(plan=plans(), size=integers(1, 9), streaming=booleans())
def test_every_tile_is_run_once_and_results_become_final_in_order(plan: tk.Plan, size: int, streaming: bool) -> None:
    steps = list(schedule(plan, size, by_slab=streaming))
    run = [tile for step in steps for tile in step.tiles]
    assert sorted(run, key=lambda t: t.index) == list(plan.tiles)
    assert all(len({tile.shape for tile in step.tiles}) == 1 and len(step.tiles) <= size for step in steps)
    finals = [step.final for step in steps]
    assert finals == sorted(finals)
    assert finals[-1] == plan.out_sizes[0]
    seen: set[tuple[int, ...]] = set()
    for step in steps:
        seen |= {tile.index for tile in step.tiles}
        for tile in plan.tiles:
            if tile.index not in seen:  # nothing that is still to come touches what is final
                begin = min(s.start for s in plan.segments[0] if tile.index[0] in s.tiles)
                assert begin >= step.final
    if streaming:
        assert [tile.index[0] for tile in run] == sorted(tile.index[0] for tile in run)


@given(plan=plans())
def test_blocks_of_a_stream_end_where_the_schedule_has_finished(plan: tk.Plan) -> None:
    """A stream opens a block to its end and closes it when a call has finished that many cells: the two must agree."""
    start = 0
    for call in schedule(plan, 1, by_slab=True):
        if call.final > start:
            assert call.final == plan.block_end(start)
            start = call.final
    assert start == plan.out_sizes[0]
    assert len(plan.slab_starts) == plan.slabs


@given(plan=plans())
def test_tiles_read_and_write_inside_the_arrays_and_cover_the_output(plan: tk.Plan) -> None:
    for number, axis in enumerate(plan.geometry.axes):
        size = plan.shape[axis.position]
        assert all(0 <= t.src[number][0] < t.src[number][1] <= size for t in plan.tiles)
        assert all(0 <= t.dst[number][0] < t.dst[number][1] <= plan.out_sizes[number] for t in plan.tiles)
        covered = [(s.start, s.stop) for s in plan.segments[number]]
        assert covered[0][0] == 0
        assert covered[-1][1] == plan.out_sizes[number]


@given(plan=plans(), size=integers(1, 4))
def test_the_forecast_is_at_least_the_output_and_streaming_holds_no_more(plan: tk.Plan, size: int) -> None:
    whole = plan.peak_bytes(channels=3, itemsize=4, tile_batch_size=size)
    output = 12
    for n in plan.out_sizes:
        output *= n
    assert whole >= output
    assert plan.peak_bytes(channels=6, itemsize=4, tile_batch_size=size) == 2 * whole
    if len(plan.spans[0]) > 1 and size == 1:
        assert plan.peak_bytes(channels=3, itemsize=4, streaming=True) <= whole + output


def test_the_table_names_every_axis_and_cost() -> None:
    text = str(tk.plan((1, 128, 16, 34, 60), tk.TilingConfig.default(), geometry=VIDEO))
    for part in ("decode ltx2-video", "frames  16", "0-8 4-13 9-16", "8/9", "1088", "45 tiles in 12 shapes", "1.79x"):
        assert part in text
    cropped = str(tk.plan((1, 4, 64, 64), tk.Tiling(width=(256, 0)), geometry=tk.SD_IMAGE, halo={"width": (3, 4)}))
    assert "3/4" in cropped
    assert "cropped" in cropped


def broken(**changes: Any) -> str:
    value = json.loads(tk.plan((1, 4, 8, 8), tk.Tiling(width=(32, 16)), geometry=tk.SD_IMAGE).to_json())
    value |= changes
    return json.dumps(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a plan of tilekit"),
        ("[1]", "not a plan of tilekit"),
        ("{}", "not a plan of tilekit: 'tilekit_plan'"),
        (broken(tilekit_plan=2), "version 2"),
        (broken(direction="sideways"), "sideways"),
        (broken(shape=[1, 4, 8]), "expected 4 axes"),
        (broken(shape=[1, 4, 8, 8.0]), "expected an integer, got 8.0"),
        (broken(shape=[1, 4, 8, 9]), "width: these spans do not cover 9 cells"),
        (broken(spans=[[[0, 8, 0, 0]], [[0, 4, 0, 0], [5, 8, 0, 0]]]), "width: these spans do not cover 8 cells"),
        (broken(spans=[[[0, 8, 0, 0]], [[0, 4, 0, 9], [3, 8, 1, 0]]]), "do not cover"),
        (broken(spans=[[[0, 8, 0, 0]]]), "expected spans .* for 2 axes, got 1"),
        (broken(spans=[[[0, 8, 0, 0]], []]), "do not cover"),
        (broken(halo=[[1, 1]]), "for 2 axes"),
        (broken(halo=[[1, -1], [0, 0]]), "a halo must be at least 0"),
        (broken(geometry={"name": "x"}), "not a geometry"),
        (broken(geometry={"name": "x", "axes": [["w"]], "batch": 0, "channel": 1}), "not an axis"),
    ],
)
def test_text_that_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(tk.PlanError, match=message):
        tk.Plan.from_json(text)


def test_uniform_tiles_below_the_least_size_are_refused() -> None:
    tiling = tk.Tiling(width=(10 * 32, 0, 10 * 32), uniform=True)
    with pytest.raises(tk.PlanError, match="uniform tiles would have 6 cells, min_size is 10"):
        tk.plan((1, 128, 1, 8, 12), tiling, geometry=VIDEO)


def test_integers_of_numpy_are_integers() -> None:
    number = np.int64(256)
    tiling = tk.Tiling(width=(number, np.int32(64)))  # type: ignore[arg-type]
    made = tk.plan(np.array([1, 128, 2, 8, 12]), tiling, geometry=VIDEO)  # type: ignore[arg-type]
    assert tk.Plan.from_json(made.to_json()) == made
    assert tk.plan((1, 3, 8), None, geometry=tk.Geometry("g", (tk.Axis("time", 2, tk.Linear(np.int8(4))),))).to_json()  # type: ignore[arg-type]
    assert made.calls(np.int64(3)) == made.calls(3)  # type: ignore[arg-type]
    with pytest.raises(tk.PlanError, match="must be integers"):
        tk.Tiling(width=(np.True_, 0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"geometry": None}, "geometry must be a Geometry, such as tilekit.LTX2_VIDEO, got None"),
        ({"geometry": VIDEO, "tiling": "default"}, "tiling must be a Tiling, a TilingConfig or None, got 'default'"),
    ],
)
def test_other_things_than_geometries_and_tilings_are_refused(options: Any, text: str) -> None:
    with pytest.raises(tk.PlanError, match=text):
        tk.plan((1, 128, 2, 8, 12), **options)


def hostile(**changes: Any) -> str:
    value = json.loads(tk.plan((1, 4, 64, 96), tk.Tiling(width=(256, 64)), geometry=tk.SD_IMAGE).to_json())
    return json.dumps(value | changes)


MANY_AXES = [[f"a{i}", i, ["linear", 1]] for i in range(30)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "not a plan"),
        (hostile(shape=[1, 4, 64, 10**30]), "at most 9007199254740992 cells"),
        (
            hostile(shape=[1, 4, 64, 10**9], spans=[[[0, 64, 0, 0]], [[0, 10**9 - 1, 0, 10**8], [1, 10**9, 10**8, 0]]]),
            "more than 8000000 weights",
        ),
        (
            hostile(
                shape=[2] * 30,
                geometry={"name": "g", "axes": MANY_AXES, "batch": None, "channel": None},
                spans=[[[0, 1, 0, 0], [1, 2, 0, 0]]] * 30,
            ),
            "at most 250000 tiles, this one would have 1073741824",
        ),
        (hostile(spans=[[[0, 64, 0, 0]], [[-(10**40), 96, 0, 0]]]), "do not cover"),
        (hostile(spans=[[[0, 64, 0, 0]], [[0, 96, 10**40, 0]]]), "do not cover"),
        (
            hostile(
                geometry={
                    "name": "g",
                    "axes": [["h", 2, ["linear", 10**30]], ["w", 3, ["linear", 8]]],
                    "batch": 0,
                    "channel": 1,
                }
            ),
            "9007199254740992 cells along an axis",
        ),
        (hostile(halo=[[0, 10**400], [0, 0]]), "a halo must be at least 0 and at most 9007199254740992 latents"),
        (hostile(halo=7), "not a plan"),
        (hostile(spans={}), "spans"),
        ("7", "not a plan"),
        ('{"tilekit_plan": 1, "direction": {"a": []}}', "not a plan"),
    ],
)
def test_hostile_text_is_refused_at_once(text: str, message: str) -> None:
    with pytest.raises(tk.PlanError, match=message):
        tk.Plan.from_json(text)


def test_planning_is_linear_in_tiles() -> None:
    """The work is counted, not timed: a plan of ten times the tiles looks at ten times the segments."""
    looked = []
    for latents in (500, 5000):
        made = tk.plan((1, 128, latents, 8, 8), tk.Tiling(frames=(64, 24)), geometry=VIDEO)
        calls = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count)
        try:
            made.peak_bytes(streaming=True)
            made.calls(4)
        finally:
            sys.setprofile(None)
        looked.append(calls)
    assert looked[1] < 11 * looked[0]


@pytest.mark.parametrize("streaming", [False, True])
def test_fit_gives_the_least_work_that_fits_and_says_so_when_nothing_does(streaming: bool) -> None:
    shape = (1, 128, 16, 12, 20)
    options: dict[str, Any] = {"geometry": VIDEO, "decoder_bytes_per_cell": 60, "streaming": streaming}
    assert tk.Tiling.fit(shape, memory_bytes=1 << 40, **options) == tk.Tiling()
    work = 1.0
    for budget in (2000, 1600, 1200, 800):
        try:
            tiling = tk.Tiling.fit(shape, memory_bytes=budget << 20, **options)
        except tk.PlanError:
            assert budget == 800  # the output alone is 347 MiB, and tiles and strips come on top
            assert not streaming
            break
        plan = tk.plan(shape, tiling, geometry=VIDEO)
        largest = max(plan.tiles, key=lambda t: t.shape)
        cells = 1
        for start, stop in largest.dst:
            cells *= stop - start
        assert plan.peak_bytes(streaming=streaming) + 60 * cells <= budget << 20
        assert plan.redundant_work >= work  # less memory never takes less work
        work = plan.redundant_work
    assert work > 1
    with pytest.raises(
        tk.PlanError,
        match=r"no tiling fits into 1000 bytes, even|output alone takes \d+ bytes, more than memory_bytes=1000",
    ):
        tk.Tiling.fit(shape, memory_bytes=1000, **options)


@pytest.mark.parametrize(
    ("memory_bytes", "itemsize", "streaming"), [(6330175488, 2, False), (512 << 20, 4, True), (1 << 30, 4, True)]
)
def test_a_budget_on_the_edge_walks_through_few_tilings(
    monkeypatch: pytest.MonkeyPatch, memory_bytes: int, itemsize: int, streaming: bool
) -> None:
    """Of the 2474 tilings of 61 latents 881, 82 and 215 were forecast tile by tile in these cases."""
    walked = []
    forecast = Costs.engine_bytes

    def counted(costs: Costs, layout: Any, **limit: float) -> int:
        walked.append(layout.n_tiles)
        return forecast(costs, layout, **limit)

    monkeypatch.setattr(Costs, "engine_bytes", counted)
    options: dict[str, Any] = {"geometry": VIDEO, "decoder_bytes_per_cell": 60, "itemsize": itemsize}
    with suppress(tk.PlanError):
        tk.Tiling.fit((1, 128, 61, 34, 60), memory_bytes=memory_bytes, streaming=streaming, **options)
    assert len(walked) <= 3


@settings(max_examples=60)
@given(
    shape=tuples(just(1), just(8), integers(1, 12), integers(1, 9), integers(1, 9)),
    overlap=integers(0, 3),
    share=floats(0, 1),
    itemsize=sampled_from([1, 2, 4]),
    together=integers(1, 3),
    streaming=booleans(),
)
def test_no_tiling_of_less_work_fits_than_the_one_that_is_chosen(
    shape: tuple[int, ...], overlap: int, share: float, itemsize: int, together: int, streaming: bool
) -> None:
    """The search skips tilings by a bound, and must skip none that fits: all are forecast here."""
    costs = Costs(3, itemsize, together, streaming, 7)
    rows = list(product(*(fit._choices(a, shape[a.position], overlap) for a in VIDEO.axes)))
    needed = {}
    for row in rows:
        layout = fit._layout(row, VIDEO, shape)
        needed[row] = costs.engine_bytes(layout) + costs.decoder_bytes(layout)
    budget = int(min(needed.values()) + share * (max(needed.values()) - min(needed.values())))
    chosen = fit.fit(shape, VIDEO, costs, memory_bytes=budget, overlap_cells=overlap)
    best = min(prod(c.work for c in row) for row, size in needed.items() if size <= budget)
    (work,) = {prod(c.work for c in row) for row in rows if fit._requests(row) == chosen}
    assert work == best


def test_the_plan_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    figure = tk.plan(
        (1, 128, 5, 8, 12), tk.Tiling(frames=(16, 8), height=(128, 32), width=(160, 64)), geometry=VIDEO
    ).plot()
    *rows, plane = figure.axes
    assert [ax.get_ylabel() for ax in rows] == ["frames", "height", "width"]
    for ax in rows:  # the dotted line is the sum of the weights
        (line,) = [line for line in ax.lines if line.get_label() == "sum"]
        assert np.asarray(line.get_ydata()) == pytest.approx(1.0, abs=1e-9)
    assert len(plane.patches) > 4
    assert tk.plan((1, 64, 8), geometry=tk.OOBLECK_AUDIO).plot().axes
