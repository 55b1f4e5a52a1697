"""The cheapest cut."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from tilekit._exact.flow import ENDLESS, Network

Arcs = list[tuple[int, int, int]]


def cost(side: tuple[bool, ...], arcs: Arcs) -> int:
    return sum(c for a, b, c in arcs if side[a] and not side[b])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), max_size=16))
def test_no_cut_is_cheaper(arcs: Arcs) -> None:
    net = Network(6)
    for arc in arcs:
        net.add(*arc)
    side = net.cut(0, 5)
    assert side is not None
    assert side[0]
    assert not side[5]
    least = min(cost((True, *middle, False), arcs) for middle in product((True, False), repeat=4))
    assert cost(tuple(side), arcs) == least


def test_there_may_be_no_cut() -> None:
    net = Network(3)
    net.add(0, 1, ENDLESS)
    net.add(1, 2, ENDLESS)
    assert net.cut(0, 2) is None
