"""Goals and the frontiers between them."""

from collections.abc import Iterator
from functools import partial
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.tilekit.exact._nets import (
    Net,
    cached_decoder,
    cached_encoder,
    image_decoder,
    image_encoder,
    nets,
    video_decoder,
)

from tilekit._exact.barriers import Barriers
from tilekit._exact.cuts import GIVEN, LATER, Cuts, Leaving
from tilekit._exact.frontiers import Frontiers
from tilekit._exact.goals import parts
from tilekit._exact.graph import Graph
from tilekit._exact.labels import candidates, labels
from tilekit._exact.ops import Attention, Input, Moments, Whole


def barriers(graph: Graph, axis: int = 2, along: int | None = None) -> Barriers:
    return Barriers(graph, labels(graph, axis), along)


def test_a_statistic_is_a_barrier_where_its_axis_is_cut() -> None:
    graph = image_decoder()
    held = barriers(graph)
    taken = {index for goal in held.goals for index in goal.statistics}
    assert taken == {n.index for n in graph.nodes if isinstance(n.op, Moments)}


def test_statistics_of_each_frame_are_no_barrier_in_time_but_in_space() -> None:
    net = Net((1, 4, 4, 8, 8))
    x = net.causal(net.input, 8)
    graph = net.graph(net.causal(net.norm(x, 4, (0, 2)), 3))
    assert len(barriers(graph, 2).goals) == 1
    assert len(barriers(graph, 3).goals) == 2


def test_a_sum_over_the_axis_is_a_barrier_and_over_another_is_none() -> None:
    net = Net((1, 4, 8, 8))
    x = net.conv(net.input, 4)
    y = net.plus(x, net.total(x, (1,)))
    graph = net.graph(net.plus(y, net.total(y, (2, 3))))
    assert [goal.statistics for goal in barriers(graph).goals] == [(net.nodes[-2].index,), ()]


def test_keys_and_values_are_complete_before_a_row_of_attention() -> None:
    graph = image_decoder()
    attention = next(n for n in graph.nodes if isinstance(n.op, Attention))
    assert attention.inputs[1:] in {goal.nodes for goal in barriers(graph).goals}


def test_what_is_not_understood_is_a_barrier() -> None:
    net = Net((1, 4, 16))
    x = net.conv(net.input, 4)
    y = net.add(Whole("lstm", lambda *_: None), (x,), net.shape(x))
    assert barriers(net.graph(net.conv(y, 4))).goals[0].nodes == (x,)


def test_the_output_is_taken_apart_where_it_is_a_concatenation() -> None:
    graph = cached_decoder(4)
    pieces, tail = parts(graph, 2)
    assert [interval for _, interval in pieces] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert tail == {graph.output}
    assert parts(graph, 3)[0] == ((graph.output, (0, 12)),)


def test_the_output_is_taken_apart_through_convolutions_of_one_cell() -> None:
    graph = cached_encoder(3)
    assert [interval for _, interval in parts(graph, 2)[0]] == [(0, 1), (1, 2), (2, 3)]
    assert len(parts(graph, 3)[0]) == 1


def test_what_does_not_need_each_other_is_joined_in_one_goal_and_attention_let_go_before_the_next() -> None:
    graph = cached_encoder(4)
    chunks = [n for n in graph.nodes if isinstance(n.op, Attention)]
    apart = barriers(graph, 3)
    joined = Barriers(graph, labels(graph, 3), joined=True)
    assert len(apart.goals) == 5
    assert len(joined.goals) == 3
    read, given, last = joined.goals
    assert set(read.nodes) == {index for node in chunks for index in node.inputs[1:]}
    assert all(joined.ready[index] == 0 for index in given.nodes)
    assert len(given.nodes) == len(chunks)
    assert last == apart.goals[-1]


def test_what_is_handed_on_from_part_to_part_is_kept() -> None:
    held = barriers(cached_decoder(3), 3, 2)
    assert [goal.part[2] for goal in held.goals if goal.part] == [(0, 1), (1, 2), (2, 3)]
    assert Frontiers(held).lasting.work == held.spent(frozenset(range(len(held.graph.nodes))))


@given(nets(), st.data())
def test_a_frontier_separates_what_is_known_from_what_comes(graph: Graph, data: st.DataObject) -> None:
    """Every stage finds all that it reads: made in it, kept before it, or the input."""
    axis = data.draw(st.sampled_from(candidates(graph)))
    held = barriers(graph, axis)
    search = Frontiers(held)
    share = data.draw(st.sampled_from([1.0, 0.6, 0.3, 0.1]))
    path = search.within(int(share * search.lasting.held)) or search.lasting
    front: frozenset[int] = frozenset()
    for j, after in enumerate(path.fronts):
        made = held.made(j, front, after)
        assert after <= made | front
        assert set(held.goals[j].nodes) <= made | front
        for index in made:
            assert held.ready[index] < j or (held.goals[j].part is not None and index == graph.output)
            for source in graph.nodes[index].inputs:
                statistic = source in {s for goal in held.goals[:j] for s in goal.statistics}
                given_ = not graph.live[source] or isinstance(graph.nodes[source].op, Input)
                assert source in made or source in front or statistic or given_
        front = after


@given(nets(), st.data())
def test_paths_keep_their_allowance_and_more_of_it_never_costs_work(graph: Graph, data: st.DataObject) -> None:
    axis = data.draw(st.sampled_from(candidates(graph)))
    search = Frontiers(barriers(graph, axis))
    lasting = search.lasting
    for share in (1.0, 0.7, 0.4, 0.2):
        path = search.within(int(share * lasting.held))
        if path is not None:
            assert path.held <= share * lasting.held
            assert path.work >= lasting.work
    everything = search.within(lasting.held)
    assert everything is not None
    assert everything.work == lasting.work


@given(nets(), st.data())
def test_paths_make_no_more_again_than_they_may(graph: Graph, data: st.DataObject) -> None:
    axis = data.draw(st.sampled_from(candidates(graph)))
    search = Frontiers(barriers(graph, axis))
    for share, most in ((0.7, 1.0), (0.7, 1.2), (0.4, 1.2), (0.4, 2.0)):
        path = search.within(int(share * search.lasting.held), most=most)
        if path is not None:
            assert path.held <= share * search.lasting.held
            assert path.work <= most * search.lasting.work


def test_what_was_looked_for_is_found_anew_at_once_and_counts_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Frontiers(barriers(image_decoder()))
    shares = (0.9, 0.7, 0.5)
    paths = [first.within(int(share * first.lasting.held)) for share in shares]
    assert first.anew().within(int(0.7 * first.lasting.held), effort=1) is None
    monkeypatch.setattr(Barriers, "cuts", None)
    again = first.anew()
    assert again.effort == 0
    assert [again.within(int(share * again.lasting.held)) for share in shares] == paths
    assert again.effort == first.effort > 0


@pytest.mark.parametrize(
    ("make", "lasting", "again", "work"),
    [
        (partial(image_decoder, 64, 64, (128, 256, 512, 512)), 1 / 3, 1 / 6, 1.38),
        (partial(image_encoder, 512, 512, (128, 256, 512, 512)), 2 / 3, 1 / 3, 1.075),
    ],
)
def test_real_widths_keep_little(make: partial[Graph], lasting: float, again: float, work: float) -> None:
    """Shares of three of the largest arrays, which a plain call holds at once, that are kept between stages."""
    graph = make()
    plain = 3 * max(node.nbytes for node in graph.nodes)
    search = Frontiers(barriers(graph))
    assert search.lasting.held <= lasting * plain
    path = search.within(int(again * plain))
    assert path is not None
    assert path.work <= work * search.lasting.work


def test_without_a_barrier_nothing_is_kept() -> None:
    assert Frontiers(barriers(video_decoder(), 2)).lasting.fronts == (frozenset(),)


@st.composite
def leavings(draw: st.DrawFn) -> Leaving:
    n = draw(st.integers(1, 7))
    spent = draw(st.lists(st.one_of(st.integers(0, 9), st.sampled_from([GIVEN, LATER])), min_size=n, max_size=n))
    prices = draw(st.lists(st.integers(0, 50), min_size=n, max_size=n))
    pairs = [(a, b) for b in range(n) for a in range(b)]
    reads = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    wanted = draw(st.sets(st.integers(0, n - 1)))
    return Leaving(tuple(prices), tuple(spent), (1,) * n, tuple(sorted(reads)), tuple(sorted(wanted)))


def costs(leaving: Leaving, rate: float) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Give the cost of everything that could be kept, where nothing that was given, or is made early, is made again."""
    n = len(leaving.prices)
    for chosen in product((False, True), repeat=n):
        again = {place for place in leaving.wanted if not chosen[place]}
        for after in reversed(range(n)):
            again |= {a for a, b in leaving.reads if b == after and after in again and not chosen[a]}
        early = {place for place in range(n) if chosen[place] and leaving.spent[place] == LATER}
        for after in reversed(range(n)):
            early |= {a for a, b in leaving.reads if b == after and after in early and leaving.spent[a] == LATER}
        if early & again or any(leaving.spent[place] == GIVEN for place in again):
            continue
        kept = sum(price for place, price in enumerate(leaving.prices) if chosen[place])
        made = sum(1 + int(rate * leaving.spent[place]) for place in again if leaving.spent[place] != LATER)
        yield kept + made, tuple(place for place in range(n) if chosen[place])


# what a chunk left behind, and the next chunk's array, which would be made early with it, and again for one after that
@example(Leaving((50, 50, 10), (9, LATER, LATER), (1, 1, 1), ((0, 2), (1, 2)), (1, 2)))
@given(leavings())
def test_arrays_are_kept_or_made_again_each_for_itself_as_is_cheapest(leaving: Leaving) -> None:
    rates = (20.0, 3.0, 0.5, 0.0)
    for rate, kept in zip(rates, Cuts(1).of(leaving, rates).kept, strict=True):
        every = list(costs(leaving, rate))
        assert kept is not None
        assert min(cost for cost, chosen in every if set(chosen) == set(kept)) == min(cost for cost, _ in every)


def test_an_array_is_kept_while_one_that_it_was_made_of_costs_nothing_and_is_made_again() -> None:
    """The first convolution of an encoder has three channels to sum."""
    net = Net((1, 3, 64, 64))
    x = net.conv(net.input, 64)
    h = net.conv(net.silu(net.norm(x)), 64)
    y = net.plus(x, net.conv(net.silu(net.norm(h)), 64))
    graph = net.graph(net.conv(net.silu(net.norm(y)), 3))
    search = Frontiers(barriers(graph))
    path = search.within(max(node.nbytes for node in graph.nodes))
    assert path is not None
    assert path.work <= 1.06 * search.lasting.work
    assert all(len(front) <= 1 for front in path.fronts)
