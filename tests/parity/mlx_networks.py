"""What every autoencoder of another project of MLX is held to."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.tilekit.exact.test_mlx_exact import error, peak

import tilekit


def hold_to_the_plain_call(function: Callable[[Any], Any], x: Any) -> dict[str, float]:
    """Compare an exact call with the plain one; give the largest error, and the bytes of both and of the forecast."""
    plain, before = peak(lambda: function(x))
    exact = tilekit.exact(function)
    plan = exact.plan(x)
    result, taken = peak(lambda: exact(x))
    off = error(result, plain)
    assert off <= 1e-5
    assert not plan.notes
    assert plan.work == pytest.approx(1, abs=0.01)
    assert taken <= 1.1 * plan.peak_bytes + (1 << 17)
    assert taken < before / 2
    return {"error": off, "plain": before, "exact": taken, "forecast": plan.peak_bytes}
