"""
The left half of tilekit: integers alone, no array library.

A `Geometry` and a `Tiling` make a `Plan`: spans, tiles and segments, and what running them costs. `tilekit._run` reads
it; nothing here knows of `tilekit._run`.
"""

from tilekit._plan.config import SpatialTilingConfig, TemporalTilingConfig, TilingConfig
from tilekit._plan.cut import AxisTiling
from tilekit._plan.geometry import Axis, Direction, Geometry
from tilekit._plan.laws import Causal, Law, Linear
from tilekit._plan.layout import Tile
from tilekit._plan.plan import Plan, plan
from tilekit._plan.spans import Interval, Span, split, split_by_count, trapezoid_mask
from tilekit._plan.tiling import Tiling

__all__ = [
    "Axis",
    "AxisTiling",
    "Causal",
    "Direction",
    "Geometry",
    "Interval",
    "Law",
    "Linear",
    "Plan",
    "Span",
    "SpatialTilingConfig",
    "TemporalTilingConfig",
    "Tile",
    "Tiling",
    "TilingConfig",
    "plan",
    "split",
    "split_by_count",
    "trapezoid_mask",
]
