"""`exact.stream` of a source: parts that follow one another, until they end, equal to a call of the whole."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tilekit
from tilekit._errors import InputError, PlanError


def _weight(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).uniform(-0.5, 0.5, shape).astype(np.float32)


def _decoder(b: Any, x: Any) -> Any:
    """Twice as long, with a neighbour to both sides at each rate; a skip that waits."""
    y = b.pointwise(np.tanh, b.conv(x, _weight(4, 3, 3), padding=1))
    z = b.pad(b.upsample(y, 2, axes=(2,)), ((0, 0), (0, 0), (2, 1)), "replicate")
    return b.pointwise(np.add, b.conv(z, _weight(4, 4, 4)), b.upsample(y, 2, axes=(2,)))


def _encoder(b: Any, x: Any) -> Any:
    """Half as long, of what came before alone."""
    y = b.conv(b.pad(x, ((0, 0), (0, 0), (2, 0)), "replicate"), _weight(4, 3, 3), stride=2)
    return b.conv(b.pad(b.pointwise(np.tanh, y), ((0, 0), (0, 0), (1, 0))), _weight(2, 4, 2))


def _cut(x: Any, sizes: list[int]) -> Iterator[Any]:
    at = 0
    while at < x.shape[2]:
        n = sizes[at % len(sizes)]
        yield x[:, :, at : at + n]
        at += n


@pytest.mark.parametrize("build", [_decoder, _encoder])
@pytest.mark.parametrize("rows", [1, 4, 7])
def test_a_source_gives_what_the_whole_gives(build: Any, rows: int) -> None:
    network = tilekit.GraphFunction(build)
    exact = tilekit.exact(network)
    for n in (1, 2, 7, 16, 33, 120):
        x = np.random.default_rng(n).normal(size=(1, 3, n)).astype(np.float32)
        blocks = list(exact.stream(_cut(x, [1, 5, 2]), axis=2, rows=rows))
        assert [start for start, _ in blocks] == [sum(b.shape[2] for _, b in blocks[:k]) for k in range(len(blocks))]
        np.testing.assert_allclose(np.concatenate([b for _, b in blocks], 2), network(x), atol=1e-6)


def test_a_length_that_the_function_does_not_take_is_refused_at_the_end() -> None:
    exact = tilekit.exact(tilekit.GraphFunction(_encoder))
    parts = (np.ones((1, 3, 4), np.float32) for _ in range(5))
    with pytest.raises(InputError, match=r"after 20 rows.*19 or 22"):
        list(exact.stream(parts, axis=2, lengths=range(1, 1000, 3)))


def test_a_function_of_the_whole_axis_is_refused() -> None:
    exact = tilekit.exact(tilekit.GraphFunction(lambda b, x: b.group_norm(x, 1)))
    with pytest.raises(PlanError, match="give the whole input"):
        list(exact.stream([np.ones((1, 3, 4), np.float32)], axis=2))
