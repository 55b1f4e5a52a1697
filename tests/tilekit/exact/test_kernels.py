"""A box of an operation, made from the boxes that it needs, is the cut of the whole."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tilekit.exact._kinds import KINDS, Case, boxes

from tilekit._exact.boxes import contains, extent, full, within
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.ops import Conv, Moments
from tilekit.testing import Library


def numbers(case: Case) -> list[Any]:
    rng = np.random.default_rng(len(case.shapes))
    return [rng.uniform(0.5, 1.5, shape).astype(np.float32) for shape in case.shapes]


def run(case: Case, box: Any, arrays: list[Any]) -> Any:
    """Make a box from cuts of whole arrays."""
    op, shape = case.node.op, case.node.shape
    grown = op.grow(box, shape, case.shapes)
    assert contains(grown, box)
    assert contains(full(shape), grown)
    assert op.grow(grown, shape, case.shapes) == grown
    needs = op.need(grown, shape, case.shapes)
    assert all(need is None or contains(full(s), need) for need, s in zip(needs, case.shapes, strict=True))
    cuts = [None if b is None else x[within(full(s), b)] for b, x, s in zip(needs, arrays, case.shapes, strict=True)]
    made = kernels_of(arrays[0]).run(case.node, case.shapes, grown, needs, cuts)
    assert tuple(made.shape) == extent(grown)
    return grown, made


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_box_is_the_cut_of_the_whole(kind: str, xp: Library, data: st.DataObject) -> None:
    if xp.name == "mlx" and type(kernels_of(xp.array([0.0]))) is Kernels:
        pytest.skip("the array API of MLX has gaps")
    case = data.draw(KINDS[kind]())
    arrays = [xp.array(x) for x in numbers(case)]
    box = boxes(data.draw, case.node.shape)
    _, whole = run(case, full(case.node.shape), arrays)
    grown, made = run(case, box, arrays)
    want = xp.numpy(whole)[within(full(case.node.shape), grown)]
    np.testing.assert_allclose(xp.numpy(made), want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_the_whole_is_what_numpy_gives(kind: str, data: st.DataObject) -> None:
    case = data.draw(KINDS[kind]())
    if case.plain is None:
        return
    arrays = numbers(case)
    _, whole = run(case, full(case.node.shape), arrays)
    np.testing.assert_allclose(whole, case.plain(*arrays), rtol=2e-5, atol=2e-5)


def test_the_variance_of_cells_that_are_all_the_same_is_not_below_zero(xp: Library) -> None:
    """Rounding must not make it so: its root would be NaN."""
    rows = np.random.default_rng(0).normal(size=(1, 2000, 1)).astype(np.float32)
    x = xp.array(np.repeat(rows, 3, 2))
    if xp.name == "mlx" and type(kernels_of(x)) is Kernels:
        pytest.skip("the array API of MLX has gaps")
    kernels, op = kernels_of(x), Moments(2000, (0,), 1)
    part = kernels.part(op, x)
    made = xp.numpy(kernels.finish(op, kernels.merge(op, part, kernels.part(op, x))))
    assert (made[..., 1] >= 0).all()
    assert made[..., 1].max() <= 1e-12


@given(data=st.data())
def test_the_convolution_is_that_of_torch(data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    case = data.draw(KINDS["conv"]())
    op, arrays = case.node.op, numbers(case)
    assert isinstance(op, Conv)
    x, weight, *bias = (torch.from_numpy(a) for a in arrays)
    _, whole = run(case, full(case.node.shape), arrays)
    dims = len(op.axes)
    wide = torch.zeros((*x.shape[:2], *((n - 1) * g + 1 for n, g in zip(x.shape[2:], op.input_dilation, strict=True))))
    wide[(..., *(slice(None, None, g) for g in op.input_dilation))] = x
    pads = [p for b, a in reversed(list(zip(op.before, op.after, strict=True))) for p in (b, a)]
    if op.transposed:
        share = weight.shape[0] // op.groups
        weight = weight.reshape(op.groups, share, weight.shape[1], *op.kernel).transpose(1, 2)
        weight = weight.reshape(-1, share, *op.kernel).flip(tuple(range(2, 2 + dims)))
    call = getattr(torch.nn.functional, f"conv{dims}d")
    want = call(torch.nn.functional.pad(wide, pads), weight, *bias, stride=op.stride, dilation=op.dilation,
                groups=op.groups)  # fmt: skip
    np.testing.assert_allclose(whole, want.numpy(), rtol=2e-5, atol=2e-5)
