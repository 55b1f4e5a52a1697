"""Fuzz plans, their JSON, and configurations: legal ones keep the laws, others are refused by name."""

import json
import math
from copy import deepcopy
from random import Random
from typing import Any

import numpy as np

import tilekit as tk
from tilekit.testing import enlarge

GEOMETRIES = [getattr(tk, name) for name in sorted(vars(tk)) if isinstance(getattr(tk, name), tk.Geometry)]
MOST_CELLS = 200_000  # of an output that is computed
ODD: tuple[Any, ...] = (
    -1,
    0,
    1,
    2,
    7,
    8,
    31,
    32,
    10**9,
    2**53 + 1,
    10**40,
    0.5,
    math.nan,
    True,
    None,
    "8",
    [],
    {},
    [[0, 1, 0, 0]],
)


def numbers(random: Random, factor: int) -> tuple[int, ...]:
    """Draw size, overlap and perhaps a least size, mostly on the grid."""
    size = random.randint(1, 9)
    drawn = [size, random.randint(0, size), *([random.randint(1, size + 1)] if random.random() < 0.3 else [])]
    return tuple(n * factor + (random.random() < 0.02) for n in drawn)


def drawn_plan(random: Random) -> tuple[tk.Plan, tk.Tiling, Any]:
    """Draw a plan, which may be refused, with the tiling and the halo that it is of."""
    geometry = random.choice(GEOMETRIES)
    direction: Any = random.choice(["decode", "encode"])
    latents = {axis.name: random.randint(1, 14) for axis in geometry.axes}
    shape = [random.choice([1, 2])] * geometry.ndim
    for axis in geometry.axes:
        n = latents[axis.name]
        shape[axis.position] = n if direction == "decode" else axis.law.length(n)
    by_count = random.random() < 0.3
    asked = {a.name: numbers(random, 1 if by_count else a.law.factor) for a in geometry.axes if random.random() < 0.7}
    make = tk.Tiling.by_count if by_count else tk.Tiling
    halo: Any = None
    if random.random() < 0.2:
        halo = {a.name: (random.randint(0, 3), random.randint(0, 3)) for a in geometry.axes}
    tiling = make(uniform=random.random() < 0.3, **asked)
    return tk.plan(shape, tiling, geometry=geometry, direction=direction, halo=halo), tiling, halo


def fuzz_plan(random: Random) -> None:
    """Weights sum to one, calls and forecasts agree with the tiles, and a tiled decode is the whole one."""
    try:
        plan, tiling, halo = drawn_plan(random)
    except tk.PlanError:
        return
    assert tk.Plan.from_json(plan.to_json()) == plan
    assert str(plan)
    for cells, segments in zip(plan.out_sizes, plan.segments, strict=True):
        assert [s.start for s in segments] == [0, *(s.stop for s in segments[:-1])]
        assert segments[-1].stop == cells
        for segment in segments:
            if segment.weights is not None:
                sums = np.sum(segment.weights, axis=0)
                assert np.abs(sums - 1).max() < 1e-12
    size = random.randint(1, 5) if plan.geometry.batch is not None else 1
    assert math.ceil(plan.n_tiles / size) <= plan.calls(size) <= plan.n_tiles
    output = 3 * 4 * math.prod(plan.out_sizes) * (1 if plan.geometry.batch is None else plan.shape[plan.geometry.batch])
    assert plan.peak_bytes(tile_batch_size=size) >= (output if plan.geometry.channel is not None else output // 3)
    assert plan.peak_bytes(tile_batch_size=size, streaming=True) > 0
    if plan.direction == "decode" and math.prod(plan.out_sizes) < MOST_CELLS:
        _decode(plan, tiling, halo, size)


def _decode(plan: tk.Plan, tiling: tk.Tiling, halo: Any, size: int) -> None:
    """Compare a decode in tiles with the whole, for a decoder that looks at no neighbour."""
    z = np.random.default_rng(0).standard_normal(plan.shape).astype(np.float32)
    options: dict[str, Any] = {"geometry": plan.geometry, "tile_batch_size": size, "halo": halo}
    options["blend"] = "linear" if halo is None else "crop"
    want = enlarge(z, plan.geometry)
    got = tk.decode_tiled(lambda tile: enlarge(tile, plan.geometry), z, tiling, **options)
    assert np.abs(got - want).max() < 1e-5
    blocks = [b for _, b in tk.stream_tiled(lambda tile: enlarge(tile, plan.geometry), z, tiling, **options)]
    streamed = np.concatenate(blocks, axis=plan.geometry.axes[0].position)
    assert np.abs(streamed - want).max() < 1e-5


def fuzz_json(random: Random) -> None:
    """A plan with one thing in it replaced is refused or is a plan; nothing else, and at once."""
    try:
        value = json.loads(drawn_plan(random)[0].to_json())
    except tk.PlanError:
        return
    for _ in range(random.randint(1, 3)):
        place: Any = value
        key: Any = random.choice(list(place))
        while isinstance(place[key], dict | list) and place[key] and random.random() < 0.8:
            place = place[key]
            key = random.choice(list(place)) if isinstance(place, dict) else random.randrange(len(place))
        place[key] = deepcopy(random.choice(ODD))
    text = json.dumps(value)
    if random.random() < 0.2:
        text = text[: random.randrange(len(text))]
    try:
        plan = tk.Plan.from_json(text)
    except tk.PlanError:
        return
    assert tk.Plan.from_json(plan.to_json()) == plan


def fuzz_configuration(random: Random) -> None:
    """Configurations of pixels and frames are refused by name, or plan whatever is on the grid."""

    def odd(*usual: int) -> Any:
        return random.choice(ODD) if random.random() < 0.2 else random.choice(usual)

    height, width = 32 * random.randint(1, 40), 32 * random.randint(1, 40)
    try:
        space = tk.SpatialTilingConfig(odd(64, 128, 256, 512, 768), odd(0, 32, 64))
        time = tk.TemporalTilingConfig(odd(16, 32, 64, 80), odd(0, 8, 16, 24))
        made = tk.TilingConfig.from_long_side(height, width, spatial_config=space, temporal_config=time)
        for tiling in (made, tk.TilingConfig(space, time)):
            shape = (1, 128, random.randint(1, 20), height // 32, width // 32)
            assert tk.plan(shape, tiling, geometry=tk.LTX2_VIDEO).redundant_work >= 1
    except tk.PlanError:
        return
