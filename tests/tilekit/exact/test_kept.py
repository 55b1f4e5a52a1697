"""What a plan keeps is read later, and goes when the last that reads it has read."""

from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tilekit.exact._nets import batched_decoder, cached_decoder, image_decoder, image_encoder, nets, video_decoder

from tilekit import PlanError
from tilekit._exact.boxes import Box, meet
from tilekit._exact.forecast import forecast
from tilekit._exact.graph import Graph
from tilekit._exact.program import Program, StagePlan, program_of
from tilekit._exact.schedule import StepSchedule
from tilekit._exact.search import search
from tilekit._exact.stages import plain

NETWORKS = [
    image_decoder,
    image_encoder,
    batched_decoder,
    partial(video_decoder, 5),
    partial(cached_decoder, 3, 9, 9),
]


def planned(graph: Graph, share: float) -> Program:
    """Plan for a share of a plain call, or without a budget where that cannot be had."""
    try:
        return search(graph, int(share * forecast(program_of(graph, plain(graph))).peak_bytes)).program
    except PlanError:
        return search(graph).program


def steps(program: Program) -> Iterator[tuple[StagePlan, int, StepSchedule]]:
    """Give all steps of all stages in order."""
    for stage in program.stages:
        for number, step in enumerate(stage.steps):
            yield stage, number, step


def check_stored(program: Program) -> None:
    """Each stored box is read by a later stage, and none is left when the last step that reads it is over."""
    held: dict[int, list[tuple[int, Box]]] = {}
    read: set[tuple[int, int, Box]] = set()
    last = {node: at for at, (_, _, step) in enumerate(steps(program)) for node, _ in step.reads}
    axis = {kept.node: kept.axis for stage in program.stages for kept in stage.stage.keep}
    for at, (stage, number, step) in enumerate(steps(program)):
        for node, box in step.reads:
            read |= {(node, *part) for part in held.get(node, ()) if meet(part[1], box) is not None}
        for node, row in stage.releases[number]:
            if node in axis:
                held[node] = [] if row is None else [p for p in held[node] if p[1][axis[node]][1] > row]
                assert (row is None) == (at == last[node])
        for node, box in stage.stage.steps[number].targets:
            if any(kept.node == node for kept in stage.stage.keep):
                held.setdefault(node, []).append((at, box))
    made = {
        (node, at, box)
        for at, (stage, number, _) in enumerate(steps(program))
        for node, box in stage.stage.steps[number].targets
        if any(kept.node == node for kept in stage.stage.keep)
    }
    assert made == read
    assert not any(held.values())


def check_windows(program: Program) -> None:
    """What a step leaves of an array is read by a later step of its track, before it is made anew."""
    for stage in program.stages:
        for number, step in enumerate(stage.steps):
            later = [other for other in stage.steps[number + 1 :] if other.track == step.track]
            left = [pair for make in step.makes for pair in make.settled] + list(step.settled)
            for node, box in left:
                if box is not None:
                    assert any(_reads(program.graph, other, node, box) for other in later)


def _reads(graph: Graph, step: StepSchedule, node: int, box: Box) -> bool:
    """Whether a step reads a box of a node that is there, or hands it out."""
    needs = (
        need
        for make in step.makes
        for source, need in zip(graph.nodes[make.node].inputs, make.needs, strict=False)
        if source == node and need is not None
    )
    given = (emitted for emitter, emitted in step.emits if emitter == node)
    parts = (make.emit for make in step.makes if make.node == node and make.emit is not None)
    return any(meet(one, box) is not None for one in (*needs, *given, *parts))


@pytest.mark.parametrize("share", [0.6, 0.4])
@pytest.mark.parametrize("make", NETWORKS)
def test_networks_keep_what_is_read_later(make: partial[Graph], share: float) -> None:
    program = planned(make(), share)
    assert program.n_steps > 1
    check_stored(program)
    check_windows(program)


@settings(max_examples=12)
@given(nets(), st.sampled_from([0.8, 0.5]))
def test_random_networks_keep_what_is_read_later(graph: Graph, share: float) -> None:
    program = planned(graph, share)
    check_stored(program)
    check_windows(program)
