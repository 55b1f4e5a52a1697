"""State dicts in the place of files: the same networks, of any library, in any layout, with nothing copied."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models import (
    default_pipeline,
    load_audio_decoder,
    load_audio_encoder,
    load_video_decoder,
    load_video_encoder,
    load_vocoder,
)
from ltx_models.checkpoints import CheckpointError, open_checkpoint
from ltx_models.nn import Backend, backend, backend_of

LOADERS = {
    "video decoder": load_video_decoder,
    "video encoder": load_video_encoder,
    "audio decoder": load_audio_decoder,
    "audio encoder": load_audio_encoder,
    "vocoder": load_vocoder,
}


def arrays(path: Path, framework: str) -> dict[str, Any]:
    with open_checkpoint(path, framework) as checkpoint:
        return {key: checkpoint.tensor(key) for key in checkpoint.keys}


def config_of(path: Path) -> Mapping[str, Any]:
    with open_checkpoint(path, "numpy") as checkpoint:
        return checkpoint.config


@pytest.fixture(scope="module")
def whole() -> Path:
    return Path(default_pipeline())


def weights(network: Any) -> dict[str, Any]:
    return backend(network.nn.name).weights(network)


def same(one: Any, two: Any) -> None:
    """See that two networks of a framework have the same weights, to the bit, under the same names."""
    one, two = ({key: x.nn.to_numpy(w) for key, w in weights(x).items()} for x in (one, two))
    assert one.keys() == two.keys()
    for key, x in one.items():
        np.testing.assert_array_equal(x, two[key], err_msg=key)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("library", ["torch", "mlx", "numpy"])
def test_any_library_s_arrays_give_the_network_of_the_file(kind: str, library: str, nn: Backend, whole: Path) -> None:
    if library != "numpy":
        pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[library])
    load: Callable[..., Any] = LOADERS[kind]
    tensors = arrays(whole, library) if library != "numpy" else _numpy(whole)
    same(
        load(tensors, config=config_of(whole), backend=nn.name, dtype="float32"),
        load(whole, backend=nn.name, dtype="float32"),
    )


def _numpy(path: Path) -> dict[str, Any]:
    """Read as NumPy has it: no bfloat16, and memory that must not be written."""
    pytest.importorskip("torch")
    found = {key: x.float().numpy() for key, x in arrays(path, "torch").items()}
    for x in found.values():
        x.flags.writeable = False
    return found


@pytest.mark.parametrize("kind", LOADERS)
def test_weights_of_torch_are_shared_and_stay_as_they_were(kind: str, whole: Path) -> None:
    pytest.importorskip("torch")
    load: Callable[..., Any] = LOADERS[kind]
    first = load(whole, backend="torch", dtype="float32")
    first.requires_grad_(True)
    prefix = {"video": "vae", "audio": "audio_vae"}.get(kind.split(maxsplit=1)[0])
    half = kind.rpartition(" ")[2]
    names = {
        key: f"{prefix}.{'' if 'per_channel' in key else half + '.'}{key}" if prefix else f"vocoder.{key}"
        for key in weights(first)
    }
    given = {names[key]: x for key, x in first.named_parameters()} | {names[k]: x for k, x in first.named_buffers()}
    second = load(given, config=config_of(whole), backend="torch", dtype="float32")
    there = {names[key]: x.data_ptr() for key, x in weights(second).items()}
    turned = {key for key in there if kind == "vocoder" and key.endswith(".weight") and given[key].ndim == 3}
    assert there.keys() == given.keys()
    assert not {key for key in there if there[key] != given[key].data_ptr()} - turned
    assert all(x.requires_grad for x in first.parameters())
    assert not any(x.requires_grad for x in second.parameters())


def test_a_file_s_dtype_is_changed_as_asked(nn: Backend, whole: Path) -> None:
    given = arrays(whole, nn.name)
    decoder = load_video_decoder(given, config=config_of(whole), backend=nn.name, dtype="float16")
    assert {str(x.dtype).rpartition(".")[2] for x in weights(decoder).values()} == {"float16"}
    same(decoder, load_video_decoder(whole, backend=nn.name, dtype="float16"))


def test_arrays_of_one_framework_reach_the_other_in_bfloat16() -> None:
    torch, mx = pytest.importorskip("torch"), pytest.importorskip("mlx.core")
    for name, x in (("mlx", torch.arange(6.0, dtype=torch.bfloat16).reshape(2, 3).T), ("torch", mx.arange(6) / 7)):
        with open_checkpoint({"x": x}, name) as checkpoint:
            got = checkpoint.tensor("x")
        assert backend_of(got).name == name
        assert str(got.dtype).rpartition(".")[2] == str(x.dtype).rpartition(".")[2]
        np.testing.assert_array_equal(backend(name).to_numpy(got), backend_of(x).to_numpy(x))


def test_what_is_no_state_dict_is_refused_by_name(nn: Backend, whole: Path) -> None:
    config, given = config_of(whole), arrays(whole, nn.name)

    def load(tensors: Any, **asked: Any) -> Any:
        return load_video_decoder(tensors, backend=nn.name, **asked)

    with pytest.raises(CheckpointError, match="state dict: it holds no configuration; pass config=, the section vae"):
        load(given)
    with pytest.raises(CheckpointError, match="state dict: it is empty"):
        load({}, config=config)
    with pytest.raises(CheckpointError, match=r"state dict: 'x': got a builtins.list, expected an array of .* numpy"):
        load({"x": [1.0]}, config=config)
    with pytest.raises(CheckpointError, match="state dict: 'x' has dtype complex64, allowed are float64, float32"):
        load({"x": np.zeros(2, np.complex64)}, config=config)
    less = {key: x for key, x in given.items() if not key.endswith("conv_in.conv.bias")}
    with pytest.raises(CheckpointError, match=r"state dict: the tensors do not fit .* 1 missing: conv_in.conv.bias"):
        load(less, config=config)


def test_weights_without_values_are_refused(whole: Path) -> None:
    torch = pytest.importorskip("torch")
    given = {key: x.to("meta") for key, x in arrays(whole, "torch").items()}
    assert isinstance(next(iter(given.values())), torch.Tensor)
    with pytest.raises(CheckpointError, match="is on the meta device and has no values"):
        load_video_decoder(given, config=config_of(whole), backend="torch")
