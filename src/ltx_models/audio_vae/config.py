"""What an audio autoencoder of a checkpoint looks like, read from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AudioVAEConfig:
    """
    What the loaders read of ``config["audio_vae"]``.

    Attributes
    ----------
    channels : int
        Channels of the finest level.
    multipliers : tuple of int
        Channels of each level, from fine to coarse, in those; each level but the last halves time and frequency.
    blocks : int
        Residual blocks of an encoder's level; a decoder's has one more.
    latent_channels : int
        Channels of the latents.
    mel_channels : int
        Channels of the spectrogram: 2, left and right.
    mel_bins : int
        Bands of frequency.
    attention : bool
        Whether the middle attends over the whole clip.
    causal : bool
        Whether convolutions over time look back only.
    sample_rate : int
        Samples a second of the sound that spectrograms are made of.
    """

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    latent_channels: int
    mel_channels: int = 2
    mel_bins: int = 64
    attention: bool = False
    causal: bool = True
    sample_rate: int = 16000

    @property
    def factor(self) -> int:
        """Spectrogram cells to a latent cell, in time and in frequency."""
        return 1 << (len(self.multipliers) - 1)

    @property
    def latent_bins(self) -> int:
        """Bands of frequency of the latents."""
        return self.mel_bins // self.factor

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> AudioVAEConfig:
        """
        Read the section ``audio_vae`` of an embedded configuration.

        Parameters
        ----------
        section : mapping
            ``config["audio_vae"]``.

        Returns
        -------
        AudioVAEConfig
            Keys that the official code reads; others are ignored.

        Raises
        ------
        ValueError
            If it describes no such autoencoder, or one with a norm, attention or axis that no official file has.

        Notes
        -----
        Source: the configurators of Lightricks/LTX-2; absent keys take their code's defaults.
        """
        params = section.get("model", {}).get("params", {})
        ddconfig = params.get("ddconfig", {})
        if missing := [key for key in ("ch", "num_res_blocks", "z_channels") if key not in ddconfig]:
            msg = f"audio_vae.model.params.ddconfig: {', '.join(missing)} missing; no audio autoencoder, pass config="
            raise ValueError(msg)
        for key, allowed, default in (
            ("norm_type", ("pixel",), "group"),
            ("attn_resolutions", ([], (), None), []),
            ("causality_axis", ("height", None, "none"), "width"),
        ):
            if ddconfig.get(key, default) not in allowed:
                msg = f"audio_vae ddconfig.{key}: got {ddconfig.get(key, default)!r}, known are {allowed}"
                raise ValueError(msg)
        bins = section.get("preprocessing", {}).get("mel", {}).get("n_mel_channels")
        return cls(
            channels=ddconfig["ch"],
            multipliers=tuple(ddconfig.get("ch_mult", (1, 2, 4, 8))),
            blocks=ddconfig["num_res_blocks"],
            latent_channels=ddconfig["z_channels"],
            mel_channels=ddconfig.get("in_channels", 2),
            mel_bins=ddconfig.get("mel_bins") or bins or 64,
            attention=ddconfig.get("mid_block_add_attention", True),
            causal=ddconfig.get("causality_axis", "width") == "height",
            sample_rate=params.get("sampling_rate", 16000),
        )
