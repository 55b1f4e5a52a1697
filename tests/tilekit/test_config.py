"""The tiling configuration in pixels and frames."""

from typing import Any

import pytest

import tilekit as tk


def test_the_configurations_have_the_published_numbers_and_refusals() -> None:
    config = tk.TilingConfig
    numbers = {
        "default": (512, 64, 64, 24),
        "aggressive": (256, 64, 32, 8),
        "conservative": (768, 64, 96, 24),
    }
    for name, (size, overlap, frames, shared) in numbers.items():
        made = getattr(config, name)()
        assert made == config(tk.SpatialTilingConfig(size, overlap), tk.TemporalTilingConfig(frames, shared))
        assert made.spatial_config.tile_size_in_pixels == size
        assert made.temporal_config.tile_overlap_in_frames == shared
    newest = config.default("1.2")
    assert newest == config(tk.SpatialTilingConfig(768, 64), tk.TemporalTilingConfig(80, 24))
    with pytest.raises(tk.PlanError, match="version must be"):
        config.default("2")  # type: ignore[arg-type]
    assert config.spatial_only() == config(tk.SpatialTilingConfig(512, 64), None)
    assert config.temporal_only() == config(None, tk.TemporalTilingConfig(64, 24))
    assert config.auto(512, 512, 65) is None
    assert config.auto(512, 544, 65) == config.spatial_only()
    assert config.auto(512, 512, 73) == config.temporal_only()
    assert config.auto(1080, 1920, 121) == config.default()
    assert config.auto(1080, 1920, 121, spatial_threshold=2000, temporal_threshold=200) is None


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: tk.SpatialTilingConfig(32), "at least 64, got 32"),
        (lambda: tk.SpatialTilingConfig(100), "divisible by 32, got 100"),
        (lambda: tk.SpatialTilingConfig(128, 48), "tile_overlap_in_pixels must be divisible by 32, got 48"),
        (lambda: tk.SpatialTilingConfig(128, 128), "less than the tile size, got 128 and 128"),
        (lambda: tk.SpatialTilingConfig(128, -32), "at least 0"),
        (lambda: tk.SpatialTilingConfig(128.0), "must be an integer, got 128.0"),  # type: ignore[arg-type]
        (lambda: tk.TemporalTilingConfig(8), "at least 16, got 8"),
        (lambda: tk.TemporalTilingConfig(20), "divisible by 8, got 20"),
        (lambda: tk.TemporalTilingConfig(16, 4), "tile_overlap_in_frames must be divisible by 8, got 4"),
        (lambda: tk.TemporalTilingConfig(16, 16), "less than the tile size, got 16 and 16"),
        (lambda: tk.TemporalTilingConfig(True), "must be an integer, got True"),
    ],
)
def test_configurations_refuse_other_numbers(call: Any, text: str) -> None:
    with pytest.raises(tk.PlanError, match=text):
        call()


def test_a_configuration_for_an_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(tk.PlanError, match="sd-image has no axis 'frames'"):
        tk.plan((1, 4, 64, 64), tk.TilingConfig.default(), geometry=tk.SD_IMAGE)


@pytest.mark.parametrize(
    ("height", "width", "long_side", "tiles"),
    [
        (1088, 1920, (768, 64), ((448, 64), (768, 64))),
        (1920, 1088, (768, 64), ((768, 64), (448, 64))),
        (704, 1280, (512, 128), ((288, 128), (512, 128))),
        (64, 1920, (768, 128), ((160, 128), (768, 128))),  # at least one latent more than the overlap
    ],
)
def test_tiles_take_the_shape_of_the_picture_as_the_official_ones(
    height: int, width: int, long_side: tuple[int, int], tiles: tuple[Any, Any]
) -> None:
    """What ltx-core 1.2.0 gave for these; it was the same in 5,000 draws."""
    made = tk.TilingConfig.from_long_side(height, width, spatial_config=tk.SpatialTilingConfig(*long_side))
    assert made == tk.Tiling(height=tiles[0], width=tiles[1])
    timed = tk.TilingConfig.from_long_side(64, 96, temporal_config=tk.TemporalTilingConfig(80, 24))
    assert timed.axes[0] == tk.Tiling(frames=(80, 24)).axes[0]
    with pytest.raises(tk.PlanError, match="height must be a positive multiple of 32 pixels, got 1080"):
        tk.TilingConfig.from_long_side(1080, width)


def test_an_encode_with_less_overlap_than_the_official_one_says_so() -> None:
    tiling = tk.TilingConfig.aggressive()
    said = str(tk.plan((1, 3, 97, 512, 512), tiling, geometry=tk.LTX2_VIDEO, direction="encode"))
    assert said.endswith("note: frames overlap 8, official encodes ask for 16")
    for config in (tk.TilingConfig.default(), tk.TilingConfig.default("1.2")):
        assert "note" not in str(tk.plan((1, 3, 97, 1088, 1088), config, geometry=tk.LTX2_VIDEO, direction="encode"))
    assert "note" not in str(tk.plan((1, 128, 13, 16, 16), tiling, geometry=tk.LTX2_VIDEO))
