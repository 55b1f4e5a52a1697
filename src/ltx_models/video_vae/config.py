"""The configuration of a video autoencoder, as checkpoints embed it under ``vae``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from ltx_models.nn.stream import MIN_CAP, UNBOUNDED

SpatialPadding = Literal["zeros", "reflect"]
CONVOLUTIONAL = "CausalVideoAutoencoder"
Triple = tuple[int, int, int]
STRIDES = {"compress_all": (2, 2, 2), "compress_space": (1, 2, 2), "compress_time": (2, 1, 1)}


def scale_of(strides: Sequence[Triple], patch_size: int) -> Triple:
    """Give the frames, rows and columns of pixels to a latent cell, of the strides of all steps and of patches."""
    time, height, width = (prod(stride[axis] for stride in strides) for axis in range(3))
    return time, height * patch_size, width * patch_size


@dataclass(frozen=True, slots=True)
class BlockConfig:
    """
    One entry of ``encoder_blocks`` or ``decoder_blocks``.

    Attributes
    ----------
    name : str
        ``"res_x"``, ``"compress_all"``, ``"compress_space"`` or ``"compress_time"``; an encoder's end in ``_res``.
    num_layers : int
        Residual blocks of a ``res_x``.
    multiplier : int
        Channels: times this in an encoder, divided by it in a decoder.
    residual : bool
        Whether a decoder's ``compress`` adds its rearranged input.
    inject_noise : bool
        Whether the residual blocks of a ``res_x`` add noise.
    """

    name: str
    num_layers: int = 1
    multiplier: int = 1
    residual: bool = False
    inject_noise: bool = False

    @property
    def stride(self) -> tuple[int, int, int]:
        """Cells of time, height and width that become one in an encoder, or come of one in a decoder."""
        return STRIDES.get(self.name, (1, 1, 1))


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """
    One unit of an encoder or decoder: what is needed to count its work and memory without its weights.

    Attributes
    ----------
    name : str
        Its module.
    convolutions : tuple of (int, int)
        Channels in and out of its 3x3x3 convolutions, in order.
    time, space : int
        Cells of its input to a latent cell, along time and along height or width.
    stride : (int, int, int)
        Cells of time, height and width that one cell becomes (decoder) or that become one (encoder).
    """

    name: str
    convolutions: tuple[tuple[int, int], ...]
    time: int
    space: int
    stride: tuple[int, int, int] = (1, 1, 1)

    def cap(self, time: int, frames: int | None) -> int:
        """Give the most cells that may go through at once for so many frames of pixels, `time` of them to a latent."""
        return UNBOUNDED if frames is None else max(MIN_CAP, -(-frames * self.time // time))


@dataclass(frozen=True, slots=True)
class VideoVAEConfig:
    """
    What the loaders read of ``config["vae"]``.

    Attributes
    ----------
    encoder_blocks, decoder_blocks : tuple of BlockConfig
        In the order in which they run: the decoder's stand the other way round in the file.
    latent_channels, in_channels, out_channels : int
        Channels of latents and of pixels.
    patch_size : int
        Side of the pixel squares that become channels first.
    encoder_base_channels : int
        Channels after the encoder's first convolution; in official files as many as of latents.
    decoder_base_channels : int
        Channels after the decoder's last block.
    encoder_padding, decoder_padding : {"zeros", "reflect"}
        What lies beyond the border of a frame.
    causal_decoder : bool
        Whether the decoder looks back only.
    """

    encoder_blocks: tuple[BlockConfig, ...]
    decoder_blocks: tuple[BlockConfig, ...]
    latent_channels: int = 128
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int = 4
    encoder_base_channels: int = 128
    decoder_base_channels: int = 128
    encoder_padding: SpatialPadding = "zeros"
    decoder_padding: SpatialPadding = "reflect"
    causal_decoder: bool = False

    @property
    def decoder_width(self) -> int:
        """Channels after the decoder's first convolution: every step to a higher resolution divides them."""
        return self.decoder_base_channels * prod(block.multiplier for block in self.decoder_blocks)

    @property
    def decoder_scale(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels to a latent cell."""
        return scale_of([block.stride for block in self.decoder_blocks], self.patch_size)

    @property
    def encoder_scale(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels to a latent cell."""
        return scale_of([block.stride for block in self.encoder_blocks], self.patch_size)

    def check_cells(self, height: int, width: int) -> None:
        """
        Refuse frames that the decoder cannot mirror.

        Parameters
        ----------
        height, width : int
            Of the latents, in cells.

        Raises
        ------
        ValueError
            If there is a single row or column, and the decoder mirrors its borders.
        """
        if self.decoder_padding == "reflect" and min(height, width) < 2:
            msg = (
                f"latent: height and width are {(height, width)} cells, this decoder mirrors its borders and needs at "
                "least 2 of each; decode a larger frame"
            )
            raise ValueError(msg)

    def decoder_steps(self) -> tuple[UnitSpec, ...]:
        """List the units of the decoder, from latents to patches."""
        width, time, space = self.decoder_width, 1, 1
        steps = [UnitSpec("conv_in", ((self.latent_channels, width),), time, space)]
        for i, block in enumerate(self.decoder_blocks):
            if block.name == "res_x":
                steps += _residual_steps(f"up_blocks.{i}", block, width, time, space)
                continue
            convolution = (width, prod(block.stride) * width // block.multiplier)
            steps.append(UnitSpec(f"up_blocks.{i}", (convolution,), time, space, block.stride))
            width, time, space = width // block.multiplier, time * block.stride[0], space * block.stride[1]
        return (*steps, UnitSpec("conv_out", ((width, self.out_channels * self.patch_size**2),), time, space))

    def encoder_steps(self) -> tuple[UnitSpec, ...]:
        """List the units of the encoder, from patches to latents."""
        time, height, _ = self.encoder_scale
        width, space = self.encoder_base_channels, height // self.patch_size
        steps = [UnitSpec("conv_in", ((self.in_channels * self.patch_size**2, width),), time, space)]
        for i, block in enumerate(self.encoder_blocks):
            if block.name == "res_x":
                steps += _residual_steps(f"down_blocks.{i}", block, width, time, space)
                continue
            convolution = (width, width * block.multiplier // prod(block.stride))
            steps.append(UnitSpec(f"down_blocks.{i}", (convolution,), time, space, block.stride))
            width, time, space = width * block.multiplier, time // block.stride[0], space // block.stride[1]
        return (*steps, UnitSpec("conv_out", ((width, self.latent_channels + 1),), time, space))

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> VideoVAEConfig:
        """
        Read the section ``vae`` of an embedded configuration.

        Parameters
        ----------
        section : mapping
            ``config["vae"]``.

        Returns
        -------
        VideoVAEConfig
            Keys that the official code reads; others are ignored.

        Raises
        ------
        ValueError
            If it does not describe a video autoencoder, or an unknown block or padding.

        Notes
        -----
        Source: the configurators of Lightricks/LTX-2; absent keys take their code's defaults.
        """
        diffusion = is_diffusion(section)
        if diffusion:
            section = _nested(section)
        for key in ("encoder_blocks",) if diffusion else ("encoder_blocks", "decoder_blocks"):
            if not section.get(key):
                msg = f"vae.{key}: missing; the checkpoint's config does not describe a video autoencoder, pass config="
                raise ValueError(msg)
        latent_channels = section.get("latent_channels", 128)
        return cls(
            encoder_blocks=tuple(_block(entry, "_res") for entry in section["encoder_blocks"]),
            decoder_blocks=tuple(_block(entry, "") for entry in reversed(section.get("decoder_blocks", ()))),
            latent_channels=latent_channels,
            in_channels=section.get("in_channels", 3),
            out_channels=section.get("out_channels", 3),
            patch_size=section.get("patch_size", 4),
            encoder_base_channels=section.get("encoder_base_channels", latent_channels),
            decoder_base_channels=section.get("decoder_base_channels", 128),
            encoder_padding=_padding(
                section, "encoder_spatial_padding_mode", section.get("spatial_padding_mode", "zeros")
            ),
            decoder_padding=_padding(section, "spatial_padding_mode", "reflect"),
            causal_decoder=section.get("causal_decoder", False),
        )


def is_diffusion(section: Mapping[str, Any]) -> bool:
    """Say whether the section ``vae`` of a configuration describes a diffusion decoder (2.5)."""
    return bool(section.get("_class_name", CONVOLUTIONAL) != CONVOLUTIONAL)


def _nested(section: Mapping[str, Any]) -> dict[str, Any]:
    """Give the keys of a convolutional autoencoder for an encoder that stands beside a diffusion decoder."""
    encoder = section.get("encoder") or {}
    flat = {
        "encoder_blocks": encoder.get("blocks"),
        "latent_channels": section.get("latent_channels", encoder.get("out_channels")),
        "in_channels": encoder.get("in_channels"),
        "patch_size": encoder.get("patch_size"),
        "encoder_spatial_padding_mode": encoder.get("spatial_padding_mode"),
    }
    return {key: value for key, value in flat.items() if value is not None}


def _residual_steps(name: str, block: BlockConfig, width: int, time: int, space: int) -> list[UnitSpec]:
    pair = ((width, width), (width, width))
    return [UnitSpec(f"{name}.res_blocks.{j}", pair, time, space) for j in range(block.num_layers)]


def _block(entry: Sequence[Any], suffix: str) -> BlockConfig:
    name, choice = entry
    options: dict[str, Any] = {"num_layers": choice} if isinstance(choice, int) else dict(choice)
    known = {"res_x", *(key + suffix for key in STRIDES)}
    if name not in known:
        msg = f"vae: unknown block {name!r}, known are {', '.join(sorted(known))}"
        raise ValueError(msg)
    fields = {key: options[key] for key in ("num_layers", "multiplier", "residual", "inject_noise") if key in options}
    return BlockConfig(name.removesuffix(suffix) if suffix else name, **fields)


def _padding(section: Mapping[str, Any], key: str, default: SpatialPadding) -> SpatialPadding:
    mode = section.get(key, default)
    if mode not in {"zeros", "reflect"}:
        msg = f"vae.{key}: got {mode!r}, allowed are 'zeros' and 'reflect'"
        raise ValueError(msg)
    return mode  # type: ignore[no-any-return]  # checked above


def _res(layers: int) -> BlockConfig:
    return BlockConfig("res_x", layers)


def _compress(kind: str, multiplier: int = 2, *, residual: bool = False) -> BlockConfig:
    return BlockConfig(f"compress_{kind}", 1, multiplier, residual)


_START = (_res(4), _compress("space"), _res(6), _compress("time"))

LTX2 = VideoVAEConfig(
    encoder_blocks=(*_START, _res(6), _compress("all"), _res(2), _compress("all"), _res(2)),
    decoder_blocks=(_res(5), *(_compress("all", residual=True), _res(5)) * 3),
)
"""The autoencoder of LTX-2, 2.0: 694 M parameters in the encoder, 528 M in the decoder."""

LTX2_3 = VideoVAEConfig(
    encoder_blocks=(*_START, _res(4), _compress("all"), _res(2), _compress("all", 1), _res(2)),
    decoder_blocks=(
        *(_res(2), _compress("all"), _res(2), _compress("all", 1), _res(4)),
        *(_compress("time"), _res(6), _compress("space"), _res(4)),
    ),
    decoder_padding="zeros",
)
"""The autoencoder of LTX-2.3: 319 M parameters in the encoder, 407 M in the decoder."""
