"""AutoencoderKL on both backends against a second reading of its structure, and its loader."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ltx_models import default_checkpoint, load_video_decoder
from ltx_models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig, load_autoencoder_kl
from ltx_models.checkpoints import CheckpointError
from ltx_models.nn import Backend
from tilekit.backends import Place

Weights = dict[str, np.ndarray]
CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [8, 16, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 32,
    "scaling_factor": 0.5,
    "shift_factor": None,
}
ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def make_weights(nn: Backend, config: dict[str, Any], seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in sorted(nn.shapes(AutoencoderKL(nn, AutoencoderKLConfig.read(config))).items()):
        if len(shape) > 1:
            values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        else:
            values = 0.2 * rng.standard_normal(shape) + ("norm" in name and name.endswith("weight"))
        weights[name] = values.astype(np.float32)
    return weights


def save(folder: Path, weights: Weights, config: dict[str, Any] | None = CONFIG) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


class Reference:
    """The network once more, channels-first in torch's functions, straight from the names of the checkpoint."""

    def __init__(self, weights: Weights, groups: int) -> None:
        import torch

        self.w = {name: torch.from_numpy(value).double() for name, value in weights.items()}
        self.groups = groups

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.w)

    def conv(self, x: Any, name: str, **kwargs: Any) -> Any:
        from torch.nn import functional

        return functional.conv2d(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], **kwargs)

    def norm(self, x: Any, name: str) -> Any:
        from torch.nn import functional

        return functional.group_norm(x, self.groups, self.w[f"{name}.weight"], self.w[f"{name}.bias"], 1e-6)

    def silu(self, x: Any) -> Any:
        return x / (1 + (-x).exp())

    def resnet(self, x: Any, name: str) -> Any:
        h = self.conv(self.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1", padding=1)
        h = self.conv(self.silu(self.norm(h, f"{name}.norm2")), f"{name}.conv2", padding=1)
        return h + (self.conv(x, f"{name}.conv_shortcut") if self.has(f"{name}.conv_shortcut") else x)

    def attention(self, x: Any, name: str) -> Any:
        tokens = self.norm(x, f"{name}.group_norm").flatten(2).transpose(1, 2)
        q, k, v = (tokens @ self.w[f"{name}.to_{c}.weight"].T + self.w[f"{name}.to_{c}.bias"] for c in "qkv")
        mixed = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        mixed = mixed @ self.w[f"{name}.to_out.0.weight"].T + self.w[f"{name}.to_out.0.bias"]
        return x + mixed.transpose(1, 2).reshape(x.shape)

    def middle(self, x: Any, name: str) -> Any:
        x = self.resnet(x, f"{name}.resnets.0")
        x = self.attention(x, f"{name}.attentions.0") if self.has(f"{name}.attentions.0") else x
        return self.resnet(x, f"{name}.resnets.1")

    def level(self, x: Any, name: str) -> Any:
        from torch.nn import functional

        i = 0
        while self.has(f"{name}.resnets.{i}"):
            x, i = self.resnet(x, f"{name}.resnets.{i}"), i + 1
        if self.has(f"{name}.upsamplers.0"):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.conv(x, f"{name}.upsamplers.0.conv", padding=1)
        if self.has(f"{name}.downsamplers.0"):
            x = self.conv(functional.pad(x, (0, 1, 0, 1)), f"{name}.downsamplers.0.conv", stride=2)
        return x

    def encode(self, x: Any) -> Any:
        x, i = self.conv(x, "encoder.conv_in", padding=1), 0
        while self.has(f"encoder.down_blocks.{i}"):
            x, i = self.level(x, f"encoder.down_blocks.{i}"), i + 1
        x = self.silu(self.norm(self.middle(x, "encoder.mid_block"), "encoder.conv_norm_out"))
        x = self.conv(x, "encoder.conv_out", padding=1)
        return self.conv(x, "quant_conv") if self.has("quant_conv") else x

    def decode(self, z: Any) -> Any:
        z = self.conv(z, "post_quant_conv") if self.has("post_quant_conv") else z
        z, i = self.middle(self.conv(z, "decoder.conv_in", padding=1), "decoder.mid_block"), 0
        while self.has(f"decoder.up_blocks.{i}"):
            z, i = self.level(z, f"decoder.up_blocks.{i}"), i + 1
        return self.conv(self.silu(self.norm(z, "decoder.conv_norm_out")), "decoder.conv_out", padding=1)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"mid_block_add_attention": False, "layers_per_block": 2},
    {"use_quant_conv": False, "use_post_quant_conv": False, "latent_channels": 16},
    {"in_channels": 1, "out_channels": 1, "latent_channels": 8, "block_out_channels": [8, 16]},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v) or "plain")
def test_both_ways_equal_a_second_reading_of_the_structure(
    nn: Backend, close: Callable[..., None], tmp_path: Path, variant: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch")
    config = {**CONFIG, **variant}
    config["down_block_types"] = config["down_block_types"][: len(config["block_out_channels"])]
    weights = make_weights(nn, config)
    vae = load_autoencoder_kl(save(tmp_path, weights, config), backend=nn.name)  # its name
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, config["in_channels"], 33, 42)).astype(np.float32)
    z = rng.standard_normal((2, config["latent_channels"], 7, 9)).astype(np.float32)
    reference = Reference(weights, config["norm_num_groups"])
    # float32 rounding through some twenty layers, at outputs of scale 1
    close(vae.encode(nn.asarray(x)), reference.encode(torch.from_numpy(x).double()), 2e-5)
    close(vae.decode(nn.asarray(z)), reference.decode(torch.from_numpy(z).double()), 2e-5)
    latent = config["latent_channels"]
    close(vae(nn.asarray(x)), vae.decode(vae.encode(nn.asarray(x))[:, :latent]), 0.0)


def test_long_attention_in_pieces_equals_the_whole(
    nn: Backend, close: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ltx_models.autoencoder_kl import layers as autoencoder_layers

    vae = nn.load(
        AutoencoderKL(nn, AutoencoderKLConfig.read(CONFIG)),
        {name: nn.asarray(value) for name, value in make_weights(nn, CONFIG).items()},
    )
    z = nn.asarray(np.random.default_rng(2).standard_normal((2, 4, 6, 7)).astype(np.float32))
    whole = vae.decode(z)
    monkeypatch.setattr(autoencoder_layers, "MOST_SCORES", 2 * 42 * 5)  # five queries at a time
    close(vae.decode(z), whole, 1e-5)


@pytest.mark.parametrize("flat", [True, False])
def test_the_older_spelling_of_attention_is_read(
    nn: Backend, close: Callable[..., None], tmp_path: Path, flat: bool
) -> None:
    weights = make_weights(nn, CONFIG)
    older = {}
    for name, value in weights.items():
        for new, old in ATTENTION.items():
            if f".attentions.0.{new}." in name:
                name = name.replace(f".{new}.", f".{old}.")
                value = value if flat or value.ndim == 1 else value[:, :, None, None]
        older[name] = value
    assert len(older.keys() - weights.keys()) == 16
    name = nn.name
    a = load_autoencoder_kl(save(tmp_path / "new", weights), backend=name)  # its name
    b = load_autoencoder_kl(save(tmp_path / "old", older), backend=name)  # its name
    z = nn.asarray(np.random.default_rng(3).standard_normal((1, 4, 6, 7)).astype(np.float32))
    close(b.decode(z), a.decode(z), 0.0)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_loading_warns_of_a_version_that_is_known_to_be_bad(
    nn: Backend, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        if kind == "video":
            load_video_decoder(default_checkpoint(), backend=nn.name)
        else:
            load_autoencoder_kl(save(tmp_path, make_weights(nn, CONFIG)), backend=nn.name)

    load()
    monkeypatch.setattr("tilekit.backends.limits.place_of", lambda x: Place("torch", "cuda", "2.9.0"))
    with pytest.warns(UserWarning, match=r"torch 2\.9\.0 on cuda: .*; install torch 2\.10"):
        load()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_come_in_the_dtype_asked_for(nn: Backend, tmp_path: Path, dtype: Any) -> None:
    folder = save(tmp_path, make_weights(nn, CONFIG))
    vae = load_autoencoder_kl(folder, backend=nn.name, dtype=dtype)  # its name
    assert {x.dtype for x in nn.weights(vae).values()} == {nn.dtype(dtype)}
    assert vae.config.scaling_factor == 0.5
    assert vae.config.shift_factor == 0.0


def test_what_does_not_fit_is_refused(nn: Backend, tmp_path: Path) -> None:
    def load(folder: Path, **kwargs: Any) -> Any:
        return load_autoencoder_kl(folder, backend=nn.name, **kwargs)  # its name

    weights = make_weights(nn, CONFIG)
    missing = {name: value for name, value in weights.items() if name != "decoder.conv_in.bias"}
    with pytest.raises(CheckpointError, match=r"1 missing: decoder.conv_in.bias"):
        load(save(tmp_path / "a", missing))
    with pytest.raises(CheckpointError, match=r"1 unexpected: decoder.extra.weight"):
        load(save(tmp_path / "b", {**weights, "decoder.extra.weight": np.zeros(3, np.float32)}))
    with pytest.raises(CheckpointError, match=r"config.json: no such file; give config="):
        load(save(tmp_path / "c", weights, None))
    assert load(tmp_path / "c", config=CONFIG).config.latent_channels == 4
    with pytest.raises(
        CheckpointError, match=r"of another shape: .*conv_in.weight \(16, 4, 3, 3\) instead of \(16, 5, 3, 3\)"
    ):
        load(save(tmp_path / "d", weights, {**CONFIG, "latent_channels": 5}))
    with pytest.raises(
        ValueError, match=r"down_block_types has 'AttnDownEncoderBlock2D', only 'DownEncoderBlock2D' is"
    ):
        load(save(tmp_path / "e", weights, {**CONFIG, "down_block_types": ["AttnDownEncoderBlock2D"]}))
    with pytest.raises(ValueError, match=r"act_fn has 'gelu', only 'silu' is built"):
        load(save(tmp_path / "f", weights, {**CONFIG, "act_fn": "gelu"}))
    with pytest.raises(ValueError, match=r"dtype: got 'float8'"):
        load(tmp_path / "a", dtype="float8")
