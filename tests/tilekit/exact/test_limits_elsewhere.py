"""Exact runs stay below what a device gets right on MLX and NumPy too, and where ranks share the work."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._graphs import NORMED, Builder, evaluate, graphs
from tests.tilekit.exact._ranks import run_ranks
from tests.tilekit.exact.test_run import numpy_call

import tilekit as tk
from tilekit import PlanError
from tilekit._exact.boxes import cells, full, within
from tilekit._exact.forecast import no_scratch
from tilekit._exact.goals import plain_work, work
from tilekit._exact.program import program_of
from tilekit._exact.strips.choose import plans_of, sizes_of
from tilekit._exact.strips.partition import partition_of
from tilekit.backends.canary import Sizes
from tilekit.backends.limits import Limits
from tilekit.testing import Library, limited


def by_hand() -> Any:
    """A decoder of pictures, said by hand."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) / 6 for shape in ((8, 4, 3, 3), (3, 8, 3, 3))]

    def build(b: Any, z: Any) -> Any:
        z = b.group_norm(b.conv(z, weights[0], padding=1, name="first"), 2, name="norm")
        z = b.upsample(b.pointwise(lambda x: x * abs(x), z), 2, axes=(2, 3))
        return b.conv(z, weights[1], padding=1, name="last")

    return tk.GraphFunction(build)


def of_mlx(kind: str) -> tuple[Any, tuple[int, ...]]:
    pytest.importorskip("mlx.core")
    from tests.tilekit.exact._mlx_networks import Film, Painter, seeded

    return (seeded(Film()), (1, 5, 6, 5, 8)) if kind == "film" else (seeded(Painter((8, 8))), (1, 10, 7, 4))


CASES = {"numpy": ["by hand"], "mlx": ["film", "picture"]}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limited_by=st.sampled_from(["elements", "convolution", "unfolded", "work"]),
    share=st.floats(0.1, 1.3),
    stream=st.booleans(),
)
@example("work", 0.1, False)
@example("work", 0.3, True)
@pytest.mark.parametrize(("library", "kind"), [(name, kind) for name, kinds in CASES.items() for kind in kinds])
def test_results_are_right_or_refused(library: str, kind: str, limited_by: str, share: float, stream: bool) -> None:
    net, shape = (by_hand(), (1, 4, 12, 10)) if kind == "by hand" else of_mlx(kind)
    x = Library(library).array(np.random.default_rng(1).standard_normal(shape, np.float32))
    wanted = Library(library).numpy(net(x))
    largest = {"elements": 3, "convolution": 3, "unfolded": 80, "work": 300}[limited_by] * wanted.size
    chosen: Any = {limited_by: int(share * largest)}
    with limited(Limits(**chosen, unfolds=limited_by == "unfolded"), library) as faults:
        f = tk.exact(net)
        try:
            blocks = list(f.stream(faults.array(x))) if stream else [(0, f(faults.array(x)))]
            axis = f.plan(x, stream=True).axis if stream else 0
        except (PlanError, tk.InputError, tk.DeviceError):
            return
    assert not faults.played
    assert getattr(faults, limited_by) <= chosen[limited_by]
    got = np.concatenate([Library(library).numpy(block) for _, block in blocks], axis)
    assert np.allclose(got, wanted, atol=1e-4 * abs(wanted).max())


@pytest.mark.parametrize(("library", "kind"), [(name, kind) for name, kinds in CASES.items() for kind in kinds])
def test_a_limit_makes_smaller_steps(library: str, kind: str) -> None:
    net, shape = (by_hand(), (1, 4, 12, 10)) if kind == "by hand" else of_mlx(kind)
    x = Library(library).array(np.random.default_rng(1).standard_normal(shape, np.float32))
    f = tk.exact(net, memory_bytes=1 << 40)
    with limited(Limits(elements=1 << 40), library) as free:
        wanted = Library(library).numpy(f(free.array(x)))
    most = max(wanted.size, x.size, free.elements * 2 // 3)
    with limited(Limits(elements=most), library) as faults:
        got = Library(library).numpy(f(faults.array(x)))
    assert most < free.elements
    assert faults.elements <= most
    assert not faults.played
    assert np.allclose(got, wanted, atol=1e-4 * abs(wanted).max())


@settings(max_examples=25, deadline=None)
@given(built=graphs(NORMED), ranks=st.integers(2, 4), share=st.floats(0.2, 1.1))
def test_ranks_stay_below_the_limits_together(built: Builder, ranks: int, share: float) -> None:
    graph = built.graph()
    live = [node for node in graph.nodes if graph.live[node.index]]
    most = max(1, int(share * max(int(np.prod(node.shape)) for node in live)))
    most_work = max(1, int(2 * share * max(work(graph, node) for node in live)))
    limits = Limits(elements=most, work=most_work)
    try:
        plans = plans_of(graph, ranks, None, no_scratch, limits=limits)
    except PlanError:
        return
    result = np.zeros(graph.nodes[graph.output].shape, np.float32)

    def write(box: Any, value: Any) -> None:
        result[within(full(result.shape), box)] = value

    call = numpy_call(built, program_of(graph, plans.stages))
    wanted = evaluate(graph, call.kernels, call.source, call.constants)
    sizes: list[list[int]] = [[0] for _ in range(ranks)]
    worked: list[int] = []

    def counted(program: Any) -> Any:
        held = numpy_call(built, program)
        for name in ("run", "empty", "concat", "copy"):
            setattr(held.kernels, name, _spoiling(getattr(held.kernels, name), sizes[program.rank], most))
        run = held.kernels.run

        def heard(node: Any, shapes: Any, box: Any, *rest: Any) -> Any:
            worked.append(node.op.work(node.shape, shapes) * cells(box))
            return run(node, shapes, box, *rest)

        setattr(held.kernels, "run", heard)  # noqa: B010  mypy knows no other method in the place of one
        return held

    run_ranks(counted, partition_of(graph, ranks), plans.stages, result, write)
    for rank, met in enumerate(sizes):  # the canary of a rank is asked near the sizes of its own part
        said = sizes_of(plans, rank, no_scratch, limits, stream=False)
        assert max(met) <= said.elements <= most
    assert max(worked) <= most_work
    np.testing.assert_allclose(result, wanted, rtol=2e-4, atol=2e-4)


def _spoiling(method: Any, sizes: list[int], most: int) -> Any:
    """Ranks are threads here, in which `limited` plays nothing."""

    def called(*args: Any) -> Any:
        made = method(*args)
        sizes.append(made.size)
        return made * 0 if made.size > most else made

    return called


def test_each_rank_is_asked_near_the_sizes_of_its_own_part() -> None:
    from tilekit._exact.trace import trace

    graph = trace(by_hand(), np.zeros((1, 4, 12, 50), np.float32)).graph
    plans = plans_of(graph, 4, None, no_scratch, limits=Limits(elements=1 << 20))
    sizes = [sizes_of(plans, rank, no_scratch, Limits(elements=1 << 20), stream=False) for rank in range(4)]
    own = [plans.halos.own(rank, graph.output, full(graph.nodes[graph.output].shape)) for rank in range(4)]
    columns = [box[3][1] - box[3][0] for box in own if box is not None]
    assert sorted(columns) == [24, 24, 26, 26]  # 50 columns, twice as many of the result, for four
    pairs = sorted(zip(columns, [size.elements for size in sizes], strict=True))
    assert pairs[0] == pairs[1] < pairs[2] == pairs[3]
    assert pairs[1][1] < pairs[2][1]
    assert sum(size.work for size in sizes) == pytest.approx(plain_work(graph), abs=4)
    assert sizes_of(plans, 0, no_scratch, Limits(), stream=False) == Sizes()


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_rank_is_refused_what_it_would_gather(stream: bool) -> None:
    from tilekit._exact.trace import trace

    graph = trace(by_hand(), np.zeros((1, 4, 12, 10), np.float32)).graph
    plans = plans_of(graph, 2, None, no_scratch, limits=Limits(elements=4000), stream=stream)
    whole = int(np.prod(graph.nodes[graph.output].shape))
    plans.refuse_gathered(Limits(elements=whole), stream=stream)
    with pytest.raises(PlanError, match="that the first rank gathers would have"):
        plans.refuse_gathered(Limits(elements=whole // 24 - 1 if stream else whole - 1), stream=stream)  # of 24 rows


def test_ranks_are_refused_what_none_can_make() -> None:
    net = by_hand()
    from tilekit._exact.trace import trace

    graph = trace(net, np.zeros((1, 4, 12, 10), np.float32)).graph
    free = plans_of(graph, 2, None, no_scratch, limits=Limits(elements=4000))
    assert max(len(stage.steps) for stage in free.stages) > 1
    with pytest.raises(PlanError, match="small enough for the device"):
        plans_of(graph, 2, None, no_scratch, limits=Limits(elements=100))
