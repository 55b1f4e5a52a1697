"""
Decode and encode large pictures, clips and sounds in little memory, through any autoencoder.

`exact` takes a function of PyTorch, MLX or JAX and gives what the plain call gives, without seams, within a budget of
memory; `tilekit.adapters.enable_exact_tiling` does so for a pipeline of diffusers. For any other function there are
blended tiles:

    shape + axes -> plan -> tiles -> run -> blend -> result

`plan` cuts an array into tiles with integers alone; `decode_tiled`, `encode_tiled` and `stream_tiled` run your function
on them and blend the results. NumPy, PyTorch and MLX arrays work, and others that follow the array API standard.
"""

from typing import TYPE_CHECKING

from tilekit._errors import (
    BackendError,
    DeviceError,
    DiskError,
    HaloError,
    InputError,
    PlanError,
    RankError,
    TilekitError,
    TileShapeError,
    TraceError,
)
from tilekit._exact.api import Exact, exact
from tilekit._exact.builder import GraphBuilder
from tilekit._exact.graph_function import GraphFunction
from tilekit._exact.plan import ExactPlan
from tilekit._exact.strips.group import Strips
from tilekit._exact.strips.run import Strip
from tilekit._plan.config import SpatialTilingConfig, TemporalTilingConfig, TilingConfig
from tilekit._plan.cut import AxisTiling
from tilekit._plan.geometry import Axis, Geometry
from tilekit._plan.laws import Causal, Law, Linear
from tilekit._plan.layout import Tile
from tilekit._plan.plan import Plan, plan
from tilekit._plan.presets import (
    AUDIOLDM_MEL,
    COGVIDEOX_VIDEO,
    COSMOS_VIDEO,
    FLUX2_IMAGE,
    HUNYUAN15_VIDEO,
    HUNYUAN_VIDEO,
    LTX2_AUDIO_MEL,
    LTX2_VIDEO,
    MOCHI_VIDEO,
    OOBLECK_AUDIO,
    SD_IMAGE,
    WAN22_VIDEO,
    WAN_VIDEO,
)
from tilekit._plan.spans import Span, split, split_by_count, trapezoid_mask
from tilekit._plan.tiling import Tiling
from tilekit._run import decode_tiled, encode_tiled, stream_tiled
from tilekit._run.replicas import Loaded, Replicas

if TYPE_CHECKING:
    from tilekit._run.halo import measure_halo
    from tilekit._run.kept import Kept

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load what needs NumPy when it is asked for."""
    if name == "Kept":
        from tilekit._run.kept import Kept

        return Kept
    if name == "measure_halo":
        from tilekit._run.halo import measure_halo

        return measure_halo
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


__all__ = [
    "AUDIOLDM_MEL",
    "COGVIDEOX_VIDEO",
    "COSMOS_VIDEO",
    "FLUX2_IMAGE",
    "HUNYUAN15_VIDEO",
    "HUNYUAN_VIDEO",
    "LTX2_AUDIO_MEL",
    "LTX2_VIDEO",
    "MOCHI_VIDEO",
    "OOBLECK_AUDIO",
    "SD_IMAGE",
    "WAN22_VIDEO",
    "WAN_VIDEO",
    "Axis",
    "AxisTiling",
    "BackendError",
    "Causal",
    "DeviceError",
    "DiskError",
    "Exact",
    "ExactPlan",
    "Geometry",
    "GraphBuilder",
    "GraphFunction",
    "HaloError",
    "InputError",
    "Kept",
    "Law",
    "Linear",
    "Loaded",
    "Plan",
    "PlanError",
    "RankError",
    "Replicas",
    "Span",
    "SpatialTilingConfig",
    "Strip",
    "Strips",
    "TemporalTilingConfig",
    "Tile",
    "TileShapeError",
    "TilekitError",
    "Tiling",
    "TilingConfig",
    "TraceError",
    "decode_tiled",
    "encode_tiled",
    "exact",
    "measure_halo",
    "plan",
    "split",
    "split_by_count",
    "stream_tiled",
    "trapezoid_mask",
]
