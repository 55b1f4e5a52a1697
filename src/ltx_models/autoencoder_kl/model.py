"""The configuration, encoder, decoder and loader of AutoencoderKL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ltx_models.autoencoder_kl.layers import (
    NORM_EPS,
    DownEncoderBlock2D,
    UNetMidBlock2D,
    UpDecoderBlock2D,
    block_widths,
)
from ltx_models.checkpoints import (
    BackendName,
    Checkpoint,
    CheckpointError,
    DType,
    check_keys,
    checkpoint_files,
    open_checkpoint,
)
from ltx_models.nn import Array, Backend, Module
from ltx_models.nn import backend as get_backend
from ltx_models.nn.border import guarded
from ltx_models.nn.checks import check_dtype
from tilekit.backends.limits import warn_of

ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0", "proj_out": "to_out.0"}
KNOWN = {"act_fn": "silu", "down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}


@dataclass(frozen=True, slots=True)
class AutoencoderKLConfig:
    """
    What the loader reads of diffusers' ``config.json``; the defaults are those of Stable Diffusion.

    Attributes
    ----------
    in_channels, out_channels : int
        Of the image; 1 for a mel spectrogram.
    latent_channels : int
        Of the latents.
    block_out_channels : tuple of int
        Channels of each level, from fine to coarse; each level but the last halves height and width.
    layers_per_block : int
        Residual blocks of an encoder's level; a decoder's has one more.
    norm_num_groups : int
        Groups of every normalisation.
    mid_block_add_attention : bool
        Whether the middle attends over the whole image.
    use_quant_conv, use_post_quant_conv : bool
        Whether a 1x1 convolution stands behind the encoder, and before the decoder.
    scaling_factor, shift_factor : float
        A diffusion model sees ``(latents - shift_factor) * scaling_factor``; not applied here.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    scaling_factor: float = 0.18215
    shift_factor: float = 0.0

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> AutoencoderKLConfig:
        """
        Read the configuration of diffusers.

        Parameters
        ----------
        config : mapping
            The content of ``config.json``.

        Returns
        -------
        AutoencoderKLConfig
            What is not given has its default.

        Raises
        ------
        ValueError
            If the configuration asks for blocks or activations that are not built here.

        Examples
        --------
        >>> AutoencoderKLConfig.read({"latent_channels": 16, "use_quant_conv": False}).latent_channels
        16
        """
        for key, known in KNOWN.items():
            value = config.get(key, known)
            for name in [value] if isinstance(value, str) else value:
                if name != known:
                    msg = f"config: {key} has {name!r}, only {known!r} is built"
                    raise ValueError(msg)
        names = {field.name for field in fields(cls)}
        options = {key: value for key, value in config.items() if key in names and value is not None}
        options["block_out_channels"] = tuple(options.get("block_out_channels", cls().block_out_channels))
        return cls(**options)


class Encoder(Module):
    """
    From images to the moments of latents, channels-last.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : AutoencoderKLConfig
        The structure.
    """

    def __init__(self, nn: Backend, config: AutoencoderKLConfig) -> None:
        super().__init__()
        widths, groups, layers = config.block_out_channels, config.norm_num_groups, config.layers_per_block
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            [
                DownEncoderBlock2D(nn, block_widths(before, width, layers), groups, last=i == len(widths) - 1)
                for i, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False))
            ]
        )
        self.mid_block = UNetMidBlock2D(nn, widths[-1], groups, attention=config.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def conv_act(self, x: Array) -> Array:
        """Activate what a norm gave; it may be overwritten."""
        return self.nn.silu_(x)

    def forward(self, x: Array) -> Array:
        """Run over (B, H, W, C)."""
        x = self.conv_in(x)
        for layer in (*self.down_blocks, self.mid_block):
            x = layer(x)
        return self.conv_out(self.conv_act(self.conv_norm_out(x)))


class Decoder(Module):
    """
    From latents to images, channels-last.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : AutoencoderKLConfig
        The structure.
    """

    def __init__(self, nn: Backend, config: AutoencoderKLConfig) -> None:
        super().__init__()
        widths, groups, layers = config.block_out_channels[::-1], config.norm_num_groups, config.layers_per_block + 1
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = UNetMidBlock2D(nn, widths[0], groups, attention=config.mid_block_add_attention)
        self.up_blocks = nn.ModuleList(
            [
                UpDecoderBlock2D(nn, block_widths(before, width, layers), groups, last=i == len(widths) - 1)
                for i, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False))
            ]
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def conv_act(self, x: Array) -> Array:
        """Activate what a norm gave; it may be overwritten."""
        return self.nn.silu_(x)

    def forward(self, x: Array) -> Array:
        """Run over (B, h, w, C)."""
        x = self.conv_in(x)
        for layer in (self.mid_block, *self.up_blocks):
            x = layer(x)
        return self.conv_out(self.conv_act(self.conv_norm_out(x)))


class AutoencoderKL(Module):
    """
    The autoencoder.

    Parameters
    ----------
    nn : Backend
        The framework, as `ltx_models.nn.backend` gives it.
    config : AutoencoderKLConfig
        The structure.

    Examples
    --------
    >>> import torch
    >>> from ltx_models.nn import backend
    >>> vae = AutoencoderKL(backend("torch"), AutoencoderKLConfig(block_out_channels=(8, 8), norm_num_groups=4))
    >>> vae.encode(torch.zeros(1, 3, 16, 24)).shape, vae.decode(torch.zeros(1, 4, 8, 12)).shape
    (torch.Size([1, 8, 8, 12]), torch.Size([1, 3, 16, 24]))
    """

    channels_last = True  # how arrays lie inside: tilekit.adapters asks for it

    def __init__(self, nn: Backend, config: AutoencoderKLConfig) -> None:
        super().__init__()
        latent = config.latent_channels
        self.config = config
        self.encoder = Encoder(nn, config)
        self.decoder = Decoder(nn, config)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1) if config.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(latent, latent, 1) if config.use_post_quant_conv else None

    @guarded("tilekit.exact makes it in pieces that are right")
    def encode(self, x: Array) -> Array:
        """
        Encode images.

        Parameters
        ----------
        x : array, shape (B, C, H, W)
            Images, or mel spectrograms (time, mel).

        Returns
        -------
        array, shape (B, 2 * latent_channels, h, w)
            Moments of the latents: their mean, then the logarithm of their variance.
        """
        h = self.encoder(self.nn.xp.permute_dims(x, (0, 2, 3, 1)))
        h = h if self.quant_conv is None else self.quant_conv(h)
        return self.nn.xp.permute_dims(h, (0, 3, 1, 2))

    @guarded("tilekit.exact makes it in pieces that are right")
    def decode(self, z: Array) -> Array:
        """
        Decode latents.

        Parameters
        ----------
        z : array, shape (B, latent_channels, h, w)
            Latents, not scaled.

        Returns
        -------
        array, shape (B, C, H, W)
            Images, or mel spectrograms (time, mel).
        """
        h = self.nn.xp.permute_dims(z, (0, 2, 3, 1))
        h = h if self.post_quant_conv is None else self.post_quant_conv(h)
        return self.nn.xp.permute_dims(self.decoder(h), (0, 3, 1, 2))

    def forward(self, x: Array) -> Array:
        """Encode images and decode the mean of their latents."""
        return self.decode(self.encode(x)[:, : self.config.latent_channels])


def load_autoencoder_kl(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "float32",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load an AutoencoderKL that diffusers saved.

    Parameters
    ----------
    path : path
        The folder ``vae`` of a pipeline, or a safetensors file in it. Both spellings of the attention are read: linear
        ``to_q`` and the older ``query``, also where they are 1x1 convolutions.
    backend, dtype, device
        As every loader takes them: see `ltx_models.checkpoints.load_component`.
    config : mapping, optional
        Takes the place of the ``config.json`` beside the weights.

    Returns
    -------
    AutoencoderKL
        A native module, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, there is no configuration, or the tensors do not fit it.
    ValueError
        If the configuration, backend or dtype is not known.
    """
    check_dtype(dtype)
    nn = get_backend(backend)
    structure = AutoencoderKLConfig.read(config if config is not None else _config_beside(path))
    with open_checkpoint(path, backend) as opened:
        checkpoint = _flat_attention(opened)
        module = nn.build(lambda: AutoencoderKL(nn, structure))
        keys = {_spelling(key): key for key in checkpoint.keys}
        check_keys(checkpoint, keys, nn.shapes(module))
        target = nn.dtype(dtype)
        weights = {name: nn.cast(checkpoint.tensor(key), target, device) for name, key in keys.items()}
        warn_of(next(iter(weights.values())))
        return nn.load(module, weights, device)


def _config_beside(path: str | Path) -> Mapping[str, Any]:
    file = checkpoint_files(path)[0].with_name("config.json")
    if not file.exists():
        msg = f"{file}: no such file; give config=, what diffusers writes there"
        raise CheckpointError(msg)
    config: Mapping[str, Any] = json.loads(file.read_text())
    return config


def _spelling(key: str) -> str:
    """Name the key as today's diffusers does."""
    head, _, rest = key.partition(".attentions.0.")
    name, _, kind = rest.rpartition(".")
    return f"{head}.attentions.0.{ATTENTION.get(name, name)}.{kind}" if rest else key


def _flat_attention(checkpoint: Checkpoint) -> Checkpoint:
    """See the 1x1 convolutions of an attention as the linear maps that they are."""
    files = {
        key: replace(stored, shape=stored.shape[:2]) if ".attentions." in key and stored.shape[2:] == (1, 1) else stored
        for key, stored in checkpoint.files.items()
    }
    return replace(checkpoint, files=files)
