"""The configuration of a vocoder, as checkpoints embed it under ``vocoder``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACTIVATIONS = {"1": None, "AMP1": ("snake", "snakebeta")}


@dataclass(frozen=True, slots=True)
class GeneratorConfig:
    """
    One generator: mel frames to samples.

    Attributes
    ----------
    width : int
        Channels after the first convolution; each stage halves them.
    rates, sizes : tuple of int
        Of each stage: cells that one cell becomes, and taps of its transposed convolution.
    branch_sizes : tuple of int
        Taps of the convolutions of each branch.
    dilations : tuple of tuple of int
        Of each branch, turn by turn.
    activation : {"snake", "snakebeta", None}
        The anti-aliased activation of 2.3, or None for the leaky rectifiers of 2.0.
    tanh : bool
        Whether the waveform ends in tanh; otherwise it is clamped.
    bounded : bool
        Whether it ends in either.
    bias : bool
        Whether the last convolution has a bias.
    sample_rate : int
        Samples a second.
    mel_channels, mel_bins : int
        Channels and bands of the spectrogram.
    """

    width: int
    rates: tuple[int, ...]
    sizes: tuple[int, ...]
    branch_sizes: tuple[int, ...]
    dilations: tuple[tuple[int, ...], ...]
    activation: str | None = None
    tanh: bool = True
    bounded: bool = True
    bias: bool = True
    sample_rate: int = 24000
    mel_channels: int = 2
    mel_bins: int = 64

    @property
    def factor(self) -> int:
        """Samples to a mel frame."""
        product = 1
        for rate in self.rates:
            product *= rate
        return product

    @classmethod
    def read(cls, config: Mapping[str, Any], *, bounded: bool = True) -> GeneratorConfig:
        """
        Read the description of a generator.

        Parameters
        ----------
        config : mapping
            ``config["vocoder"]`` (2.0), or its part ``vocoder`` or ``bwe`` (2.3).
        bounded : bool
            Whether the waveform ends in tanh or a clamp; not that of ``bwe``, whatever its configuration says.

        Returns
        -------
        GeneratorConfig
            Keys that the official code reads; others are ignored.

        Raises
        ------
        ValueError
            If it describes no generator, or one that is not known.

        Notes
        -----
        Source: the configurator of Lightricks/LTX-2; absent keys take its code's defaults.
        """
        kind = str(config.get("resblock", "1"))
        if kind not in ACTIVATIONS:
            msg = f"vocoder.resblock: got {kind!r}, known are {', '.join(map(repr, ACTIVATIONS))}"
            raise ValueError(msg)
        activation = config.get("activation", "snake") if kind == "AMP1" else None
        if activation not in {None, "snake", "snakebeta"}:
            msg = f"vocoder.activation: got {activation!r}, known are 'snake' and 'snakebeta'"
            raise ValueError(msg)
        generator = cls(
            width=config.get("upsample_initial_channel", 1024),
            rates=tuple(config.get("upsample_rates", (6, 5, 2, 2, 2))),
            sizes=tuple(config.get("upsample_kernel_sizes", (16, 15, 8, 4, 4))),
            branch_sizes=tuple(config.get("resblock_kernel_sizes", (3, 7, 11))),
            dilations=tuple(map(tuple, config.get("resblock_dilation_sizes", ((1, 3, 5),) * 3))),
            activation=activation,
            tanh=config.get("use_tanh_at_final", True),
            bounded=bounded,
            bias=config.get("use_bias_at_final", True),
            sample_rate=config.get("output_sampling_rate", 24000),
        )
        generator.check()
        return generator

    def check(self) -> None:
        """Refuse stages that would change the length by other than their rate."""
        for rate, size in zip(self.rates, self.sizes, strict=True):
            if size < rate or (size - rate) % 2:
                msg = f"vocoder: a stage has rate {rate} and {size} taps; known are those with an even number more"
                raise ValueError(msg)
        if even := [size for size in self.branch_sizes if size % 2 == 0]:
            msg = f"vocoder.resblock_kernel_sizes: got {even}, expected odd numbers"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class BandwidthConfig:
    """
    A vocoder with bandwidth extension.

    Attributes
    ----------
    vocoder, extension : GeneratorConfig
        The first generator, and the one that adds the upper band.
    sample_rate, low_rate : int
        Samples a second of the result and of the first generator.
    hop, n_fft, mel_bins : int
        Of the spectrogram between the two, in samples of the first.
    """

    vocoder: GeneratorConfig
    extension: GeneratorConfig
    sample_rate: int
    low_rate: int
    hop: int
    n_fft: int
    mel_bins: int = 64

    @property
    def ratio(self) -> int:
        """Samples to one of the first generator."""
        return self.sample_rate // self.low_rate

    @property
    def factor(self) -> int:
        """Samples to a mel frame."""
        return self.vocoder.factor * self.ratio


def read_config(section: Mapping[str, Any]) -> GeneratorConfig | BandwidthConfig:
    """
    Read the section ``vocoder`` of an embedded configuration.

    Parameters
    ----------
    section : mapping
        ``config["vocoder"]``.

    Returns
    -------
    GeneratorConfig or BandwidthConfig
        The latter where the section has the parts ``vocoder`` and ``bwe``.

    Raises
    ------
    ValueError
        If it describes no vocoder that is known.
    """
    if not section:
        msg = "vocoder: the checkpoint's config has no such section; pass config="
        raise ValueError(msg)
    if "bwe" not in section:
        return GeneratorConfig.read(section)
    bwe = section["bwe"]
    needed = ("input_sampling_rate", "output_sampling_rate", "hop_length", "n_fft")
    if missing := [key for key in needed if key not in bwe]:
        msg = f"vocoder.bwe: {', '.join(missing)} missing"
        raise ValueError(msg)
    config = BandwidthConfig(
        vocoder=GeneratorConfig.read(section["vocoder"]),
        extension=GeneratorConfig.read(bwe, bounded=False),
        sample_rate=bwe["output_sampling_rate"],
        low_rate=bwe["input_sampling_rate"],
        hop=bwe["hop_length"],
        n_fft=bwe["n_fft"],
        mel_bins=bwe.get("num_mels", 64),
    )
    if config.sample_rate % config.low_rate or config.hop * config.ratio != config.extension.factor:
        msg = (
            f"vocoder.bwe: {config.low_rate} to {config.sample_rate} Hz with a hop of {config.hop} samples does not "
            f"fit a generator of {config.extension.factor} samples a frame"
        )
        raise ValueError(msg)
    return config
