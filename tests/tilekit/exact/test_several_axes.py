"""Clips whose operations overlap along time, rows and columns: in half of a plain call little is made again."""

from collections.abc import Callable

import pytest
from tests.tilekit.exact._nets import Net

from tilekit._exact.forecast import forecast
from tilekit._exact.graph import Graph
from tilekit._exact.program import program_of
from tilekit._exact.search import search
from tilekit._exact.stages import plain

AGAIN = 1.5
"""Multiply-adds over those of a plain call."""
CHANNELS = 8


def layer(net: Net, kind: str, x: int) -> int:
    """A residual layer: it looks back in time, or both ways, or has statistics of a frame or of all frames."""
    if kind == "centred":
        return net.plus(x, net.conv(net.silu(x), CHANNELS))
    if kind != "causal":
        return net.plus(x, net.causal(net.silu(net.norm(x, 4, (0, 2) if kind == "frame" else (0,))), CHANNELS))
    return net.plus(x, net.causal(net.silu(x), CHANNELS))


def decoder(kinds: tuple[str, ...]) -> Graph:
    net = Net((1, 4, 6, 8, 8))
    x = net.causal(net.input, CHANNELS)
    for axes in ((2, 3, 4), (3, 4)):
        for kind in kinds:
            x = layer(net, kind, x)
        x = net.up(x, axes)
    return net.graph(net.causal(net.silu(x), 3))


def encoder(kinds: tuple[str, ...]) -> Graph:
    net = Net((1, 3, 6, 48, 48))
    x = net.causal(net.input, CHANNELS)
    for _ in range(2):
        for kind in kinds:
            x = layer(net, kind, x)
        x = net.causal(net.halved(x), CHANNELS)
    return net.graph(net.causal(net.silu(x), 8))


@pytest.mark.parametrize("kinds", [("causal",), ("centred", "frame"), ("all", "causal"), ("frame", "all")])
@pytest.mark.parametrize("make", [decoder, encoder])
@pytest.mark.parametrize("share", [0.5, 0.4])
def test_overlaps_along_three_axes_make_little_again(
    make: Callable[[tuple[str, ...]], Graph], kinds: tuple[str, ...], share: float
) -> None:
    graph = make(kinds)
    budget = int(share * forecast(program_of(graph, plain(graph))).peak_bytes)
    choice = search(graph, budget)
    assert choice.peak_bytes <= budget
    assert choice.work <= AGAIN
