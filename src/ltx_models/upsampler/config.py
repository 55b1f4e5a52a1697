"""What a latent upsampler of a checkpoint looks like, read from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCALES = {0.75: (3, 4), 1.5: (3, 2), 2.0: (2, 1), 4.0: (4, 1)}
"""Of the rational kind: what the side is multiplied by, and divided by."""


@dataclass(frozen=True, slots=True)
class UpsamplerConfig:
    """
    What the loader reads of an upsampler's configuration.

    Attributes
    ----------
    channels, width : int
        Channels of the latents, and inside.
    blocks : int
        Residual blocks before, and after, the change of size.
    kind : {"spatial", "rational", "temporal"}
        Twice the side by one convolution; a rational multiple of it; twice the frames.
    scale : float
        Of the side, where it is rational: 0.75, 1.5, 2 or 4.
    """

    channels: int
    width: int
    blocks: int
    kind: str
    scale: float = 2.0

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> UpsamplerConfig:
        """
        Read the configuration that an upsampler's file embeds.

        Parameters
        ----------
        config : mapping
            The whole of it: these files have no sections.

        Returns
        -------
        UpsamplerConfig
            Keys that the official code reads; others are ignored.

        Raises
        ------
        ValueError
            If it describes none of the three kinds.

        Notes
        -----
        Source: the configurator of Lightricks/LTX-2; absent keys take its code's defaults.
        """
        spatial, temporal = config.get("spatial_upsample", True), config.get("temporal_upsample", False)
        if config.get("dims", 3) != 3 or bool(spatial) == bool(temporal):
            msg = (
                f"upsampler: got dims={config.get('dims', 3)}, spatial_upsample={spatial}, "
                f"temporal_upsample={temporal}; known are three dimensions and one of the two"
            )
            raise ValueError(msg)
        scale = float(config.get("spatial_scale", 2.0))
        rational = bool(config.get("rational_resampler", False))
        if rational and scale not in SCALES:
            msg = f"upsampler.spatial_scale: got {scale}, allowed are {', '.join(map(str, SCALES))}"
            raise ValueError(msg)
        return cls(
            channels=config.get("in_channels", 128),
            width=config.get("mid_channels", 512),
            blocks=config.get("num_blocks_per_stage", 4),
            kind="temporal" if temporal else "rational" if rational else "spatial",
            scale=scale,
        )
