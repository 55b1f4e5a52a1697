"""Every operation of torch that torch itself tests, in the smallest budget that there is, block by block."""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest

import tilekit as tk
from tilekit._errors import InputError, PlanError, TraceError

torch = pytest.importorskip("torch")

reason = "every operation of torch is tried in the nox session 'tests-networks'"
pytestmark = pytest.mark.skipif("TILEKIT_NETWORKS" not in os.environ, reason=reason)

PARTS = 8
UNSET = ("empty", "new_empty")
"""Begin the names of operations whose numbers nobody knows."""


def samples(part: int) -> Iterator[tuple[str, Callable[[Any], Any], Any]]:
    """Give each operation with up to five inputs that differ in kind, and its name."""
    name = "torch.testing._internal.common_methods_invocations"
    database = pytest.importorskip(name, reason="torch's own samples need expecttest", exc_type=ImportError)
    for info in database.op_db[part::PARTS]:
        if torch.float32 not in info.dtypes or info.name.startswith(UNSET):
            continue
        kinds: dict[tuple[Any, ...], Any] = {}
        for given in info.sample_inputs("cpu", torch.float32):
            x = given.input
            if isinstance(x, torch.Tensor) and x.is_floating_point() and x.numel() > 1:
                kinds.setdefault((x.shape, *sorted(given.kwargs), len(given.args)), given)
        for k, given in enumerate(islice(kinds.values(), 5)):

            def function(x: Any, info: Any = info, given: Any = given) -> Any:
                made = info.op(x, *given.args, **given.kwargs)
                return made[0] if isinstance(made, (tuple, list)) and made else made

            yield f"{info.name} {info.variant_test_name} {k}", function, given.input


def finest(function: Callable[[Any], Any], x: Any) -> list[Any]:
    """Give the blocks of a stream in the least memory that a refusal names."""
    budget = 1
    try:
        return [block for _, block in tk.exact(function, memory_bytes=budget).stream(x)]
    except PlanError as error:
        named = re.search(r"needs least takes (\d+)", str(error))
        if named is None:
            raise
        budget = int(named[1])
    return [block for _, block in tk.exact(function, memory_bytes=budget).stream(x)]


def close(made: Any, want: Any) -> bool:
    """Say whether numbers differ by no more than rounding does."""
    if not (want.is_floating_point() or want.is_complex()):
        return bool(torch.equal(made, want))
    top = float(want[want.isfinite()].abs().max()) if want.isfinite().any() else 1.0
    return bool(torch.allclose(made, want, rtol=0, atol=1e-5 * top, equal_nan=True))


def equal(blocks: list[Any], want: Any) -> bool:
    """Say whether blocks are a result, along the axis along which they make its shape."""
    for axis in range(max(1, want.ndim)):
        if len(blocks) == 1 or sum(block.shape[axis] for block in blocks) == want.shape[axis]:
            made = blocks[0] if len(blocks) == 1 else torch.cat(blocks, axis)
            if made.dtype == want.dtype and made.shape == want.shape and close(made, want):
                return True
    return False


@pytest.mark.parametrize("part", range(PARTS))
def test_every_operation_is_equal_in_the_smallest_budget_or_is_refused(part: int) -> None:
    wrong, compared, cut = [], 0, 0
    with warnings.catch_warnings(action="ignore"):
        for name, function, x in samples(part):
            torch.manual_seed(0)
            try:
                want = function(x.clone())
            except Exception:  # of any kind: torch refuses the sample, or this machine cannot
                continue
            if not isinstance(want, torch.Tensor):
                continue
            try:
                blocks = finest(function, x)
            except (TraceError, InputError):
                continue  # it is said why
            except PlanError as error:
                wrong += [] if "has no blocks" in str(error) else [name]
                continue
            compared, cut = compared + 1, cut + (len(blocks) > 1)
            wrong += [] if equal(blocks, want) else [name]
    assert wrong == []
    assert compared > 100
    assert cut > 50
