"""The registry of array libraries, and the operations that a run needs of each."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tilekit as tk
from tilekit.backends import Backend, _registry, backend_of, register, registered
from tilekit.testing import Library, check_backend, enlarge

LINE = tk.Geometry("line", (tk.Axis("time", 2, tk.Linear(2)),))


def test_every_backend_does_what_a_run_needs(xp: Library) -> None:
    example = xp.array(np.ones((2, 3), np.float32))
    check_backend(backend_of(example), example)


def test_numbers_go_to_numpy_and_back(xp: Library) -> None:
    like = xp.array(np.zeros(1, np.float32))
    backend = backend_of(like)
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    there = backend.from_numpy(numbers, like)
    assert there.dtype == like.dtype
    np.testing.assert_array_equal(backend.to_numpy(there), numbers)


def test_the_registry_names_the_libraries_and_cannot_be_written() -> None:
    assert {"numpy", "torch", "mlx", "jax", "cupy"} <= set(registered())
    with pytest.raises(TypeError):
        registered()["numpy"] = "mine"  # type: ignore[index]


@pytest.fixture
def mine() -> Iterator[Any]:
    """A module of a library that nobody knows, with an array class."""
    module = ModuleType("mine")

    class Numbers(np.ndarray[Any, Any]):
        __module__ = "mine"

    module.__dict__["Numbers"] = Numbers
    sys.modules["mine"] = module
    yield Numbers
    del sys.modules["mine"]
    _registry._LAZY.pop("mine", None)
    _registry._LOADED.pop("mine", None)


def test_a_registered_backend_is_used(mine: Any) -> None:
    class Counting(Backend):
        name = "mine"
        put_calls = 0

        def namespace(self, like: Any) -> Any:
            return np

        def put(self, out: Any, region: Any, part: Any, source: Any) -> Any:
            self.put_calls += 1
            return super().put(out, region, part, source)

    backend = Counting()
    register("mine", backend)
    z = np.ones((1, 2, 9)).view(mine)
    assert backend_of(z) is backend
    assert "mine" in registered()
    got = tk.decode_tiled(lambda t: enlarge(t, LINE).view(mine), z, tk.Tiling(time=(8, 2)), geometry=LINE)
    np.testing.assert_array_equal(np.asarray(got), 1.0)
    assert backend.put_calls > 0


def test_a_subclass_of_a_known_array_finds_its_parent_s_backend(mine: Any) -> None:
    assert backend_of(np.ones(3).view(mine)) is backend_of(np.ones(3))


class _Place:
    def __init__(self, value: str) -> None:
        self.value = value
        self.name = "mine"


@pytest.mark.parametrize(
    ("value", "fits"), [("tilekit.backends._base:Backend", True), ("collections:OrderedDict", False)]
)
def test_an_entry_point_is_loaded_when_its_arrays_are_met(
    mine: Any, monkeypatch: pytest.MonkeyPatch, value: str, fits: bool
) -> None:
    def found(**query: str) -> list[_Place]:
        return [_Place(value)] if query.get("name", "mine") == "mine" else []

    monkeypatch.setattr(_registry, "entry_points", found)
    assert registered()["mine"] == value
    x = np.ones(3).view(mine)
    if fits:
        assert type(backend_of(x)) is Backend
    else:
        with pytest.raises(tk.BackendError, match=r"must be a tilekit\.backends\.Backend, got collections:OrderedDict"):
            backend_of(x)


def test_what_is_no_backend_is_not_registered() -> None:
    with pytest.raises(tk.BackendError, match="must be an instance of"):
        register("mine", object())


def test_a_backend_that_blends_wrongly_is_found_out() -> None:
    class Wrong(type(backend_of(np.ones(1)))):  # type: ignore[misc]
        def blend(self, *args: Any) -> Any:
            return super().blend(*args[:-1], None)

    wrong = Wrong()
    before = _registry._LOADED["numpy"]
    _registry._LOADED["numpy"] = wrong
    try:
        with pytest.raises(AssertionError, match="blending gave"):
            check_backend(wrong, np.ones((2, 3)))
    finally:
        _registry._LOADED["numpy"] = before


def test_mlx_works_where_its_memory_cannot_be_viewed(monkeypatch: pytest.MonkeyPatch) -> None:
    mx = pytest.importorskip("mlx.core")
    from tilekit.backends import _mlx

    z = np.random.default_rng(0).standard_normal((1, 2, 9)).astype(np.float32)

    def decode(t: Any) -> Any:
        return mx.repeat(t, 2, axis=2)

    for dtype in (mx.float32, mx.bfloat16):
        latents = mx.array(z).astype(dtype)
        want = np.array(tk.decode_tiled(decode, latents, tk.Tiling(time=(8, 6)), geometry=LINE).astype(mx.float32))
        monkeypatch.setattr(_mlx, "_view", lambda x: None)
        got = np.array(tk.decode_tiled(decode, latents, tk.Tiling(time=(8, 6)), geometry=LINE).astype(mx.float32))
        monkeypatch.undo()
        np.testing.assert_array_equal(got, want)


def test_large_torch_outputs_are_ordinary_tensors() -> None:
    torch = pytest.importorskip("torch")
    z = torch.ones(1, 1, 700_000)
    got = tk.decode_tiled(lambda t: t.repeat_interleave(2, dim=2), z, tk.Tiling(time=(800_000, 2)), geometry=LINE)
    assert got.shape == (1, 1, 1_400_000)
    assert bool((got == 1).all())
    assert got.clone().add_(1).dtype == torch.float32


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_mlx_large_outputs_take_memory_that_nobody_touched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mx = pytest.importorskip("mlx.core")
    from tilekit.backends import _mlx_memory

    latents = mx.random.normal((1, 3, 40, 24)).astype(getattr(mx, name))
    tiling = tk.Tiling(height=(64, 32), width=(64, 32))

    def run() -> Any:
        decoded = tk.decode_tiled(lambda z: mx.repeat(mx.repeat(z, 8, 2), 8, 3), latents, tiling, geometry=tk.SD_IMAGE)
        assert decoded.dtype == latents.dtype
        return np.array(decoded.astype(mx.float32))

    zeros = run()
    monkeypatch.setattr(_mlx_memory, "LARGE", 0)
    blanks = []

    class Counted(_mlx_memory._Blank):
        def __init__(self, size: int) -> None:
            blanks.append(size)
            super().__init__(size)

    monkeypatch.setattr(_mlx_memory, "_Blank", Counted)
    np.testing.assert_array_equal(run(), zeros)
    untouched = sys.platform == "linux" and mx.default_device().type == mx.cpu
    assert (zeros.size * latents.dtype.size in blanks) == untouched
