"""Fixtures of the model tests: the backends, comparisons, and what the tests of video streams share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend

NEEDS = {"torch": "torch", "mlx": "mlx.core"}


@pytest.fixture(params=sorted(NEEDS))
def nn(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    pytest.importorskip(NEEDS[request.param])
    return get_backend(request.param)


@pytest.fixture(scope="session")
def close() -> Callable[..., None]:
    """Compare arrays of any framework in float64."""

    def check(got: Any, want: Any, tolerance: float, what: str = "") -> None:
        got, want = (to_numpy(x).astype(np.float64) for x in (got, want))
        assert got.shape == want.shape, f"{what}: {got.shape} != {want.shape}"
        error = float(np.abs(got - want).max()) if got.size else 0.0
        assert error <= tolerance, f"{what}: {error:.2e} > {tolerance:.0e}"

    return check


def to_numpy(x: Any) -> Any:
    if type(x).__module__.startswith("torch"):
        return x.detach().cpu().double().numpy()
    if type(x).__module__.startswith("mlx"):
        import mlx.core as mx

        return np.array(x.astype(mx.float32))
    return np.asarray(x)


class VideoTools:
    """What the tests of video streams share: networks loaded once, seeded clips, joined parts, counted work."""

    def __init__(self) -> None:
        self.modules: dict[tuple[str, ...], Any] = {}

    def loaded(self, kind: str, nn: Backend, path: Any, dtype: Any = "float32") -> Any:
        from ltx_models import load_video_decoder, load_video_encoder

        key = (kind, nn.name, str(path), dtype)
        load: Any = load_video_decoder if kind == "decoder" else load_video_encoder
        if key not in self.modules:
            self.modules[key] = load(path, backend=nn.name, dtype=dtype)
        return self.modules[key]

    def clip(self, nn: Backend, *shape: int, seed: int = 0) -> Any:
        return nn.asarray(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))

    def joined(self, nn: Backend, parts: Any) -> Any:
        """Check that the parts (start, block) follow one another, and join them."""
        begin, blocks = 0, []
        for start, block in parts:
            assert start == begin
            begin += block.shape[2]
            blocks.append(block)
        return nn.xp.concat(blocks, axis=2)

    def macs_of(self, module: Any, run: Callable[[], Any]) -> int:
        """Count the multiply-adds of all 3x3x3 convolutions of a run on torch."""
        total = 0

        def record(layer: Any, given: Any, out: Any) -> None:
            nonlocal total
            total += out.numel() * layer.in_channels * 27

        hooks = [m.register_forward_hook(record) for m in module.modules() if type(m).__name__ == "Conv3d"]
        run()
        for hook in hooks:
            hook.remove()
        return total


@pytest.fixture(scope="session")
def tools() -> VideoTools:
    """Give what the tests of video streams share."""
    return VideoTools()
