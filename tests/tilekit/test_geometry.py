"""Geometries: what is refused, the sizes of the published models, and regions of arrays."""

import numpy as np
import pytest

import tilekit as tk


def test_geometries_with_contradictions_are_refused() -> None:
    with pytest.raises(tk.PlanError, match=r"positions must be 0 to 2, once each, got \[2, 0, 0\]"):
        tk.Geometry("x", (tk.Axis("a", 2, tk.Linear(1)),), batch=0, channel=0)
    with pytest.raises(tk.PlanError, match="names must differ"):
        tk.Geometry("x", (tk.Axis("a", 2, tk.Linear(1)), tk.Axis("a", 3, tk.Linear(1))))
    with pytest.raises(tk.PlanError, match="once each, got"):
        tk.Geometry("x", (), batch=0, channel=1)


@pytest.mark.parametrize(
    ("name", "shape", "out"),
    [
        ("LTX2_VIDEO", (1, 128, 16, 17, 30), (121, 544, 960)),
        ("WAN_VIDEO", (1, 16, 21, 60, 104), (81, 480, 832)),
        ("WAN22_VIDEO", (1, 48, 31, 44, 80), (121, 704, 1280)),
        ("HUNYUAN_VIDEO", (1, 16, 33, 90, 160), (129, 720, 1280)),
        ("HUNYUAN15_VIDEO", (1, 32, 31, 45, 80), (121, 720, 1280)),
        ("COGVIDEOX_VIDEO", (1, 16, 13, 60, 90), (49, 480, 720)),
        ("MOCHI_VIDEO", (1, 12, 28, 60, 106), (163, 480, 848)),
        ("COSMOS_VIDEO", (1, 16, 16, 88, 160), (121, 704, 1280)),
        ("SD_IMAGE", (1, 4, 64, 96), (512, 768)),
        ("FLUX2_IMAGE", (1, 128, 64, 64), (1024, 1024)),
        ("AUDIOLDM_MEL", (1, 8, 256, 16), (1024, 64)),
        ("LTX2_AUDIO_MEL", (1, 8, 126, 16), (501, 64)),
        ("OOBLECK_AUDIO", (1, 64, 1024), (2097152,)),
    ],
)
def test_presets_have_the_sizes_of_the_published_models(
    name: str, shape: tuple[int, ...], out: tuple[int, ...]
) -> None:
    assert tk.plan(shape, None, geometry=getattr(tk, name)).out_sizes == out


def test_a_region_holds_an_interval_of_each_axis_and_all_of_the_others() -> None:
    x = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    geometry = tk.Geometry("x", (tk.Axis("width", 3, tk.Linear(1)), tk.Axis("height", 1, tk.Linear(1))), channel=2)
    np.testing.assert_array_equal(x[geometry.region([(2, 6), (1, 3)])], x[:, 1:3, :, 2:6])
