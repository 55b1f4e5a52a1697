"""What plans count for a graphics processor of a Mac, which unfolds and copies other things than a processor does."""

from math import prod
from types import SimpleNamespace
from typing import Any

import pytest

import tilekit as tk

mx: Any = pytest.importorskip("mlx.core")
from mlx import nn  # noqa: E402

from tilekit.backends import Place, backend_of, canary  # noqa: E402
from tilekit.backends.limits import Limits, pretended  # noqa: E402


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let arrays of MLX seem to be on Metal; returns what sets the version."""

    def version(number: str) -> None:
        monkeypatch.setattr(type(backend_of(mx.zeros(1))), "place", lambda self, x: Place("mlx", "metal", number))

    monkeypatch.setattr(mx, "default_device", lambda: SimpleNamespace(type=mx.gpu))
    version("0.32.4")
    return version


def plan(channels: int, **kept: Any) -> Any:
    conv = nn.Conv3d(channels, 8, 3, padding=1)
    return tk.exact(conv, **kept).plan((1, 9, 12, 12, channels), like=mx.zeros(1))


MATRIX = 9 * 12 * 12 * 27 * 4
"""Bytes of the unfolded input for each channel."""


def test_a_plan_counts_what_is_unfolded_where_channels_do_not_divide_by_16(metal: Any) -> None:
    assert plan(6, memory_bytes=1 << 40).peak_bytes >= 6 * MATRIX
    assert plan(6).plain_bytes >= 6 * MATRIX
    assert plan(16, memory_bytes=1 << 40).peak_bytes < MATRIX
    assert plan(16).plain_bytes < MATRIX


def test_older_versions_unfold_whatever_the_channels(metal: Any) -> None:
    metal("0.30.4")
    assert plan(16).plain_bytes >= 16 * MATRIX
    assert plan(16, memory_bytes=1 << 40).peak_bytes < MATRIX  # convolutions of frames, which are not unfolded


def test_a_budget_is_kept_with_what_is_unfolded(metal: Any) -> None:
    whole = plan(6, memory_bytes=1 << 40)
    half = plan(6, memory_bytes=whole.peak_bytes // 2)
    assert half.peak_bytes <= whole.peak_bytes // 2
    assert max(half.step_peaks) >= 6 * MATRIX // 16  # rows of the matrix are in it


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("kind", ["Max", "Avg"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 3)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pools_are_right_and_take_what_is_forecast(rank: int, kind: str, kernel: int, stride: int, dtype: str) -> None:
    pool = getattr(nn, f"{kind}Pool{rank}d")(kernel, stride)
    shape = (1, 1200, 128) if rank == 1 else (1, 60, 63, 64)
    x = mx.random.normal(shape, key=mx.random.key(0)).astype(getattr(mx, dtype))
    wanted = pool(x * 2)
    mx.eval(x, wanted)
    exact = tk.exact(lambda x: pool(x * 2), memory_bytes=(wanted.nbytes + x.nbytes) * 3 // 4)
    plan = exact.plan(x)
    assert len(plan.step_peaks) > 1  # parts of arrays, whose windows need a copy
    mx.clear_cache()
    active = mx.get_active_memory()
    mx.reset_peak_memory()
    got = exact(x)
    mx.eval(got)
    taken = mx.get_peak_memory() - active
    assert mx.allclose(got, wanted, atol=0.05 if dtype == "bfloat16" else 1e-6)
    more = wanted.nbytes // 2 if (kind, dtype) == ("Avg", "bfloat16") else 0  # MLX sums in float32
    assert taken <= 1.05 * plan.peak_bytes + more


def test_looking_for_nan_takes_no_masks() -> None:
    from tilekit._exact.kernels import kernels_of

    x = mx.random.normal((1 << 20,))
    mx.eval(x)
    kernels = kernels_of(x)
    mx.reset_peak_memory()
    active = mx.get_active_memory()
    assert kernels.is_finite(x)
    assert not kernels.has_nan(x)
    assert mx.get_peak_memory() - active < 1 << 16
    assert not kernels.is_finite(mx.concatenate([x, mx.array([float("inf")])]))
    assert not kernels.has_nan(mx.concatenate([x, mx.array([float("inf")])]))
    assert kernels.has_nan(mx.concatenate([x, mx.array([float("nan")])]))
    assert kernels.is_finite(mx.full((1 << 12,), 1e38))  # whose sum overflows


def test_a_part_of_an_array_is_copied_for_its_windows() -> None:
    from tilekit._exact.boxes import full
    from tilekit._exact.kernels import kernels_of
    from tilekit._exact.kernels._jobs import Job
    from tilekit._exact.ops import Pool

    kernels = kernels_of(mx.zeros(1))
    op: Any = Pool((1,), (2,), (2,), (1,), lambda arrays: arrays[0])
    shape, out = (1, 8, 4), (1, 4, 4)

    def scratch(box: Any, strides: tuple[int, ...], dtype: str = "float32") -> int:
        return kernels.scratch(Job(op, out, (shape,), full(out), (box,), dtype, ((dtype, strides),)))

    assert scratch(full(shape), (32, 4, 1)) == 0
    assert scratch(full(shape), (32, 1, 8)) == 4 * prod(shape)
    assert scratch(((0, 1), (0, 4), (0, 4)), (16, 4, 1), "bfloat16") == 2 * 16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_video_plan_counts_sums_of_frames(dtype: Any) -> None:
    torch: Any = pytest.importorskip("torch")
    from tests.tilekit.exact._live import Live

    from ltx_models import default_checkpoint, load_video_decoder, plan_exact

    decoder = load_video_decoder(default_checkpoint(), backend="torch", dtype=dtype)
    z = torch.zeros(1, 128, 2, 2, 2, dtype=getattr(torch, dtype))

    def counted(limits: Limits) -> tuple[int, int]:
        with torch.no_grad(), pretended(limits):
            plan = plan_exact(decoder, z.shape, memory_bytes=1 << 40)
            canary.check(z)  # asks once, and what it asks with is not the decoder's
            with Live() as live:
                decoder(z)
        return live.peak, plan.peak_bytes

    (plain, _), (by_frames, more) = counted(Limits()), counted(Limits(frames=True))
    assert plain < by_frames <= more <= 1.1 * by_frames
