"""The cheapest cut."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from tilekit._exact.flow import ENDLESS, Network

Arcs = list[tuple[int, int, int]]


def cost(side: tuple[bool, ...], arcs: Arcs) -> int:
    return sum(c for a, b, c in arcs if side[a] and not side[b])


@given(st.data())
def test_no_cut_is_cheaper_and_none_as_cheap_has_fewer_places(data: st.DataObject) -> None:
    places, sizes = st.integers(0, 5), st.integers(0, 9) | st.just(ENDLESS)
    arcs = data.draw(st.lists(st.tuples(places, places, sizes), max_size=16))
    net = Network(6)
    for arc in arcs:
        net.add(*arc)
    agrees(net, arcs)
    more = data.draw(st.lists(st.tuples(st.just(0), places, sizes), max_size=4))
    for arc in more:
        net.add(*arc)
    agrees(net, [*arcs, *more])


def agrees(net: Network, arcs: Arcs) -> None:
    """Compare with all cuts."""
    side = net.cut(0, 5)
    sides = [(True, *middle, False) for middle in product((True, False), repeat=4)]
    least = min(cost(each, arcs) for each in sides)
    if least >= ENDLESS:
        assert side is None
        return
    assert side == [all(row) for row in zip(*(each for each in sides if cost(each, arcs) == least), strict=True)]


def test_there_may_be_no_cut() -> None:
    net = Network(3)
    net.add(0, 1, ENDLESS)
    net.add(1, 2, ENDLESS)
    assert net.cut(0, 2) is None
