"""
The cheapest cut between what is made and what is yet to come, at several rates; the same problem is solved once.

Blocks of a network are alike, and so are the batches of a clip: their problems differ by the names of nodes alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tilekit._exact.flow import ENDLESS, Network

__all__ = ["GIVEN", "LATER", "Cuts", "Leaving", "Solved"]

GIVEN, LATER = -1, -2
"""Of a node that is kept from before, which is not made again, and of one that is made later in any case."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """What it costs to leave nodes behind, and to keep them; the nodes are numbered."""

    prices: tuple[int, ...]
    """What keeping each costs."""
    spent: tuple[int, ...]
    """The multiply-adds that make each again; `GIVEN` or `LATER`."""
    touched: tuple[int, ...]
    """What making each again costs at any rate."""
    reads: tuple[tuple[int, int], ...]
    """Pairs of a node and one that is made of it."""
    wanted: tuple[int, ...]
    """What is read later on."""


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """The cheapest cuts of one problem."""

    kept: tuple[tuple[int, ...] | None, ...]
    """For each rate, from the largest on, what is kept; None where no cut exists."""
    effort: int
    """Nodes in all rounds of looking for them."""


class Cuts:
    """
    The cheapest cuts at some rates.

    A node is kept, or made again of what it is made of, which then is kept or made again itself; so one array may be
    kept while another that it was made of is not.

    Parameters
    ----------
    scale : int
        Cost of a multiply-add at a rate of 1.
    """

    def __init__(self, scale: int) -> None:
        self._scale = scale
        self._known: dict[tuple[Leaving, tuple[float, ...]], Solved] = {}

    def of(self, leaving: Leaving, rates: Sequence[float]) -> Solved:
        """Solve a problem for some rates, from the largest on."""
        key = (leaving, tuple(rates))
        if key not in self._known:
            self._known[key] = self._solve(leaving, rates)
        return self._known[key]

    def _solve(self, leaving: Leaving, rates: Sequence[float]) -> Solved:
        n = len(leaving.prices)
        source, sink = 2 * n, 2 * n + 1
        net = Network(sink + 1)
        for place, price in enumerate(leaving.prices):
            net.add(2 * place, 2 * place + 1, price)
        for place in leaving.wanted:
            net.add(2 * place + 1, sink, ENDLESS)
        for before, after in leaving.reads:
            net.add(2 * before + 1, 2 * after, ENDLESS)
            if leaving.spent[before] == leaving.spent[after] == LATER:  # what is made early is not made again
                net.add(2 * after, 2 * before, ENDLESS)
        there = [0] * n
        held: list[tuple[int, ...] | None] = []
        for rate in reversed(rates):  # what making again costs only grows, so what was sent stays sent
            for place in range(n):
                cost = self._again(leaving, place, rate)
                if cost > there[place]:
                    net.add(source, 2 * place, cost - there[place])
                    there[place] = cost
            side = net.cut(source, sink)
            held.append(None if side is None else tuple(p for p in range(n) if side[2 * p] and not side[2 * p + 1]))
        return Solved(tuple(reversed(held)), n * net.rounds)

    def _again(self, leaving: Leaving, place: int, rate: float) -> int:
        """Give what it costs to leave a node behind."""
        spent = leaving.spent[place]
        if spent == LATER:
            return 0
        if spent == GIVEN or (rate >= ENDLESS and spent):
            return ENDLESS
        again = 0 if rate >= ENDLESS else int(rate * spent * self._scale)
        return min(ENDLESS, again + leaving.touched[place])
