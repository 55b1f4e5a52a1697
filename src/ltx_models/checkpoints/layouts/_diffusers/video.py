"""The configuration of the video autoencoder, whose lists of blocks diffusers keeps by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from ltx_models.checkpoints.layouts._diffusers.tables import Config

_KINDS = {"space": "spatial", "time": "temporal", "all": "spatiotemporal"}
_KINDS_BACK = {there: here for here, there in _KINDS.items()}


def video_back(config: Mapping[str, Any]) -> Config:
    _check_levels(config)
    channels: int = config.get("latent_channels", 128)
    before = [channels, *config["block_out_channels"]]
    encoder = _interleave(
        [["res_x", {"num_layers": n}] for n in config["layers_per_block"]],
        [
            [f"compress_{_KINDS_BACK[kind]}_res", {"multiplier": after // width}]
            for kind, width, after in zip(config["downsample_type"], before, before[1:], strict=False)
        ],
    )
    count = len(config["decoder_layers_per_block"])
    noise = _each(config.get("decoder_inject_noise", False), count)
    decoder = _interleave(  # as the file lists them: from pixels to latents
        [
            ["res_x", {"num_layers": n} | ({"inject_noise": True} if noisy else {})]
            for n, noisy in zip(config["decoder_layers_per_block"], noise, strict=True)
        ],
        [
            [f"compress_{_KINDS_BACK[kind]}", {"multiplier": factor} | ({"residual": True} if residual else {})]
            for kind, factor, residual in zip(
                reversed(config["upsample_type"]),
                config["upsample_factor"],
                _each(config.get("upsample_residual", True), count - 1),
                strict=True,
            )
        ],
    )
    return {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": config.get("in_channels", 3),
        "out_channels": config.get("out_channels", 3),
        "latent_channels": channels,
        "patch_size": config.get("patch_size", 4),
        "encoder_blocks": encoder,
        "decoder_blocks": decoder,
        "decoder_base_channels": config["decoder_block_out_channels"][-1] // prod(config["upsample_factor"]),
        "norm_layer": "pixel_norm",
        "latent_log_var": "uniform",
        "causal_decoder": config.get("decoder_causal", False),
        "timestep_conditioning": config.get("timestep_conditioning", False),
        "spatial_padding_mode": config.get("decoder_spatial_padding_mode", "reflect"),
        "encoder_spatial_padding_mode": config.get("encoder_spatial_padding_mode", "zeros"),
    }


def _check_levels(config: Mapping[str, Any]) -> None:
    """Refuse lists of levels whose lengths do not go together: n changes of size lie between n + 1 rows of layers."""
    for rows, *changes in (
        ("layers_per_block", "downsample_type", "block_out_channels"),
        ("decoder_layers_per_block", "upsample_type", "upsample_factor", "decoder_block_out_channels"),
    ):
        lengths = {name: len(config[name]) for name in (rows, *changes)}
        if any(lengths[name] != lengths[rows] - 1 for name in changes):
            counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
            msg = f"vae: numbers of entries are {counts}; expected one more of {rows} than of each of the others"
            raise ValueError(msg)


def video_there(section: Mapping[str, Any]) -> Config:
    channels: int = section.get("latent_channels", 128)
    base = section.get("encoder_base_channels", channels)
    if base != channels or len(section["encoder_blocks"]) != 9:
        msg = (
            f"config.vae: encoder_base_channels={base} with {channels} latent channels and "
            f"{len(section['encoder_blocks'])} blocks; diffusers' encoder has as many channels as latents, and 9 blocks"
        )
        raise ValueError(msg)
    encoder = [_options(entry) for entry in section["encoder_blocks"]]
    widths = [base]
    for _, options in encoder[1::2]:
        widths.append(widths[-1] * options.get("multiplier", 1))
    decoder = [_options(entry) for entry in section["decoder_blocks"]]  # from pixels to latents
    compress = decoder[1::2]
    factors = [options.get("multiplier", 1) for _, options in compress]
    before = [section.get("decoder_base_channels", 128) * prod(factors)]
    for _, options in reversed(compress):
        before.append(before[-1] // options.get("multiplier", 1))
    return {
        "in_channels": section.get("in_channels", 3),
        "out_channels": section.get("out_channels", 3),
        "latent_channels": channels,
        "patch_size": section.get("patch_size", 4),
        "block_out_channels": widths[1:],
        "down_block_types": ["LTX2VideoDownBlock3D"] * (len(widths) - 1),
        "layers_per_block": [options.get("num_layers", 1) for _, options in encoder[::2]],
        "downsample_type": [_KINDS[_kind(name)] for name, _ in encoder[1::2]],
        "spatio_temporal_scaling": [True] * (len(widths) - 1),
        "decoder_block_out_channels": before[-2::-1],
        "decoder_layers_per_block": [options.get("num_layers", 1) for _, options in decoder[::2]],
        "decoder_inject_noise": [bool(options.get("inject_noise", False)) for _, options in decoder[::2]],
        "decoder_spatio_temporal_scaling": [True] * len(compress),
        "upsample_type": [_KINDS[_kind(name)] for name, _ in reversed(compress)],
        "upsample_residual": [bool(options.get("residual", False)) for _, options in compress],
        "upsample_factor": factors,
        "timestep_conditioning": bool(section.get("timestep_conditioning", False)),
        "encoder_causal": True,
        "decoder_causal": bool(section.get("causal_decoder", False)),
        "encoder_spatial_padding_mode": section.get(
            "encoder_spatial_padding_mode", section.get("spatial_padding_mode", "zeros")
        ),
        "decoder_spatial_padding_mode": section.get("spatial_padding_mode", "reflect"),
    }


def _interleave(levels: list[Any], changes: list[Any]) -> list[Any]:
    blocks = [levels[0]]
    for change, level in zip(changes, levels[1:], strict=True):
        blocks += [change, level]
    return blocks


def _each(value: Any, count: int) -> list[bool]:
    return [value] * count if isinstance(value, bool) else list(value)


def _options(entry: Sequence[Any]) -> tuple[str, Config]:
    name, options = entry
    return name, {"num_layers": options} if isinstance(options, int) else dict(options)


def _kind(name: str) -> str:
    return name.removeprefix("compress_").removesuffix("_res")
