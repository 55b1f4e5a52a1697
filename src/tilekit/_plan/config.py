"""The tiling configuration of LTX-2, in pixels and frames; one way to make a `Tiling`."""

from dataclasses import dataclass
from typing import Self

from tilekit._errors import PlanError
from tilekit._plan.spans import is_integer
from tilekit._plan.tiling import Tiling

__all__ = ["SpatialTilingConfig", "TemporalTilingConfig", "TilingConfig"]


def _check(name: str, size: int, overlap: int, least: int, factor: int) -> None:
    for field, value in ((f"tile_size_in_{name}", size), (f"tile_overlap_in_{name}", overlap)):
        if not is_integer(value):
            msg = f"{field} must be an integer, got {value!r}"
            raise PlanError(msg)
        if value % factor:
            msg = f"{field} must be divisible by {factor}, got {value}"
            raise PlanError(msg)
    if size < least:
        msg = f"tile_size_in_{name} must be at least {least}, got {size}"
        raise PlanError(msg)
    if not 0 <= overlap < size:
        msg = f"tile_overlap_in_{name} must be at least 0 and less than the tile size, got {overlap} and {size}"
        raise PlanError(msg)


@dataclass(frozen=True, slots=True)
class SpatialTilingConfig:
    """
    Square tiles of a frame or image.

    Parameters
    ----------
    tile_size_in_pixels : int
        Side of a tile, at least 64 and divisible by 32.
    tile_overlap_in_pixels : int
        Pixels shared by neighbours, divisible by 32 and less than the side.

    Raises
    ------
    PlanError
        If a number breaks these rules.
    """

    tile_size_in_pixels: int
    tile_overlap_in_pixels: int = 0

    def __post_init__(self) -> None:
        _check("pixels", self.tile_size_in_pixels, self.tile_overlap_in_pixels, 64, 32)


@dataclass(frozen=True, slots=True)
class TemporalTilingConfig:
    """
    Tiles in time.

    Parameters
    ----------
    tile_size_in_frames : int
        Frames of a tile, at least 16 and divisible by 8.
    tile_overlap_in_frames : int
        Frames shared by neighbours, divisible by 8 and less than the tile.

    Raises
    ------
    PlanError
        If a number breaks these rules.
    """

    tile_size_in_frames: int
    tile_overlap_in_frames: int = 0

    def __post_init__(self) -> None:
        _check("frames", self.tile_size_in_frames, self.tile_overlap_in_frames, 16, 8)


@dataclass(frozen=True, slots=True)
class TilingConfig:
    """
    Tiles in space, in time, or both; every ``tiling`` argument takes one.

    Parameters
    ----------
    spatial_config : SpatialTilingConfig or None
        For the axes named height and width.
    temporal_config : TemporalTilingConfig or None
        For the axis named frames.

    Notes
    -----
    Source of the presets: Lightricks/LTX-2 1.0.0 and the first MLX port of it.

    Examples
    --------
    >>> TilingConfig.default().tiling()
    Tiling(frames=(64, 24), height=(512, 64), width=(512, 64))
    """

    spatial_config: SpatialTilingConfig | None = None
    temporal_config: TemporalTilingConfig | None = None

    @classmethod
    def default(cls) -> Self:
        """Tiles of 512 pixels and 64 frames, overlaps 64 and 24."""
        return cls(SpatialTilingConfig(512, 64), TemporalTilingConfig(64, 24))

    @classmethod
    def spatial_only(cls, tile_size: int = 512, overlap: int = 64) -> Self:
        """Tiles in space, for short clips of large frames."""
        return cls(SpatialTilingConfig(tile_size, overlap), None)

    @classmethod
    def temporal_only(cls, tile_size: int = 64, overlap: int = 24) -> Self:
        """Tiles in time, for long clips of small frames."""
        return cls(None, TemporalTilingConfig(tile_size, overlap))

    @classmethod
    def aggressive(cls) -> Self:
        """Small tiles for little memory: 256 pixels and 32 frames, overlaps 64 and 8."""
        return cls(SpatialTilingConfig(256, 64), TemporalTilingConfig(32, 8))

    @classmethod
    def conservative(cls) -> Self:
        """Large tiles for little redundant work: 768 pixels and 96 frames, overlaps 64 and 24."""
        return cls(SpatialTilingConfig(768, 64), TemporalTilingConfig(96, 24))

    @classmethod
    def auto(
        cls, height: int, width: int, num_frames: int, spatial_threshold: int = 512, temporal_threshold: int = 65
    ) -> Self | None:
        """
        Tile the axes that exceed their threshold, with the default numbers.

        Parameters
        ----------
        height, width : int
            Height and width in pixels.
        num_frames : int
            Frames of the clip.
        spatial_threshold, temporal_threshold : int
            Largest side and most frames that stay whole.

        Returns
        -------
        TilingConfig or None
            None if nothing needs tiles.

        Examples
        --------
        >>> TilingConfig.auto(1080, 1920, 33).temporal_config is None
        True
        """
        default = cls.default()
        spatial = default.spatial_config if max(height, width) > spatial_threshold else None
        temporal = default.temporal_config if num_frames > temporal_threshold else None
        return None if spatial is None and temporal is None else cls(spatial, temporal)

    def tiling(self) -> Tiling:
        """Give the general form, for the axes frames, height and width."""
        space, time = self.spatial_config, self.temporal_config
        side = None if space is None else (space.tile_size_in_pixels, space.tile_overlap_in_pixels)
        frames = None if time is None else (time.tile_size_in_frames, time.tile_overlap_in_frames)
        return Tiling(frames=frames, height=side, width=side)
