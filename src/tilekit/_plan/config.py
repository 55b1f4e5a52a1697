"""The tiling configuration of LTX-2, in pixels and frames; one way to make a `Tiling`."""

from dataclasses import dataclass
from typing import Literal, Self

from tilekit._errors import PlanError
from tilekit._plan.spans import checked_integer, is_integer
from tilekit._plan.tiling import Tiling

__all__ = ["SpatialTilingConfig", "TemporalTilingConfig", "TilingConfig"]


# What the official code asks of the overlaps of encodes, in the units of each axis; it refuses less, we say so.
ENCODE_OVERLAP = {"frames": 16, "height": 64, "width": 64}
SPATIAL_FACTOR = 32


def _check(name: str, size: int, overlap: int, least: int, factor: int) -> tuple[int, int]:
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
    return checked_integer(size), checked_integer(overlap)


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
        size, overlap = _check("pixels", self.tile_size_in_pixels, self.tile_overlap_in_pixels, 64, 32)
        object.__setattr__(self, "tile_size_in_pixels", size)
        object.__setattr__(self, "tile_overlap_in_pixels", overlap)


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
        size, overlap = _check("frames", self.tile_size_in_frames, self.tile_overlap_in_frames, 16, 8)
        object.__setattr__(self, "tile_size_in_frames", size)
        object.__setattr__(self, "tile_overlap_in_frames", overlap)


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
    Sources: `default` is that of Lightricks/LTX-2 1.0.0, or of 1.2.0 on request, and `from_long_side` is its way to fit
    tiles to the shape of a picture; the others, `auto` with its thresholds included, are no official ones but those of
    the first MLX port.

    The official code refuses to encode with overlaps below 16 frames or 64 pixels. Here any overlap is taken, and the
    printed plan of an encode names one that is below.

    Examples
    --------
    >>> TilingConfig.default().tiling()
    Tiling(frames=(64, 24), height=(512, 64), width=(512, 64))
    """

    spatial_config: SpatialTilingConfig | None = None
    temporal_config: TemporalTilingConfig | None = None

    @classmethod
    def default(cls, version: Literal["1.0", "1.2"] = "1.0") -> Self:
        """
        Give the official default: of 1.0, or the newest, of 1.2.

        Parameters
        ----------
        version : {"1.0", "1.2"}
            1.0: tiles of 512 pixels and 64 frames, overlaps 64 and 24. 1.2: 768 pixels and 80 frames, overlaps 64
            and 24; more memory, less redundant work.

        Returns
        -------
        TilingConfig
            The numbers of that version.

        Raises
        ------
        PlanError
            If there is no such version.

        Examples
        --------
        >>> TilingConfig.default("1.2").tiling()
        Tiling(frames=(80, 24), height=(768, 64), width=(768, 64))
        """
        numbers = {"1.0": ((512, 64), (64, 24)), "1.2": ((768, 64), (80, 24))}
        if version not in numbers:
            msg = f'version must be "1.0" or "1.2", got {version!r}'
            raise PlanError(msg)
        space, time = numbers[version]
        return cls(SpatialTilingConfig(*space), TemporalTilingConfig(*time))

    @classmethod
    def from_long_side(
        cls,
        height: int,
        width: int,
        *,
        spatial_config: SpatialTilingConfig | None = None,
        temporal_config: TemporalTilingConfig | None = None,
    ) -> Tiling:
        """
        Give tiles of the shape of the picture, of which the tile size is the long side.

        Parameters
        ----------
        height, width : int
            Sides of the picture in pixels, multiples of 32.
        spatial_config : SpatialTilingConfig, optional
            Long side and overlap; left out, the official 768 and 64.
        temporal_config : TemporalTilingConfig, optional
            Tiles in time; left out, none.

        Returns
        -------
        Tiling
            Both sides rounded to latents, and at least one latent longer than the overlap.

        Raises
        ------
        PlanError
            If a side is no positive multiple of 32.

        Notes
        -----
        Source: Lightricks/LTX-2 1.2.0, ``TileSizeConfig.from_long_side``; halves go to even latents there, too.

        Examples
        --------
        >>> TilingConfig.from_long_side(1088, 1920)
        Tiling(height=(448, 64), width=(768, 64))
        """
        for name, side in (("height", height), ("width", width)):
            if not is_integer(side) or side < 1 or side % SPATIAL_FACTOR:
                msg = f"{name} must be a positive multiple of {SPATIAL_FACTOR} pixels, got {side!r}"
                raise PlanError(msg)
        space = cls.default("1.2").spatial_config if spatial_config is None else spatial_config
        assert space is not None
        size, overlap = space.tile_size_in_pixels // SPATIAL_FACTOR, space.tile_overlap_in_pixels // SPATIAL_FACTOR
        sides = [
            max(2, overlap + 1, round(size * side / max(height, width))) * SPATIAL_FACTOR for side in (height, width)
        ]
        tall, wide = ((side, overlap * SPATIAL_FACTOR) for side in sides)
        return Tiling(frames=_numbers(temporal_config), height=tall, width=wide)

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
        Tile the axes that exceed their threshold, with the default numbers of 1.0; not an official rule.

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
        space = self.spatial_config
        side = None if space is None else (space.tile_size_in_pixels, space.tile_overlap_in_pixels)
        return Tiling(frames=_numbers(self.temporal_config), height=side, width=side)


def _numbers(time: TemporalTilingConfig | None) -> tuple[int, int] | None:
    return None if time is None else (time.tile_size_in_frames, time.tile_overlap_in_frames)
