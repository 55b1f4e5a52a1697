"""One class body is a real module of either framework: their own tools work on it."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from ltx_models import default_checkpoint, load_video_decoder
from ltx_models.nn import Backend, Module, backend


class Mixer(Module):
    """A small body with every kind of leaf that frameworks treat in their own way."""

    def __init__(self, nn: Any, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 3, padding=(0, 1, 1))
        self.layers = nn.ModuleList([nn.Linear(channels, channels) for _ in range(2)])
        self.table = nn.parameter((2, channels), 1.0)
        nn.buffer(self, "mean-of-means", nn.xp.zeros((channels,), dtype=nn.float32))

    def forward(self, x: Any) -> Any:
        """Mix (B, F, H, W, C)."""
        for layer in self.layers:
            x = self.nn.silu(layer(x))
        return self.conv(x) + self.table[0] - getattr(self, "mean-of-means")


def mixer(nn: Backend, channels: int = 8) -> tuple[Any, Any]:
    module: Any = nn.build(lambda: Mixer(nn, channels))
    nn.load(module, {key: nn.asarray(value) for key, value in seeded(nn.shapes(module)).items()})
    return module, nn.asarray(seeded({"x": (1, 5, 4, 4, channels)})["x"])


def seeded(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {key: rng.normal(0, 0.2, shape).astype(np.float32) for key, shape in sorted(shapes.items())}


def test_a_module_is_an_instance_of_the_framework_s_module_class(nn: Backend) -> None:
    module, _ = mixer(nn)
    framework = "torch" if nn.name == "torch" else "mlx"
    assert isinstance(module, nn.Module)
    assert any(base.__module__.startswith(framework) for base in type(module).__mro__)
    assert isinstance(module, Mixer)


def test_both_backends_name_and_shape_weights_alike() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    torch, mlx = (mixer(backend(name))[0] for name in ("torch", "mlx"))
    shapes = backend("torch").shapes(torch)
    assert shapes == backend("mlx").shapes(mlx)
    assert {"conv.weight", "layers.1.bias", "table", "mean-of-means"} <= shapes.keys()


def test_both_backends_compute_the_same(close: Any) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    results = [module(x) for module, x in (mixer(backend(name)) for name in ("torch", "mlx"))]
    close(*results, 1e-4)


def test_weights_come_back_in_the_official_layout(nn: Backend, close: Any) -> None:
    module, _ = mixer(nn)
    for key, value in seeded(nn.shapes(module)).items():
        close(nn.weights(module)[key], value, 0.0, key)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["copy", "pickle"]
)
def test_copies_and_pickles_are_of_the_same_class(nn: Backend, close: Any, again: Any) -> None:
    module, x = mixer(nn)
    other = again(module)
    assert type(other) is type(module)
    close(other(x), module(x), 0.0)


def test_torch_tools_work() -> None:
    torch = pytest.importorskip("torch")
    module, x = mixer(backend("torch"))
    seen: list[tuple[int, ...]] = []
    module.conv.register_forward_hook(lambda layer, given, out: seen.append(tuple(out.shape)))
    module(x)
    assert seen == [(1, 3, 4, 4, 8)]
    assert set(module.state_dict()) == set(backend("torch").shapes(module))
    module.load_state_dict(module.state_dict(), strict=True)
    assert module.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


def test_a_whole_decoder_compiles_into_one_graph() -> None:
    """The graph capture of ``torch.compile(fullgraph=True)``; its code generation is torch's own matter."""
    torch = pytest.importorskip("torch")
    decoder = load_video_decoder(default_checkpoint(), backend="torch", dtype="float32")
    z = torch.randn(1, 128, 2, 2, 2)
    compiled = torch.compile(decoder, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(z), decoder(z), atol=1e-4)


def test_mlx_tools_work(close: Any) -> None:
    mx = pytest.importorskip("mlx.core")
    import mlx.nn

    module, x = mixer(backend("mlx"), 64)
    close(mx.compile(module)(x), module(x), 1e-5)
    mlx.nn.quantize(module, bits=8)
    assert isinstance(module.layers[0], mlx.nn.QuantizedLinear)
    close(module(x), mixer(backend("mlx"), 64)[0](x), 1.0)
    module.set_dtype(mx.bfloat16)
    assert module(x.astype(mx.bfloat16)).dtype == mx.bfloat16


def test_a_whole_decoder_compiles_on_mlx(close: Any) -> None:
    mx = pytest.importorskip("mlx.core")
    decoder = load_video_decoder(default_checkpoint(), backend="mlx", dtype="float32")
    z = mx.random.normal((1, 128, 1, 2, 2))
    close(mx.compile(decoder)(z), decoder(z), 1e-4)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"backend: got 'jax', allowed are 'torch', 'mlx'"):
        backend("jax")


def test_small_convolutions_equal_those_of_the_framework() -> None:
    """oneDNN is asked by name where torch would take a slower kernel; both give the same numbers."""
    torch = pytest.importorskip("torch")
    from ltx_models.nn import _torch

    conv = _torch.Conv3d(16, 24, 3, padding=(0, 1, 1)).requires_grad_(False)
    x = torch.randn(1, 3, 5, 6, 16)
    want = torch.nn.functional.conv3d(x.permute(0, 4, 1, 2, 3), conv.weight, conv.bias, padding=(0, 1, 1))
    assert torch.allclose(conv(x).permute(0, 4, 1, 2, 3), want, atol=1e-5)


def test_gradients_reach_every_weight() -> None:
    """Training needs them; inference writes in place where no gradient is wanted."""
    torch = pytest.importorskip("torch")
    decoder = load_video_decoder(default_checkpoint(), backend="torch", dtype="float32").requires_grad_(True)
    decoder(torch.randn(1, 128, 2, 2, 2)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in decoder.parameters())
